// The header in front of each frame (5.1.6): what a driver that sends leaves to the host to do.
//
//   u8 flags, u8 gso_type, u16 hdr_len, u16 gso_size, u16 csum_start, u16 csum_offset, u16
//   num_buffers
//
// The last field is there in the header of 12 bytes (VERSION_1 or MRG_RXBUF), not in that of 10.
// Offsets count from the frame's first byte.
#pragma once

#include <array>
#include <optional>

#include "base/base.h"

namespace vmhost::machine::virtio {

// Feature bits of the network device (5.1.3).
enum NetFeature : std::uint64_t {
    net_csum = 1ULL << 0,
    net_guest_csum = 1ULL << 1,
    net_guest_offloads = 1ULL << 2,
    net_mtu = 1ULL << 3,
    net_mac = 1ULL << 5,
    net_guest_tso4 = 1ULL << 7,
    net_guest_tso6 = 1ULL << 8,
    net_guest_ecn = 1ULL << 9,
    net_host_tso4 = 1ULL << 11,
    net_host_tso6 = 1ULL << 12,
    net_host_ecn = 1ULL << 13,
    net_mergeable = 1ULL << 15,
    net_status = 1ULL << 16,
    net_control_queue = 1ULL << 17,
    net_control_receive = 1ULL << 18,
    net_multi_queue = 1ULL << 22,
};

inline constexpr std::size_t net_header_bytes = 12, net_legacy_header_bytes = 10;
inline constexpr std::size_t ethernet_header_bytes = 14;
// Headers of a frame that is to be segmented must end within its first bytes.
inline constexpr std::size_t net_examined_bytes = 256;

// The header that the kernel is given for a frame, or nothing when the driver's makes no sense.
// It is made anew: only what was negotiated and fits the frame comes through, and what can be read
// from the frame is. header is the driver's, features those in force, start the frame's first bytes
// (up to net_examined_bytes; looked at only for segmentation), frame_bytes its length.
std::optional<std::array<std::uint8_t, net_header_bytes>>
header_for_kernel(Bytes header, std::uint64_t features, Bytes start, std::uint64_t frame_bytes);

} // namespace vmhost::machine::virtio
