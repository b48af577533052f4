// DHCP messages taken apart and put together: RFC 2131, 2132, 3396.
#include <catch2/catch.hpp>

#include "client.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::dhcp;

namespace {
const Mac guest = mac("fe:e1:bb:d1:00:01");

std::string_view fault(const Client& client) {
    return parse(client.bytes()).error();
}
} // namespace

TEST_CASE("the header and options of a request") {
    auto client = dhcpleased(guest, MessageType::request);
    client.option(50, ip("10.0.0.5")).option(57, {0x05, 0xdc});
    client.flags = 0x8000;
    client.ciaddr = ip("10.0.0.9");
    client.file = "bsd";
    auto message = parse(client.bytes()).value();
    CHECK(message.header.op == 1);
    CHECK(message.header.xid == 0x1234abcd);
    CHECK(message.header.flags == broadcast_flag);
    CHECK(message.header.ciaddr == ip("10.0.0.9"));
    CHECK(message.header.hardware_address() == guest);
    CHECK(message.header.file == "bsd");
    CHECK(message.has_cookie);
    CHECK(message.number<std::uint8_t>(53) == 3);
    CHECK(message.address(50) == ip("10.0.0.5"));
    CHECK(message.number<std::uint16_t>(57) == 1500);
    CHECK(message.find(61)->size() == 7);
    CHECK_FALSE(message.find(54));
    CHECK_FALSE(message.address(61));
}

TEST_CASE("without the cookie there are no options") {
    Client client{.mac = guest, .cookie = false};
    client.type(MessageType::discover);
    auto message = parse(client.bytes()).value();
    CHECK_FALSE(message.has_cookie);
    CHECK_FALSE(message.find(53));
    // The shortest BOOTP message of all.
    auto bytes = client.bytes();
    bytes.resize(236);
    CHECK(parse(bytes));
    bytes.resize(238);
    CHECK(parse(bytes));
}

TEST_CASE("malformed options") {
    CHECK(fault({.mac = guest, .end = false, .pad_to = 0, .options = {53}}) ==
          "the last option has no length");
    CHECK(fault({.mac = guest, .end = false, .pad_to = 0, .options = {53, 2, 1}}) ==
          "an option is longer than the message");
    CHECK(fault({.mac = guest, .end = false, .pad_to = 0, .options = {61, 255, 1, 2}}) ==
          "an option is longer than the message");
    for (std::size_t size = 0; size < 236; ++size)
        CHECK(parse(std::vector<std::uint8_t>(size)).error() == "shorter than a BOOTP header");
    CHECK(parse(std::vector<std::uint8_t>(limits::max_dhcp_packet_bytes)));
    CHECK(parse(std::vector<std::uint8_t>(limits::max_dhcp_packet_bytes + 1)).error() ==
          "longer than an Ethernet frame carries");
    // No END at all is what some old clients send.
    CHECK(parse(Client{.mac = guest, .end = false, .pad_to = 0, .options = {53, 1, 1}}.bytes()));
}

TEST_CASE("every truncation of a good message is taken or refused, never read past") {
    auto client = dhcpleased(guest, MessageType::request);
    client.option(52, {3});
    client.file = std::string("\x0c\x05guest\xff", 8);
    client.sname = std::string("\x0f\x03lab\xff", 6);
    auto bytes = client.bytes();
    for (std::size_t size = 0; size <= bytes.size(); ++size) {
        std::vector<std::uint8_t> exact(bytes.begin(),
                                        bytes.begin() + static_cast<std::ptrdiff_t>(size));
        auto message = parse(exact);
        if (size >= 280)
            CHECK(message);
    }
}

TEST_CASE("pads are skipped and nothing after END counts") {
    Client client{.mac = guest};
    client.options = {0, 0, 53, 1, 1, 0, 255, 53, 1, 3, 12, 200};
    auto message = parse(client.bytes()).value();
    CHECK(message.number<std::uint8_t>(53) == 1);
    CHECK_FALSE(message.find(12));
}

TEST_CASE("split options are joined in order (RFC 3396)") {
    std::string first(255, 'a'), second(45, 'b');
    Client client{.mac = guest};
    client.option(43, first).option(53, {1}).option(43, second).option(12, "x");
    auto message = parse(client.bytes()).value();
    CHECK(as_text(*message.find(43)) == first + second);
    CHECK(as_text(*message.find(12)) == "x");
    // A fixed-length option that comes twice has no value any more.
    client.option(53, {3});
    message = parse(client.bytes()).value();
    CHECK_FALSE(message.number<std::uint8_t>(53));
    CHECK(message.has_other_length(53, 1));
}

TEST_CASE("overloaded fields hold options, file before sname") {
    Client client{.mac = guest};
    client.type(MessageType::discover).option(52, {3}).option(43, "1");
    client.file = std::string("\x2b\x01"
                              "2\xff",
                              4);
    client.sname = std::string("\x2b\x01"
                               "3\xff",
                               4);
    auto message = parse(client.bytes()).value();
    CHECK(as_text(*message.find(43)) == "123");
    CHECK(message.header.file.empty());
    CHECK(message.header.sname.empty());
    client.sname = std::string("\x2b\xf0", 2);
    CHECK(fault(client) == "an option is longer than the message");
}

TEST_CASE("names without a NUL end with their field") {
    Client client{.mac = guest};
    client.sname = std::string(64, 's');
    client.file = std::string(128, 'f');
    auto message = parse(client.bytes()).value();
    CHECK(message.header.sname == std::string(64, 's'));
    CHECK(message.header.file == std::string(128, 'f'));
}

TEST_CASE("the writer splits, counts and ends") {
    ReplyWriter writer({.op = 2}, true, 1472);
    std::vector<std::uint8_t> long_data(300, 7);
    CHECK(ReplyWriter::wire_bytes(300) == 304);
    CHECK(writer.add(43, long_data));
    CHECK_FALSE(writer.add(12, Bytes{}));
    auto bytes = writer.finish();
    CHECK(bytes.size() == 240 + 304 + 1);
    CHECK(bytes.back() == 255);
    auto message = parse(bytes).value();
    CHECK(message.find(43)->size() == 300);

    // Exactly full, one too many.
    ReplyWriter small({.op = 2}, true, 0);
    CHECK(small.room_bytes() == 59);
    CHECK_FALSE(small.add(43, std::vector<std::uint8_t>(58)));
    CHECK(small.add(43, std::vector<std::uint8_t>(57, 1)));
    CHECK(small.room_bytes() == 0);
    bytes = small.finish();
    CHECK(bytes.size() == 300);
    CHECK(bytes.back() == 255);

    ReplyWriter plain({.op = 2}, false, 300);
    CHECK_FALSE(plain.add(1, std::vector<std::uint8_t>(4)));
    bytes = plain.finish();
    CHECK(bytes.size() == 300);
    CHECK_FALSE(parse(bytes)->has_cookie);
}
