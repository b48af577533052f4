// The seam between Network's decisions and the kernel: links, addresses and tap
// devices as values and single steps. KernelLinks does them by rtnetlink and
// /dev/net/tun; tests put a wrapper around it that fails the k-th step.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "base/base.h"

namespace vmhost::net {

struct Link {
    unsigned index = 0;
    std::string name;
    std::string alias;
    std::string kind; // "bridge", "tun", "veth", …; empty for hardware
    Mac mac;
    unsigned mtu = 0;
    unsigned master = 0; // index of the bridge it is a port of
    bool up = false;
    bool operator==(const Link&) const = default;
};

struct LinkAddress {
    unsigned index = 0; // of the link
    Ipv4Prefix prefix;
};

// What to change; the rest stays.
struct LinkChange {
    std::optional<std::string> alias;
    std::optional<Mac> mac;
    std::optional<unsigned> mtu;
    std::optional<unsigned> master; // 0 = none
    std::optional<bool> up;
};

class Links {
public:
    virtual ~Links() = default;
    virtual Result<std::vector<Link>> list() = 0;
    virtual Result<std::optional<Link>> find(const std::string& name) = 0;
    virtual Result<std::optional<Link>> find(unsigned index) = 0;
    // Down, with its address from the first moment on.
    virtual Result<void> create_bridge(const std::string& name, const Mac& mac) = 0;
    // No spanning tree, no forward delay, no multicast snooping.
    virtual Result<void> set_bridge_options(unsigned index) = 0;
    virtual Result<void> change(unsigned index, const LinkChange& change) = 0;
    // A port of a bridge, down: what comes in from another source address is dropped, and what
    // goes out is for this address, a group, or everybody.
    virtual Result<void> lock_port(unsigned index, const Mac& mac) = 0;
    virtual Result<void> remove(unsigned index) = 0;
    virtual Result<std::vector<LinkAddress>> addresses() = 0;
    virtual Result<void> add_address(unsigned index, const Ipv4Prefix& prefix) = 0;
    virtual Result<void> remove_address(unsigned index, const Ipv4Prefix& prefix) = 0;
    // A new tap; busy when the name is taken.
    virtual Result<Fd> open_tap(const std::string& name, uid_t owner, bool several_queues) = 0;
    // Another descriptor of one that was opened for several.
    virtual Result<Fd> open_tap_queue(const std::string& name) = 0;
    // Deletes a tap that no process holds; false when one does.
    virtual Result<bool> reap_tap(const std::string& name) = 0;
    // The host has no business with IPv6 on a guest's wire. No IPv6 at all is fine.
    virtual Result<void> disable_ipv6(const std::string& name) = 0;
};

// In the network namespace of the calling thread.
Result<std::unique_ptr<Links>> open_kernel_links();

// The kernel's rule for interface names, with an error that names the object.
Result<void> check_link_name(std::string_view what, std::string_view name);

} // namespace vmhost::net
