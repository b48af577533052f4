// Who gets which answer file.

#include <catch2/catch.hpp>

#include "http/answer_desk.h"

using namespace vmhost;
using namespace vmhost::http;

namespace {

Ipv4 ip(std::string_view text) {
    return parse_ipv4(text).value();
}

std::vector<Answer> three_vms() {
    return {{"vm13",
             ip("10.0.0.13"),
             parse_mac("fe:e1:bb:f1:c8:13").value(),
             "puffy.example.org",
             {{"install.conf", true}, {"site78-puffy.tgz"}}},
            {"vm14",
             ip("10.0.0.14"),
             parse_mac("fe:e1:bb:f1:c8:14").value(),
             "blowfish",
             {{"install.conf", true}}},
            {"vm15",
             ip("10.0.0.15"),
             parse_mac("fe:e1:bb:f1:c8:15").value(),
             "old",
             {{"upgrade.conf", true}}},
            {"vm16",
             ip("10.0.0.16"),
             parse_mac("fe:e1:bb:f1:c8:16").value(),
             "cloud",
             {{"user-data", true}, {"meta-data"}}}};
}

Answers two_vms() {
    Answers answers;
    answers.configure(three_vms());
    return answers;
}

// Whose it is, or why there is none.
std::string get(std::string_view path, std::string_view peer, std::string_view query = "") {
    auto answers = two_vms();
    auto lookup = answers.find(path, query, ip(peer));
    return lookup.answer != nullptr ? lookup.answer->vm : std::string(name_of(lookup.refusal));
}

// A desk whose claims are decided by the test.
struct Desk {
    Desk() { desk.configure(three_vms()); }
    std::optional<int> ask(std::string_view path, std::string_view peer,
                           std::uint64_t connection = 1, const char* method = "GET") {
        Request request;
        request.method = method;
        request.path = path;
        request.peer = ip(peer);
        request.connection_id = connection;
        REQUIRE(desk.is_for_answer(request));
        auto response = desk.ask(request);
        return response ? std::optional(response->status) : std::nullopt;
    }
    std::uint64_t counted(AnswerOutcome outcome) const {
        return desk.counted()[static_cast<std::size_t>(outcome)];
    }
    std::vector<AnswerDesk::Claim> claims;
    std::vector<std::pair<std::uint64_t, Response>> answered;
    std::uint64_t now_ms = 1'000'000;
    AnswerDesk desk{
        {.claim = [this](const auto& claim) { claims.push_back(claim); },
         .answer = [this](auto id, const auto& response) { answered.emplace_back(id, response); },
         .now_ms = [this] { return now_ms; }}};
};

} // namespace

TEST_CASE("a vm gets its own file by every name the installer tries") {
    for (auto path :
         {"/fe:e1:bb:f1:c8:13-install.conf", "/FE:E1:BB:F1:C8:13-install.conf",
          "/fe-e1-bb-f1-c8-13-install.conf", "/puffy.example.org-install.conf",
          "/puffy-install.conf", "/Puffy-install.conf", "/vm13-install.conf", "/install.conf",
          "/lab/install.conf", "/lab/x/fe:e1:bb:f1:c8:13-install.conf"}) {
        INFO(path);
        CHECK(get(path, "10.0.0.13") == "vm13");
    }
    CHECK(get("/blowfish.example.org-install.conf", "10.0.0.14") == "vm14");
}

TEST_CASE("nobody gets the file of another vm") {
    for (auto peer : {"10.0.0.14", "10.0.0.15", "10.0.0.99", "127.0.0.1", "0.0.0.0"})
        for (auto path : {"/fe:e1:bb:f1:c8:13-install.conf", "/puffy.example.org-install.conf",
                          "/puffy-install.conf", "/vm13-install.conf"}) {
            INFO(path << " from " << peer);
            CHECK(get(path, peer) == "other-vm");
        }
    CHECK(get("/install.conf", "10.0.0.99") == "unknown");
    CHECK(get("/install.conf", "10.0.0.14") == "vm14");
}

TEST_CASE("an address of zero never owns a file") {
    Answers answers;
    answers.configure({{"vm", {}, {}, "host", {{"install.conf", true}, {"meta-data"}}}});
    CHECK_FALSE(answers.find("/meta-data", "", {}).answer);
    CHECK_FALSE(answers.find("/install.conf", "", {}).answer);
}

TEST_CASE("a sealed file is there for nobody, whatever it is called") {
    auto answers = two_vms();
    answers.seal("vm13");
    for (auto path : {"/fe:e1:bb:f1:c8:13-install.conf", "/puffy-install.conf", "/install.conf",
                      "/upgrade.conf"}) {
        auto lookup = answers.find(path, "", ip("10.0.0.13"));
        CHECK_FALSE(lookup.answer);
        CHECK(lookup.refusal == AnswerOutcome::sealed);
    }
    CHECK(answers.find("/vm13-install.conf", "", ip("10.0.0.14")).refusal ==
          AnswerOutcome::other_vm);
    CHECK(answers.find("/install.conf", "", ip("10.0.0.14")).answer != nullptr);
}

TEST_CASE("a claim is held until it is decided, and then the file is sealed") {
    Desk desk;
    CHECK(desk.ask("/install.conf", "10.0.0.13", 7) == std::nullopt);
    REQUIRE(desk.claims.size() == 1);
    CHECK(desk.claims[0].vm == "vm13");
    CHECK(desk.claims[0].address == ip("10.0.0.13"));
    CHECK(desk.claims[0].file == "install.conf");
    CHECK(desk.claims[0].until_ms == desk.now_ms + limits::http_answer_timeout_ms / 2);
    // Not twice at a time, and not in the way of others.
    CHECK(desk.ask("/vm13-install.conf", "10.0.0.13", 8) == 503);
    CHECK(desk.ask("/upgrade.conf", "10.0.0.15", 9) == std::nullopt);
    REQUIRE(desk.claims.size() == 2);
    CHECK(desk.claims[1].file == "upgrade.conf");
    desk.desk.decided(desk.claims[0].number, AnswerOutcome::served, "secret\n");
    REQUIRE(desk.answered.size() == 1);
    CHECK(desk.answered[0].first == 7);
    CHECK(desk.answered[0].second.status == 200);
    CHECK(desk.answered[0].second.body == "secret\n");
    CHECK(desk.answered[0].second.vm == "vm13");
    CHECK(desk.answered[0].second.headers.at(0) ==
          std::pair<std::string, std::string>{"Cache-Control", "no-store"});
    CHECK(desk.ask("/install.conf", "10.0.0.13") == 404);
    // A second decision, or one on nothing, has no effect.
    desk.desk.decided(desk.claims[0].number, AnswerOutcome::served, "again");
    desk.desk.decided(999, AnswerOutcome::served, "again");
    CHECK(desk.answered.size() == 1);
    CHECK(desk.counted(AnswerOutcome::served) == 1);
    CHECK(desk.counted(AnswerOutcome::sealed) == 1);
    CHECK(desk.counted(AnswerOutcome::busy) == 1);
}

TEST_CASE("what is not decided well is not served, and asked for again") {
    for (auto [outcome, status] : {std::pair{AnswerOutcome::late, 503},
                                   {AnswerOutcome::failed, 503},
                                   {AnswerOutcome::other_mode, 404},
                                   {AnswerOutcome::unknown, 404}}) {
        Desk desk;
        CHECK(desk.ask("/install.conf", "10.0.0.13") == std::nullopt);
        desk.desk.decided(desk.claims.at(0).number, outcome, "secret");
        CHECK(desk.answered.at(0).second.status == status);
        CHECK(desk.answered.at(0).second.body.find("secret") == std::string::npos);
        CHECK(desk.counted(outcome) == 1);
        CHECK(desk.ask("/install.conf", "10.0.0.13") == std::nullopt);
        CHECK(desk.claims.at(1).number != desk.claims.at(0).number);
    }
    Desk desk;
    CHECK(desk.ask("/install.conf", "10.0.0.13") == std::nullopt);
    desk.desk.decided(desk.claims.at(0).number, AnswerOutcome::sealed, "secret");
    CHECK(desk.answered.at(0).second.status == 404);
    CHECK(desk.ask("/install.conf", "10.0.0.13") == 404);
    CHECK(desk.claims.size() == 1);
}

TEST_CASE("the wrong address, mode and method claim nothing") {
    Desk desk;
    CHECK(desk.ask("/vm13-install.conf", "10.0.0.14") == 404);
    CHECK(desk.ask("/install.conf", "10.0.0.99") == 404);
    CHECK(desk.ask("/upgrade.conf", "10.0.0.13") == 404);
    CHECK(desk.ask("/install.conf", "10.0.0.13", 1, "HEAD") == 405);
    CHECK(desk.claims.empty());
    CHECK(desk.counted(AnswerOutcome::other_vm) == 1);
    CHECK(desk.counted(AnswerOutcome::unknown) == 1);
    CHECK(desk.counted(AnswerOutcome::other_mode) == 1);
}

TEST_CASE("upgrade files exist for vms that are being upgraded") {
    CHECK(get("/upgrade.conf", "10.0.0.13") == "other-mode");
    CHECK(get("/fe:e1:bb:f1:c8:13-upgrade.conf", "10.0.0.13") == "other-mode");
    CHECK(get("/fe:e1:bb:f1:c8:15-upgrade.conf", "10.0.0.15") == "vm15");
    CHECK(get("/upgrade.conf", "10.0.0.15") == "vm15");
    CHECK(get("/old-upgrade.conf", "10.0.0.15") == "vm15");
    CHECK(get("/install.conf", "10.0.0.15") == "other-mode");
}

TEST_CASE("files without secrets are there before and after the seal, for their vm alone") {
    Desk desk;
    CHECK(desk.ask("/fe:e1:bb:f1:c8:16-meta-data", "10.0.0.16") == std::nullopt);
    CHECK(desk.claims.at(0).file == "meta-data");
    desk.desk.decided(desk.claims[0].number, AnswerOutcome::served, "instance-id: 1\n");
    CHECK(desk.answered.at(0).second.body == "instance-id: 1\n");
    CHECK(desk.ask("/seed/user-data", "10.0.0.16") == std::nullopt);
    CHECK(desk.claims.at(1).file == "user-data");
    desk.desk.decided(desk.claims[1].number, AnswerOutcome::served, "secret");
    CHECK(desk.ask("/user-data", "10.0.0.16") == 404);
    CHECK(desk.ask("/meta-data", "10.0.0.16") == std::nullopt);
    // Refused, one that is not to be had now may be had later: only a secret one is closed by it.
    desk.desk.decided(desk.claims.at(2).number, AnswerOutcome::sealed, {});
    CHECK(desk.answered.at(2).second.status == 404);
    CHECK(desk.ask("/meta-data", "10.0.0.16") == std::nullopt);
    CHECK(desk.ask("/cloud-meta-data", "10.0.0.13") == 404);
    CHECK(desk.ask("/meta-data", "10.0.0.13") == 404);
    CHECK(desk.ask("/meta-data", "10.0.0.99") == 404);
    CHECK(desk.claims.size() == 4);
    CHECK(desk.counted(AnswerOutcome::other_vm) == 1);
    CHECK(desk.counted(AnswerOutcome::unknown) == 2);
}

TEST_CASE("a file is known by the longest name that its path ends in") {
    Answers answers;
    answers.configure(
        {{"vm", ip("10.0.0.1"), {}, "h", {{"data", true}, {"user-data"}, {"site78-h.tgz"}}}});
    auto file = [&](const char* path) {
        auto lookup = answers.find(path, "", ip("10.0.0.1"));
        return lookup.file != nullptr ? lookup.file->name : std::string(name_of(lookup.refusal));
    };
    CHECK(file("/user-data") == "user-data");
    CHECK(file("/h-user-data") == "user-data");
    CHECK(file("/h-data") == "data");
    CHECK(file("/pub/OpenBSD/7.8/amd64/site78-h.tgz") == "site78-h.tgz");
    CHECK(answer_response(AnswerOutcome::served, "vm", "site78-h.tgz", "x").content_type ==
          "application/gzip");
    CHECK(answer_response(AnswerOutcome::served, "vm", "user-data", "x").content_type ==
          "text/plain");
}

TEST_CASE("names that only look like answer files") {
    for (auto path :
         {"/", "/install.conf/", "/xinstall.conf", "/-install.conf", "/install.conf.bak",
          "/INSTALL.CONF", "/puffy-install.conf/x", "/puffy_install.conf"}) {
        INFO(path);
        CHECK_FALSE(two_vms().find(path, "", ip("10.0.0.13")).is_answer_name);
        CHECK(get(path, "10.0.0.13") == "unknown");
    }
    CHECK(get("/other-install.conf", "10.0.0.13") == "unknown");
    CHECK(get("/install.conf", "10.0.0.16") == "unknown"); // its system has none
    CHECK(get("/user-data", "10.0.0.13") == "unknown");
    CHECK(get("/puffy.evil.org-install.conf", "10.0.0.13") == "unknown");
    CHECK(two_vms().find("/x-install.conf", "", ip("10.0.0.99")).is_answer_name);
}

TEST_CASE("the release in the query") {
    CHECK(parse_set_path("path=7.8/amd64") == SetPath{"7.8", "amd64"});
    CHECK(parse_set_path("path=snapshots/arm64") == SetPath{"snapshots", "arm64"});
    CHECK(parse_set_path("path=7.8%2famd64") == SetPath{"7.8", "amd64"});
    CHECK(parse_set_path("x=1&path=10.12/amd64&y") == SetPath{"10.12", "amd64"});
    for (auto bad :
         {"", "path", "path=", "path=7.8", "path=7/amd64", "path=7.8/", "path=/amd64",
          "path=7.8/../x", "path=../amd64", "path=7.8/amd64/x", "path=7.8/AMD64", "path=%zz/amd64",
          "xpath=7.8/amd64", "path=1234.5/amd64", "path=7.8/abcdefghijklmnopq"}) {
        INFO(bad);
        CHECK_FALSE(parse_set_path(bad));
        CHECK(get("/install.conf", "10.0.0.13", bad) == "vm13");
    }
    auto lookup = two_vms().find("/install.conf", "path=7.8/amd64", ip("10.0.0.13"));
    CHECK(lookup.set_path == SetPath{"7.8", "amd64"});
}
