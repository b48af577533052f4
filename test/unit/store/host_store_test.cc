#include <catch2/catch.hpp>

#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

#include "folder.h"
#include "store/store.h"

using namespace vmhost;
using namespace vmhost::store;

namespace {

HostStore opened(const Folder& folder, const std::string& host = "h") {
    auto store = HostStore::open(folder.path, host);
    if (!store)
        FAIL(store.error().message());
    return *std::move(store);
}

Machine machine(const std::string& name, std::optional<std::uint32_t> maker = {}) {
    Machine out;
    out.name = name;
    out.maker = maker;
    return out;
}

Machine with_address(const std::string& name, const char* lladdr, const char* ipv4,
                     const std::string& on = "lan") {
    auto out = machine(name);
    Interface interface;
    interface.lladdr = *parse_mac(lladdr);
    interface.switch_name = on;
    interface.ipv4 = *parse_ipv4(ipv4);
    out.interfaces.push_back(interface);
    return out;
}

std::vector<std::uint32_t> remembered(HostStore& store, const std::vector<Machine>& machines,
                                      std::int64_t now_s = 1000) {
    auto ids = store.remember(machines, now_s);
    if (!ids)
        FAIL(ids.error().message());
    return *ids;
}

using Ids = std::vector<std::uint32_t>;

} // namespace

TEST_CASE("ids go by the name, whatever the order, and across openings") {
    Folder folder;
    {
        auto store = opened(folder);
        CHECK(remembered(store, {machine("a"), machine("b"), machine("c")}) == Ids{1, 2, 3});
    }
    auto store = opened(folder);
    CHECK(remembered(store, {machine("c"), machine("new"), machine("a")}) == Ids{3, 4, 1});
    CHECK(remembered(store, {machine("b")}) == Ids{2});
}

TEST_CASE("an id is nobody else's, even when it is forgotten") {
    Folder folder;
    auto store = opened(folder);
    remembered(store, {machine("a"), machine("b")});
    CHECK(*store.forget("b") == 1);
    CHECK(*store.forget("b") == 0);
    CHECK(remembered(store, {machine("c"), machine("b")}) == Ids{3, 4});
}

TEST_CASE("VMs of one name by different makers are different VMs") {
    Folder folder;
    auto store = opened(folder);
    CHECK(remembered(store, {machine("a"), machine("a", 1000), machine("a", 1001)}) ==
          Ids{1, 2, 3});
    CHECK(remembered(store, {machine("a", 1001)}) == Ids{3});
    CHECK((*store.find("a"))->id == 1);
    CHECK_FALSE(*store.find("b"));
    CHECK(*store.forget("a") == 3);
}

TEST_CASE("of a maker's VMs those that were told of last are kept") {
    Folder folder;
    auto store = opened(folder);
    for (int i = 0; i < 5; ++i)
        remembered(store, {machine(fmt::format("i{}", i), 1000), machine("other", 1001)}, i);
    remembered(store, {machine("i0", 1000)}, 9);
    CHECK(*store.forget_surplus(1000, 2) == 3);
    std::vector<std::string> left;
    auto all = *store.machines();
    for (const auto& one : all)
        left.push_back(one.name);
    CHECK(left == std::vector<std::string>{"i0", "other", "i4"});
}

TEST_CASE("hosts that share a file share nothing else") {
    Folder folder;
    auto one = opened(folder, "one"), two = opened(folder, "two");
    remembered(one, {with_address("a", "02:00:00:00:00:01", "10.0.0.1")});
    CHECK(remembered(two, {with_address("a", "02:00:00:00:00:01", "10.0.0.1")}) == Ids{2});
    CHECK((*one.machines())[0].interfaces[0].ipv4 == parse_ipv4("10.0.0.1").value());
    CHECK(*two.forget("a") == 1);
    CHECK(one.machines()->size() == 1);
}

TEST_CASE("addresses come back with the time since when") {
    Folder folder;
    auto before = with_address("a", "02:00:00:00:00:01", "10.0.0.1");
    before.interfaces[0].ipv4_given = true;
    before.interfaces[0].ipv6 = parse_ipv6("2001:db8::1").value();
    {
        auto store = opened(folder);
        remembered(store, {before}, 1000);
        remembered(store, {before}, 2000);
    }
    auto store = opened(folder);
    auto found = *store.find("a");
    REQUIRE(found);
    before.id = 1;
    before.since_s = 1000;
    before.last_s = 2000;
    before.interfaces[0].lladdr_since_s = before.interfaces[0].ipv4_since_s =
        before.interfaces[0].ipv6_since_s = 1000;
    CHECK(*found == before);
    auto after = with_address("a", "02:00:00:00:00:01", "10.0.0.2");
    remembered(store, {after}, 3000);
    found = *store.find("a");
    CHECK(found->interfaces[0].lladdr_since_s == 1000);
    CHECK(found->interfaces[0].ipv4_since_s == 3000);
    CHECK(found->interfaces[0].ipv4 == parse_ipv4("10.0.0.2").value());
    CHECK_FALSE(found->interfaces[0].ipv6);
}

TEST_CASE("an IPv6 address is one VM's on one switch") {
    Folder folder;
    auto store = opened(folder);
    auto with = [](const char* name, const char* lladdr, const char* ipv4, const char* on) {
        auto out = with_address(name, lladdr, ipv4, on);
        out.interfaces[0].ipv6 = parse_ipv6("2001:db8::1").value();
        return out;
    };
    remembered(store, {with("a", "02:00:00:00:00:01", "10.0.0.1", "lan"),
                       with("b", "02:00:00:00:00:02", "10.0.0.2", "dmz")});
    CHECK((*store.find("a"))->interfaces[0].ipv6);
    CHECK((*store.find("b"))->interfaces[0].ipv6);
    remembered(store, {with("c", "02:00:00:00:00:03", "10.0.0.3", "lan")});
    CHECK_FALSE((*store.find("a"))->interfaces[0].ipv6);
    CHECK((*store.find("a"))->interfaces[0].ipv4);
    CHECK((*store.find("b"))->interfaces[0].ipv6);
}

TEST_CASE("an address is one VM's") {
    Folder folder;
    auto store = opened(folder);
    remembered(store, {with_address("a", "02:00:00:00:00:01", "10.0.0.1"),
                       with_address("other", "02:00:00:00:00:09", "10.0.0.2", "wan")});
    remembered(store, {with_address("b", "02:00:00:00:00:01", "10.0.0.1"),
                       with_address("c", "02:00:00:00:00:02", "10.0.0.2", "lan")});
    CHECK((*store.find("a"))->interfaces[0].lladdr.is_zero());
    CHECK_FALSE((*store.find("a"))->interfaces[0].ipv4);
    CHECK((*store.find("other"))->interfaces[0].ipv4); // of another switch
    // Two that change places in one go.
    remembered(store, {with_address("b", "02:00:00:00:00:02", "10.0.0.2"),
                       with_address("c", "02:00:00:00:00:01", "10.0.0.1")});
    CHECK((*store.find("b"))->interfaces[0].ipv4->text() == "10.0.0.2");
    CHECK((*store.find("c"))->interfaces[0].ipv4->text() == "10.0.0.1");
}

TEST_CASE("VMs that were not told of for long are forgotten with their addresses") {
    Folder folder;
    auto store = opened(folder);
    remembered(store, {with_address("a", "02:00:00:00:00:01", "10.0.0.1"), machine("b")}, 1000);
    remembered(store, {machine("b")}, 5000);
    CHECK(*store.forget_older(1000) == 0);
    CHECK(*store.forget_older(1001) == 1);
    CHECK_FALSE(*store.find("a"));
    CHECK(store.machines()->size() == 1);
}

TEST_CASE("a daemon that is killed has remembered what it was told") {
    Folder folder;
    auto child = ::fork();
    if (child == 0) {
        auto store = HostStore::open(folder.path, "h");
        (void)store->remember({machine("a"), machine("b")}, 1);
        ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFSIGNALED(status));
    auto store = opened(folder);
    CHECK(remembered(store, {machine("b")}) == Ids{2});
}

TEST_CASE("without a file ids are given all the same") {
    auto store = HostStore::in_memory("h");
    REQUIRE(store);
    CHECK(remembered(*store, {machine("a"), machine("b")}) == Ids{1, 2});
    CHECK(remembered(*store, {machine("b")}) == Ids{2});
}

TEST_CASE("whoever looks while the daemon writes sees what is written") {
    Folder folder;
    CHECK(HostStore::open_to_look(folder.path, "h").error().kind() == ErrorKind::not_found);
    auto store = opened(folder);
    remembered(store, {machine("a")});
    auto looking = HostStore::open_to_look(folder.path, "h");
    REQUIRE(looking);
    CHECK(looking->machines()->size() == 1);
    remembered(store, {machine("b")});
    CHECK(looking->machines()->size() == 2);
    CHECK_FALSE(looking->remember({machine("c")}, 1));
}

TEST_CASE("a VM that runs with an id is taken in with it, and nobody else gets that") {
    Folder folder;
    auto store = opened(folder);
    auto running = machine("running");
    running.id = 7;
    CHECK(remembered(store, {machine("a"), running, machine("b")}) == Ids{8, 7, 9});
    auto other = machine("other");
    other.id = 7; // somebody's
    CHECK(remembered(store, {other, running}) == Ids{10, 7});
    running.id = 3; // it is known by another one
    CHECK(remembered(store, {running}) == Ids{7});
}
