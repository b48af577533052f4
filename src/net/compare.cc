// Network: what somebody else has changed of what we have made. Everything is asked for once,
// however many bridges and taps there are; nothing is changed.
#include <algorithm>

#include "net/net.h"
#include "net/try_on.h"

namespace vmhost::net {

namespace {

const char* word(bool value) {
    return value ? "true" : "false";
}

std::string text_of(const Vlans& vlans) {
    if (!vlans.untagged && vlans.tagged.empty())
        return "none";
    return fmt::format("{}{}[{}]", vlans.untagged ? fmt::format("{}", *vlans.untagged) : "",
                       vlans.untagged ? " " : "", fmt::join(vlans.tagged, ", "));
}

std::string list_of(std::vector<std::string> items) {
    std::ranges::sort(items);
    return fmt::format("[{}]", fmt::join(items, ", "));
}

// What there is.
struct Kernel {
    std::vector<Link> links;
    std::vector<LinkAddress> addresses;
    std::vector<LinkAddress6> addresses6;
    std::vector<Forwarding> forwarding;

    const Link* find(unsigned index) const {
        auto found = std::ranges::find(links, index, &Link::index);
        return index == 0 || found == links.end() ? nullptr : &*found;
    }
    const Link* find(const std::string& name) const {
        auto found = std::ranges::find(links, name, &Link::name);
        return found == links.end() ? nullptr : &*found;
    }
    std::string name_of(unsigned index) const {
        const auto* link = find(index);
        return link ? link->name : "none";
    }
};

// Complaints about one link.
class About {
public:
    About(std::string link, std::vector<Foreign>& out) : link_(std::move(link)), out_(out) {}
    void differ(std::string what, std::string have, std::string wanted) {
        if (have != wanted)
            out_.push_back({link_, std::move(what), std::move(have), std::move(wanted)});
    }

private:
    std::string link_;
    std::vector<Foreign>& out_;
};

void compare_addresses(const Kernel& kernel, unsigned index, const BridgeSpec& spec, About& about) {
    std::vector<std::string> have;
    for (const auto& one : kernel.addresses)
        if (one.index == index)
            have.push_back(one.prefix.text());
    std::ranges::sort(have);
    about.differ("ipv4", have.empty() ? "none" : fmt::format("{}", fmt::join(have, " ")),
                 spec.ipv4 ? spec.ipv4->text() : "none");
}

// local: the address that guests know the router by.
void compare_addresses6(const Kernel& kernel, unsigned index, const BridgeSpec& spec,
                        const Ipv6Prefix& local, About& about) {
    auto text = [](std::vector<std::string> all) {
        std::ranges::sort(all);
        return all.empty() ? "none" : fmt::format("{}", fmt::join(all, " "));
    };
    std::vector<std::string> have, wanted;
    for (const auto& one : kernel.addresses6)
        if (one.index == index)
            have.push_back(one.prefix.text());
    if (spec.ipv6)
        wanted = {local.text(), spec.ipv6->text()};
    about.differ("ipv6", text(std::move(have)), text(std::move(wanted)));
}

void compare_vxlan(const Kernel& kernel, unsigned bridge, const VxlanSpec& spec, unsigned mtu,
                   About& about) {
    const auto* link = kernel.find(spec.name);
    if (!link || link->master != bridge || link->options != LinkOptions(spec.options))
        return about.differ("vxlan", link ? "not on the bridge" : "none", spec.name);
    about.differ("vxlan", link->up ? "up" : "down", "up");
    about.differ("vxlan mtu", std::to_string(link->mtu), std::to_string(mtu));
    std::vector<std::string> have, wanted;
    for (const auto& entry : kernel.forwarding)
        if (entry.link == link->index && entry.mac == Mac{} && entry.remote)
            have.push_back(entry.remote->text());
    for (auto peer : spec.peers)
        wanted.push_back(peer.text());
    about.differ("vxlan.peers", list_of(std::move(have)), list_of(std::move(wanted)));
}

// own: taps and the VXLAN link, which are no ports of the specification.
void compare_ports(const Kernel& kernel, unsigned index, const BridgeSpec& spec,
                   const std::vector<std::string>& own, About& about) {
    std::vector<std::string> have, wanted;
    for (const auto& link : kernel.links)
        if (link.master == index && std::ranges::find(own, link.name) == own.end())
            have.push_back(link.name + (link.up ? "" : " (down)"));
    for (const auto& port : spec.ports)
        wanted.push_back(port.name);
    about.differ("ports", list_of(std::move(have)), list_of(std::move(wanted)));
}

void compare_options(const BridgeOptions& have, bool vlans, About& about) {
    about.differ("spanning tree", word(have.spanning_tree), "false");
    about.differ("multicast snooping", word(have.multicast_snooping), "false");
    about.differ("forward delay", std::to_string(have.forward_delay), "0");
    about.differ("vlan filtering", word(have.vlan_filtering), word(vlans));
}

std::string lock_text(const Kernel& kernel, const Link& tap) {
    std::string known;
    for (const auto& entry : kernel.forwarding)
        if (entry.link == tap.index && entry.fixed && known.find(entry.mac.text()) == known.npos)
            known += (known.empty() ? "" : " ") + entry.mac.text();
    return known.empty() ? "none" : known;
}

void compare_port(const Kernel& kernel, const Link& tap, const TapSpec& spec, About& about) {
    const auto port = tap.port.value_or(PortOptions{});
    const bool locked = spec.locked_to.has_value();
    about.differ("isolated", word(port.isolated), word(spec.isolated));
    about.differ("locked_lladdr", word(port.locked), word(locked));
    if (port.locked == locked) {
        about.differ("learning", word(port.learning), word(!locked));
        about.differ("flooding", word(port.flooding), word(!locked));
    }
    const auto mac = locked ? spec.locked_to : spec.known_as;
    about.differ("lladdr", lock_text(kernel, tap), mac ? mac->text() : "none");
}

} // namespace

Result<std::vector<Foreign>> Network::foreign_changes(const std::vector<BridgeSpec>& bridges) {
    const Kernel kernel{TRY(links_->list()), TRY(links_->addresses()), TRY(links_->addresses6()),
                        TRY(links_->forwarding())};
    std::vector<Foreign> all;
    for (const auto& spec : bridges) {
        About about(spec.name, all);
        auto made = find_made(Kind::bridge, spec.name);
        const auto* bridge = made == made_.end() ? nullptr : kernel.find(made->index);
        if (!bridge || !ours(*bridge)) {
            about.differ("interface", bridge ? "not made by vmhost" : "none", spec.name);
            continue;
        }
        if (const auto* options = std::get_if<BridgeOptions>(&bridge->options))
            compare_options(*options, spec.vlans.has_value(), about);
        about.differ("mtu", std::to_string(bridge->mtu), std::to_string(spec.mtu));
        about.differ("up", word(bridge->up), word(spec.up));
        about.differ("rdomain", kernel.name_of(bridge->master),
                     spec.rdomain == 0 ? "none" : rdomain_name(spec.rdomain));
        compare_addresses(kernel, bridge->index, spec, about);
        if (bridge->up) // the kernel takes them from one that goes down
            compare_addresses6(kernel, bridge->index, spec,
                               {Ipv6::link_local(bridge_mac(tag_, spec.name)), 64}, about);
        std::vector<std::string> own;
        for (const auto& link : kernel.links)
            if (link.kind == "tun" && ours(link))
                own.push_back(link.name);
        if (spec.vxlan) {
            own.push_back(spec.vxlan->name);
            compare_vxlan(kernel, bridge->index, *spec.vxlan, spec.mtu, about);
        }
        compare_ports(kernel, bridge->index, spec, own, about);
        if (!spec.vlans)
            continue;
        about.differ("vlan", text_of(TRY(links_->vlans(bridge->index))), text_of(*spec.vlans));
        for (const auto& port : spec.ports)
            if (const auto* link = kernel.find(port.name); link && link->master == bridge->index)
                about.differ(fmt::format("ports {} vlan", port.name),
                             text_of(TRY(links_->vlans(link->index))), text_of(port.vlans));
    }
    for (const auto& made : made_) {
        auto known = made.kind == Kind::tap ? taps_.find(made.name) : taps_.end();
        if (known == taps_.end())
            continue;
        const auto& spec = known->second;
        About about(made.name, all);
        const auto* tap = kernel.find(made.index);
        if (!tap) {
            about.differ("tap", "none", made.name);
            continue;
        }
        about.differ("mtu", std::to_string(tap->mtu), std::to_string(spec.mtu));
        about.differ("up", word(tap->up), word(spec.up));
        const auto wanted = !spec.bridge.empty() ? spec.bridge
                            : spec.rdomain != 0  ? rdomain_name(spec.rdomain)
                                                 : "none";
        about.differ("switch", kernel.name_of(tap->master), wanted);
        if (spec.bridge.empty() || kernel.name_of(tap->master) != wanted)
            continue; // plugged in again it has the rest again
        compare_port(kernel, *tap, spec, about);
        if (spec.vlans != Vlans{})
            about.differ("vlan", text_of(TRY(links_->vlans(tap->index))), text_of(spec.vlans));
    }
    return all;
}

} // namespace vmhost::net
