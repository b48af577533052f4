// Network: what is beneath bridges: VLANs of the host's interfaces, VXLAN segments to other hosts,
// and the routing domains that bridges are in.
//
// All of them are ours and go with the last bridge that needs them; one that an earlier run left is
// adopted when it is what is wanted, and made anew when it is not.
#include <algorithm>

#include "net/net.h"
#include "net/try_on.h"

namespace vmhost::net {

namespace {

// Outer IPv4 and UDP headers, the VXLAN header, and the Ethernet header of the frame within.
constexpr unsigned vxlan_overhead_bytes = 20 + 8 + 8 + 14;

} // namespace

// The link of that name and those options, which was there or is made; noted as made, once.
Result<unsigned> Network::make_beneath(const std::string& name, unsigned bridge,
                                       const LinkOptions& wanted) {
    const auto kind = std::holds_alternative<VrfOptions>(wanted) ? Kind::rdomain : Kind::beneath;
    const auto* vlan = std::get_if<VlanOptions>(&wanted);
    const auto* domain = std::get_if<VrfOptions>(&wanted);
    auto link = TRY(links_->find(name));
    if (link && !ours(*link))
        return fail(ErrorKind::exists,
                    "{} exists and was not made by vmhost: remove it (ip link delete {}), or name "
                    "another",
                    name, name);
    auto made = find_made(kind, name);
    if (made != made_.end() && made->bridge != bridge && link)
        return fail(ErrorKind::busy, "{} belongs to another bridge already", name);
    if (link && link->options != wanted) {
        TRY(links_->remove(link->index));
        link.reset();
    }
    if (made != made_.end() && !(link && link->index == made->index))
        made_.erase(made);
    if (!link) {
        const auto mac = bridge_mac(tag_, name);
        TRY(vlan     ? links_->create_vlan(name, mac, *vlan)
            : domain ? links_->create_vrf(name, mac, *domain)
                     : links_->create_vxlan(name, mac, std::get<VxlanOptions>(wanted)));
        auto mark = links_->find(name);
        if (!mark || !*mark) {
            if (auto again = links_->find(name); again && *again)
                (void)links_->remove((*again)->index);
            TRY(std::move(mark));
            return fail(ErrorKind::not_found, "{}: vanished while it was made", name);
        }
        link = *std::move(mark);
    }
    if (find_made(kind, name) == made_.end())
        made_.push_back({.kind = kind,
                         .index = link->index,
                         .name = name,
                         .bridge = bridge,
                         .needs = vlan     ? vlan->parent
                                  : domain ? domain->table
                                           : 0});
    return link->index;
}

Result<unsigned> Network::make_vlan(unsigned bridge, const PortSpec& port) {
    auto parent = TRY(links_->find(port.parent));
    if (!parent)
        return fail(ErrorKind::not_found, "no such interface: {}", port.parent);
    if (ours(*parent))
        return fail(ErrorKind::exists, "{} is made by vmhost itself", port.parent);
    // A VLAN can only be up above a parent that is.
    const bool raised = find_made(Kind::raised, port.parent) != made_.end();
    if (!raised)
        made_.push_back({Kind::raised, parent->index, port.parent, 0, parent->up});
    if (!parent->up)
        TRY(links_->change(parent->index, {.up = true}));
    const auto index =
        TRY(make_beneath(port.name, bridge, VlanOptions{parent->index, port.vlan_of_parent}));
    TRY(links_->change(index, {.alias = alias(port.name), .master = bridge, .up = true}));
    return index;
}

Result<void> Network::make_vxlan(unsigned bridge, const BridgeSpec& spec) {
    const auto& wanted = *spec.vxlan;
    TRY(check_link_name("VXLAN segment", wanted.name));
    const auto index =
        TRY_ON("bridge", spec.name, make_beneath(wanted.name, bridge, wanted.options));
    TRY_ON(
        "bridge", spec.name,
        links_->change(
            index, {.alias = alias(wanted.name), .mtu = spec.mtu, .master = bridge, .up = true}));
    TRY_ON("bridge", spec.name, set_peers(index, wanted.peers));
    TRY_ON("bridge", spec.name, check_underlay(spec));
    return {};
}

Result<void> Network::set_peers(unsigned vxlan, const std::vector<Ipv4>& peers) {
    const Mac nobody_known{};
    std::vector<Ipv4> have;
    for (const auto& entry : TRY(links_->forwarding())) {
        if (entry.link != vxlan || entry.mac != nobody_known || !entry.remote)
            continue;
        if (std::ranges::find(peers, *entry.remote) == peers.end())
            TRY(links_->remove_forwarding(entry));
        else
            have.push_back(*entry.remote);
    }
    for (auto peer : peers)
        if (std::ranges::find(have, peer) == have.end())
            TRY(links_->add_forwarding({.link = vxlan, .mac = nobody_known, .remote = peer}));
    return {};
}

// What does not fit through the underlay is lost without a word: say it now.
Result<void> Network::check_underlay(const BridgeSpec& spec) {
    const auto addresses = TRY(links_->addresses());
    const auto local = spec.vxlan->options.local;
    const auto has = std::ranges::find_if(
        addresses, [&](const LinkAddress& one) { return one.prefix.address == local; });
    const auto link = has == addresses.end() ? std::nullopt : TRY(links_->find(has->index));
    if (!link)
        log::warning("net",
                     "bridge {}: no interface of this host has the address {} of its VXLAN "
                     "segment",
                     spec.name, local.text());
    else if (link->mtu < spec.mtu + vxlan_overhead_bytes)
        log::warning("net",
                     "bridge {}: packets of {} bytes do not pass its VXLAN segment: {} takes {}, "
                     "of which {} are the segment's: set mtu = {} or less",
                     spec.name, spec.mtu, link->name, link->mtu, vxlan_overhead_bytes,
                     link->mtu - std::min(link->mtu, vxlan_overhead_bytes));
    return {};
}

Result<unsigned> Network::make_rdomain(unsigned rdomain) {
    const auto name = rdomain_name(rdomain);
    const auto index = TRY_ON("routing domain", name, make_beneath(name, 0, VrfOptions{rdomain}));
    TRY_ON("routing domain", name, links_->close_table(rdomain));
    TRY_ON("routing domain", name, links_->change(index, {.alias = alias(name), .up = true}));
    return index;
}

// Routing domains that nothing is in any more, and parents of VLANs that are gone.
Result<void> Network::drop_unneeded() {
    for (std::size_t i = made_.size(); i-- > 0;) {
        const auto one = made_[i];
        const bool needed = std::ranges::any_of(made_, [&](const Made& other) {
            return one.kind == Kind::rdomain
                       ? (other.kind == Kind::bridge || other.kind == Kind::tap) &&
                             other.needs == one.needs
                       : other.kind == Kind::beneath && other.needs == one.index;
        });
        if ((one.kind != Kind::rdomain && one.kind != Kind::raised) || needed)
            continue;
        TRY(undo(one));
        made_.erase(made_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return {};
}

} // namespace vmhost::net
