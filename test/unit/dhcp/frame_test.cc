// Ethernet, IPv4 and UDP around a message.
#include <catch2/catch.hpp>

#include "client.h"
#include "dhcp/frame.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::dhcp;

namespace {

Datagram sample(Bytes payload) {
    return {.ethernet_source = mac("fe:e1:ba:00:00:01"),
            .ethernet_destination = mac("fe:e1:bb:d1:00:01"),
            .source = ip("10.0.0.1"),
            .destination = ip("10.0.0.5"),
            .source_port = 67,
            .destination_port = 68,
            .payload = payload};
}

// Written again the long way: the sum of all words of header and data is 0xffff.
std::uint32_t ones_complement(std::vector<std::uint8_t> words) {
    if (words.size() % 2)
        words.push_back(0);
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < words.size(); i += 2) {
        sum += static_cast<std::uint32_t>(words[i] << 8 | words[i + 1]);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

std::string_view fault(std::vector<std::uint8_t> frame) {
    auto datagram = parse_frame(frame, UdpChecksum::verify);
    return datagram ? "none" : datagram.error();
}

void fix_ip_checksum(std::vector<std::uint8_t>& frame, std::size_t header_bytes = 20) {
    frame[24] = frame[25] = 0;
    auto sum = ~ones_complement(
        {frame.begin() + 14, frame.begin() + 14 + static_cast<std::ptrdiff_t>(header_bytes)});
    frame[24] = static_cast<std::uint8_t>(sum >> 8);
    frame[25] = static_cast<std::uint8_t>(sum);
}

} // namespace

TEST_CASE("a frame comes back as it was built, checksums right") {
    for (std::size_t size : {0, 1, 2, 3, 17, 18, 300, 301, 548, 1472}) {
        std::vector<std::uint8_t> payload(size);
        for (std::size_t i = 0; i < size; ++i)
            payload[i] = static_cast<std::uint8_t>(i * 37 + size);
        auto frame = build_frame(sample(payload));
        CHECK(frame.size() == std::max<std::size_t>(60, 42 + size));
        auto back = parse_frame(frame, UdpChecksum::verify);
        REQUIRE(back);
        CHECK(back->ethernet_source == mac("fe:e1:ba:00:00:01"));
        CHECK(back->ethernet_destination == mac("fe:e1:bb:d1:00:01"));
        CHECK(back->source == ip("10.0.0.1"));
        CHECK(back->destination == ip("10.0.0.5"));
        CHECK(back->source_port == 67);
        CHECK(back->destination_port == 68);
        CHECK(std::vector<std::uint8_t>(back->payload.begin(), back->payload.end()) == payload);
        CHECK(ones_complement({frame.begin() + 14, frame.begin() + 34}) == 0xffff);
        std::vector<std::uint8_t> pseudo(frame.begin() + 26, frame.begin() + 34);
        pseudo.insert(pseudo.end(), {0, 17, frame[38], frame[39]});
        pseudo.insert(pseudo.end(), frame.begin() + 34,
                      frame.begin() + static_cast<std::ptrdiff_t>(42 + size));
        CHECK(ones_complement(pseudo) == 0xffff);
    }
}

TEST_CASE("a checksum that comes out as zero is sent as 0xffff") {
    // Find a payload whose sum needs it: one 16-bit word runs through all values.
    std::vector<std::uint8_t> payload(2);
    int seen = 0;
    for (unsigned word = 0; word < 0x10000; ++word) {
        payload[0] = static_cast<std::uint8_t>(word >> 8);
        payload[1] = static_cast<std::uint8_t>(word);
        auto frame = build_frame(sample(payload));
        CHECK_FALSE((frame[40] == 0 && frame[41] == 0));
        seen += frame[40] == 0xff && frame[41] == 0xff;
    }
    CHECK(seen >= 1);
}

TEST_CASE("frames that are not a datagram of ours are named") {
    std::vector<std::uint8_t> payload(300, 0x42);
    const auto good = build_frame(sample(payload));
    auto changed = [&](std::size_t offset, std::uint8_t value, bool fix = true) {
        auto frame = good;
        frame[offset] = value;
        if (fix)
            fix_ip_checksum(frame);
        return fault(frame);
    };
    CHECK(fault(good) == "none");
    CHECK(changed(13, 0x06) == "not IPv4");
    CHECK(changed(14, 0x65) == "bad IP header");
    CHECK(changed(14, 0x44) == "bad IP length");
    CHECK(changed(14, 0x4f) == "bad IP header checksum"); // longer header, sum no longer fits
    CHECK(changed(16, 0x7f) == "bad IP length");
    CHECK(changed(20, 0x20) == "a fragment");
    CHECK(changed(21, 0x01) == "a fragment");
    CHECK(changed(20, 0x40) == "none"); // don't fragment
    CHECK(changed(23, 6) == "not UDP");
    CHECK(changed(22, 1, false) == "bad IP header checksum");
    CHECK(changed(38, 0x7f) == "bad UDP length");
    CHECK(changed(39, 0x07) == "bad UDP checksum");
    CHECK(changed(100, 0) == "bad UDP checksum");
    auto short_udp = good;
    short_udp[38] = 0;
    short_udp[39] = 7;
    CHECK(fault(short_udp) == "bad UDP length");
    auto no_sum = good;
    no_sum[40] = no_sum[41] = 0;
    no_sum[100] = 0;
    CHECK(fault(no_sum) == "none");
}

TEST_CASE("a checksum that the guest left to its card is not looked at") {
    std::vector<std::uint8_t> payload(300, 0x42);
    auto frame = build_frame(sample(payload));
    frame[40] ^= 0x55;
    CHECK(fault(frame) == "bad UDP checksum");
    CHECK(parse_frame(frame, UdpChecksum::trusted));
}

TEST_CASE("IP options are stepped over") {
    std::vector<std::uint8_t> payload(300, 0x42);
    auto frame = build_frame(sample(payload));
    frame.insert(frame.begin() + 34, {1, 1, 1, 1});
    frame[14] = 0x46;
    auto total = static_cast<std::uint16_t>(frame.size() - 14);
    frame[16] = static_cast<std::uint8_t>(total >> 8);
    frame[17] = static_cast<std::uint8_t>(total);
    fix_ip_checksum(frame, 24);
    auto back = parse_frame(frame, UdpChecksum::verify);
    REQUIRE(back);
    CHECK(back->payload.size() == 300);
}

TEST_CASE("a priority tag is stepped over, a VLAN is not ours") {
    std::vector<std::uint8_t> payload(300, 0x42);
    auto frame = build_frame(sample(payload));
    frame.insert(frame.begin() + 12, {0x81, 0x00, 0xe0, 0x00});
    CHECK(fault(frame) == "none");
    frame[15] = 5;
    CHECK(fault(frame) == "tagged for a VLAN");
    frame[15] = 0;
    frame.insert(frame.begin() + 12, {0x88, 0xa8, 0x00, 0x00});
    CHECK(fault(frame) == "not IPv4"); // two tags
}

TEST_CASE("every truncation is refused") {
    auto frame = build_frame(sample(std::vector<std::uint8_t>(300, 0x42)));
    for (std::size_t size = 0; size < frame.size(); ++size) {
        std::vector<std::uint8_t> exact(frame.begin(),
                                        frame.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK_FALSE(parse_frame(exact, UdpChecksum::verify));
    }
}
