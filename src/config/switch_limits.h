// Limits of switches, with their reasons.
#pragma once

#include <cstddef>

namespace vmhost::limits {

// VLANs of one trunk: each is a message to the kernel.
inline constexpr std::size_t max_trunk_vlans = 256;
// Other hosts of one VXLAN segment: a broadcast is copied to each.
inline constexpr std::size_t max_vxlan_peers = 64;
// Addresses of one port in one answer of vmhost net: an uplink may have learnt thousands.
inline constexpr std::size_t max_shown_macs = 256;

} // namespace vmhost::limits
