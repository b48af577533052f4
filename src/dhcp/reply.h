// Turns a decision into the bytes of a reply.
#pragma once

#include "dhcp/packet.h"
#include "dhcp/server.h"

namespace vmhost::dhcp {

struct ReplyForm {
    MessageType type = MessageType::ack; // bootp: a reply without option 53
    Ipv4 yiaddr;                         // zero: none
    std::uint32_t lease_time_s = 0;      // 0: no times
    std::string_view message;            // of a NAK
    const Guest* guest = nullptr;        // null: a client that the model does not know
    Ipv4Prefix prefix;                   // its subnet
    bool foreign = false;                // which is not ours: behind a relay agent
};

// The lease time that a request gets: what it asks for, within bounds.
std::uint32_t lease_time_s(const Network& network, const Message& request);

// Whether a client that says this is of the class.
bool fits(const Class& one, const Message& request);

struct BuiltReply {
    std::vector<std::uint8_t> payload;
    // Codes of options that it has no room for, in the order in which they were tried.
    std::vector<std::uint8_t> left_out;
};
BuiltReply build_reply(const Network& network, const Message& request, const ReplyForm& form);

} // namespace vmhost::dhcp
