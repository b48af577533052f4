// The pitfalls of answer files, one by one.

#include <catch2/catch.hpp>

#include "install/install.h"
#include "install/questions.h"

using namespace vmhost;
using namespace vmhost::install;

namespace {

const std::string good = "System hostname = puffy\n"
                         "Password for root = x\n"
                         "What timezone are you in = UTC\n"
                         "HTTP Server = http://10.0.0.1\n";

std::string complaints(std::string_view text) {
    std::string all;
    for (const auto& error : lint_answers(text))
        all += (error.place().line ? std::to_string(error.place().line) + ": " : "") +
               error.text() + "\n";
    return all;
}

} // namespace

TEST_CASE("every good key takes its question and no other of its kind") {
    for (const auto& question : questions()) {
        INFO(question.text);
        CHECK(key_matches(question.good_key, question.text));
        for (const auto& other : questions()) {
            if (&other == &question)
                continue;
            INFO(other.text);
            CHECK_FALSE(key_matches(question.good_key, other.text));
            if (question.good_key == "failed. Continue anyway")
                break; // one key for three questions, on purpose
        }
    }
}

TEST_CASE("keys are compared as the installer does") {
    CHECK(key_matches("server", "HTTP Server? (hostname)"));
    CHECK(key_matches("Server", "Server directory?"));
    CHECK_FALSE(key_matches("erver", "Server directory?"));
    CHECK_FALSE(key_matches("Server d", "Server directory?"));
    CHECK(key_matches("name(s)", "Set name(s)? (or 'abort' or 'done')"));
    CHECK(key_matches("Public ssh key for user", "Public ssh key for user NAME"));
    CHECK(key_matches("b", "ab b?")); // not the first place where it stands
    CHECK_FALSE(key_matches("", "x"));
}

TEST_CASE("a good file has no complaints") {
    CHECK(complaints(good).empty());
    CHECK(
        complaints("# comment\n\n  " + good + "\tWhich speed should com0 use = 115200\n").empty());
    CHECK(complaints(good + "Setup a user = alice\nPassword for user alice = a=b#c\n").empty());
    CHECK(complaints(good + "Network interface to configure = vio0\nIPv4 address for vio0 = dhcp\n"
                            "Network interface to configure = vio1\nIPv4 address for vio1 = none\n"
                            "Continue anyway = yes\nContinue anyway = yes\n"
                            "Continue without verification = yes\n")
              .empty());
    CHECK(complaints("System hostname = a\nPassword for root = x\nWhat timezone are you in = UTC\n"
                     "Location of sets = cd0\n")
              .empty());
}

TEST_CASE("pitfalls") {
    CHECK(complaints("Server = http://a\n" + good.substr(0, good.rfind("HTTP"))) ==
          "1: \"Server\" is too general: it is in \"HTTP Server? (hostname, list#, 'done' or "
          "'?')\" and in \"Server directory?\"\n");
    CHECK(complaints("disk = sd0\n" + good).find("1: \"disk\" is too general") == 0);
    CHECK(complaints("user = alice\n" + good).find("\"user\" is too general") != std::string::npos);
    CHECK(complaints(good + "System hostname = b\n") ==
          "5: line 1 answers \"System hostname? (short form, e.g. 'foo')\" already\n");
    CHECK(complaints(good + "Network interfaces = vio0\n") ==
          "5: \"Network interfaces\" is in no question of the installer\n");
    CHECK(complaints("System hostname = a\r\n").find("1: the line ends in CRLF") == 0);
    CHECK(complaints("\xef\xbb\xbf" + good).find("1: the file begins with a byte order mark") == 0);
    CHECK(complaints(good + "Start sshd(8) by default =\n") ==
          "5: the answer is empty and the line is ignored\n");
    CHECK(complaints(good + "nothing\n") == "5: the line has no \"=\" and is ignored\n");
    CHECK(complaints(good + "= x\n") == "5: the line has no question and is ignored\n");
    CHECK(complaints("System hostname = a\nPassword for root = x \nWhat timezone are you in = "
                     "UTC\nHTTP Server = b\n") ==
          "2: the password ends in a blank, which is cut off\n");
    CHECK(complaints(good + "Full name for user = " + std::string(3000, 'x') + "\n") ==
          "5: the line is longer than 2000 bytes\n");
    CHECK(complaints(good + "Full name for user = \x01\n") ==
          "5: the line has a control character\n");
}

TEST_CASE("mandatory questions") {
    CHECK(complaints("") ==
          "no line answers \"Password for root account?\", which has no default\n"
          "no line answers \"What timezone are you in? ('?' for list)\", which has no default\n"
          "no line answers \"HTTP Server? (hostname, list#, 'done' or '?')\", which has no "
          "default\n");
    CHECK(complaints(good + "Setup a user = alice\n") ==
          "no line answers \"Password for user NAME?\", which has no default\n");
    CHECK(complaints(good + "Setup a user = no\n").empty());
}
