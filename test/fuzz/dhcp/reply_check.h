// What the targets of the server share: putting a message right, and judging what comes back.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "dhcp/dhcp.h"
#include "dhcp/packet.h"

namespace vmhost::dhcp {

inline void must(bool good) {
    if (!good)
        std::abort();
}

// So that the fuzzer gets past the checks of form and identity without guessing addresses. Bits of
// repair: 1 the sender, 2 the cookie.
inline void put_right(std::vector<std::uint8_t>& bytes, std::uint8_t repair, const Mac& sender) {
    if (repair & 1 && bytes.size() >= 44) {
        bytes[0] = bytes[1] = 1;
        bytes[2] = 6;
        bytes[3] = 0;
        std::fill_n(bytes.begin() + 24, 4, std::uint8_t{0});
        std::copy(sender.octets.begin(), sender.octets.end(), bytes.begin() + 28);
    }
    if (repair & 2 && bytes.size() >= 240)
        store_be(MutableBytes(bytes).subspan(236), 0x63825363u);
}

// A reply is one that a strict client takes; a log line is one line.
inline void check(const Answer& answer) {
    must(std::ranges::all_of(text(answer.event), [](char c) { return c >= 0x20 && c < 0x7f; }));
    must((answer.event.kind == EventKind::dropped) == (answer.event.drop != Drop::none));
    if (answer.row)
        must(answer.row->client_id.size() <= 255 && answer.row->network == "lan");
    if (!answer.reply)
        return;
    const auto& bytes = answer.reply->payload;
    must(bytes.size() >= 300);
    auto message = parse(bytes);
    must(message && message->header.op == 2 && message->header.hlen == 6);
    must(!message->find(option::overload));
    auto type = message->number<std::uint8_t>(option::message_type);
    if (type == 2 || type == 5)
        must(message->find(option::subnet_mask) && message->find(option::server_identifier));
    if (!message->has_cookie)
        return;
    std::size_t at = 240; // options, END, then nothing but zeros
    while (bytes.at(at) != 255) {
        must(bytes[at] != 0 && bytes.at(at + 1) != 0);
        at += 2 + bytes[at + 1];
    }
    must(std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(at) + 1, bytes.end(),
                     [](auto byte) { return byte == 0; }));
}

} // namespace vmhost::dhcp
