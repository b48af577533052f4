// How far an installation is, from what the host sees of it.
#include <catch2/catch.hpp>

#include "install/progress.h"

using namespace vmhost;
using namespace vmhost::install;

namespace {

Progress armed() {
    Progress progress;
    CHECK(progress.reached(Phase::armed, 100));
    return progress;
}

ConsoleReader::Heard hear(ConsoleReader& reader, std::string_view text) {
    return reader.read(as_bytes(text));
}

} // namespace

TEST_CASE("phases go forward, each with its time") {
    auto progress = armed();
    CHECK(progress.phase() == Phase::armed);
    CHECK(progress.reached(Phase::lease, 110));
    CHECK_FALSE(progress.reached(Phase::lease, 111)); // the installer asks twice
    CHECK(progress.reached(Phase::answers, 112));
    CHECK_FALSE(progress.reached(Phase::lease, 113));
    CHECK(progress.fetched("base78.tgz", 10, 120));
    CHECK_FALSE(progress.fetched("man78.tgz", 10, 121));
    CHECK(progress.set == "man78.tgz");
    CHECK(progress.reached(Phase::rebooted, 130));
    CHECK_FALSE(progress.fetched("man78.tgz", 10, 131));
    CHECK(progress.reached(Phase::ssh, 140)); // booted was not seen
    CHECK(progress.over());
    CHECK_FALSE(progress.reached(Phase::booted, 141));
    CHECK(progress.since_s == std::array<std::optional<std::int64_t>, phases>{
                                  100, 110, 112, 120, 130, std::nullopt, 140});
}

TEST_CASE("a failure ends it, and only while it installs") {
    auto progress = armed();
    CHECK(progress.reached(Phase::answers, 110));
    CHECK(progress.fails("Autopartitioning failed.", 120));
    CHECK(progress.over());
    CHECK_FALSE(progress.reached(Phase::rebooted, 130));
    CHECK_FALSE(progress.fails("again", 131));
    CHECK(progress.failed_s == 120);
    auto other = armed();
    CHECK(other.reached(Phase::rebooted, 110));
    CHECK_FALSE(other.fails("Autopartitioning failed.", 120)); // somebody prints it
}

TEST_CASE("sets count by their bytes, and nothing else does") {
    auto progress = armed();
    CHECK_FALSE(progress.fetched("base78.tgz", 10, 101)); // before it has its answers
    CHECK(progress.fetched_bytes == 0);
    CHECK(progress.reached(Phase::answers, 110));
    CHECK(progress.percent() == std::nullopt);
    progress.wanted_bytes = 400;
    CHECK(progress.percent() == 0);
    CHECK_FALSE(progress.fetched("index.txt", 100, 111));
    CHECK(progress.phase() == Phase::answers);
    CHECK(progress.fetched("bsd", 100, 112));
    CHECK(progress.percent() == 25);
    (void)progress.fetched("bsd", 900, 113); // again and again
    CHECK(progress.percent() == 100);
}

TEST_CASE("it stalls once, until something goes on") {
    auto progress = armed();
    CHECK_FALSE(progress.stalls(100'000, 600)); // nobody has started it
    CHECK(progress.reached(Phase::lease, 1000));
    CHECK_FALSE(progress.stalls(1599, 600));
    CHECK(progress.stalls(1600, 600));
    CHECK_FALSE(progress.stalls(5000, 600));
    CHECK(progress.stalled);
    CHECK(progress.reached(Phase::answers, 6000));
    CHECK_FALSE(progress.stalled);
    CHECK(progress.stalls(6600, 600));
    (void)progress.unpacks("base78.tgz", 7000);
    CHECK_FALSE(progress.stalled);
    CHECK(progress.reached(Phase::booted, 7001));
    CHECK_FALSE(progress.stalls(100'000, 600));
}

TEST_CASE("the console is read in any pieces") {
    const std::string text = "Get/Verify   base78.tgz   100% |****|   300 MB\r\n"
                             "Installing   base78.tgz    50% |**\rInstalling   base78.tgz\r\n"
                             "Fetching http://10.9.8.1/pub/OpenBSD/7.8/amd64/man78.tgz\r\n"
                             "Fetching http://10.9.8.1/install.conf\r\n"
                             "failed; check /tmp/ai/ai.log\r\n";
    for (std::size_t piece = 1; piece <= text.size(); piece += 7) {
        ConsoleReader reader;
        std::vector<std::string> sets;
        std::string failed;
        for (std::size_t at = 0; at < text.size(); at += piece) {
            auto heard = hear(reader, std::string_view(text).substr(at, piece));
            for (auto& set : heard.sets)
                if (sets.empty() || sets.back() != set)
                    sets.push_back(set);
            failed += heard.failed;
        }
        INFO(piece);
        CHECK(sets == std::vector<std::string>{"base78.tgz", "man78.tgz"});
        CHECK(failed == "failed; check /tmp/ai/ai.log");
    }
}

TEST_CASE("a guest that says anything is none the wiser") {
    ConsoleReader reader;
    CHECK(hear(reader, std::string(1 << 20, 'x')).sets.empty());
    CHECK(hear(reader, "\nInstalling   ../../etc/passwd.tgz\n").sets ==
          std::vector<std::string>{"passwd.tgz"});
    CHECK(hear(reader, "Installing   \x1b[31m.tgz\nInstalling \nInstalling   a$b.tgz\n")
              .sets.empty());
    CHECK_FALSE(hear(reader, "login: x").login);
    CHECK(hear(reader, "\r\nOpenBSD/amd64 (puffy) (tty00)\r\n\r\nlogin: ").login);
}

TEST_CASE("a medium that nobody prepared is told to begin") {
    ConsoleReader reader;
    // A boot loader that speaks by way of the BIOS, and then on the serial line.
    CHECK(hear(reader, ">> OpenBSD/amd64 CDBOOT 3.66\r\nboot> ").keys == "stty com0 115200\r");
    CHECK(hear(reader, "").keys.empty()); // once
    CHECK(hear(reader, "stty com0 115200\r\nboot> ").keys == "set tty com0\r");
    CHECK(hear(reader, "set tty com0\r\nswitching console to com0\r\nboot> ").keys == "boot\r");
    std::string_view menu = "Welcome\r\n(I)nstall, (U)pgrade, (A)utoinstall or (S)hell? ";
    CHECK(hear(reader, menu.substr(0, 30)).keys.empty());
    CHECK(hear(reader, menu.substr(30)).keys == "a\r");
    CHECK(hear(reader, "a\r\nWhich network interface should be used for the initial DHCP request? "
                       "(or 'done') [vio0] ")
              .keys == "\r");
    CHECK(hear(reader, "\r\nSystem hostname? (short form, e.g. 'foo') ").keys.empty());
    // Not what stands in the middle of a line, and not one that begins by itself.
    CHECK(hear(reader, "\r\nthe boot> ").keys.empty());
    CHECK(hear(reader, "\r\nStarting non-interactive mode in 5 seconds...\r\n").keys.empty());
    CHECK(hear(reader, menu).keys.empty());
    // Nor who asks for ever.
    ConsoleReader loop;
    unsigned answered = 0;
    for (int i = 0; i < 100; ++i)
        answered += !hear(loop, "\r\nboot> ").keys.empty();
    CHECK(answered == 12);
}

TEST_CASE("the sets that are chosen") {
    const std::vector<std::string> names{
        "INSTALL.amd64", "SHA256.sig", "base78.tgz",       "bsd",         "bsd.mp",     "bsd.rd",
        "game78.tgz",    "site78.tgz", "site78-puffy.tgz", "xbase78.tgz", "xfont78.tgz"};
    using Names = std::vector<std::string>;
    CHECK(selected_sets(names, "-x* -game*", false) ==
          Names{"base78.tgz", "bsd", "bsd.rd", "site78-puffy.tgz"});
    CHECK(selected_sets(names, "-x* +xb* -game* +site*", true) ==
          Names{"base78.tgz", "bsd", "bsd.mp", "bsd.rd", "site78.tgz", "site78-puffy.tgz",
                "xbase78.tgz"});
    CHECK(selected_sets(names, "-all bsd", false) == Names{"bsd"});
}
