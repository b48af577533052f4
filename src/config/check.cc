// What is right alone and wrong together: references, duplicates, addresses outside their
// subnet, settings without effect. Each complaint names both places; it stands at the
// later one, because that is where a copied paragraph was not edited.
//
// Runs after reading and defaults, also when those found something: an operator mends a
// file in one go. What was given but could not be read is left out here, or one mistake
// would cause two complaints.
#include <algorithm>
#include <filesystem>
#include <map>
#include <unordered_map>

#include "config/assign.h"
#include "config/dhcp_options.h"
#include "config/rules.h"

namespace vmhost::config {

std::string switch_path(const Switch& sw, std::string_view key) {
    return fmt::format("switch.{}.{}", printable(sw.name, 70), key);
}

namespace {

std::string line_of(const Place& place) {
    return fmt::format("line {}", place.line);
}

std::string vm_path(const Vm& vm, std::string_view key) {
    return fmt::format("vm.{}.{}", printable(vm.name, 70), key);
}
std::string interface_path(const Vm& vm, std::size_t index, std::string_view key) {
    return fmt::format("vm.{}.interface[{}].{}", printable(vm.name, 70), index, key);
}

// Who has a value first, and where.
struct Taker {
    std::string path;
    Place place;
    bool writes = true;
    const char* as = "disk";
};
class Register {
public:
    explicit Register(Findings& findings) : findings_(findings) {}
    // Complains when somebody has the value already.
    void take(const std::string& value, Taker taker) {
        auto [found, fresh] = takers_.try_emplace(value, taker);
        if (fresh)
            return;
        const Taker& first = found->second;
        // In the order of the file, whatever the order of the checks.
        const bool swapped = taker.place.line < first.place.line;
        const Taker& early = swapped ? taker : first;
        const Taker& late = swapped ? first : taker;
        findings_.complain(late.place, ErrorKind::exists,
                           fmt::format("{}: \"{}\" is taken by {} at {}", late.path,
                                       printable(value, 100), early.path, line_of(early.place)));
    }

private:
    Findings& findings_;
    std::unordered_map<std::string, Taker> takers_;
};

// Bridges, ports and taps share one space of names.
void check_taps(const Model& model, Register& devices, Findings& findings) {
    for (const Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i)
            if (const Interface& interface = vm.interfaces[i]; !interface.tap.empty())
                devices.take(interface.tap, {interface_path(vm, i, "tap"),
                                             findings.place_of(&interface.tap, interface.place)});
}

void check_devices(const Model& model, Findings& findings) {
    Register devices(findings);
    for (const Switch& sw : model.switches) {
        if (!sw.interface.empty())
            devices.take(sw.interface, {switch_path(sw, "interface"),
                                        findings.place_of(&sw.interface, sw.place)});
        for (const SwitchPort& port : sw.ports)
            if (!port.interface.empty())
                devices.take(port.interface, {switch_path(sw, "ports"), port.place});
        if (sw.vxlan && sw.vxlan->id != 0)
            devices.take(sw.vxlan->device(),
                         {switch_path(sw, "vxlan.id"), findings.place_of(&sw.vxlan->id, sw.place)});
    }
    check_taps(model, devices, findings);
}

void check_subnet(const Switch& sw, Findings& findings) {
    if (!sw.ipv4) {
        if (sw.dhcp.enabled && !findings.given(&sw.ipv4))
            findings.complain(findings.place_of(&sw.dhcp.enabled, sw.place), ErrorKind::invalid,
                              fmt::format("{}: DHCP needs a subnet: switch \"{}\" has no ipv4",
                                          switch_path(sw, "dhcp"), printable(sw.name, 70)));
        return;
    }
    const Ipv4Prefix& subnet = *sw.ipv4;
    auto complain = [&](std::string_view text) {
        findings.complain(findings.place_of(&sw.ipv4, sw.place), ErrorKind::invalid,
                          fmt::format("{}: {} {}", switch_path(sw, "ipv4"), subnet.text(), text));
    };
    if (subnet.length > 30)
        complain("has no room for a guest: the prefix length is at most 30");
    else if (subnet.length < 8)
        complain("is no subnet of one bridge: the prefix length is at least 8");
    else if (subnet.address == subnet.network())
        complain("is the subnet itself: give the host's address in it");
    else if (subnet.address == subnet.broadcast())
        complain("is the subnet's broadcast address: give the host's address in it");
    else if (auto net = subnet.address.value >> 24; net == 0 || net == 127 || net >= 224)
        complain("is not an address that a host can have");
}

void check_dhcp(const Switch& sw, Findings& findings) {
    auto complain = [&](const Where& place, ErrorKind kind, std::string_view key,
                        const std::string& text) {
        findings.complain(place, kind, fmt::format("{}: {}", switch_path(sw, key), text));
    };
    if (!sw.ipv4)
        return;
    std::uint64_t addresses = 0;
    for (const auto& range : sw.dhcp.ranges) {
        if (range.first.is_zero())
            continue; // complained about already
        addresses += std::uint64_t{range.last.value} - range.first.value + 1;
        auto holds = [&](const Ipv4Prefix& prefix) {
            return prefix.contains(range.first) && prefix.contains(range.last);
        };
        if (!holds(*sw.ipv4) && std::ranges::none_of(sw.dhcp.relays, holds))
            complain(range.place, ErrorKind::invalid, "dhcp.range",
                     fmt::format("{}-{} is neither in {} nor in a subnet of \"relay\"",
                                 range.first.text(), range.last.text(), sw.ipv4->text()));
    }
    if (addresses > limits::max_dhcp_range_addresses)
        complain(sw.dhcp.ranges.front().place, ErrorKind::limit, "dhcp.range",
                 fmt::format("there are {} addresses, and {} are the most", addresses,
                             limits::max_dhcp_range_addresses));
    for (const auto& relay : sw.dhcp.relays)
        if (relay.length < 8 || relay.length > 30 || relay.address != relay.network())
            complain(findings.place_of(&relay, sw.place), ErrorKind::invalid, "dhcp.relay",
                     relay.text() + " is no subnet of clients");
    for (const auto& one : sw.dhcp.classes)
        if (!one.filename && !one.next_server && one.options.empty())
            complain(one.place, ErrorKind::invalid, "dhcp.class." + one.name,
                     "says nothing to its clients: give filename, next_server or options");
}

void check_dhcp_options(const Model& model, Findings& findings) {
    auto bytes_of = [](const std::vector<DhcpOption>& options) {
        std::size_t sum = 0;
        for (const auto& option : options)
            sum += option.data.size();
        return sum;
    };
    std::map<std::string_view, std::size_t> of_vms; // by switch
    for (const Vm& vm : model.vms)
        if (vm.dhcp && !vm.dhcp->options.empty())
            for (const auto& interface : vm.interfaces)
                of_vms[interface.switch_name] += bytes_of(vm.dhcp->options);
    for (const Switch& sw : model.switches) {
        auto sum = bytes_of(sw.dhcp.options) + of_vms[sw.name];
        for (const auto& one : sw.dhcp.classes)
            sum += bytes_of(one.options);
        if (sum > max_dhcp_options_bytes)
            findings.complain(sw.place, ErrorKind::limit,
                              fmt::format("{}: the options of the switch, its classes and its VMs "
                                          "have {} bytes, and {} are the most",
                                          switch_path(sw, "dhcp.options"), sum,
                                          max_dhcp_options_bytes));
    }
}

void check_subnets(const Model& model, Findings& findings) {
    // By network: subnets nest or are disjoint, so the last one that began is enough.
    std::map<std::pair<std::uint32_t, std::uint8_t>, const Switch*> sorted;
    for (const Switch& sw : model.switches) {
        if (sw.local)
            continue; // ours, of one guest
        check_subnet(sw, findings);
        check_dhcp(sw, findings);
        if (!sw.ipv4)
            continue;
        auto [found, fresh] = sorted.try_emplace({sw.ipv4->network().value, sw.ipv4->length}, &sw);
        if (!fresh)
            findings.complain(findings.place_of(&sw.ipv4, sw.place), ErrorKind::exists,
                              fmt::format("{}: {} is the subnet of {} at {} too",
                                          switch_path(sw, "ipv4"), sw.ipv4->text(),
                                          switch_path(*found->second, "ipv4"),
                                          line_of(found->second->place)));
    }
    const Switch* outer = nullptr;
    for (const auto& [network, sw] : sorted) {
        if (outer && outer->ipv4->contains(sw->ipv4->network())) {
            findings.complain(findings.place_of(&sw->ipv4, sw->place), ErrorKind::exists,
                              fmt::format("{}: {} is inside {} of {} at {}",
                                          switch_path(*sw, "ipv4"), sw->ipv4->text(),
                                          outer->ipv4->text(), switch_path(*outer, "ipv4"),
                                          line_of(outer->place)));
            continue;
        }
        outer = sw;
    }
}

using Switches = std::unordered_map<std::string_view, const Switch*>;

// False when the interface's switch does not exist.
bool check_reference(const Vm& vm, std::size_t index, const Switches& switches,
                     Findings& findings) {
    const Interface& interface = vm.interfaces[index];
    if (interface.switch_name.empty() || interface.local)
        return false; // none, or unreadable, which was said already
    if (switches.contains(interface.switch_name))
        return true;
    std::vector<std::string_view> names;
    for (const auto& [name, sw] : switches)
        names.push_back(name);
    std::sort(names.begin(), names.end());
    findings.complain(
        findings.place_of(&interface.switch_name, interface.place), ErrorKind::not_found,
        fmt::format("{}: there is no switch \"{}\"{}", interface_path(vm, index, "switch"),
                    printable(interface.switch_name, 70),
                    suggestion(interface.switch_name, names)));
    return false;
}

void check_guest_ipv4(const Vm& vm, std::size_t index, const Switch& sw, Findings& findings) {
    const Interface& interface = vm.interfaces[index];
    auto complain = [&](std::string text) {
        findings.complain(findings.place_of(&interface.ipv4, interface.place), ErrorKind::invalid,
                          fmt::format("{}: {} {}", interface_path(vm, index, "ipv4"),
                                      interface.ipv4->text(), text));
    };
    if (!sw.ipv4) {
        if (!findings.given(&sw.ipv4))
            complain(fmt::format("has no effect: switch \"{}\" has no ipv4", sw.name));
        return;
    }
    auto where = fmt::format("{} of switch \"{}\"", sw.ipv4->text(), sw.name);
    if (!sw.ipv4->contains(*interface.ipv4))
        complain("is not inside " + where);
    else if (*interface.ipv4 == sw.ipv4->address)
        complain("is this host's own address, " + where);
    else if (*interface.ipv4 == sw.ipv4->network())
        complain("is the network address of " + where);
    else if (*interface.ipv4 == sw.ipv4->broadcast())
        complain("is the broadcast address of " + where);
}

// The VLANs of a port or an interface, with the keys that say them.
void check_vlans(const Switch* sw, const std::optional<unsigned>& vlan,
                 const std::vector<unsigned>& trunk, const std::string& path, const Place& place,
                 Findings& findings) {
    auto complain = [&](const void* field, std::string_view key, std::string_view text) {
        findings.complain(findings.place_of(field, place), ErrorKind::invalid,
                          fmt::format("{}.{}: {}", path, key, text));
    };
    const bool knows = sw && (sw->vlan || findings.given(&sw->vlan));
    const std::string why =
        sw ? fmt::format("switch \"{}\" knows no VLANs: give it a vlan, that of "
                         "this host and of who names none",
                         printable(sw->name, 70))
           : std::string("has no effect without a switch");
    if (vlan && !knows)
        complain(&vlan, "vlan", why);
    if (!trunk.empty() && !knows)
        complain(&trunk, "trunk", why);
    if (vlan && std::ranges::find(trunk, *vlan) != trunk.end())
        complain(
            &trunk, "trunk",
            fmt::format("VLAN {} cannot pass with its tag and without: it is \"vlan\" too", *vlan));
}

void check_ports(const Model& model, const Switch& sw, Register& vlans, Findings& findings) {
    for (std::size_t i = 0; i < sw.ports.size(); ++i) {
        const SwitchPort& port = sw.ports[i];
        auto path = switch_path(sw, fmt::format("ports[{}]", i));
        auto complain = [&](const void* field, std::string_view key, std::string text) {
            findings.complain(findings.place_of(field, port.place), ErrorKind::invalid,
                              fmt::format("{}.{}: {}", path, key, text));
        };
        if (port.parent.empty()) {
            check_vlans(&sw, port.vlan, port.trunk, path, port.place, findings);
            continue;
        }
        if (!port.vlan && !findings.given(&port.vlan))
            complain(&port.parent, "parent", "which VLAN of it? \"vlan\" is missing");
        if (port.parent == port.interface)
            complain(&port.parent, "parent", "is the interface itself");
        if (!port.trunk.empty())
            complain(&port.trunk, "trunk", "a VLAN of a parent has one: leave one of them out");
        if (sw.vlan)
            complain(&port.parent, "parent",
                     "a switch that knows VLANs sorts them itself: make the parent a port of it, "
                     "with a trunk");
        if (port.vlan)
            vlans.take(fmt::format("VLAN {} of {}", *port.vlan, port.parent),
                       {path + ".vlan", findings.place_of(&port.vlan, port.place)});
        for (const Switch& other : model.switches)
            if (port.parent == other.interface ||
                std::ranges::find(other.ports, port.parent, &SwitchPort::interface) !=
                    other.ports.end())
                complain(&port.parent, "parent",
                         fmt::format("\"{}\" is part of switch \"{}\" at {}, which would take its "
                                     "frames",
                                     printable(port.parent, 70), printable(other.name, 70),
                                     line_of(other.place)));
    }
}

void check_vxlan(const Switch& sw, Findings& findings) {
    const Vxlan& vxlan = *sw.vxlan;
    auto complain = [&](const void* field, std::string_view key, std::string text) {
        findings.complain(findings.place_of(field, sw.place), ErrorKind::invalid,
                          fmt::format("{}: {}", switch_path(sw, key), text));
    };
    auto unfit = [](Ipv4 address) {
        const auto net = address.value >> 24;
        return net == 0 || net == 127 || net >= 224;
    };
    if (!vxlan.local.is_zero() && unfit(vxlan.local)) // missing or unreadable was said already
        complain(&vxlan.local, "vxlan.local",
                 fmt::format("{} is not an address that a host can have", vxlan.local.text()));
    for (const Ipv4& peer : vxlan.peers)
        if (peer == vxlan.local || unfit(peer))
            complain(&peer, "vxlan.peers",
                     fmt::format("{} is {}", peer.text(),
                                 peer == vxlan.local ? "this host itself"
                                                     : "not an address that a host can have"));
    if (sw.vlan)
        complain(&vxlan.id, "vxlan",
                 "a segment is one LAN, and the switch knows VLANs: make a switch for each of them "
                 "that other hosts share");
}

void check_beneath(const Model& model, Findings& findings) {
    Register vlans(findings);
    for (const Switch& sw : model.switches) {
        check_ports(model, sw, vlans, findings);
        if (sw.vxlan)
            check_vxlan(sw, findings);
    }
}

// On a switch that exists, or on none.
void check_port_of(const Vm& vm, std::size_t index, const Switch* sw, Findings& findings) {
    const Interface& interface = vm.interfaces[index];
    check_vlans(sw, interface.vlan, interface.trunk,
                fmt::format("vm.{}.interface[{}]", printable(vm.name, 70), index), interface.place,
                findings);
    auto complain = [&](const void* field, std::string_view key, const std::string& text) {
        findings.complain(findings.place_of(field, interface.place), ErrorKind::invalid,
                          fmt::format("{}: {}", interface_path(vm, index, key), text));
    };
    if (!sw && interface.isolated.value_or(false))
        complain(&interface.isolated, "isolated", "has no effect without a switch");
    if (sw && !sw->local && interface.rdomain != 0 && interface.rdomain != sw->rdomain)
        complain(&interface.rdomain, "rdomain",
                 fmt::format("an interface is in the routing domain of its switch, {} of \"{}\" at "
                             "{}: leave it out",
                             sw->rdomain, printable(sw->name, 70), line_of(sw->place)));
}

// What only makes sense on a switch, or only off one.
void check_wire(const Vm& vm, std::size_t index, Findings& findings) {
    const Interface& interface = vm.interfaces[index];
    auto complain = [&](const void* field, std::string_view key, std::string_view text) {
        findings.complain(findings.place_of(field, interface.place), ErrorKind::invalid,
                          fmt::format("{}: {}", interface_path(vm, index, key), text));
    };
    if (interface.local && findings.given(&interface.switch_name))
        complain(&interface.switch_name, "switch",
                 "a local interface has a wire of its own: leave one of them out");
    if (interface.local || !interface.switch_name.empty() || findings.given(&interface.switch_name))
        return;
    if (interface.ipv4)
        complain(&interface.ipv4, "ipv4", "has no effect without a switch");
    if (interface.locked_lladdr.value_or(false))
        complain(&interface.locked_lladdr, "locked_lladdr", "has no effect without a switch");
    if (interface.guard.value_or(false))
        complain(&interface.guard, "guard", "has no effect without a switch");
}

// Frames that the kernel moves pass by what would make them wait.
void check_vhost(const Vm& vm, std::size_t index, Findings& findings) {
    const Interface& interface = vm.interfaces[index];
    if (interface.limit && interface.vhost.value_or(false))
        findings.complain(findings.place_of(&interface.vhost, interface.place), ErrorKind::invalid,
                          fmt::format("{}: the kernel keeps no limit: leave it or \"limit\" out",
                                      interface_path(vm, index, "vhost")));
}

// The addresses of local interfaces must not be anybody else's.
void check_local(const Model& model, Findings& findings) {
    const Ipv4Prefix& prefix = model.host.local_ipv4;
    const bool used = std::ranges::any_of(model.vms, [](const Vm& vm) {
        return std::ranges::any_of(vm.interfaces, &Interface::local);
    });
    for (const Switch& sw : model.switches)
        if (used && sw.ipv4 && !sw.local &&
            (prefix.contains(sw.ipv4->address) || sw.ipv4->contains(prefix.address)))
            findings.complain(findings.place_of(&sw.ipv4, sw.place), ErrorKind::exists,
                              fmt::format("{}: {} overlaps with host.local.ipv4, {}, where local "
                                          "interfaces have their addresses from",
                                          switch_path(sw, "ipv4"), sw.ipv4->text(), prefix.text()));
}

void check_interfaces(const Model& model, Findings& findings) {
    Switches switches;
    for (const Switch& sw : model.switches)
        switches.emplace(sw.name, &sw);
    Register ethernet(findings), addresses(findings);
    for (const Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i) {
            const Interface& interface = vm.interfaces[i];
            auto lladdr_place = findings.place_of(&interface.lladdr, interface.place);
            auto lladdr_path = interface_path(vm, i, "lladdr");
            if (interface.lladdr.is_multicast())
                findings.complain(lladdr_place, ErrorKind::invalid,
                                  fmt::format("{}: {} is a group address, no guest can have it",
                                              lladdr_path, interface.lladdr.text()));
            else if (!interface.lladdr.is_zero())
                ethernet.take(interface.lladdr.text(), {lladdr_path, lladdr_place});

            check_wire(vm, i, findings);
            check_vhost(vm, i, findings);
            const bool plugged = check_reference(vm, i, switches, findings);
            const bool loose =
                interface.switch_name.empty() && !findings.given(&interface.switch_name);
            if (plugged || interface.local || loose)
                check_port_of(vm, i, plugged ? switches.at(interface.switch_name) : nullptr,
                              findings);
            if (!interface.ipv4 || !(plugged || interface.local))
                continue;
            if (plugged)
                check_guest_ipv4(vm, i, *switches.at(interface.switch_name), findings);
            addresses.take(interface.ipv4->text(),
                           {interface_path(vm, i, "ipv4"),
                            findings.place_of(&interface.ipv4, interface.place)});
        }
}

// One image, two guests, one of them writing: the image is lost.
class ImageUsers {
public:
    ImageUsers(const Model& model, Findings& findings) : model_(model), findings_(findings) {}
    void add(const std::string& image, Taker user) {
        if (image.empty())
            return;
        // An absolute path replaces the directory before it.
        auto path = (std::filesystem::path(model_.host.state) / image).lexically_normal();
        auto [found, fresh] = users_.try_emplace(path.string(), user);
        if (fresh)
            return;
        Taker& first = found->second;
        if (user.writes || first.writes)
            findings_.complain(user.place, ErrorKind::exists,
                               fmt::format("{}: \"{}\" is the {} of {} at {} too, and only "
                                           "read-only disks can be shared",
                                           user.path, printable(image, 100), first.as, first.path,
                                           line_of(first.place)));
        first.writes |= user.writes;
    }

private:
    const Model& model_;
    Findings& findings_;
    std::unordered_map<std::string, Taker> users_;
};

void check_disks(const Model& model, Findings& findings) {
    ImageUsers users(model, findings);
    for (const Vm& vm : model.vms) {
        for (std::size_t i = 0; i < vm.disks.size(); ++i) {
            const Disk& disk = vm.disks[i];
            auto name = fmt::format("vm.{}.disk[{}]", printable(vm.name, 70), i);
            users.add(disk.path,
                      {name + ".path", findings.place_of(&disk.path, disk.place), !disk.read_only});
            auto base_place = findings.place_of(&disk.base, disk.place);
            for (const auto& base : disk.base)
                users.add(base, {name + ".base", base_place, false, "base"});
            if (!disk.base.empty() && disk.format != ImageFormat::automatic &&
                disk.format != ImageFormat::qcow2)
                findings.complain(base_place, ErrorKind::invalid,
                                  name + ".base: only a qcow2 image can have a base");
            if (disk.format == ImageFormat::zst && !disk.read_only)
                findings.complain(findings.place_of(&disk.format, disk.place), ErrorKind::invalid,
                                  name + ".format: a zst image needs read_only = true");
        }
        if (vm.cdrom && !vm.cdrom->empty())
            users.add(*vm.cdrom, {vm_path(vm, "cdrom"), findings.place_of(&vm.cdrom, vm.place),
                                  false, "CD-ROM"});
    }
}

void check_vm(const Vm& vm, Findings& findings) {
    if (!vm.name.empty() &&
        std::all_of(vm.name.begin(), vm.name.end(), [](char c) { return c >= '0' && c <= '9'; }))
        findings.complain(vm.place, ErrorKind::invalid,
                          fmt::format("vm.{}: vmctl(8) takes a name of digits only for a number: "
                                      "add a letter",
                                      printable(vm.name, 70)));
    if (vm.memory_limit_bytes && *vm.memory_limit_bytes < vm.memory_bytes)
        findings.complain(findings.place_of(&vm.memory_limit_bytes, vm.place), ErrorKind::invalid,
                          fmt::format("{}: is less than the guest's memory, which it includes",
                                      vm_path(vm, "memory_limit")));
    if (vm.boot_device == BootDevice::cdrom && !vm.cdrom && !findings.given(&vm.cdrom))
        findings.complain(findings.place_of(&vm.boot_device, vm.place), ErrorKind::invalid,
                          fmt::format("{}: needs a drive: \"cdrom\" is missing in [vm.{}] at {}",
                                      vm_path(vm, "boot_device"), printable(vm.name, 70),
                                      line_of(vm.place)));
    if (!vm.boot.empty() || findings.given(&vm.boot))
        return;
    auto needs_boot = [&](const void* field, std::string_view key) {
        findings.complain(findings.place_of(field, vm.place), ErrorKind::invalid,
                          fmt::format("{}: has no effect without \"boot\", which is missing in "
                                      "[vm.{}] at {}",
                                      vm_path(vm, key), printable(vm.name, 70), line_of(vm.place)));
    };
    if (!vm.initrd.empty())
        needs_boot(&vm.initrd, "initrd");
    if (!vm.command_line.empty())
        needs_boot(&vm.command_line, "command_line");
    if (!vm.boot_flags.empty())
        needs_boot(&vm.boot_flags, "boot_flags");
}

bool overlap(const ListenAddress& one, const ListenAddress& other) {
    return one.port == other.port &&
           (one.address == other.address ||
            (one.address.is_ipv4() == other.address.is_ipv4() &&
             (one.address.is_unspecified() || other.address.is_unspecified())));
}

void check_listen(std::string_view key, const std::vector<ListenAddress>& all, Findings& findings) {
    // Equal ones were refused in reading; 0.0.0.0 and :: have the port of all others of their kind.
    for (const ListenAddress& one : all)
        for (const ListenAddress& other : all)
            if (&one != &other && overlap(one, other) && one.address.is_unspecified())
                findings.complain(
                    other.place, ErrorKind::exists,
                    fmt::format("{}: {} is taken: {} at {} has port {} of every address", key,
                                other.address.text(), one.address.text(), line_of(one.place),
                                one.port));
}

// Files that nobody could ask for.
void check_locations(const Model& model, Findings& findings) {
    const auto& install = model.install;
    const bool has_files = !install.locations.empty() || !install.sets.empty();
    const bool is_reached =
        !install.listen.empty() || std::ranges::any_of(model.switches, [](const Switch& sw) {
            return sw.enabled && (sw.ipv4 || sw.ipv6) && !sw.local;
        });
    if (!has_files || is_reached)
        return;
    Place place = findings.place_of(&install.sets, {});
    if (!install.locations.empty())
        place = install.locations.front().place;
    findings.complain(
        place, ErrorKind::invalid,
        "install: files are served nowhere: give \"listen\", or a switch an \"ipv4\" or \"ipv6\"");
}

void check_tftp(const Model& model, Findings& findings) {
    const Tftp& tftp = model.tftp;
    auto place = findings.place_of(&tftp.listen, tftp.place);
    if (tftp.directory.empty() && !findings.given(&tftp.directory) && !tftp.listen.empty())
        findings.complain(place, ErrorKind::invalid,
                          "tftp.listen: has no effect without a directory");
    // An answer from all addresses would not come from the one that was asked.
    for (const Ipv4& address : tftp.listen)
        if (address.is_zero())
            findings.complain(place, ErrorKind::invalid,
                              "tftp.listen: 0.0.0.0 is no address of this host: name those to "
                              "serve at");
}

// Tenants reach the service for installers: metrics have ports of their own.
void check_metrics(const Model& model, Findings& findings) {
    const bool installs =
        std::ranges::any_of(model.vms, [](const Vm& vm) { return vm.install.has_value(); });
    auto tenants = model.install.listen;
    if (tenants.empty() && installs)
        for (const Switch& sw : model.switches) {
            if (sw.enabled && sw.ipv4)
                tenants.push_back({sw.place, sw.ipv4->address, 80});
            if (sw.enabled && sw.ipv6)
                tenants.push_back({sw.place, sw.ipv6->address, 80});
        }
    for (const ListenAddress& one : model.metrics.listen)
        for (const ListenAddress& other : tenants)
            if (overlap(one, other)) {
                findings.complain(
                    one.place, ErrorKind::exists,
                    fmt::format("metrics.listen: {} is taken by the HTTP service for installers{}: "
                                "give it another port",
                                listen_text(one),
                                other.place.line == 0 ? std::string()
                                                      : " at " + line_of(other.place)));
                break;
            }
}

// What every order would fail of.
void check_allocate(const Model& model, Findings& findings) {
    const Allocate& allocate = model.allocate;
    auto complain = [&](const void* field, std::string text) {
        findings.complain(findings.place_of(field, allocate.place), ErrorKind::invalid,
                          "allocate." + std::move(text));
    };
    const auto& name = allocate.switch_name;
    const Switch* sw = model.find_switch(name);
    if (!name.empty() && sw == nullptr)
        return complain(&allocate.switch_name,
                        fmt::format("switch: there is no switch \"{}\"", printable(name, 70)));
    auto needs = [&](const void* field, std::string_view key, bool has) {
        if (has)
            return true;
        complain(field, fmt::format("{}: has no effect: {}", key,
                                    sw == nullptr ? std::string("\"switch\" is missing")
                                                  : fmt::format("switch \"{}\" has no {}", name,
                                                                key.substr(0, 4))));
        return false;
    };
    if (allocate.ipv4_start &&
        needs(&allocate.ipv4_start, "ipv4_start", sw != nullptr && sw->ipv4) &&
        !sw->ipv4->contains(*allocate.ipv4_start))
        complain(&allocate.ipv4_start,
                 fmt::format("ipv4_start: {} is not inside {} of switch \"{}\"",
                             allocate.ipv4_start->text(), sw->ipv4->text(), name));
    if (allocate.ipv6_prefix &&
        needs(&allocate.ipv6_prefix, "ipv6_prefix", sw != nullptr && sw->ipv6) &&
        !(sw->ipv6->contains(allocate.ipv6_prefix->address) &&
          sw->ipv6->length <= allocate.ipv6_prefix->length))
        complain(&allocate.ipv6_prefix,
                 fmt::format("ipv6_prefix: {} is not inside {} of switch \"{}\"",
                             allocate.ipv6_prefix->text(), sw->ipv6->text(), name));
}

} // namespace

void check_model(const Model& model, Findings& findings) {
    check_listen("install.listen", model.install.listen, findings);
    check_listen("metrics.listen", model.metrics.listen, findings);
    check_metrics(model, findings);
    check_locations(model, findings);
    check_sites(model, findings);
    check_installs(model, findings);
    check_tftp(model, findings);
    check_allocate(model, findings);
    check_devices(model, findings);
    check_beneath(model, findings);
    check_subnets(model, findings);
    check_dhcp_options(model, findings);
    check_local(model, findings);
    check_ipv6(model, findings);
    for (const Vm& vm : model.vms)
        check_vm(vm, findings);
    check_interfaces(model, findings);
    check_disks(model, findings);
}

} // namespace vmhost::config
