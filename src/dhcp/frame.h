// Ethernet, IPv4 and UDP around a DHCP message: RFC 894, 791, 768, 1071.
//
// DHCP needs the frame: a client without an address answers no ARP, and the
// source address of the frame is what says which guest is speaking.
#pragma once

#include <cstdint>
#include <expected>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace vmhost::dhcp {

struct Datagram {
    Mac ethernet_source, ethernet_destination;
    Ipv4 source, destination;
    std::uint16_t source_port = 0, destination_port = 0;
    Bytes payload; // points into the frame
};

enum class UdpChecksum : std::uint8_t {
    verify,
    // The kernel says it has checked it, or that the guest left it to the network
    // card: then the field holds only the pseudo header's sum.
    trusted,
};

// The error says what is wrong with the frame. One VLAN tag with id 0 (priority
// only) is stepped over; any other tag is another network's and an error.
std::expected<Datagram, std::string_view> parse_frame(Bytes frame, UdpChecksum checksum);

// The frame with both checksums filled in; at least 60 bytes.
std::vector<std::uint8_t> build_frame(const Datagram& datagram);

} // namespace vmhost::dhcp
