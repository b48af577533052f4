// Transfers message by message, with a client that hears all, some or nothing.
#include <catch2/catch.hpp>

#include "folder.h"
#include "tftp/server.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::tftp;

namespace {

const Client client{0, {0x0a00000d}, 2000};

std::vector<std::uint8_t> request(std::string_view file, std::string_view mode = "octet",
                                  std::vector<std::string> options = {}, std::uint8_t opcode = 1) {
    ByteWriter out;
    out.be(std::uint16_t{opcode});
    auto put = [&](std::string_view text) {
        out.bytes(as_bytes(text));
        out.be(std::uint8_t{0});
    };
    put(file);
    put(mode);
    for (const auto& option : options)
        put(option);
    return out.take();
}

std::vector<std::uint8_t> ack(unsigned block) {
    return {0, 4, static_cast<std::uint8_t>(block >> 8), static_cast<std::uint8_t>(block)};
}

struct Desk {
    Folder folder;
    std::vector<std::vector<std::uint8_t>> sent;
    std::vector<Event> events;
    std::uint64_t now_ms = 5'000;
    Server server{
        [this](const Client&, Bytes message) { sent.emplace_back(message.begin(), message.end()); },
        [this](const Event& event) { events.push_back(event); }};

    Desk() { server.set_directory(folder.open()); }
    // What comes back.
    auto say(const std::vector<std::uint8_t>& message, const Client& from = client) {
        sent.clear();
        server.handle(from, message, now_ms);
        return sent;
    }
    auto wait(std::uint64_t passed_ms) {
        sent.clear();
        server.tick(now_ms += passed_ms);
        return sent;
    }
    // Everything of a transfer that has begun with these messages; every window is acknowledged.
    std::string rest(std::vector<std::vector<std::uint8_t>> messages) {
        std::string content;
        std::uint16_t expected = 1;
        while (!messages.empty()) {
            for (const auto& message : messages) {
                REQUIRE(message[1] == 3);
                CHECK(load_be<std::uint16_t>(Bytes(message).subspan(2)) == expected++);
                content += as_text(Bytes(message).subspan(4));
            }
            messages = say(ack(static_cast<std::uint16_t>(expected - 1)));
        }
        return content;
    }
};

unsigned error_code(const std::vector<std::vector<std::uint8_t>>& sent) {
    REQUIRE(sent.size() == 1);
    REQUIRE(sent[0][1] == 5);
    return load_be<std::uint16_t>(Bytes(sent[0]).subspan(2));
}

} // namespace

TEST_CASE("tftp: files of every size around a block arrive whole") {
    Desk desk;
    for (std::size_t size : {0, 1, 511, 512, 513, 1024, 5000}) {
        INFO(size);
        auto content = bytes(size);
        desk.folder.file("f", content);
        CHECK(desk.rest(desk.say(request("f"))) == content);
        CHECK(desk.server.transfers() == 0);
        CHECK(desk.events.back().outcome == Outcome::sent);
        CHECK(desk.events.back().bytes == size);
    }
    CHECK(text(desk.events.back()) == "10.0.0.13: \"f\": sent 5000 bytes");
}

TEST_CASE("tftp: options are agreed on as RFC 2347 to 2349 and 7440 have it") {
    Desk desk;
    auto content = bytes(100'000);
    desk.folder.file("f", content);
    auto answer = desk.say(request(
        "f", "OCTET",
        {"BLKSIZE", "1432", "tsize", "0", "timeout", "2", "windowsize", "4", "unknown", "1"}));
    REQUIRE(answer.size() == 1);
    CHECK(as_text(Bytes(answer[0]).subspan(2)) == std::string_view("blksize\0"
                                                                   "1432\0timeout\0"
                                                                   "2\0windowsize\0"
                                                                   "4\0tsize\0"
                                                                   "100000\0",
                                                                   49));
    CHECK(desk.say(ack(1)).empty()); // of nothing that was sent
    auto window = desk.say(ack(0));
    CHECK(window.size() == 4);
    CHECK(desk.rest(window) == content);
    // Larger than we like, or than what is allowed.
    answer = desk.say(request("f", "octet", {"blksize", "65464", "windowsize", "65535"}));
    CHECK(as_text(Bytes(answer[0]).subspan(2)) == std::string_view("blksize\0"
                                                                   "1468\0windowsize\0"
                                                                   "16\0",
                                                                   27));
    answer = desk.say(request("f", "octet", {"blksize", "7", "timeout", "0", "windowsize", "0x"}));
    CHECK(answer[0][1] == 3); // as without options
    CHECK(desk.say(request("f", "octet", {"timeout", "200"}))[0][1] == 3);
    CHECK(desk.say(request("f", "octet", {"blksize"}))[0][1] == 3);
}

TEST_CASE("tftp: a block is no larger than a packet of the network") {
    Desk desk;
    desk.folder.file("f", bytes(5000));
    desk.server.handle(client, request("f", "octet", {"blksize", "1468"}), desk.now_ms, 1418);
    CHECK(as_text(Bytes(desk.sent.at(0)).subspan(2)) == std::string_view("blksize\0"
                                                                         "1418\0",
                                                                         13));
    CHECK(desk.say(ack(0)).at(0).size() == 4 + 1418);
}

TEST_CASE("tftp: block numbers begin anew after 65535") {
    Desk desk;
    auto content = bytes(8 * 70'000 + 3);
    desk.folder.file("f", content);
    (void)desk.say(request("f", "octet", {"blksize", "8", "windowsize", "16"}));
    CHECK(desk.rest(desk.say(ack(0))) == content);
}

TEST_CASE("tftp: what is not acknowledged is sent again, and at last no more") {
    Desk desk;
    desk.folder.file("f", bytes(2000));
    auto first = desk.say(request("f"));
    CHECK(desk.wait(limits::tftp_timeout_ms - 1).empty());
    CHECK(desk.wait(1) == first);
    auto second = desk.say(ack(1));
    CHECK(desk.say(ack(1)).empty()); // a duplicate: nothing is sent twice because of it
    CHECK(desk.say(ack(7)).empty()); // of what was not sent yet
    CHECK(desk.say(ack(0)).empty());
    for (unsigned i = 1; i < limits::max_tftp_tries; ++i)
        CHECK(desk.wait(limits::tftp_timeout_ms) == second);
    CHECK(desk.wait(limits::tftp_timeout_ms).empty());
    CHECK(desk.server.transfers() == 0);
    CHECK(desk.events.back().outcome == Outcome::silent);
    CHECK(error_code(desk.say(ack(2))) == 5);
}

TEST_CASE("tftp: of a window that lost a block the rest is sent again") {
    Desk desk;
    desk.folder.file("f", bytes(5000));
    (void)desk.say(request("f", "octet", {"windowsize", "4"}));
    auto window = desk.say(ack(0));
    REQUIRE(window.size() == 4);
    auto again = desk.say(ack(2));
    REQUIRE(again.size() == 4);
    CHECK(again[0] == window[2]);
    CHECK(again[1] == window[3]);
}

TEST_CASE("tftp: a transfer that never ends is ended") {
    Desk desk;
    desk.folder.file("f", bytes(8 * 60'000));
    (void)desk.say(request("f", "octet", {"blksize", "8"}));
    (void)desk.say(ack(0));
    for (unsigned block = 1; desk.server.transfers() == 1 && block < 60'000; ++block) {
        desk.now_ms += 500;
        (void)desk.say(ack(block));
        (void)desk.wait(0);
    }
    CHECK(desk.events.back().outcome == Outcome::silent);
    CHECK(desk.events.back().detail == "it took too long");
}

TEST_CASE("tftp: what is not to be had is refused with the code for it") {
    Desk desk;
    desk.folder.file("f", "x");
    CHECK(error_code(desk.say(request("none"))) == 1);
    CHECK(error_code(desk.say(request("../etc/passwd"))) == 1);
    CHECK(error_code(desk.say(request("f", "netascii"))) == 4);
    CHECK(error_code(desk.say(request("f", "octet", {}, 2))) == 2);
    CHECK(error_code(desk.say({0, 1, 'f', 0, 'o'})) == 4);
    CHECK(error_code(desk.say({0, 1})) == 4);
    for (const auto& odd : {std::vector<std::uint8_t>{},
                            {0},
                            {0, 0},
                            {0, 3, 0, 1},
                            {0, 4, 0},
                            {0, 6, 'a', 0},
                            {9, 9, 9}}) {
        CHECK(desk.say(odd).empty());
        CHECK(desk.events.back().outcome == Outcome::malformed);
    }
    CHECK(desk.say({0, 5, 0, 0, 'x', 0}).empty());
    CHECK(desk.server.transfers() == 0);
    (void)desk.say(request("f\x1b[2J"));
    CHECK(text(desk.events.back()).find('\x1b') == std::string::npos);
}

TEST_CASE("tftp: a client's error ends its transfer, another one's does not") {
    Desk desk;
    desk.folder.file("f", bytes(2000));
    (void)desk.say(request("f", "octet", {"tsize", "0"}));
    auto other = client;
    other.address.value += 1;
    CHECK(desk.say({0, 5, 0, 8, 'n', 'o', 0}, other).empty());
    CHECK(error_code(desk.say(ack(0), other)) == 5);
    CHECK(desk.server.transfers() == 1);
    CHECK(desk.say({0, 5, 0, 8, 'n', 'o', 0}).empty());
    CHECK(desk.server.transfers() == 0);
    CHECK(desk.events.back().outcome == Outcome::aborted);
}

TEST_CASE("tftp: there are so many transfers, and fewer of one client") {
    Desk desk;
    desk.folder.file("f", bytes(2000));
    auto from = client;
    for (unsigned i = 0; i < limits::max_tftp_transfers_per_client; ++i, ++from.port)
        CHECK(desk.say(request("f"), from)[0][1] == 3);
    CHECK(error_code(desk.say(request("f"), from)) == 0);
    CHECK(desk.events.back().outcome == Outcome::busy);
    --from.port; // that asks again, as it did not hear: no further one
    CHECK(desk.say(request("f"), from)[0][1] == 3);
    CHECK(desk.server.transfers() == limits::max_tftp_transfers_per_client);
    for (unsigned i = 0; i < 2 * limits::max_tftp_transfers; ++i) {
        ++from.address.value;
        (void)desk.say(request("f"), from);
    }
    CHECK(desk.server.transfers() == limits::max_tftp_transfers);
    (void)desk.wait(limits::max_tftp_transfer_ms);
    CHECK(desk.server.transfers() == 0);
}

TEST_CASE("tftp: a file that shrinks under a transfer ends it with an error") {
    Desk desk;
    desk.folder.file("f", bytes(2000));
    (void)desk.say(request("f"));
    std::filesystem::resize_file(desk.folder.path + "/f", 600);
    CHECK(error_code(desk.say(ack(1))) == 0);
    CHECK(desk.events.back().outcome == Outcome::failed);
}

TEST_CASE("tftp: a flood of bad requests does not flood the log") {
    Desk desk;
    for (int i = 0; i < 1000; ++i)
        (void)desk.say(request("none"));
    CHECK(std::ranges::count(desk.events, true, &Event::log) == limits::dhcp_log_burst);
}
