// Router solicitations and advertisements on the wire: RFC 4861 §4.1, §4.2, §6.1.1; options of
// RFC 4861 §4.6 and RFC 8106 §5.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace vmhost::ipv6 {

inline constexpr std::uint8_t type_router_solicitation = 133, type_router_advertisement = 134;
inline constexpr Ipv6 all_nodes{0xff02'0000'0000'0000, 1};
inline constexpr Ipv6 all_routers{0xff02'0000'0000'0000, 2};

struct Solicitation {
    std::optional<Mac> link_layer; // what the sender says is its Ethernet address
};
// message: of type 133, with its header; source: of the IPv6 header. The hop limit is the caller's
// to check. The error says what is wrong.
std::expected<Solicitation, std::string_view> parse_solicitation(Bytes message, const Ipv6& source);

struct Advertisement {
    Mac link_layer; // this router's
    unsigned mtu = 1500;
    Ipv6Prefix prefix; // on the link
    bool autonomous = false;
    std::uint32_t prefix_s = 0; // so long it is, and twice as long for what uses it; 0 = no more
    bool managed = false;       // guests ask for an address by DHCPv6, and for the rest
    std::uint32_t router_s = 0; // for so long it is a default router; 0 = it is none
    std::uint32_t information_s = 0; // for so long name servers and domain are good
    std::vector<Ipv6> domain_name_servers;
    std::string domain_name; // empty = none
};
// The message; its checksum is zero.
std::vector<std::uint8_t> build_advertisement(const Advertisement& advertisement);

// A name as DNS has it on the wire (RFC 1035 §3.1), without compression; nothing when it is none.
std::vector<std::uint8_t> wire_name(std::string_view name);

} // namespace vmhost::ipv6
