// Values that are derived from others, above all addresses.
//
// Addresses must stay the same for a VM when other VMs come and go, also where nothing is stored:
// so each is a hash of the names that own it, moved to the next free one on a collision,
// in the order of the file. A VM that collides with one before it in the file has another address
// than alone; what it had before, where that is remembered, comes first (recall.cc).
//
//   Ethernet  fe:e1:bb:dX:RR:RR as vmd(8) makes them: X is the low nibble of the index + 1,
//             RR:RR the low 16 bits of hash("lladdr", host name, VM name, index)
//   IPv4      the n-th address of the subnet after the network's own, n being
//             hash("ipv4", switch name, VM name, index) modulo their number
//   IPv6      see assign_ipv6.cc
//   UUID      hash("uuid", host name, VM name, 0) and the same with 1, but for version and variant
//
// The hash is FNV-1a (64 bits) over the texts, each with a zero byte behind it, and the
// index in decimal; then the finishing step of SplitMix64, because FNV's low bits are weak.
// It is part of the interface: a change of it would readdress every guest.
#include "config/assign.h"

#include <algorithm>
#include <initializer_list>
#include <unordered_map>
#include <unordered_set>

#include <unistd.h>

namespace vmhost::config {

namespace {

constexpr std::string_view no_password = "*************"; // the installer: nobody logs in by it

std::string kernel_host_name() {
    char buffer[256] = {};
    if (::gethostname(buffer, sizeof(buffer) - 1) != 0)
        return "host";
    std::string_view name(buffer);
    name = name.substr(0, name.find('.'));
    return check_name(name) ? std::string(name) : "host";
}

void fill_switch(const Model& model, Switch& sw, const Findings& findings) {
    if (sw.interface.empty() && !findings.given(&sw.interface))
        sw.interface = ("br-" + sw.name).substr(0, limits::max_device_name_bytes);
    constexpr unsigned vxlan_overhead_bytes = 50; // IPv4, UDP, VXLAN and the inner Ethernet header
    if (sw.vxlan && !findings.given(&sw.mtu))
        sw.mtu = Switch{}.mtu - vxlan_overhead_bytes;
    Dhcp& dhcp = sw.dhcp;
    if (!findings.given(&dhcp.enabled))
        dhcp.enabled = sw.ipv4.has_value();
    if (!findings.given(&dhcp.domain_name))
        dhcp.domain_name = model.host.domain;
    if (sw.ipv4 && !findings.given(&dhcp.routers))
        dhcp.routers = {sw.ipv4->address};
    if (sw.ipv4 && !findings.given(&dhcp.next_server))
        dhcp.next_server = sw.ipv4->address;
    if (!findings.given(&sw.ra.enabled))
        sw.ra.enabled = sw.ipv6.has_value();
    if (!findings.given(&sw.dhcp6.enabled))
        sw.dhcp6.enabled = sw.ipv6.has_value();
    if (!findings.given(&sw.ra.domain_name))
        sw.ra.domain_name = dhcp.domain_name;
}

void fill_interface(const Model& model, Interface& interface) {
    const Switch* sw = model.find_switch(interface.switch_name);
    if (!interface.locked_lladdr)
        interface.locked_lladdr = interface.local || (sw && sw->locked_lladdr);
    if (!interface.guard)
        interface.guard = *interface.locked_lladdr && (interface.local || (sw && sw->guard));
    if (!interface.isolated)
        interface.isolated = !interface.local && sw && sw->isolated;
}

class EthernetAddresses {
public:
    explicit EthernetAddresses(Model& model, Findings& findings, const Recall& recall)
        : model_(model), findings_(findings), recall_(recall) {}

    void assign() {
        each([&](Vm&, std::size_t, Interface& interface) {
            if (findings_.given(&interface.lladdr))
                taken_.insert(interface.lladdr.text());
        });
        each([&](Vm& vm, std::size_t i, Interface& interface) {
            if (!findings_.given(&interface.lladdr))
                keep(vm, i, interface);
        });
        for (const auto* entry : recall_.of_absent())
            if (entry->lladdr)
                taken_.insert(entry->lladdr->text());
        each([&](Vm& vm, std::size_t i, Interface& interface) {
            if (!findings_.given(&interface.lladdr) && !kept_.contains(&interface))
                derive(vm, i, interface);
        });
    }

private:
    template <class Use>
    void each(Use use) {
        for (Vm& vm : model_.vms)
            for (std::size_t i = 0; i < vm.interfaces.size(); ++i)
                use(vm, i, vm.interfaces[i]);
    }
    // As it was before.
    void keep(const Vm& vm, std::size_t i, Interface& interface) {
        const auto* before = recall_.of(vm, i);
        if (before == nullptr || !before->lladdr || before->lladdr_given)
            return;
        if (!taken_.insert(before->lladdr->text()).second)
            return complain_about_claim(model_, vm.name, i, before->lladdr->text(), findings_);
        interface.lladdr = *before->lladdr;
        kept_.insert(&interface);
    }
    void derive(const Vm& vm, std::size_t i, Interface& interface) {
        auto hash = stable_hash({"lladdr", model_.host.name, vm.name}, i);
        // There are 65536 of each X.
        for (unsigned tried = 0; tried <= 0xffff; ++tried, ++hash) {
            interface.lladdr.octets = {0xfe,
                                       0xe1,
                                       0xbb,
                                       static_cast<std::uint8_t>(0xd0 | ((i + 1) & 15)),
                                       static_cast<std::uint8_t>(hash >> 8),
                                       static_cast<std::uint8_t>(hash)};
            if (taken_.insert(interface.lladdr.text()).second)
                return;
        }
        findings_.complain(interface.place, ErrorKind::limit,
                           fmt::format("vm.{}.interface[{}]: no Ethernet address is left: those "
                                       "of VMs that are gone are kept until vmhost forget",
                                       printable(vm.name, 70), i));
    }

    Model& model_;
    Findings& findings_;
    const Recall& recall_;
    std::unordered_set<std::string> taken_;
    std::unordered_set<const Interface*> kept_;
};

// Addresses of one subnet that are spoken for.
struct Subnet {
    const Switch* sw = nullptr;
    std::unordered_set<std::uint32_t> taken; // host addresses only
    unsigned of_absent = 0;                  // of them: of VMs that are not there

    std::uint32_t size() const { return sw->ipv4->broadcast().value - first(); }
    std::uint32_t first() const { return sw->ipv4->network().value + 1; }
    bool is_host(Ipv4 address) const {
        return address.value >= first() && address.value - first() < size();
    }
    // DHCP gives it to others.
    bool is_dynamic(Ipv4 address) const {
        return std::ranges::any_of(sw->dhcp.ranges,
                                   [&](const DhcpRange& range) { return range.contains(address); });
    }
    void take(Ipv4 address) {
        if (is_host(address))
            taken.insert(address.value);
    }
    void keep_free(Ipv4 address) {
        if (is_host(address) && taken.insert(address.value).second)
            ++of_absent;
    }
    std::optional<Ipv4> choose(std::uint64_t hash) {
        if (taken.size() >= size())
            return {};
        auto offset = static_cast<std::uint32_t>(hash % size());
        for (std::uint32_t tried = 0; tried < size(); ++tried, offset = (offset + 1) % size())
            if (!is_dynamic({first() + offset}) && taken.insert(first() + offset).second)
                return Ipv4{first() + offset};
        return {};
    }
};

std::unordered_map<std::string_view, Subnet> subnets_of(const Model& model) {
    std::unordered_map<std::string_view, Subnet> subnets;
    for (const Switch& sw : model.switches) {
        if (!sw.ipv4 || sw.ipv4->length > 30 || sw.ipv4->length == 0)
            continue;
        Subnet& subnet = subnets[sw.name];
        subnet.sw = &sw;
        subnet.take(sw.ipv4->address);
        // Machines outside this host that the operator told us of.
        for (Ipv4 address : sw.dhcp.routers)
            subnet.take(address);
        for (Ipv4 address : sw.dhcp.domain_name_servers)
            subnet.take(address);
        if (sw.dhcp.next_server)
            subnet.take(*sw.dhcp.next_server);
    }
    for (const Vm& vm : model.vms)
        for (const Interface& interface : vm.interfaces)
            if (auto found = subnets.find(interface.switch_name);
                found != subnets.end() && interface.ipv4)
                found->second.take(*interface.ipv4);
    return subnets;
}

// Those that were there before keep theirs, while it is an address of their switch that a guest
// can have; those that are absent keep it from others.
std::unordered_set<const Interface*>
keep_ipv4(Model& model, std::unordered_map<std::string_view, Subnet>& subnets, const Recall& recall,
          Findings& findings) {
    std::unordered_set<const Interface*> kept;
    for (Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i) {
            Interface& interface = vm.interfaces[i];
            auto found = subnets.find(interface.switch_name);
            const auto* before = recall.of(vm, i);
            if (found == subnets.end() || interface.local || findings.given(&interface.ipv4) ||
                before == nullptr || !before->ipv4 || before->ipv4_given ||
                before->switch_name != interface.switch_name ||
                !found->second.is_host(*before->ipv4))
                continue;
            if (found->second.taken.insert(before->ipv4->value).second) {
                interface.ipv4 = before->ipv4;
                kept.insert(&interface);
            } else {
                // Unless it has become the address of a router, or the like.
                complain_about_claim(model, vm.name, i, before->ipv4->text(), findings);
            }
        }
    for (const auto* absent : recall.of_absent())
        if (auto found = subnets.find(absent->switch_name); found != subnets.end() && absent->ipv4)
            found->second.keep_free(*absent->ipv4);
    return kept;
}

void assign_ipv4(Model& model, Findings& findings, const Recall& recall) {
    auto subnets = subnets_of(model);
    auto kept = keep_ipv4(model, subnets, recall, findings);
    for (Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i) {
            Interface& interface = vm.interfaces[i];
            auto found = subnets.find(interface.switch_name);
            if (found == subnets.end() || findings.given(&interface.ipv4) || interface.local ||
                kept.contains(&interface))
                continue;
            Subnet& subnet = found->second;
            interface.ipv4 =
                subnet.choose(stable_hash({"ipv4", interface.switch_name, vm.name}, i));
            if (!interface.ipv4)
                findings.complain(
                    interface.place, ErrorKind::limit,
                    fmt::format("vm.{}.interface[{}]: switch \"{}\" has no free address: {} has {} "
                                "in all{}",
                                printable(vm.name, 70), i, interface.switch_name,
                                subnet.sw->ipv4->text(), subnet.size(),
                                subnet.of_absent == 0
                                    ? std::string()
                                    : fmt::format(", {} of them of VMs that are gone, until "
                                                  "vmhost forget",
                                                  subnet.of_absent)));
        }
}

} // namespace

std::uint64_t stable_hash(std::initializer_list<std::string_view> texts, std::size_t index) {
    std::uint64_t hash = 0xcbf29ce484222325;
    auto add = [&hash](std::string_view text) {
        for (char c : text)
            hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3;
        hash = hash * 0x100000001b3; // the zero byte
    };
    for (auto text : texts)
        add(text);
    add(fmt::format("{}", index));
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
    return hash ^ (hash >> 31);
}

Uuid uuid_of(std::string_view host_name, std::string_view vm_name) {
    auto half = [&](std::size_t index) { return stable_hash({"uuid", host_name, vm_name}, index); };
    return {(half(0) & ~std::uint64_t{0xf000}) | 0x8000,
            half(1) << 2 >> 2 | std::uint64_t{1} << 63};
}

void fill_vm(const Model& model, Vm& vm, const Findings& findings) {
    for (Interface& interface : vm.interfaces)
        fill_interface(model, interface);
    vm.boot_place = findings.place_of(&vm.boot, vm.place);
    vm.cdrom_place = findings.place_of(&vm.cdrom, vm.place);
    for (std::size_t i = 0; i < vm.disks.size(); ++i)
        if (vm.disks[i].serial.empty())
            vm.disks[i].serial = fmt::format("{}-{}", vm.name.substr(0, 17), i);
    if (!vm.install)
        return;
    if (vm.install->hostname.empty())
        vm.install->hostname = vm.name;
    vm.install->kernel_place = findings.place_of(&vm.install->kernel, vm.place);
    for (auto* password : {&vm.install->password, &vm.install->root_password})
        if (password->empty())
            *password = no_password;
}

void fill_defaults(Model& model, const Findings& findings) {
    if (model.host.name.empty())
        model.host.name = kernel_host_name();
    if (model.host.local_ipv6.prefix.address.is_zero())
        model.host.local_ipv6.prefix = local_ipv6_of(model.host.name);
    for (Switch& sw : model.switches)
        fill_switch(model, sw, findings);
    for (Vm& vm : model.vms)
        fill_vm(model, vm, findings);
}

void assign_addresses(Model& model, Findings& findings, const Remembered& remembered) {
    Recall recall(model, remembered);
    EthernetAddresses(model, findings, recall).assign();
    assign_ipv4(model, findings, recall);
    assign_local(model, findings, recall);
    assign_ipv6(model, findings, recall);
}

} // namespace vmhost::config
