// The frame guard: what a VM may say on its wire, as rules in the host's kernel.
//
// The process of a VM may be in the hands of its guest, so the rules stand where it cannot reach:
// in a table of this host's (nft list table netdev vmhost-NAME), with a chain for each tap at its
// ingress hook. The hook comes before the bridge, so that also frames that bridges never forward
// are seen, it costs nothing on other ports, and it goes with the tap. What is dropped is counted
// by reason, and the counters outlive a change of the rules.
//
// What is checked, when it is: the sender's Ethernet address in the frame and in ARP; the source
// of IPv4 and IPv6 and what ARP and neighbour advertisements claim, against the addresses that the
// VM has; and always that it plays neither router nor DHCP server, sends no frames to the bridge
// itself, and hides nothing behind VLAN tags, LLC headers or chains of IPv6 headers (the way past
// such guards in CVE-2021-27853, 27854, 27861 and 27862; RFC 7112 and 7113).
//
// Frames with offloads come as large as the guest made them, and pass as such.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace vmhost::net {

namespace nft {
class Batch;
struct Counter;
} // namespace nft

// Why a frame of a guest was dropped.
enum class GuardReason : std::uint8_t {
    lladdr,      // sent from another Ethernet address
    control,     // to 01:80:c2:00:00:0x, for bridges
    storm,       // too many broadcasts and multicasts
    tag,         // a VLAN tag where none may be
    llc,         // no EtherType
    arp,         // says that another has an address, or that it has another's
    ipv4_source, // from an address that the VM has not
    ipv6_source,
    ipv6_header, // no end of its extension headers
    neighbour,   // claims an IPv6 address that the VM has not
    router,      // router advertisement or redirect
    dhcp,        // as a DHCP or DHCPv6 server sends it
};
inline constexpr std::size_t guard_reasons = 12;
std::string_view name_of(GuardReason reason); // "ipv4_source"

// Of frames for groups and for everybody.
struct Storm {
    unsigned frames_per_s = 0;
    unsigned burst_frames = 0;
    bool operator==(const Storm&) const = default;
};

struct Ipv6Range {
    std::array<std::uint8_t, 16> address{};
    std::uint8_t length = 128;
    bool operator==(const Ipv6Range&) const = default;
};

struct PortGuard {
    bool frames = false;           // all of the below but storm
    std::optional<Mac> mac;        // the only sender; none = any
    bool tags = false;             // a trunk: one VLAN tag may be there
    std::vector<Ipv4Prefix> ipv4;  // the VM's; none = any
    std::vector<Ipv6Range> ipv6;   // the VM's, beside link-local ones; none = any
    std::vector<Ipv6Range> others; // never the VM's: this host's own on the switch
    std::optional<Storm> storm;
    bool anything() const { return frames || storm; }
    bool operator==(const PortGuard&) const = default;
};

// What was dropped on one port for one reason, since its guard was made.
struct GuardCount {
    std::string port;
    GuardReason reason;
    std::uint64_t frames = 0, bytes = 0;
};

// The steps that make a port's rules those of the guard, with its counters; what is there of it
// is replaced. The port exists.
void write_guard(nft::Batch& batch, const std::string& port, const PortGuard& guard);
// The steps that remove it. chains: those of the table; those of a port may be gone in part, as
// the kernel takes some away with the device.
void erase_guard(nft::Batch& batch, const std::string& port, const std::vector<std::string>& chains,
                 const std::vector<nft::Counter>& counters);
// The port that a chain of the table belongs to, and whether it is the one at its hook.
struct GuardChain {
    std::string_view port;
    bool first;
};
GuardChain guard_chain(std::string_view chain);
// Nothing for a counter that is none of ours.
std::optional<GuardCount> guard_count(const nft::Counter& counter);

} // namespace vmhost::net
