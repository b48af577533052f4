// The links of a virtual kernel, and the ports that are bound on it.
//
// A tap, a bound port and the lock of a daemon are real descriptors: the writing end of a pipe
// whose reading end the kernel keeps. They are gone when nobody holds them any more, in whatever
// message, process or object they are; so nothing has to be told to the kernel, and nothing that
// leaks can hide.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "net/net.h"

namespace vmhost::simulation {

// Something that exists as long as somebody holds a descriptor of it.
class Held {
public:
    // The first, or another, descriptor of it.
    Fd hold();
    bool held() const;

private:
    std::vector<Fd> ends_;
};

// What the text of a kernel has of a guard.
std::string text_of(const net::PortGuard& guard);

class Kernel {
public:
    struct Device {
        net::Link link;
        Held holders; // of a tap
        bool several_queues = false;
        bool ipv6 = true;
        net::Vlans vlans; // of a bridge or a port
        std::vector<net::Forwarding> forwarding;
    };

    // Of the machine's own, before there is a vmhost.
    void add_device(const std::string& name, const std::string& kind, bool up);
    // Removes what nobody holds.
    void settle();
    Device* find(const std::string& name);
    Device* find(unsigned index);
    bool has_address(Ipv4 address) const;
    // Everything, one line each; two kernels of one text are the same.
    std::string text() const;

    // Bound by name: "udp br-lan:67"; nothing when it is bound already.
    std::optional<Fd> bind(const std::string& name);
    bool anything_bound();

    std::map<unsigned, Device> devices;
    std::vector<net::LinkAddress> addresses;
    std::vector<net::LinkAddress6> addresses6;
    std::set<unsigned> closed_tables;             // of routes
    std::map<std::string, net::PortGuard> guards; // by port; they outlive it
    std::optional<Ipv4Prefix> translated;

private:
    unsigned next_index_ = 1;
    std::map<std::string, Held> bound_;
    friend class VirtualLinks;
};

// The seam of net/ on such a kernel. about_to is called before each step; its error is that of the
// step. may_fail: whether the step makes something, so that its failure can be undone.
class VirtualLinks final : public net::Links {
public:
    using AboutTo = std::function<Result<void>(const std::string& what, bool may_fail)>;
    VirtualLinks(Kernel& kernel, AboutTo about_to)
        : kernel_(kernel), about_to_(std::move(about_to)) {}

    Result<std::vector<net::Link>> list() override;
    Result<std::optional<net::Link>> find(const std::string& name) override;
    Result<std::optional<net::Link>> find(unsigned index) override;
    Result<void> create_bridge(const std::string& name, const Mac& mac) override;
    Result<std::vector<net::LinkCounters>> counters() override;
    Result<void> create_vlan(const std::string& name, const Mac& mac,
                             const net::VlanOptions& options) override;
    Result<void> create_vxlan(const std::string& name, const Mac& mac,
                              const net::VxlanOptions& options) override;
    Result<void> create_vrf(const std::string& name, const Mac& mac,
                            const net::VrfOptions& options) override;
    Result<void> set_bridge_options(unsigned index, const net::BridgeOptions& options) override;
    Result<void> close_table(unsigned table) override;
    Result<void> open_table(unsigned table) override;
    Result<void> change(unsigned index, const net::LinkChange& change) override;
    Result<void> set_port(unsigned index, const net::PortOptions& options) override;
    Result<void> set_vlans(unsigned index, const net::Vlans& vlans) override;
    Result<net::Vlans> vlans(unsigned index) override;
    Result<std::vector<net::Forwarding>> forwarding() override;
    Result<void> add_forwarding(const net::Forwarding& entry) override;
    Result<void> remove_forwarding(const net::Forwarding& entry) override;
    Result<void> remove(unsigned index) override;
    Result<std::vector<net::LinkAddress>> addresses() override;
    Result<void> add_address(unsigned index, const Ipv4Prefix& prefix) override;
    Result<void> remove_address(unsigned index, const Ipv4Prefix& prefix) override;
    Result<std::vector<net::LinkAddress6>> addresses6() override;
    Result<void> add_address6(unsigned index, const Ipv6Prefix& prefix) override;
    Result<void> remove_address6(unsigned index, const Ipv6Prefix& prefix) override;
    Result<Fd> open_tap(const std::string& name, uid_t owner, bool several_queues) override;
    Result<Fd> open_tap_queue(const std::string& name) override;
    Result<bool> reap_tap(const std::string& name) override;
    Result<void> disable_ipv6(const std::string& name) override;
    Result<void> enable_ipv6(const std::string& name) override;
    Result<void> guard_port(const std::string& table, const std::string& port,
                            const net::PortGuard& guard) override;
    Result<void> unguard_port(const std::string& table, const std::string& port) override;
    Result<std::vector<std::string>> guarded_ports(const std::string& table) override;
    Result<std::vector<net::GuardCount>> guard_counts(const std::string& table) override;
    Result<std::optional<Fd>> watch_guards() override { return std::nullopt; }
    Result<void> translate(const std::string& table,
                           const std::optional<Ipv4Prefix>& locals) override;

private:
    Result<Kernel::Device*> get(unsigned index);
    Result<void> create(const std::string& name, const Mac& mac, const std::string& kind,
                        net::LinkOptions options);
    Kernel& kernel_;
    AboutTo about_to_;
};

} // namespace vmhost::simulation
