// Ethernet and IPv6 around a router solicitation or a DHCPv6 message: RFC 2464, 8200, 4443, 768.
//
// The frame is what says who speaks: its source address is the guest's, whatever is inside.
#pragma once

#include <cstdint>
#include <expected>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace vmhost::ipv6 {

inline constexpr std::uint8_t protocol_udp = 17, protocol_icmp = 58;
inline constexpr std::uint16_t client_port = 546, server_port = 547;

struct Packet {
    Mac ethernet_source, ethernet_destination;
    Ipv6 source, destination;
    std::uint8_t protocol = 0; // of the two above
    std::uint8_t hop_limit = 255;
    std::uint16_t source_port = 0, destination_port = 0; // UDP
    // Points into the frame: behind the UDP header, or the whole ICMPv6 message, whose checksum
    // is filled in when the frame is built.
    Bytes payload;
};

enum class Checksum : std::uint8_t {
    verify,
    // The kernel says it has checked it, or that the guest left it to the network card.
    trusted,
};

// The error says what is wrong with the frame. A VLAN tag other than id 0 is another network's, and
// an extension header is nothing that these messages come with.
std::expected<Packet, std::string_view> parse_frame(Bytes frame, Checksum checksum);

std::vector<std::uint8_t> build_frame(const Packet& packet);

} // namespace vmhost::ipv6
