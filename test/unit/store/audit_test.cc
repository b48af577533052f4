#include <catch2/catch.hpp>

#include "folder.h"
#include "store/store.h"

using namespace vmhost;
using namespace vmhost::store;

namespace {

AuditRow asked(std::uint32_t uid, const std::string& verb, const std::string& vm,
               std::int64_t time_ms = 1'000'000'000'000) {
    AuditRow row;
    row.time_ms = time_ms;
    row.uid = uid;
    row.gid = uid + 1;
    row.user = fmt::format("u{}", uid);
    row.verb = verb;
    row.vm = vm;
    return row;
}

std::vector<AuditRow> newest(HostStore& store, std::size_t count, std::string_view vm = {}) {
    auto rows = store.audit(count, vm);
    REQUIRE(rows);
    return *rows;
}

} // namespace

TEST_CASE("a row has its outcome when there is one") {
    Folder folder;
    {
        auto store = HostStore::open(folder.path, "h");
        auto first = asked(1000, "stop", "a");
        first.arguments = "force\n\x1b[31m";
        auto one = store->audit_began(first);
        auto two = store->audit_began(asked(0, "apply", ""));
        REQUIRE(one);
        REQUIRE(two);
        REQUIRE(store->audit_ended(*one, "ok"));
    }
    auto store = HostStore::open(folder.path, "h");
    auto rows = newest(*store, 10);
    REQUIRE(rows.size() == 2);
    CHECK(rows[0].verb == "stop");
    CHECK(rows[0].uid == 1000);
    CHECK(rows[0].gid == 1001);
    CHECK(rows[0].user == "u1000");
    CHECK(rows[0].outcome == "ok");
    CHECK(rows[0].arguments.find('\n') == std::string::npos);
    CHECK(rows[0].arguments.find('\x1b') == std::string::npos);
    CHECK(rows[1].outcome.empty()); // the daemon ended in between
    CHECK(newest(*store, 1)[0].verb == "apply");
    CHECK(newest(*store, 9, "a").size() == 1);
}

TEST_CASE("texts of any length take bounded room") {
    auto store = HostStore::in_memory("h");
    auto row = asked(1000, "start", "a");
    row.arguments = std::string(1 << 20, 'x');
    REQUIRE(store->audit_began(row));
    CHECK(newest(*store, 1)[0].arguments.size() <= limits::max_audit_text_bytes + 8);
}

TEST_CASE("a user's rows wash away that user's only") {
    auto store = HostStore::in_memory("h");
    auto all = static_cast<std::int64_t>(limits::max_audit_rows_of_user) + 700;
    REQUIRE(store->audit_began(asked(1001, "start", "b")));
    for (std::int64_t i = 0; i < all; ++i)
        REQUIRE(store->audit_began(asked(1000, "pause", "a")));
    REQUIRE(store->prune_audit(1'000'000'000'000));
    auto rows = newest(*store, limits::max_audit_rows);
    CHECK(rows.size() == limits::max_audit_rows_of_user + 1);
    CHECK(rows[0].uid == 1001);
}

TEST_CASE("old rows and too many rows go") {
    auto store = HostStore::in_memory("h");
    constexpr std::int64_t day_ms = 86'400'000;
    REQUIRE(store->audit_began(asked(0, "start", "old", 10 * day_ms)));
    REQUIRE(store->audit_began(asked(0, "start", "new", 500 * day_ms)));
    REQUIRE(store->prune_audit(500 * day_ms));
    REQUIRE(newest(*store, 9).size() == 1);
    CHECK(newest(*store, 9)[0].vm == "new");
    for (std::size_t i = 0; i < limits::max_audit_rows + 10; ++i)
        REQUIRE(store->audit_began(asked(0, "start", "a", 500 * day_ms)));
    REQUIRE(store->prune_audit(500 * day_ms));
    auto rows = newest(*store, limits::max_audit_rows + 100);
    CHECK(rows.size() == limits::max_audit_rows);
    CHECK(rows[0].vm == "a");
}
