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
};

// The lease time that a request gets: what it asks for, within bounds.
std::uint32_t lease_time_s(const Network& network, const Message& request);

std::vector<std::uint8_t> build_reply(const Network& network, const Guest& guest,
                                      const Message& request, const ReplyForm& form);

} // namespace vmhost::dhcp
