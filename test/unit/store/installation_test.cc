// Installations of VMs: armed once, sealed for good, and what a crash leaves of that.
#include <catch2/catch.hpp>

#include <csignal>
#include <fstream>
#include <iterator>
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

Machine machine(const std::string& name, std::optional<bool> arm_upgrade) {
    Machine out;
    out.name = name;
    out.arm_upgrade = arm_upgrade;
    return out;
}

std::vector<std::uint32_t> remembered(HostStore& store, const std::vector<Machine>& machines) {
    auto ids = store.remember(machines, 1000);
    if (!ids)
        FAIL(ids.error().message());
    return *ids;
}

std::vector<Installation> all(HostStore& store) {
    auto found = store.installations();
    if (!found)
        FAIL(found.error().message());
    return *found;
}

} // namespace

TEST_CASE("a new VM with an install table is armed, one that is known is not") {
    Folder folder;
    {
        auto store = opened(folder);
        remembered(store, {machine("a", false), machine("b", true), machine("c", {})});
        CHECK(all(store) ==
              std::vector<Installation>{{1, 1, false, 1000, {}, {}}, {2, 1, true, 1000, {}, {}}});
        REQUIRE(store.seal(1, 1, 1500));
    }
    auto store = opened(folder);
    // Neither one that has been installed, nor one whose table came later.
    remembered(store, {machine("a", false), machine("b", false), machine("c", false)});
    CHECK(all(store) ==
          std::vector<Installation>{{1, 1, false, 1000, 1500, {}}, {2, 1, true, 1000, {}, {}}});
}

TEST_CASE("a seal is for one number, once, and the next number is open again") {
    auto store = HostStore::in_memory("h");
    REQUIRE(store);
    remembered(*store, {machine("a", false)});
    REQUIRE(store->keep_progress(1, 1, "half"));
    REQUIRE(store->seal(1, 1, 2000));
    CHECK(all(*store).at(0).progress == "half");
    auto again = store->seal(1, 1, 2001);
    REQUIRE_FALSE(again);
    CHECK(again.error().kind() == ErrorKind::invalid);
    CHECK(all(*store).at(0).sealed_s == 2000);
    auto next = store->arm(1, true, 3000);
    REQUIRE(next);
    CHECK(*next == Installation{1, 2, true, 3000, {}, {}});
    CHECK(all(*store).at(0) == *next);
    CHECK_FALSE(store->seal(1, 1, 3001)); // what was allowed for the one before
    CHECK(all(*store).at(0).armed());
    REQUIRE(store->seal(1, 2, 3002));
    CHECK(store->arm(1, false, 4000)->number == 3);
}

TEST_CASE("arming is for VMs of this host") {
    Folder folder;
    {
        auto other = opened(folder, "other");
        remembered(other, {machine("a", false)});
    }
    auto store = opened(folder);
    CHECK(all(store).empty());
    for (std::uint32_t id : {1U, 2U, 0U}) {
        auto armed = store.arm(id, false, 1);
        REQUIRE_FALSE(armed);
        CHECK(armed.error().kind() == ErrorKind::not_found);
    }
    auto other = opened(folder, "other");
    CHECK(all(other).size() == 1);
}

TEST_CASE("what is forgotten takes its installations along") {
    auto store = HostStore::in_memory("h");
    remembered(*store, {machine("a", false)});
    REQUIRE(store->forget("a"));
    CHECK(all(*store).empty());
    remembered(*store, {machine("a", false)});
    CHECK(all(*store).at(0) == Installation{2, 1, false, 1000, {}, {}});
}

TEST_CASE("a seal that was made is there after kill -9") {
    Folder folder;
    {
        auto store = opened(folder);
        remembered(store, {machine("a", false), machine("b", false)});
    }
    auto child = ::fork();
    if (child == 0) {
        auto store = HostStore::open(folder.path, "h");
        if (store && store->seal(1, 1, 2000))
            ::kill(::getpid(), SIGKILL);
        ::_exit(1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    auto store = opened(folder);
    CHECK_FALSE(all(store).at(0).armed());
    CHECK(all(store).at(1).armed());
}

TEST_CASE("a host key is of one installation, and its private part does not stay") {
    Folder folder;
    const std::string secret(300, 'S');
    const HostKey key{1, 1, "ssh-ed25519 AAAA root@a", secret};
    auto file_has = [&](const std::string& text) {
        bool found = false;
        for (const char* name : {"/host.db", "/host.db-wal"}) {
            std::ifstream file(folder.path + name, std::ios::binary);
            std::string bytes((std::istreambuf_iterator<char>(file)), {});
            found |= bytes.find(text) != std::string::npos;
        }
        return found;
    };
    {
        auto store = opened(folder);
        remembered(store, {machine("a", false), machine("b", false)});
        REQUIRE(store.keep_host_key(key));
        auto unknown = key;
        unknown.machine = 7;
        CHECK(store.keep_host_key(unknown).error().kind() == ErrorKind::not_found);
    }
    {
        auto other = opened(folder, "other host");
        CHECK(other.host_keys()->empty());
        CHECK(other.keep_host_key(key).error().kind() == ErrorKind::not_found);
    }
    auto store = opened(folder);
    CHECK(*store.host_keys() == std::vector{key});
    CHECK(file_has(secret));
    // Of the next installation.
    auto next = key;
    next.installation = 2;
    next.private_text = std::string(300, 'T');
    REQUIRE(store.keep_host_key(next));
    CHECK(*store.host_keys() == std::vector{next});
    CHECK(file_has(next.private_text));
    REQUIRE(store.forget_private_key(1));
    REQUIRE(store.forget_private_key(1));
    next.private_text.clear();
    CHECK(*store.host_keys() == std::vector{next});
    CHECK_FALSE(file_has("SSSSSSSSSSSSSSSS"));
    CHECK_FALSE(file_has("TTTTTTTTTTTTTTTT"));
    REQUIRE(store.forget("a"));
    CHECK(store.host_keys()->empty());
}
