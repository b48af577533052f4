// What came of one message: for the log, the status and the install progress.
#pragma once

#include <cstdint>
#include <string>

#include "base/base.h"

namespace vmhost::dhcp {

enum class EventKind : std::uint8_t {
    offered,
    acknowledged,
    refused,  // NAK
    informed, // ACK to an INFORM
    booted,   // BOOTP reply
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
    unknown_guest,   // no guest of the model has this Ethernet address
    other_network,   // it has one, but on another network
    rate_limited,    // limits::dhcp_messages_per_s
    bad_frame,       // Ethernet, IP or UDP
    malformed,       // the DHCP message
    server_port,     // sent from port 67: a server or relay behind a guest's port
    server_message,  // op 2 from a guest: a rogue server
    relayed,         // giaddr or hops set by a guest, or by a relay agent that is not ours
    hardware_type,   // not Ethernet
    spoofed,         // chaddr is not the Ethernet source
    no_address,      // the guest has no IPv4 address in the model
    other_server,    // meant for another server
    wrong_address,   // RELEASE or DECLINE of an address that is not its own
    off_link,        // INFORM from outside the network
    unexpected_type, // OFFER, ACK, NAK, or a type that we do not know
    no_free_address, // the ranges are used up
    declines,        // limits::dhcp_declines
    not_stored,      // the lease could not be written down
};
inline constexpr std::size_t drop_kinds = 20;

// "rate-limited": as in metrics and logs.
std::string_view name_of(Drop drop);

struct Event {
    EventKind kind = EventKind::dropped;
    Drop drop = Drop::none;
    std::string network;
    std::string vm;                             // empty when the sender is none of ours
    std::string_view client = "unknown sender"; // what to call it then
    Mac mac;                                    // Ethernet source
    Ipv4 address;                               // offered, acknowledged, asked for, …
    std::uint32_t xid = 0;
    std::string detail;      // more about it, printable
    std::string warning;     // something an operator should look at, printable
    bool log = false;        // within the budget of log lines
    unsigned suppressed = 0; // lines that were not, since the last one
};

// One line: "lan: vm13 (fe:e1:bb:d1:00:01): offered 10.0.0.13".
std::string text(const Event& event);
// Writes the line at its level, if it is within the budget.
void log_event(const Event& event);

} // namespace vmhost::dhcp
