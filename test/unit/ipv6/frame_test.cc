#include "guest.h"

using namespace vmhost;
using namespace vmhost::test;

TEST_CASE("ipv6: a frame that is built is the frame that is read") {
    auto payload = MessageBuilder(MessageType::solicit).client().take();
    auto frame = build_frame(dhcp_packet(payload));
    auto read = parse_frame(frame, Checksum::verify);
    REQUIRE(read);
    CHECK(read->ethernet_source == guest_mac);
    CHECK(read->source == Ipv6::link_local(guest_mac));
    CHECK(read->destination == all_dhcp);
    CHECK(read->source_port == 546);
    CHECK(read->destination_port == 547);
    CHECK(std::ranges::equal(read->payload, payload));
    // Every bit of it that matters is covered: addresses, ports, payload.
    for (std::size_t i = 22; i < frame.size(); ++i) {
        auto bad = frame;
        bad[i] ^= 0x10;
        CHECK_FALSE(parse_frame(bad, Checksum::verify));
    }
    // Its checksum may be the network card's to fill in.
    frame[14 + 40 + 6] ^= 0xff;
    CHECK_FALSE(parse_frame(frame, Checksum::verify));
    CHECK(parse_frame(frame, Checksum::trusted));
}

TEST_CASE("ipv6: every frame that is cut short is refused") {
    auto frame = build_frame(dhcp_packet(MessageBuilder(MessageType::solicit).client().take()));
    for (std::size_t size = 0; size < frame.size(); ++size)
        CHECK_FALSE(parse_frame(Bytes(frame).first(size), Checksum::trusted));
    frame.resize(frame.size() + 20); // padding is no part of it
    CHECK(parse_frame(frame, Checksum::verify));
}

TEST_CASE("ipv6: frames of another kind are refused with the reason") {
    const auto good = build_frame(dhcp_packet(MessageBuilder(MessageType::solicit).take()));
    auto refused = [&](auto change) {
        auto frame = good;
        change(frame);
        auto read = parse_frame(frame, Checksum::trusted);
        return read ? std::string("taken") : std::string(read.error());
    };
    CHECK(refused([](auto&) {}) == "taken");
    CHECK(refused([](auto& f) { f[12] = 8, f[13] = 0; }) == "not IPv6");
    CHECK(refused([](auto& f) { f[14] = 0x45; }) == "bad IPv6 header");
    CHECK(refused([](auto& f) { f[18] = 0xff; }) == "bad IPv6 length");
    CHECK(refused([](auto& f) { f[20] = 0; }) == "neither UDP nor ICMPv6");  // hop-by-hop
    CHECK(refused([](auto& f) { f[20] = 44; }) == "neither UDP nor ICMPv6"); // a fragment
    CHECK(refused([](auto& f) { f[22] = 0xff; }) == "sent by a group");
    CHECK(refused([](auto& f) { f[14 + 40 + 5] ^= 1; }) == "bad UDP length");
    CHECK(refused([](auto& f) { f[14 + 40 + 6] = f[14 + 40 + 7] = 0; }) == "no UDP checksum");
    auto tag = [](std::uint8_t id) {
        return [id](auto& f) {
            const std::uint8_t bytes[] = {0x81, 0, 0xe0, id};
            f.insert(f.begin() + 12, bytes, bytes + 4);
        };
    };
    CHECK(refused(tag(0)) == "taken");
    CHECK(refused(tag(5)) == "tagged for a VLAN");
}
