#include <catch2/catch.hpp>

#include "host/users.h"

using namespace vmhost;

namespace {
const host::Users users("root:x:0:0:root:/root:/bin/bash\n"
                        "broken line\n"
                        "alice:x:1000:1000::/home/alice:/bin/ksh\n"
                        "bob:x:1001:1001\n"
                        "odd:x:notanumber:5\n",
                        "root:x:0:\n_vmusers:x:200:alice,carol\nalice:x:1000:\n");
}

TEST_CASE("users and groups by name and number") {
    CHECK(users.user("alice").value().uid == 1000);
    CHECK(users.user("1001").value().name == "bob");
    CHECK(users.user("4711").value().gid == 4711); // a number need not be listed
    CHECK(users.user("mallory").error().kind() == ErrorKind::not_found);
    CHECK_FALSE(users.user("odd"));
    CHECK(users.group("_vmusers").value() == 200);
    CHECK_FALSE(users.group("wheel"));
    CHECK(users.user_name(0) == "root");
    CHECK(users.user_name(77) == "77");
    CHECK(users.group_name(200) == "_vmusers");
}

TEST_CASE("owners as vm.conf(5) writes them") {
    CHECK(host::resolve(users, {"alice", ""}).value().uid == 1000);
    auto group_only = host::resolve(users, {"", "_vmusers"}).value();
    CHECK(group_only.uid == 0);
    CHECK(group_only.gid == 200u);
    CHECK_FALSE(host::resolve(users, {"mallory", ""}));
    CHECK_FALSE(host::resolve(users, {"alice", "wheel"}));
}
