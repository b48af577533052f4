// IPv6 addresses of interfaces, as assign.cc has those of IPv4: what is given, then what was
// there before, then a rule that needs no memory.
//
//   on a switch  the switch's network and, behind it, the interface's IPv4 address as one number
//                (10.9.8.20 on 2001:db8::/64 is 2001:db8::a09:814), so that whoever knows one
//                knows the other; without IPv4 hash("ipv6", switch name, VM name, index). A number
//                that the network has no room for is taken modulo what it has, and one that is
//                taken makes way to the next
//   local        as vmd(8) has them: the prefix of host.local.ipv6, the guest's IPv4 address, and
//                1 for this host or 2 for the guest; a /96
#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "config/assign.h"

namespace vmhost::config {

namespace {

// Addresses of one switch's network that are spoken for.
class Network {
public:
    Network() = default;
    explicit Network(const Switch& sw) : prefix_(*sw.ipv6) {
        // 2^32 - 1 is enough for anybody, and leaves the rest to those that make up their own.
        const unsigned host_bits = std::min(128U - prefix_.length, 32U);
        count_ = (std::uint64_t{1} << host_bits) - 1;
        take(prefix_.address);
        for (const Ipv6& address : sw.ra.domain_name_servers)
            if (prefix_.contains(address))
                take(address);
    }
    bool is_guest_address(const Ipv6& address) const {
        return prefix_.contains(address) && address != prefix_.network();
    }
    bool take(const Ipv6& address) { return taken_.insert(address.text()).second; }
    std::optional<Ipv6> choose(std::uint64_t wish) {
        if (taken_.size() >= count_)
            return {};
        for (std::uint64_t n = (wish - 1) % count_;; n = (n + 1) % count_)
            if (Ipv6 address{prefix_.network().high, prefix_.network().low + n + 1}; take(address))
                return address;
    }

private:
    Ipv6Prefix prefix_;
    std::uint64_t count_ = 0;
    std::unordered_set<std::string> taken_;
};

using Networks = std::unordered_map<std::string_view, Network>;

Networks networks_of(const Model& model) {
    Networks networks;
    for (const Switch& sw : model.switches)
        if (!sw.local && sw.ipv6 && sw.ipv6->length < 128)
            networks.try_emplace(sw.name, sw);
    return networks;
}

template <class Use>
void each(Model& model, Networks& networks, Use use) {
    for (Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i)
            if (auto found = networks.find(vm.interfaces[i].switch_name);
                found != networks.end() && !vm.interfaces[i].local)
                use(vm, i, vm.interfaces[i], found->second);
}

void keep(Model& model, Networks& networks, const Recall& recall, Findings& findings) {
    each(model, networks, [&](Vm& vm, std::size_t i, Interface& interface, Network& network) {
        const auto* before = recall.of(vm, i);
        if (interface.ipv6 || findings.given(&interface.ipv6) || before == nullptr ||
            !before->ipv6 || before->ipv6_given || before->switch_name != interface.switch_name ||
            !network.is_guest_address(*before->ipv6))
            return;
        if (network.take(*before->ipv6))
            interface.ipv6 = before->ipv6;
        else
            complain_about_claim(model, vm.name, i, before->ipv6->text(), findings);
    });
    for (const auto* absent : recall.of_absent())
        if (auto found = networks.find(absent->switch_name);
            found != networks.end() && absent->ipv6 &&
            found->second.is_guest_address(*absent->ipv6))
            found->second.take(*absent->ipv6);
}

void assign_on_switches(Model& model, Findings& findings, const Recall& recall) {
    auto networks = networks_of(model);
    each(model, networks, [&](Vm&, std::size_t, Interface& interface, Network& network) {
        if (interface.ipv6)
            network.take(*interface.ipv6);
    });
    keep(model, networks, recall, findings);
    each(model, networks, [&](Vm& vm, std::size_t i, Interface& interface, Network& network) {
        if (interface.ipv6 || findings.given(&interface.ipv6))
            return;
        interface.ipv6 = network.choose(
            interface.ipv4 ? interface.ipv4->value
                           : stable_hash({"ipv6", interface.switch_name, vm.name}, i));
        if (!interface.ipv6)
            findings.complain(
                interface.place, ErrorKind::limit,
                fmt::format("vm.{}.interface[{}]: switch \"{}\" has no free IPv6 address",
                            printable(vm.name, 70), i, interface.switch_name));
    });
}

void assign_local_pairs(Model& model, Findings& findings) {
    const LocalIpv6& local = model.host.local_ipv6;
    for (Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i) {
            Interface& interface = vm.interfaces[i];
            if (!interface.local)
                continue;
            const auto given = std::exchange(interface.ipv6, {});
            auto sw = std::ranges::find(model.switches, interface.switch_name, &Switch::name);
            if (sw == model.switches.end() || !interface.ipv4)
                continue; // which was said
            sw->ra.enabled = sw->dhcp6.enabled = local.enabled;
            sw->ra.router = false; // the addresses are of this host alone: they lead nowhere
            sw->ra.domain_name = model.host.domain;
            sw->ipv6.reset();
            if (local.enabled) {
                const std::uint64_t pair = std::uint64_t{interface.ipv4->value} << 32;
                sw->ipv6 = Ipv6Prefix{{local.prefix.address.high, pair | 1}, 96};
                interface.ipv6 = Ipv6{local.prefix.address.high, pair | 2};
            }
            if (findings.given(&interface.ipv6) && given && given != interface.ipv6)
                findings.complain(
                    findings.place_of(&interface.ipv6, interface.place), ErrorKind::invalid,
                    fmt::format("vm.{}.interface[{}].ipv6: a local interface has the address that "
                                "host.local.ipv6 makes of its ipv4, {}: leave it out",
                                printable(vm.name, 70), i,
                                interface.ipv6 ? interface.ipv6->text() : "none"));
        }
}

} // namespace

Ipv6Prefix local_ipv6_of(std::string_view host_name) {
    return {{std::uint64_t{0xfd} << 56 | stable_hash({"local6", host_name}, 0) >> 8, 0}, 64};
}

void assign_ipv6(Model& model, Findings& findings, const Recall& recall) {
    assign_on_switches(model, findings, recall);
    assign_local_pairs(model, findings);
}

} // namespace vmhost::config
