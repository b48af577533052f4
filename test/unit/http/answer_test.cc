// Who gets which answer file.

#include <catch2/catch.hpp>

#include "http/answer.h"

using namespace vmhost;
using namespace vmhost::http;

namespace {

Ipv4 ip(std::string_view text) {
    return parse_ipv4(text).value();
}

Answers two_vms() {
    Answers answers;
    answers.configure({
        {"vm13", ip("10.0.0.13"), parse_mac("fe:e1:bb:f1:c8:13").value(), "puffy.example.org",
         "thirteen", AnswerMode::install},
        {"vm14", ip("10.0.0.14"), parse_mac("fe:e1:bb:f1:c8:14").value(), "blowfish", "fourteen",
         AnswerMode::install},
        {"vm15", ip("10.0.0.15"), parse_mac("fe:e1:bb:f1:c8:15").value(), "old", "fifteen",
         AnswerMode::upgrade},
    });
    return answers;
}

std::string get(std::string_view path, std::string_view peer, std::string_view query = "") {
    auto answers = two_vms();
    auto response = answer_response(answers.find(path, query, ip(peer)));
    CHECK(response.headers.at(0) ==
          std::pair<std::string, std::string>{"Cache-Control", "no-store"});
    CHECK((response.status == 200 || response.status == 404));
    return response.status == 200 ? response.body : "404";
}

} // namespace

TEST_CASE("a vm gets its own file by every name the installer tries") {
    for (auto path :
         {"/fe:e1:bb:f1:c8:13-install.conf", "/FE:E1:BB:F1:C8:13-install.conf",
          "/fe-e1-bb-f1-c8-13-install.conf", "/puffy.example.org-install.conf",
          "/puffy-install.conf", "/Puffy-install.conf", "/vm13-install.conf", "/install.conf",
          "/lab/install.conf", "/lab/x/fe:e1:bb:f1:c8:13-install.conf"}) {
        INFO(path);
        CHECK(get(path, "10.0.0.13") == "thirteen");
    }
    CHECK(get("/blowfish.example.org-install.conf", "10.0.0.14") == "fourteen");
}

TEST_CASE("nobody gets the file of another vm") {
    for (auto peer : {"10.0.0.14", "10.0.0.15", "10.0.0.99", "127.0.0.1", "0.0.0.0"})
        for (auto path : {"/fe:e1:bb:f1:c8:13-install.conf", "/puffy.example.org-install.conf",
                          "/puffy-install.conf", "/vm13-install.conf"}) {
            INFO(path << " from " << peer);
            CHECK(get(path, peer) == "404");
        }
    CHECK(get("/install.conf", "10.0.0.99") == "404");
    CHECK(get("/install.conf", "10.0.0.14") == "fourteen");
}

TEST_CASE("an address of zero never owns a file") {
    Answers answers;
    answers.configure({{"vm", {}, {}, "host", "secret", AnswerMode::install}});
    CHECK_FALSE(answers.find("/install.conf", "", {}).answer);
}

TEST_CASE("upgrade files exist for vms that are being upgraded") {
    CHECK(get("/upgrade.conf", "10.0.0.13") == "404");
    CHECK(get("/fe:e1:bb:f1:c8:13-upgrade.conf", "10.0.0.13") == "404");
    CHECK(get("/fe:e1:bb:f1:c8:15-upgrade.conf", "10.0.0.15") == "fifteen");
    CHECK(get("/upgrade.conf", "10.0.0.15") == "fifteen");
    CHECK(get("/old-upgrade.conf", "10.0.0.15") == "fifteen");
    CHECK(get("/install.conf", "10.0.0.15") == "404");
}

TEST_CASE("names that only look like answer files") {
    for (auto path :
         {"/", "/install.conf/", "/xinstall.conf", "/-install.conf", "/install.conf.bak",
          "/INSTALL.CONF", "/puffy-install.conf/x", "/puffy_install.conf"}) {
        INFO(path);
        CHECK_FALSE(two_vms().find(path, "", ip("10.0.0.13")).is_answer_name);
        CHECK(get(path, "10.0.0.13") == "404");
    }
    CHECK(get("/other-install.conf", "10.0.0.13") == "404");
    CHECK(get("/puffy.evil.org-install.conf", "10.0.0.13") == "404");
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
        CHECK(get("/install.conf", "10.0.0.13", bad) == "thirteen");
    }
    auto lookup = two_vms().find("/install.conf", "path=7.8/amd64", ip("10.0.0.13"));
    CHECK(lookup.set_path == SetPath{"7.8", "amd64"});
}
