// The seam between Network's decisions and the kernel: links, addresses, bridge ports, forwarding
// entries and tap devices as values and single steps. KernelLinks does them by rtnetlink and
// /dev/net/tun; tests put a wrapper around it that fails the k-th step.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <variant>
#include <vector>

#include "base/base.h"
#include "net/guard.h"

namespace vmhost::net {

// What makes a link of its kind the one that it is; a link without is of a kind that we never make.
struct BridgeOptions { // as all of ours are: no spanning tree, no delay, no snooping
    bool spanning_tree = false;
    bool multicast_snooping = false;
    unsigned forward_delay = 0;
    bool vlan_filtering = false;
    bool operator==(const BridgeOptions&) const = default;
};
struct VlanOptions { // 802.1Q
    unsigned parent = 0;
    unsigned id = 0;
    bool operator==(const VlanOptions&) const = default;
};
struct VxlanOptions { // RFC 7348
    unsigned id = 0;
    Ipv4 local;
    std::uint16_t port = 4789;
    bool operator==(const VxlanOptions&) const = default;
};
struct VrfOptions {
    unsigned table = 0; // of routes
    bool operator==(const VrfOptions&) const = default;
};
using LinkOptions =
    std::variant<std::monostate, BridgeOptions, VlanOptions, VxlanOptions, VrfOptions>;

// Of a bridge's port.
struct PortOptions {
    bool isolated = false; // nothing goes from one isolated port to another
    bool learning = true;  // addresses from what comes in
    bool flooding = true;  // is sent what is for addresses that nobody has learnt
    bool locked = false;   // only addresses that the bridge knows there may send
    bool operator==(const PortOptions&) const = default;
};

struct Link {
    unsigned index = 0;
    std::string name;
    std::string alias;
    std::string kind; // "bridge", "tun", "veth", …; empty for hardware
    Mac mac;
    unsigned mtu = 0;
    unsigned master = 0; // index of the bridge it is a port of, or of its routing domain
    bool up = false;
    LinkOptions options;
    std::optional<PortOptions> port; // of a bridge
    bool operator==(const Link&) const = default;
};

struct LinkAddress {
    unsigned index = 0; // of the link
    Ipv4Prefix prefix;
};

struct LinkAddress6 {
    unsigned index = 0; // of the link
    Ipv6Prefix prefix;
};

// What to change; the rest stays.
struct LinkChange {
    std::optional<std::string> alias;
    std::optional<Mac> mac;
    std::optional<unsigned> mtu;
    std::optional<unsigned> master; // 0 = none
    std::optional<bool> up;
};

// The VLANs of a bridge's port, or of the bridge itself, which is this host's own port.
struct Vlans {
    std::optional<unsigned> untagged; // frames without a tag belong to it; none = they are dropped
    std::vector<unsigned> tagged;     // ascending
    bool operator==(const Vlans&) const = default;
};

// Where a bridge, or a VXLAN link, sends what is for an address.
struct Forwarding {
    unsigned link = 0;          // the port, or the VXLAN link
    Mac mac;                    // all zero on a VXLAN link: everything that no other entry is for
    unsigned vlan = 0;          // on a bridge that filters; 0 = every VLAN of the port
    bool fixed = true;          // never ages, never moves to another port; else learnt
    std::optional<Ipv4> remote; // of a VXLAN link's: the host that has it
    bool operator==(const Forwarding&) const = default;
};

// Since the link was made.
struct LinkCounters {
    unsigned index = 0;
    std::uint64_t rx_packets = 0, rx_bytes = 0, rx_dropped = 0;
    std::uint64_t tx_packets = 0, tx_bytes = 0, tx_dropped = 0;
};

class Links {
public:
    virtual ~Links() = default;
    virtual Result<std::vector<Link>> list() = 0;
    virtual Result<std::optional<Link>> find(const std::string& name) = 0;
    virtual Result<std::optional<Link>> find(unsigned index) = 0;
    virtual Result<std::vector<LinkCounters>> counters() = 0;

    // Each of these makes a link that is down, with its address from the first moment on.
    virtual Result<void> create_bridge(const std::string& name, const Mac& mac) = 0;
    virtual Result<void> create_vlan(const std::string& name, const Mac& mac,
                                     const VlanOptions& options) = 0;
    virtual Result<void> create_vxlan(const std::string& name, const Mac& mac,
                                      const VxlanOptions& options) = 0;
    virtual Result<void> create_vrf(const std::string& name, const Mac& mac,
                                    const VrfOptions& options) = 0;
    // Unsupported when this kernel's bridges cannot filter VLANs, and that is asked for.
    virtual Result<void> set_bridge_options(unsigned index, const BridgeOptions& options) = 0;
    virtual Result<void> change(unsigned index, const LinkChange& change) = 0;
    virtual Result<void> remove(unsigned index) = 0;
    // What a table of routes has no route for goes nowhere, instead of by the main table.
    virtual Result<void> close_table(unsigned table) = 0;
    virtual Result<void> open_table(unsigned table) = 0;

    // Unsupported when this kernel cannot lock ports, and that is asked for.
    virtual Result<void> set_port(unsigned index, const PortOptions& options) = 0;
    // All VLANs of the port, or of the bridge itself, become these.
    virtual Result<void> set_vlans(unsigned index, const Vlans& vlans) = 0;
    virtual Result<Vlans> vlans(unsigned index) = 0;
    // Of all bridges and VXLAN links, without the addresses of the host's own links.
    virtual Result<std::vector<Forwarding>> forwarding() = 0;
    // One that is there already is replaced; a VXLAN link may have several of one address.
    virtual Result<void> add_forwarding(const Forwarding& entry) = 0;
    virtual Result<void> remove_forwarding(const Forwarding& entry) = 0;

    virtual Result<std::vector<LinkAddress>> addresses() = 0;
    virtual Result<void> add_address(unsigned index, const Ipv4Prefix& prefix) = 0;
    virtual Result<void> remove_address(unsigned index, const Ipv4Prefix& prefix) = 0;
    virtual Result<std::vector<LinkAddress6>> addresses6() = 0;
    // To be used at once: nobody is asked whether it is taken (RFC 4862's DAD), as on a bridge
    // without a carrier nobody would answer.
    virtual Result<void> add_address6(unsigned index, const Ipv6Prefix& prefix) = 0;
    virtual Result<void> remove_address6(unsigned index, const Ipv6Prefix& prefix) = 0;
    // A new tap; busy when the name is taken.
    virtual Result<Fd> open_tap(const std::string& name, uid_t owner, bool several_queues) = 0;
    // Another descriptor of one that was opened for several.
    virtual Result<Fd> open_tap_queue(const std::string& name) = 0;
    // Deletes a tap that no process holds; false when one does.
    virtual Result<bool> reap_tap(const std::string& name) = 0;
    // The host has no business with IPv6 on a guest's wire. No IPv6 at all is fine.
    virtual Result<void> disable_ipv6(const std::string& name) = 0;
    // The host has IPv6 on it, with the addresses that it is given and no other: it believes no
    // router advertisement and no redirect, and makes up no address.
    virtual Result<void> enable_ipv6(const std::string& name) = 0;
    // What a tap may say becomes this, at once; counters go on. Tables are called by their host.
    // The rules may outlive the tap, and would be those of the next one of that name.
    virtual Result<void> guard_port(const std::string& table, const std::string& port,
                                    const PortGuard& guard) = 0;
    // And its counters. Fine when there is nothing.
    virtual Result<void> unguard_port(const std::string& table, const std::string& port) = 0;
    // Taps with rules, whole or not, whether they exist or not.
    virtual Result<std::vector<std::string>> guarded_ports(const std::string& table) = 0;
    virtual Result<std::vector<GuardCount>> guard_counts(const std::string& table) = 0;
    // Readable when the kernel's rules, anybody's, have changed; none: they never do.
    virtual Result<std::optional<Fd>> watch_guards() = 0;
    // What comes from there and goes beyond this host has the host's address then; none = nothing.
    virtual Result<void> translate(const std::string& table,
                                   const std::optional<Ipv4Prefix>& locals) = 0;
};

// In the network namespace of the calling thread.
Result<std::unique_ptr<Links>> open_kernel_links();

// The kernel's rule for interface names, with an error that names the object.
Result<void> check_link_name(std::string_view what, std::string_view name);

} // namespace vmhost::net
