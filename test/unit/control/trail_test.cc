#include <catch2/catch.hpp>

#include "control/trail.h"

using namespace vmhost;
using namespace vmhost::control;

namespace {

struct Kept final : Records {
    std::string user_name(std::uint32_t uid) override { return fmt::format("u{}", uid); }
    std::int64_t audit_began(const store::AuditRow& row) override {
        if (broken)
            return 0;
        rows.push_back(row);
        return static_cast<std::int64_t>(rows.size());
    }
    void audit_ended(std::int64_t number, std::string_view outcome) override {
        rows.at(static_cast<std::size_t>(number - 1)).outcome = outcome;
    }
    Result<std::string> explain(std::string_view) override { return "[]"; }
    Result<void> forget(const std::string&) override { return {}; }

    std::vector<store::AuditRow> rows;
    bool broken = false;
};

struct Watched {
    Watched() { trail.use(&kept); }

    std::function<void(Reply)> ask(const std::string& verb, std::uint32_t uid = 1000,
                                   bool is_kept = true) {
        return trail.watch({uid, uid + 1}, {verb, "a", "force", is_kept},
                           [this](const Reply& reply) { replies.push_back(reply.json); });
    }
    void refuse(std::uint32_t uid, bool is_kept = true) {
        ask("stop", uid, is_kept)({R"({"error":"no","kind":"denied","ok":false})", true, {}});
    }
    Kept kept;
    Trail trail;
    std::vector<std::string> replies;
};

constexpr const char* good = R"({"id":1,"ok":true})";

} // namespace

TEST_CASE("a request has its row before and its outcome after") {
    Watched watched;
    auto reply = watched.ask("stop");
    REQUIRE(watched.kept.rows.size() == 1);
    const auto& row = watched.kept.rows[0];
    CHECK(row.verb == "stop");
    CHECK(row.vm == "a");
    CHECK(row.uid == 1000);
    CHECK(row.gid == 1001);
    CHECK(row.user == "u1000");
    CHECK(row.arguments == "force");
    CHECK(row.time_ms > 1'700'000'000'000);
    reply({R"({"event":"requested","ok":true})", false, {}});
    CHECK(row.outcome.empty());
    reply({good, true, {}});
    CHECK(row.outcome == "ok");
    CHECK(watched.replies.size() == 2); // what the client gets is what it got before
    watched.ask("start")({R"({"error":"busy now","kind":"busy","ok":false})", true, {}});
    CHECK(watched.kept.rows[1].outcome == "busy: busy now");
    CHECK(watched.trail.refusals().total == 0);
}

TEST_CASE("what changes nothing has no row unless it is refused") {
    Watched watched;
    watched.ask("status", 1000, false)({good, true, {}});
    CHECK(watched.kept.rows.empty());
    watched.refuse(1000, false);
    REQUIRE(watched.kept.rows.size() == 1);
    CHECK(watched.kept.rows[0].outcome == "denied");
}

TEST_CASE("refusals are counted by verb and by user, beyond what is kept") {
    Watched watched;
    for (int i = 0; i < 1000; ++i)
        watched.refuse(1000);
    watched.refuse(1001);
    watched.ask("apply", 1001)({R"({"error":"no","kind":"denied","ok":false})", true, {}});
    const auto& refusals = watched.trail.refusals();
    CHECK(refusals.total == 1002);
    CHECK(refusals.by_verb.at("stop") == 1001);
    CHECK(refusals.by_verb.at("apply") == 1);
    CHECK(refusals.by_uid.at(1000) == 1000);
    CHECK(refusals.by_uid.at(1001) == 2);
    // One user's flood is bounded, and does not silence another's.
    CHECK(refusals.unlogged > 900);
    CHECK(refusals.unlogged + watched.kept.rows.size() == 1002);
    CHECK(watched.kept.rows.size() < 100);
    CHECK(watched.kept.rows.back().verb == "apply");
}

TEST_CASE("whoever was refused too often is still seen in what is done") {
    Watched watched;
    for (int i = 0; i < 1000; ++i)
        watched.refuse(1000);
    auto before = watched.kept.rows.size();
    watched.ask("stop", 1000)({good, true, {}});
    REQUIRE(watched.kept.rows.size() == before + 1);
    CHECK(watched.kept.rows.back().outcome == "ok");
}

TEST_CASE("users by the thousand do not fill the memory") {
    Watched watched;
    for (std::uint32_t uid = 0; uid < 2 * limits::max_refused_users; ++uid)
        watched.refuse(uid);
    CHECK(watched.trail.refusals().total == 2 * limits::max_refused_users);
    CHECK(watched.trail.refusals().by_uid.size() == limits::max_refused_users);
}

TEST_CASE("without a trail verbs work all the same") {
    Watched watched;
    watched.kept.broken = true;
    watched.ask("stop")({good, true, {}});
    watched.refuse(1000);
    CHECK(watched.replies.size() == 2);
    watched.trail.use(nullptr);
    watched.ask("stop")({good, true, {}});
    CHECK(watched.replies.size() == 3);
    CHECK(watched.trail.refusals().total == 1);
}
