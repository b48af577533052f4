// Real clients on the loopback of a namespace: curl, and busybox's tftp.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include <cstdio>
#include <sched.h>
#include <sstream>

#include "folder.h"
#include "tftp/socket.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::tftp;
using namespace std::chrono_literals;

namespace {

constexpr Ipv4 loopback{0x7f000001};

// The exit status of a command that runs while the service does.
int run(Loop& loop, const std::string& command) {
    std::optional<int> status;
    auto child = Child::start(loop,
                              {.path = "/bin/sh",
                               .arguments = {"sh", "-c", command},
                               .environment = {"PATH=/usr/bin:/bin"},
                               .fds = {-1, -1, -1}},
                              [&](Child::Exit exit) { status = exit.status; })
                     .value();
    bool late = false;
    Timer timer(loop, [&] { late = true; });
    timer.start(20s);
    while (!status && !late)
        loop.run_once(true);
    return status.value_or(-1);
}

std::string content_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

} // namespace

TEST_CASE("tftp: curl and busybox get files, with and without options") {
    Loop loop;
    Folder folder, got;
    folder.file("boot/pxeboot", bytes(300'000));
    std::vector<Event> events;
    Listener listener(loop, [&](const Event& event) { events.push_back(event); });
    listener.server().set_directory(folder.open());
    auto socket = open_socket(loopback, "");
    REQUIRE(socket);
    listener.listen(*std::move(socket), limits::max_tftp_block_bytes);
    auto to = got.path + "/x";
    for (std::string command : {"curl -s tftp://127.0.0.1/boot/pxeboot -o ",
                                "curl -s --tftp-no-options "
                                "tftp://127.0.0.1/boot/pxeboot -o ",
                                "curl -s --tftp-blksize 1400 "
                                "tftp://127.0.0.1/boot/pxeboot -o ",
                                "busybox tftp -g -b 1400 -r boot/pxeboot 127.0.0.1 -l ",
                                "busybox tftp -g -r boot/pxeboot 127.0.0.1 -l "}) {
        INFO(command);
        std::filesystem::remove(to);
        events.clear();
        CHECK(run(loop, command + to) == 0);
        CHECK(content_of(to) == content_of(folder.path + "/boot/pxeboot"));
        REQUIRE_FALSE(events.empty());
        CHECK(events.back().outcome == Outcome::sent);
    }
    events.clear();
    CHECK(run(loop, "curl -s tftp://127.0.0.1/none -o " + to) == 68); // CURLE_TFTP_NOTFOUND
    CHECK(run(loop, "curl -s -T " + to + " tftp://127.0.0.1/none") != 0);
    REQUIRE(events.size() >= 2);
    CHECK(events[0].outcome == Outcome::refused);
    CHECK(events.back().outcome == Outcome::refused);
}

TEST_CASE("tftp: port 69 in use is an error at start that names the address") {
    auto first = open_socket(loopback, "");
    REQUIRE(first);
    auto second = open_socket(loopback, "");
    REQUIRE_FALSE(second);
    CHECK(second.error().message() == "tftp: port 69 of 127.0.0.1 is in use by another program");
    CHECK(second.error().kind() == ErrorKind::busy);
    auto nowhere = open_socket({0x0a090801}, "");
    REQUIRE_FALSE(nowhere);
    CHECK(nowhere.error().message() == "tftp: 10.9.8.1 is not an address of this host");
}

TEST_CASE("tftp: a socket of one link hears nobody who comes by another") {
    Loop loop;
    Folder folder, got;
    folder.file("f", bytes(3000));
    REQUIRE(
        std::system("ip link add t0 type veth peer name t1 && ip addr add 10.9.7.1/24 dev t0 && "
                    "ip link set t0 up") == 0);
    unsigned heard = 0;
    Listener listener(loop, [&](const Event&) { ++heard; });
    listener.server().set_directory(folder.open());
    // What this host sends to an address of its own comes by the link that has it.
    for (auto [device, answered] : {std::pair("lo", false), {"t0", true}}) {
        INFO(device);
        auto bound = open_socket({0x0a090701}, device);
        REQUIRE(bound);
        listener.listen(*std::move(bound), limits::max_tftp_block_bytes);
        const auto status = run(loop, "curl -s -m 2 tftp://10.9.7.1/f -o " + got.path + "/f");
        CHECK((status == 0) == answered);
        CHECK(heard == (answered ? 1 : 0));
    }
}

TEST_CASE("tftp: an address of a routing domain is served by its links") {
    if (std::system("ip link add rd5 type vrf table 5 2>/dev/null") != 0) {
        WARN("this kernel has no routing domains");
        return;
    }
    REQUIRE(std::system("ip link set rd5 up && ip link add t5 type veth peer name t6 && "
                        "ip link set t5 master rd5 && ip addr add 10.9.5.1/24 dev t5 && "
                        "ip link set t5 up") == 0);
    CHECK_FALSE(open_socket({0x0a090501}, ""));
    for (auto device : {"rd5", "t5"}) {
        INFO(device);
        CHECK(open_socket({0x0a090501}, device));
    }
}

int main(int argc, char** argv) {
    if (::unshare(CLONE_NEWNET) != 0 || std::system("ip link set lo up") != 0) {
        std::puts("skipped: a network namespace cannot be made here");
        return 77;
    }
    if (std::system("command -v curl busybox >/dev/null && curl -V | grep -q tftp") != 0) {
        std::puts("skipped: curl or busybox is not installed");
        return 77;
    }
    return Catch::Session().run(argc, argv);
}
