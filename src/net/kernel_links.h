// KernelLinks: rtnetlink(7) behind the seam of net/links.h. Links and addresses are in
// kernel_links.cc, what is beneath and beside bridges (VLAN, VXLAN, VRF) in kernel_kinds.cc, what
// bridges know of their ports in kernel_ports.cc.
//
// Private to net/. One thread.
#pragma once

#include <linux/rtnetlink.h>

#include "net/kernel_guard.h"
#include "net/links.h"
#include "net/netlink.h"
#include "net/tap.h"

namespace vmhost::net {

class KernelLinks final : public Links {
public:
    explicit KernelLinks(Netlink netlink) : netlink_(std::move(netlink)) {}

    Result<std::vector<Link>> list() override;
    Result<std::optional<Link>> find(const std::string& name) override;
    Result<std::optional<Link>> find(unsigned index) override;
    Result<std::vector<LinkCounters>> counters() override;
    Result<void> create_bridge(const std::string& name, const Mac& mac) override;
    Result<void> create_vlan(const std::string& name, const Mac& mac,
                             const VlanOptions& options) override;
    Result<void> create_vxlan(const std::string& name, const Mac& mac,
                              const VxlanOptions& options) override;
    Result<void> create_vrf(const std::string& name, const Mac& mac,
                            const VrfOptions& options) override;
    Result<void> set_bridge_options(unsigned index, const BridgeOptions& options) override;
    Result<void> change(unsigned index, const LinkChange& change) override;
    Result<void> remove(unsigned index) override;
    Result<void> close_table(unsigned table) override;
    Result<void> open_table(unsigned table) override;
    Result<void> set_port(unsigned index, const PortOptions& options) override;
    Result<void> set_vlans(unsigned index, const Vlans& vlans) override;
    Result<Vlans> vlans(unsigned index) override;
    Result<std::vector<Forwarding>> forwarding() override;
    Result<void> add_forwarding(const Forwarding& entry) override;
    Result<void> remove_forwarding(const Forwarding& entry) override;
    Result<std::vector<LinkAddress>> addresses() override;
    Result<void> add_address(unsigned index, const Ipv4Prefix& prefix) override;
    Result<void> remove_address(unsigned index, const Ipv4Prefix& prefix) override;
    Result<std::vector<LinkAddress6>> addresses6() override;
    Result<void> add_address6(unsigned index, const Ipv6Prefix& prefix) override;
    Result<void> remove_address6(unsigned index, const Ipv6Prefix& prefix) override;
    Result<Fd> open_tap(const std::string& name, uid_t owner, bool several_queues) override {
        return open_tap_device(name, owner, several_queues);
    }
    Result<Fd> open_tap_queue(const std::string& name) override {
        return open_tap_device_queue(name);
    }
    Result<bool> reap_tap(const std::string& name) override { return reap_tap_device(name); }
    Result<void> disable_ipv6(const std::string& name) override { return disable_ipv6_on(name); }
    Result<void> enable_ipv6(const std::string& name) override { return enable_ipv6_on(name); }
    Result<void> guard_port(const std::string& table, const std::string& port,
                            const PortGuard& guard) override {
        return guard_.put(table, port, guard);
    }
    Result<void> unguard_port(const std::string& table, const std::string& port) override {
        return guard_.remove(table, port);
    }
    Result<std::vector<std::string>> guarded_ports(const std::string& table) override {
        return guard_.ports(table);
    }
    Result<std::vector<GuardCount>> guard_counts(const std::string& table) override {
        return guard_.counts(table);
    }
    Result<std::optional<Fd>> watch_guards() override { return nft::Socket::open_events(); }
    Result<void> translate(const std::string& table,
                           const std::optional<Ipv4Prefix>& locals) override {
        return guard_.translate(table, locals);
    }

private:
    Result<std::optional<Link>> find_link(unsigned index, const std::string& name);
    Result<void> ask_address(int type, int flags, unsigned index, const Ipv4Prefix& prefix,
                             std::string_view step);
    Result<void> ask_table(int type, int flags, unsigned table, std::string_view step);
    Result<void> ask_bridge(unsigned index, const std::function<void(Request&)>& fill);
    Result<void> ask_vlan(int type, const Link& port, unsigned id, bool untagged);
    Result<void> ask_forwarding(int type, int flags, const Forwarding& entry);

    Netlink netlink_;
    KernelGuard guard_;
};

// The header of a message about a link; 0 = none yet, or all.
ifinfomsg info_of(unsigned index);
// What a message about a link says of its kind, and of the bridge that it is a port of.
void parse_link_info(nlattr* info, Link& link);
// A request that makes a link, without what its kind needs.
Request request_new_link(const std::string& name, const Mac& mac);

} // namespace vmhost::net
