// Values that are derived from others, above all addresses.
//
// Addresses must stay the same for a VM when other VMs come and go, and nothing is stored:
// so each is a hash of the names that own it, moved to the next free one on a collision,
// in the order of the file. Only a VM that collides with one before it in the file can
// see its address change; its operator writes the address down.
//
//   Ethernet  fe:e1:bb:dX:RR:RR as vmd(8) makes them: X is the low nibble of the index + 1,
//             RR:RR the low 16 bits of hash("lladdr", host name, VM name, index)
//   IPv4      the n-th address of the subnet after the network's own, n being
//             hash("ipv4", switch name, VM name, index) modulo their number
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
    Dhcp& dhcp = sw.dhcp;
    if (!findings.given(&dhcp.enabled))
        dhcp.enabled = sw.ipv4.has_value();
    if (!findings.given(&dhcp.domain_name))
        dhcp.domain_name = model.host.domain;
    if (sw.ipv4 && !findings.given(&dhcp.routers))
        dhcp.routers = {sw.ipv4->address};
    if (sw.ipv4 && !findings.given(&dhcp.next_server))
        dhcp.next_server = sw.ipv4->address;
}

void fill_interface(const Model& model, Interface& interface) {
    if (interface.locked_lladdr || interface.local)
        return;
    const Switch* sw = model.find_switch(interface.switch_name);
    interface.locked_lladdr = sw && sw->locked_lladdr;
}

void assign_ethernet(Model& model, const Findings& findings) {
    std::unordered_set<std::string> taken;
    for (const Vm& vm : model.vms)
        for (const Interface& interface : vm.interfaces)
            if (findings.given(&interface.lladdr))
                taken.insert(interface.lladdr.text());
    for (Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i) {
            Interface& interface = vm.interfaces[i];
            if (findings.given(&interface.lladdr))
                continue;
            auto hash = stable_hash({"lladdr", model.host.name, vm.name}, i);
            // There are 65536 of each X and at most max_vms takers: it ends.
            do {
                interface.lladdr.octets = {0xfe,
                                           0xe1,
                                           0xbb,
                                           static_cast<std::uint8_t>(0xd0 | ((i + 1) & 15)),
                                           static_cast<std::uint8_t>(hash >> 8),
                                           static_cast<std::uint8_t>(hash)};
                ++hash;
            } while (!taken.insert(interface.lladdr.text()).second);
        }
}

// Addresses of one subnet that are spoken for.
struct Subnet {
    const Switch* sw = nullptr;
    std::unordered_set<std::uint32_t> taken; // host addresses only

    std::uint32_t size() const { return sw->ipv4->broadcast().value - first(); }
    std::uint32_t first() const { return sw->ipv4->network().value + 1; }
    bool is_host(Ipv4 address) const {
        return address.value >= first() && address.value - first() < size();
    }
    void take(Ipv4 address) {
        if (is_host(address))
            taken.insert(address.value);
    }
    std::optional<Ipv4> choose(std::uint64_t hash) {
        if (taken.size() >= size())
            return {};
        auto offset = static_cast<std::uint32_t>(hash % size());
        while (!taken.insert(first() + offset).second)
            offset = (offset + 1) % size();
        return Ipv4{first() + offset};
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

void assign_ipv4(Model& model, Findings& findings) {
    auto subnets = subnets_of(model);
    for (Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i) {
            Interface& interface = vm.interfaces[i];
            auto found = subnets.find(interface.switch_name);
            if (found == subnets.end() || findings.given(&interface.ipv4) || interface.local)
                continue;
            interface.ipv4 =
                found->second.choose(stable_hash({"ipv4", interface.switch_name, vm.name}, i));
            if (!interface.ipv4)
                findings.complain(interface.place, ErrorKind::limit,
                                  fmt::format("vm.{}.interface[{}]: switch \"{}\" has no free "
                                              "address: {} has {} in all",
                                              printable(vm.name, 70), i, interface.switch_name,
                                              found->second.sw->ipv4->text(),
                                              found->second.size()));
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
    for (auto* password : {&vm.install->password, &vm.install->root_password})
        if (password->empty())
            *password = no_password;
}

void fill_defaults(Model& model, const Findings& findings) {
    if (model.host.name.empty())
        model.host.name = kernel_host_name();
    for (Switch& sw : model.switches)
        fill_switch(model, sw, findings);
    for (Vm& vm : model.vms)
        fill_vm(model, vm, findings);
}

void assign_addresses(Model& model, Findings& findings) {
    assign_ethernet(model, findings);
    assign_ipv4(model, findings);
    assign_local(model, findings);
}

} // namespace vmhost::config
