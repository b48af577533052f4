// A guest as the tests of ipv6/ need it: frames with its messages, and a plain reader of answers.
#pragma once

#include <catch2/catch.hpp>

#include "ipv6/dhcp6.h"
#include "ipv6/frame.h"
#include "ipv6/neighbour.h"
#include "ipv6/server.h"

namespace vmhost::test {

using namespace vmhost::ipv6;

inline Mac mac(const char* text) {
    return parse_mac(text).value();
}
inline Ipv6 ip6(const char* text) {
    return parse_ipv6(text).value();
}
inline const Mac bridge_mac = mac("fe:e1:ba:00:00:01"), guest_mac = mac("fe:e1:bb:d1:00:01");
inline const Ipv6 guest_address = ip6("2001:db8::d"), all_dhcp = ip6("ff02::1:2");

inline Network lan() {
    return {.name = "lan",
            .own = parse_ipv6_prefix("2001:db8::1/64").value(),
            .mac = bridge_mac,
            .domain_name_servers = {ip6("2001:db8::53")},
            .domain_name = "example.org",
            .lease_s = 1000,
            .guests = {{.vm = "a", .mac = guest_mac, .ipv6 = guest_address},
                       {.vm = "bare", .mac = mac("fe:e1:bb:d1:00:02"), .ipv6 = {}}}};
}

// A DHCPv6 message, option by option.
class MessageBuilder {
public:
    explicit MessageBuilder(MessageType type, std::uint32_t transaction = 0x123456) {
        out_.be(static_cast<std::uint32_t>(type) << 24 | transaction);
    }
    MessageBuilder& option(std::uint16_t code, Bytes body) {
        out_.be(code);
        out_.be(static_cast<std::uint16_t>(body.size()));
        out_.bytes(body);
        return *this;
    }
    MessageBuilder& client() { return option(1, as_bytes("some-uuid")); }
    MessageBuilder& server(const Mac& of = bridge_mac) { return option(2, duid_of(of)); }
    MessageBuilder& want(std::uint16_t kind, std::uint32_t id, std::vector<Ipv6> addresses = {}) {
        ByteWriter body;
        body.be(id);
        if (kind != 4)
            body.zeros(8);
        for (const auto& address : addresses) {
            body.be(std::uint16_t{5});
            body.be(std::uint16_t{24});
            body.bytes(address.octets());
            body.zeros(8);
        }
        return option(kind, body.take());
    }
    std::vector<std::uint8_t> take() { return out_.take(); }

private:
    ByteWriter out_;
};

inline Packet dhcp_packet(Bytes payload, const Mac& from = guest_mac) {
    return {.ethernet_source = from,
            .ethernet_destination = mac("33:33:00:01:00:02"),
            .source = Ipv6::link_local(from),
            .destination = all_dhcp,
            .protocol = protocol_udp,
            .hop_limit = 1,
            .source_port = client_port,
            .destination_port = server_port,
            .payload = payload};
}

// Options of a reply, in their order, read without the code that is tested.
inline std::vector<std::pair<unsigned, Bytes>> options_of(Bytes body) {
    std::vector<std::pair<unsigned, Bytes>> all;
    ByteReader reader(body);
    while (reader.remaining() > 0) {
        auto code = reader.be<std::uint16_t>();
        auto data = reader.bytes(reader.be<std::uint16_t>());
        REQUIRE(reader.ok());
        all.emplace_back(code, data);
    }
    return all;
}
inline std::optional<Bytes> option_of(Bytes body, unsigned code) {
    for (const auto& [one, data] : options_of(body))
        if (one == code)
            return data;
    return {};
}

} // namespace vmhost::test
