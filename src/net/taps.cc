// Network: taps. A tap is set up while it is down, so that nothing passes before its port is as it
// should be.
#include <algorithm>

#include "net/net.h"
#include "net/try_on.h"

namespace vmhost::net {

Result<Fd> Network::make_tap(const TapSpec& spec) {
    TRY(check_link_name("tap", spec.name));
    if (!spec.bridge.empty() && find_made(Kind::bridge, spec.bridge) == made_.end())
        return fail(ErrorKind::not_found, "tap {}: there is no bridge {} of ours", spec.name,
                    spec.bridge);
    if (auto existing = TRY_ON("tap", spec.name, links_->find(spec.name))) {
        if (!ours(*existing))
            return fail(ErrorKind::exists,
                        "tap {} exists and was not made by vmhost: remove it (ip link delete {})",
                        spec.name, spec.name);
        return fail(ErrorKind::busy, "tap {}: another process still holds it", spec.name);
    }
    // Gone with its last descriptor, and now made anew.
    std::erase_if(
        made_, [&](const Made& made) { return made.kind == Kind::tap && made.name == spec.name; });
    forget_guard(spec.name);
    auto mark = made_.size();
    auto fd = TRY(links_->open_tap(spec.name, spec.owner, spec.several_queues));
    // From here on closing fd is the undo of the tap, but not of a routing domain and the guard.
    if (auto done = configure_tap(spec); !done) {
        fd.reset();
        forget_guard(spec.name);
        undo_from(mark);
        return std::unexpected(std::move(done).error());
    }
    taps_.insert_or_assign(spec.name, spec);
    return fd;
}

Result<Fd> Network::add_tap_queue(const std::string& name) {
    if (find_made(Kind::tap, name) == made_.end())
        return fail(ErrorKind::not_found, "tap {}: not made by this vmhost", name);
    return links_->open_tap_queue(name);
}

Result<void> Network::configure_tap(const TapSpec& spec) {
    TRY(links_->disable_ipv6(spec.name));
    auto link = TRY_ON("tap", spec.name, links_->find(spec.name));
    if (!link)
        return fail(ErrorKind::not_found, "tap {}: vanished while it was made", spec.name);
    const auto master = TRY_ON("tap", spec.name, master_of(spec));
    TRY_ON("tap", spec.name, plug(*link, spec, master));
    if (spec.guard.anything()) {
        guards_[spec.name] = spec.guard;
        TRY_ON("tap", spec.name, links_->guard_port(table(), spec.name, spec.guard));
    }
    if (spec.up)
        TRY_ON("tap", spec.name, links_->change(link->index, {.up = true}));
    made_.push_back({Kind::tap, link->index, spec.name, 0, false, spec.rdomain});
    return {};
}

// The index of what it is plugged into; 0 = nothing.
Result<unsigned> Network::master_of(const TapSpec& spec) {
    if (!spec.bridge.empty())
        return find_made(Kind::bridge, spec.bridge)->index;
    if (spec.rdomain != 0)
        return make_rdomain(spec.rdomain);
    return 0;
}

Result<void> Network::plug(const Link& tap, const TapSpec& spec, unsigned master) {
    LinkChange change{
        .alias = alias(spec.description.empty() ? spec.name : spec.description),
        .mtu = spec.mtu,
    };
    if (tap.master != master)
        change.master = master;
    TRY(links_->change(tap.index, change));
    if (spec.bridge.empty())
        return {};
    auto bridge = TRY(links_->find(master));
    const auto* options = bridge ? std::get_if<BridgeOptions>(&bridge->options) : nullptr;
    if (options && options->vlan_filtering)
        TRY(links_->set_vlans(tap.index, spec.vlans));
    // The bridge learns nothing on a locked port and knows the one address by a fixed entry; with
    // nothing flooded to it, unicast for others does not reach it either.
    const bool locked = spec.locked_to.has_value();
    const PortOptions wanted{spec.isolated, !locked, !locked, locked};
    if (tap.port.value_or(PortOptions{}) != wanted)
        TRY(links_->set_port(tap.index, wanted));
    // Behind the VLANs: the kernel enters the address into each that the port is in.
    if (auto mac = locked ? spec.locked_to : spec.known_as)
        TRY(links_->add_forwarding({.link = tap.index, .mac = *mac}));
    return {};
}

Result<void> Network::adopt_tap(const std::string& name) {
    auto link = TRY_ON("tap", name, links_->find(name));
    guards_.try_emplace(name); // whatever it is
    if (!link || link->kind != "tun" || !ours(*link)) {
        forget_guard(name); // it went a moment ago
        return fail(ErrorKind::not_found, "tap {}: not made by this vmhost", name);
    }
    TapSpec spec{.name = name, .mtu = link->mtu, .up = link->up};
    if (link->alias.starts_with(prefix_))
        spec.description = link->alias.substr(prefix_.size());
    std::optional<Link> master;
    if (link->master != 0)
        master = TRY_ON("tap", name, links_->find(link->master));
    if (const auto* domain = master ? std::get_if<VrfOptions>(&master->options) : nullptr)
        spec.rdomain = domain->table;
    if (link->port && master) {
        spec.bridge = master->name;
        spec.isolated = link->port->isolated;
        for (const auto& entry : TRY_ON("tap", name, links_->forwarding()))
            if (entry.link == link->index && entry.fixed)
                (link->port->locked ? spec.locked_to : spec.known_as) = entry.mac;
        spec.vlans = TRY_ON("tap", name, links_->vlans(link->index));
    }
    made_.push_back({Kind::tap, link->index, name, 0, false, spec.rdomain});
    taps_.insert_or_assign(name, std::move(spec));
    return {};
}

Result<void> Network::restore_tap(const std::string& name) {
    auto known = taps_.find(name);
    if (known == taps_.end() || find_made(Kind::tap, name) == made_.end())
        return fail(ErrorKind::not_found, "tap {}: not made by this vmhost", name);
    const auto& spec = known->second;
    auto link = TRY_ON("tap", name, links_->find(find_made(Kind::tap, name)->index));
    if (!link)
        return fail(ErrorKind::not_found, "tap {}: removed under its guest", name);
    if (!spec.bridge.empty() && find_made(Kind::bridge, spec.bridge) == made_.end())
        return fail(ErrorKind::not_found, "tap {}: there is no bridge {} of ours", name,
                    spec.bridge);
    const auto master = TRY_ON("tap", name, master_of(spec));
    TRY_ON("tap", name, plug(*link, spec, master));
    TRY_ON("tap", name, links_->change(link->index, {.up = spec.up}));
    return {};
}

} // namespace vmhost::net
