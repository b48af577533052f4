// Everything that passes one interface, for somebody to look at: a packet socket (packet(7)) on it.
// Values and one socket; whoever holds it may be another process than the one that opened it.
#pragma once

#include <string>

#include "base/base.h"

namespace vmhost::net {

// Needs CAP_NET_RAW. It hears both directions, and of what the guest sends also what a guard drops.
// Who holds it could send with it, too, and listen elsewhere: for root only.
Result<Fd> open_trace(const std::string& device);

struct TracedFrame {
    std::int64_t time_ns = 0;     // since 1970
    std::uint32_t wire_bytes = 0; // of the frame; more than there is room for is cut
    Bytes data;                   // in the room that was given; with its VLAN tag
};
// The next one; busy when there is none now.
Result<TracedFrame> read_trace(const Fd& trace, MutableBytes room);
// How many were lost since the last question, as nobody read them in time.
std::uint32_t lost_of_trace(const Fd& trace);

} // namespace vmhost::net
