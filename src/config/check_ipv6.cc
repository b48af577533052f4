// The part of check.cc that is about IPv6: networks of switches, what is told of them, and
// addresses of interfaces inside them.
#include <algorithm>
#include <tuple>
#include <unordered_map>

#include "config/assign.h"

namespace vmhost::config {

namespace {

std::string interface_path(const Vm& vm, std::size_t index) {
    return fmt::format("vm.{}.interface[{}].ipv6", printable(vm.name, 70), index);
}

// An address that a station can have and others can reach by a router.
bool is_station(const Ipv6& address) {
    // ::/16 holds the unspecified and the loopback address, and IPv4 in other clothes.
    return address.high >> 48 != 0 && !address.is_multicast() && !address.is_link_local();
}

void check_network(const Switch& sw, Findings& findings) {
    auto complain = [&](const void* field, std::string_view key, std::string text) {
        findings.complain(findings.place_of(field, sw.place), ErrorKind::invalid,
                          fmt::format("{}: {}", switch_path(sw, key), text));
    };
    if (!sw.ipv6) {
        if (findings.given(&sw.ipv6))
            return;
        for (auto [on, field, key] : {std::tuple(sw.ra.enabled, &sw.ra.enabled, "ra"),
                                      std::tuple(sw.dhcp6.enabled, &sw.dhcp6.enabled, "dhcp6")})
            if (on)
                complain(field, key, fmt::format("switch \"{}\" has no ipv6", sw.name));
        return;
    }
    const Ipv6Prefix& own = *sw.ipv6;
    if (own.length < 16 || own.length > 126)
        complain(&sw.ipv6, "ipv6", fmt::format("{}: the prefix length is 16 to 126", own.text()));
    else if (!is_station(own.address))
        complain(&sw.ipv6, "ipv6", own.text() + " is not an address that a host can have here");
    else if (own.address == own.network())
        complain(&sw.ipv6, "ipv6",
                 own.text() + " is the network itself: give the host's address in it");
    if (sw.mtu < 1280)
        complain(&sw.mtu, "mtu", "IPv6 needs packets of at least 1280 bytes");
    if (sw.ra.autonomous && own.length != 64)
        complain(&sw.ra.autonomous, "ra.autonomous",
                 fmt::format("guests make up addresses on a /64 only, and switch \"{}\" has {}",
                             sw.name, own.text()));
    if (sw.ra.lifetime < sw.ra.interval)
        complain(&sw.ra.lifetime, "ra.lifetime",
                 fmt::format("is shorter than interval, {}", format_duration(sw.ra.interval)));
    for (const Ipv6& server : sw.ra.domain_name_servers)
        if (server.is_multicast() || server.is_zero())
            complain(&server, "ra.domain_name_servers",
                     server.text() + " is no address of a name server");
}

bool overlap(const Ipv6Prefix& one, const Ipv6Prefix& other) {
    return one.contains(other.address) || other.contains(one.address);
}

void check_networks(const Model& model, Findings& findings) {
    std::vector<const Switch*> sorted;
    for (const Switch& sw : model.switches) {
        if (sw.local)
            continue; // ours, of one guest
        check_network(sw, findings);
        if (sw.ipv6)
            sorted.push_back(&sw);
    }
    // Networks nest or are disjoint: the last one that began is enough.
    std::ranges::stable_sort(sorted, {}, [](const Switch* sw) {
        return std::pair(sw->ipv6->network(), sw->ipv6->length);
    });
    const Switch* outer = nullptr;
    for (const Switch* sw : sorted) {
        if (outer && overlap(*outer->ipv6, *sw->ipv6)) {
            const bool swapped = sw->place.line < outer->place.line;
            const Switch &early = swapped ? *sw : *outer, &late = swapped ? *outer : *sw;
            findings.complain(findings.place_of(&late.ipv6, late.place), ErrorKind::exists,
                              fmt::format("{}: {} overlaps with {} of {} at line {}",
                                          switch_path(late, "ipv6"), late.ipv6->text(),
                                          early.ipv6->text(), switch_path(early, "ipv6"),
                                          early.place.line));
            continue;
        }
        outer = sw;
    }
}

void check_local_networks(const Model& model, Findings& findings) {
    const LocalIpv6& local = model.host.local_ipv6;
    for (const Switch& sw : model.switches)
        if (local.enabled && sw.ipv6 && !sw.local && overlap(*sw.ipv6, local.prefix))
            findings.complain(findings.place_of(&sw.ipv6, sw.place), ErrorKind::exists,
                              fmt::format("{}: {} overlaps with host.local.ipv6, {}, where local "
                                          "interfaces have their addresses from",
                                          switch_path(sw, "ipv6"), sw.ipv6->text(),
                                          local.prefix.text()));
}

// Empty: it is good.
std::string complaint_about(const Vm& vm, std::size_t index, const Model& model,
                            const Findings& findings) {
    const Interface& interface = vm.interfaces[index];
    if (interface.switch_name.empty())
        return findings.given(&interface.switch_name) ? "" : "has no effect without a switch";
    const Switch* sw = model.find_switch(interface.switch_name);
    if (!sw)
        return {}; // which was said
    if (!sw->ipv6)
        return findings.given(&sw->ipv6)
                   ? ""
                   : fmt::format("has no effect: switch \"{}\" has no ipv6", sw->name);
    auto where = fmt::format("{} of switch \"{}\"", sw->ipv6->text(), sw->name);
    if (!sw->ipv6->contains(*interface.ipv6))
        return "is not inside " + where;
    if (*interface.ipv6 == sw->ipv6->address)
        return "is this host's own address, " + where;
    if (*interface.ipv6 == sw->ipv6->network())
        return "is the network itself, " + where;
    return {};
}

} // namespace

void check_ipv6(const Model& model, Findings& findings) {
    check_networks(model, findings);
    check_local_networks(model, findings);
    std::unordered_map<std::string, std::pair<std::string, unsigned>> taken; // path and line
    for (const Vm& vm : model.vms)
        for (std::size_t i = 0; i < vm.interfaces.size(); ++i) {
            const Interface& interface = vm.interfaces[i];
            // Those of local interfaces are derived: see assign_ipv6.cc.
            if (!interface.ipv6 || interface.local)
                continue;
            auto place = findings.place_of(&interface.ipv6, interface.place);
            auto address = interface.ipv6->text();
            if (auto text = complaint_about(vm, i, model, findings); !text.empty())
                findings.complain(place, ErrorKind::invalid,
                                  fmt::format("{}: {} {}", interface_path(vm, i), address, text));
            auto [first, fresh] = taken.try_emplace(address, interface_path(vm, i),
                                                    static_cast<unsigned>(place.line));
            if (!fresh)
                findings.complain(place, ErrorKind::exists,
                                  fmt::format("{}: \"{}\" is taken by {} at line {}",
                                              interface_path(vm, i), address, first->second.first,
                                              first->second.second));
        }
}

} // namespace vmhost::config
