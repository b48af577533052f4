// What came of one message of a guest: for the log and the metrics.
#pragma once

#include <cstdint>
#include <string>

#include "base/base.h"

namespace vmhost::ipv6 {

enum class EventKind : std::uint8_t {
    solicited,    // a router solicitation: an advertisement follows
    offered,      // ADVERTISE
    acknowledged, // REPLY with the address
    refused,      // REPLY that has another status than success
    informed,     // REPLY without an address to be had
    released,
    declined,
    dropped,
};
inline constexpr std::size_t event_kinds = 8;
// "acknowledged": as in metrics.
std::string_view name_of(EventKind kind);

// Why a message got no answer. Each is counted.
enum class Drop : std::uint8_t {
    none,
    unknown_network,
    unknown_guest,  // no guest of this network has this Ethernet address
    rate_limited,   // limits::dhcp_messages_per_s
    bad_frame,      // Ethernet, IPv6, UDP or ICMPv6
    malformed,      // the solicitation, or the DHCPv6 message
    hop_limit,      // a solicitation that came through a router
    spoofed,        // its source link-layer address option is not the Ethernet source
    not_served,     // the switch has this off
    server_message, // what only a server or a relay sends: a rogue one
    no_address,     // the guest has no IPv6 address in the model
    other_server,   // meant for another server
    unexpected_type,
};
inline constexpr std::size_t drop_kinds = 13;
// "rate-limited": as in metrics and logs.
std::string_view name_of(Drop drop);

struct Event {
    EventKind kind = EventKind::dropped;
    Drop drop = Drop::none;
    std::string network;
    std::string vm;          // empty when the sender is unknown
    Mac mac;                 // Ethernet source
    Ipv6 address;            // the guest's; of a solicitation the sender's
    std::string detail;      // more about it, printable
    std::string warning;     // something an operator should look at, printable
    bool log = false;        // within the budget of log lines
    unsigned suppressed = 0; // lines that were not, since the last one
};

// One line: "lan: vm13 (fe:e1:bb:d1:00:01): offered 2001:db8::d".
std::string text(const Event& event);
// Writes the line at its level, if it is within the budget.
void log_event(const Event& event);

} // namespace vmhost::ipv6
