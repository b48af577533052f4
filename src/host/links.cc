#include "host/links.h"

#include <algorithm>

namespace vmhost::host {

namespace {

// Who does not say is in the switch's own VLAN; who has a trunk gives what has no tag to none.
net::Vlans vlans_of(const config::Switch& one, const std::optional<unsigned>& vlan,
                    const std::vector<unsigned>& trunk) {
    if (!one.vlan)
        return {};
    net::Vlans all{vlan, trunk};
    if (!vlan && trunk.empty())
        all.untagged = one.vlan;
    std::ranges::sort(all.tagged);
    return all;
}

// Linux has no groups with names: they are in the alias, where ip link show has them.
std::string groups_of(const config::Switch* one, const config::Interface& interface) {
    auto groups = interface.group;
    if (one && !one->group.empty() && one->group != groups)
        groups += (groups.empty() ? "" : ",") + one->group;
    return groups.empty() ? groups : " group " + groups;
}

} // namespace

net::BridgeSpec bridge_of(const config::Switch& one) {
    net::BridgeSpec spec;
    spec.name = one.interface;
    spec.ipv4 = one.ipv4;
    spec.ipv6 = one.ipv6;
    spec.mtu = one.mtu;
    spec.up = one.up;
    spec.rdomain = one.rdomain;
    if (one.vlan)
        spec.vlans = net::Vlans{one.vlan, {}};
    for (const auto& port : one.ports) {
        auto& wanted = spec.ports.emplace_back(port.interface);
        wanted.parent = port.parent;
        if (port.parent.empty())
            wanted.vlans = vlans_of(one, port.vlan, port.trunk);
        else
            wanted.vlan_of_parent = port.vlan.value_or(0);
    }
    if (one.vxlan)
        spec.vxlan = net::VxlanSpec{
            one.vxlan->device(),
            {one.vxlan->id, one.vxlan->local, static_cast<std::uint16_t>(one.vxlan->port)},
            one.vxlan->peers};
    return spec;
}

net::TapSpec tap_of(const config::Model& model, const config::Vm& vm, std::uint32_t id,
                    std::size_t interface) {
    const auto& wanted = vm.interfaces[interface];
    const auto* found = model.find_switch(wanted.switch_name);
    const auto* plugged = found && found->enabled ? found : nullptr;
    net::TapSpec tap;
    tap.name =
        wanted.tap.empty() ? net::tap_name(vm.name, static_cast<unsigned>(interface)) : wanted.tap;
    tap.description =
        fmt::format("vm{}-if{}-{}{}", id, interface, vm.name, groups_of(plugged, wanted));
    tap.up = wanted.up;
    if (!plugged) {
        tap.rdomain = wanted.rdomain;
        return tap;
    }
    tap.bridge = plugged->interface;
    tap.mtu = plugged->mtu;
    tap.known_as = wanted.lladdr;
    if (wanted.locked_lladdr.value_or(false))
        tap.locked_to = wanted.lladdr;
    tap.isolated = wanted.isolated.value_or(false);
    tap.vlans = vlans_of(*plugged, wanted.vlan, wanted.trunk);
    return tap;
}

} // namespace vmhost::host
