// Network: what to make, adopt, refuse and undo. The kernel is behind Links.
//
// Each public call notes what it makes at the end of made_ and, when a later
// step fails, undoes back to the mark that it set at its start. The destructor
// is the same with the mark at zero.
#include <algorithm>

#include "net/net.h"
#include "net/try_on.h"

namespace vmhost::net {

namespace {

constexpr std::size_t max_link_name_bytes = 15;
constexpr std::size_t max_alias_bytes = 255; // the kernel's IFALIASZ - 1

// Of links that we make and that have no alias yet.
bool may_be_ours(const std::string& kind) {
    return kind == "bridge" || kind == "vlan" || kind == "vxlan" || kind == "vrf";
}

// FNV-1a: only to spread names over addresses, not to resist anybody.
std::uint64_t spread(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (unsigned char c : text)
        hash = (hash ^ c) * 0x100000001b3;
    return hash ^ hash >> 32;
}

} // namespace

std::string tap_name(std::string_view vm, unsigned interface_index) {
    auto suffix = fmt::format("-if{}", interface_index);
    if (vm.size() + suffix.size() <= max_link_name_bytes)
        return std::string(vm) + suffix;
    auto mark = fmt::format("-{:04x}", spread(vm) & 0xffff);
    // base/limits.h keeps interface_index far below what would use up the room.
    auto room = max_link_name_bytes - std::min(max_link_name_bytes, suffix.size() + mark.size());
    return std::string(vm.substr(0, room)) + mark + suffix;
}

Mac bridge_mac(std::string_view host_tag, std::string_view bridge) {
    auto hash = spread(fmt::format("{}:{}", host_tag, bridge));
    // fe: locally administered, unicast. OpenBSD's host side is fe:e1:ba, its guests' fe:e1:bb.
    return Mac{{0xfe, 0xe1, 0xba, static_cast<std::uint8_t>(hash >> 16),
                static_cast<std::uint8_t>(hash >> 8), static_cast<std::uint8_t>(hash)}};
}

std::string rdomain_name(unsigned rdomain) {
    return fmt::format("rdomain{}", rdomain);
}

Network::Network(std::string host_tag, std::unique_ptr<Links> links)
    : tag_(std::move(host_tag)), prefix_("vmhost:" + tag_ + ":"), links_(std::move(links)) {}

Result<std::unique_ptr<Network>> Network::open(std::string host_tag) {
    return open(std::move(host_tag), TRY(open_kernel_links()));
}

Result<std::unique_ptr<Network>> Network::open(std::string host_tag, std::unique_ptr<Links> links) {
    bool good = !host_tag.empty() && host_tag.size() <= limits::max_name_bytes;
    for (char c : host_tag)
        good = good && c > ' ' && c < 0x7f && c != ':';
    if (!good)
        return fail(ErrorKind::invalid, "\"{}\" cannot tag the links of this host",
                    printable(host_tag, 80));
    std::unique_ptr<Network> network(new Network(std::move(host_tag), std::move(links)));
    for (const auto& link : TRY(network->links_->list()))
        if (link.kind == "tun" && network->ours(link))
            TRY(network->links_->reap_tap(link.name));
    TRY(network->remove_stale_guards());
    return network;
}

Network::~Network() {
    undo_from(0);
    if (translated_)
        if (auto removed = translate({}); !removed)
            log::warning("net", "undo: {}", removed.error().message());
}

bool Network::ours(const Link& link) const {
    if (link.alias.starts_with(prefix_))
        return true;
    // A crash between making a link and giving it its alias.
    return link.alias.empty() && may_be_ours(link.kind) && link.mac == bridge_mac(tag_, link.name);
}

std::string Network::alias(std::string_view text) const {
    auto all = prefix_ + printable(text, max_alias_bytes);
    all.resize(std::min(all.size(), max_alias_bytes));
    return all;
}

Network::Mades::iterator Network::find_made(Kind kind, std::string_view name) {
    return std::ranges::find_if(
        made_, [&](const Made& made) { return made.kind == kind && made.name == name; });
}

// Of an earlier run that was killed, and not adopted yet: what it holds may be another's by now.
bool Network::left_over(const Link& link) const {
    return link.kind == "bridge" && ours(link) &&
           std::ranges::none_of(made_, [&](const Made& made) {
               return made.kind == Kind::bridge && made.index == link.index;
           });
}

Result<unsigned> Network::make_bridge(const BridgeSpec& spec) {
    TRY(check_link_name("bridge", spec.name));
    if (std::ranges::any_of(made_, [&](const Made& made) {
            return made.kind == Kind::bridge && made.name == spec.name;
        }))
        return fail(ErrorKind::exists, "bridge {}: made already", spec.name);
    TRY(check_conflict(spec));
    auto existing = TRY_ON("bridge", spec.name, links_->find(spec.name));
    if (existing && existing->kind != "bridge")
        return fail(ErrorKind::exists,
                    "bridge {}: an interface of that name exists and is no bridge", spec.name);
    if (existing && !ours(*existing))
        return fail(ErrorKind::exists,
                    "bridge {} exists and was not made by vmhost: name another interface for the "
                    "switch, or remove it (ip link delete {})",
                    spec.name, spec.name);
    auto mark = made_.size();
    unsigned index = existing ? existing->index : TRY(create_bridge(spec));
    made_.push_back({Kind::bridge, index, spec.name});
    if (auto done = set_up_bridge(index, spec); !done) {
        undo_from(mark);
        return std::unexpected(std::move(done).error());
    }
    return index;
}

Result<unsigned> Network::change_bridge(const BridgeSpec& spec) {
    auto bridge = find_made(Kind::bridge, spec.name);
    if (bridge == made_.end())
        return fail(ErrorKind::not_found, "bridge {}: not made by this vmhost", spec.name);
    const auto index = bridge->index;
    if (auto there = TRY_ON("bridge", spec.name, links_->find(index)); !there) {
        // Somebody has removed it, and with it what was beneath it from all bridges.
        std::erase_if(made_, [&](const Made& made) {
            return made.index == index || (made.kind == Kind::beneath && made.bridge == index);
        });
        auto ports = made_;
        std::erase_if(made_, [&](const Made& made) { return made.bridge == index; });
        auto again = TRY(make_bridge(spec));
        for (auto& made : made_)
            for (const auto& before : ports)
                if (made.kind == Kind::port && before.kind == Kind::port &&
                    made.name == before.name)
                    made.was_up = before.was_up;
        return again;
    }
    TRY(check_conflict(spec));
    TRY(set_up_bridge(index, spec));
    TRY(drop_unneeded());
    return index;
}

Result<void> Network::check_conflict(const BridgeSpec& spec) {
    // Whether it is to be taken from a bridge of an earlier run.
    auto is_left = [&](const auto& have) -> Result<bool> {
        auto link = TRY_ON("bridge", spec.name, links_->find(have.index));
        if (!link || link->name == spec.name)
            return false;
        if (!left_over(*link))
            return fail(ErrorKind::exists,
                        "bridge {}: interface {} of this host has the address {} already",
                        spec.name, link->name, have.prefix.text());
        return true;
    };
    if (spec.ipv4)
        for (const auto& have : TRY_ON("bridge", spec.name, links_->addresses()))
            if (have.prefix.address == spec.ipv4->address && TRY(is_left(have)))
                TRY_ON("bridge", spec.name, links_->remove_address(have.index, have.prefix));
    if (spec.ipv6)
        for (const auto& have : TRY_ON("bridge", spec.name, links_->addresses6()))
            if (have.prefix.address == spec.ipv6->address && TRY(is_left(have)))
                TRY_ON("bridge", spec.name, links_->remove_address6(have.index, have.prefix));
    return {};
}

Result<unsigned> Network::create_bridge(const BridgeSpec& spec) {
    TRY_ON("bridge", spec.name, links_->create_bridge(spec.name, bridge_mac(tag_, spec.name)));
    auto made = links_->find(spec.name);
    if (made && *made)
        return (*made)->index;
    // It carries our address, so the next run would know it; but why wait.
    if (auto again = links_->find(spec.name); again && *again)
        (void)links_->remove((*again)->index);
    if (!made)
        return in(std::move(made), "bridge", spec.name);
    return fail(ErrorKind::not_found, "bridge {}: vanished while it was made", spec.name);
}

Result<void> Network::set_up_bridge(unsigned index, const BridgeSpec& spec) {
    auto text = alias(spec.description.empty() ? spec.name : spec.description);
    TRY_ON("bridge", spec.name,
           links_->change(index,
                          {.alias = text, .mac = bridge_mac(tag_, spec.name), .mtu = spec.mtu}));
    TRY_ON("bridge", spec.name,
           links_->set_bridge_options(index, {.vlan_filtering = spec.vlans.has_value()}));
    // Without an address the host has no IPv6 on it: what guests say to everybody finds nobody.
    TRY_ON("bridge", spec.name,
           spec.ipv6 ? links_->enable_ipv6(spec.name) : links_->disable_ipv6(spec.name));
    TRY(set_rdomain(index, spec));
    TRY(release_other_ports(index, spec));
    for (const auto& port : spec.ports)
        TRY(attach(index, spec.name, port, spec.vlans.has_value()));
    if (spec.vxlan)
        TRY(make_vxlan(index, spec));
    if (spec.vlans)
        TRY_ON("bridge", spec.name, links_->set_vlans(index, *spec.vlans));
    TRY(set_address(index, spec));
    TRY(set_address6(index, spec));
    TRY_ON("bridge", spec.name, links_->change(index, {.up = spec.up}));
    return {};
}

Result<void> Network::set_rdomain(unsigned index, const BridgeSpec& spec) {
    auto bridge = TRY_ON("bridge", spec.name, links_->find(index));
    const unsigned domain = spec.rdomain == 0 ? 0 : TRY(make_rdomain(spec.rdomain));
    find_made(Kind::bridge, spec.name)->needs = spec.rdomain;
    if (bridge && bridge->master != domain)
        TRY_ON("bridge", spec.name, links_->change(index, {.master = domain}));
    return {};
}

// Ports that an earlier configuration named, or that somebody else has attached.
Result<void> Network::release_other_ports(unsigned index, const BridgeSpec& spec) {
    for (const auto& link : TRY_ON("bridge", spec.name, links_->list())) {
        const bool beneath = link.kind != "tun" && ours(link);
        if (link.master != index || (link.kind == "tun" && ours(link)) ||
            (spec.vxlan && spec.vxlan->name == link.name) ||
            std::ranges::find(spec.ports, link.name, &PortSpec::name) != spec.ports.end())
            continue;
        auto made = std::ranges::find_if(made_, [&](const Made& one) {
            return one.index == link.index && one.bridge == index &&
                   (one.kind == Kind::port || one.kind == Kind::beneath);
        });
        if (made != made_.end()) {
            TRY(undo(*made));
            made_.erase(made);
        } else if (beneath) {
            TRY_ON("bridge", spec.name, links_->remove(link.index));
        } else {
            TRY_ON("bridge", spec.name, links_->change(link.index, {.master = 0}));
        }
    }
    return {};
}

Result<void> Network::set_address(unsigned index, const BridgeSpec& spec) {
    bool present = false;
    for (const auto& have : TRY_ON("bridge", spec.name, links_->addresses())) {
        if (have.index != index)
            continue;
        if (spec.ipv4 && have.prefix == *spec.ipv4)
            present = true;
        else
            TRY_ON("bridge", spec.name, links_->remove_address(index, have.prefix));
    }
    if (spec.ipv4 && !present)
        TRY_ON("bridge", spec.name, links_->add_address(index, *spec.ipv4));
    return {};
}

Result<void> Network::set_address6(unsigned index, const BridgeSpec& spec) {
    std::vector<Ipv6Prefix> missing;
    if (spec.ipv6)
        missing = {{Ipv6::link_local(bridge_mac(tag_, spec.name)), 64}, *spec.ipv6};
    for (const auto& have : TRY_ON("bridge", spec.name, links_->addresses6()))
        if (have.index == index && std::erase(missing, have.prefix) == 0)
            TRY_ON("bridge", spec.name, links_->remove_address6(index, have.prefix));
    for (const auto& prefix : missing)
        if (auto added = links_->add_address6(index, prefix);
            // The kernel makes the link-local one, too.
            !added && added.error().kind() != ErrorKind::exists)
            return in(std::move(added), "bridge", spec.name);
    return {};
}

Result<void> Network::attach_port(const std::string& bridge, const std::string& port) {
    auto made = find_made(Kind::bridge, bridge);
    if (made == made_.end())
        return fail(ErrorKind::not_found, "port {}: there is no bridge {} of ours", port, bridge);
    return attach(made->index, bridge, port, false);
}

Result<void> Network::attach(unsigned bridge, const std::string& bridge_name, const PortSpec& port,
                             bool vlans) {
    TRY(check_link_name("port", port.name));
    auto context = fmt::format("{}: port {}", bridge_name, port.name);
    unsigned index = 0;
    if (port.vlan_of_parent != 0)
        index = TRY_ON("bridge", context, make_vlan(bridge, port));
    else
        index = TRY_ON("bridge", bridge_name, attach_existing(bridge, port.name));
    if (vlans)
        TRY_ON("bridge", context, links_->set_vlans(index, port.vlans));
    return {};
}

Result<unsigned> Network::attach_existing(unsigned bridge, const std::string& port) {
    auto link = TRY_ON("port", port, links_->find(port));
    if (!link)
        return fail(ErrorKind::not_found, "port {}: no such interface", port);
    if (link->master != 0 && link->master != bridge) {
        auto master = TRY_ON("port", port, links_->find(link->master));
        if (!master || !left_over(*master))
            return fail(ErrorKind::busy, "port {}: belongs to {} already", port,
                        master ? master->name : "another interface");
    }
    if (ours(*link))
        return fail(ErrorKind::exists, "port {}: made by vmhost itself", port);
    const bool attached = std::ranges::any_of(made_, [&](const Made& made) {
        return made.kind == Kind::port && made.index == link->index && made.bridge == bridge;
    });
    // One by one: the kernel raises the link even when it refuses the bridge.
    if (!attached || link->master != bridge)
        TRY_ON("port", port, links_->change(link->index, {.master = bridge}));
    auto mark = made_.size();
    if (!attached)
        made_.push_back({Kind::port, link->index, port, bridge, link->up});
    if (!attached || !link->up)
        if (auto raised = links_->change(link->index, {.up = true}); !raised) {
            undo_from(mark);
            return in(std::move(raised), "port", port);
        }
    return link->index;
}

Result<void> Network::guard_tap(const std::string& name, const PortGuard& guard) {
    if (std::ranges::none_of(
            made_, [&](const Made& made) { return made.kind == Kind::tap && made.name == name; }))
        return fail(ErrorKind::not_found, "tap {}: not made by this vmhost", name);
    auto have = guards_.find(name);
    if (have != guards_.end() && have->second == guard && guard.anything())
        return {};
    if (guard.anything()) {
        TRY_ON("tap", name, links_->guard_port(table(), name, guard));
        guards_[name] = guard;
    } else {
        TRY_ON("tap", name, links_->unguard_port(table(), name));
        guards_.erase(name);
    }
    return {};
}

// The rules of a tap that is gone would be those of the next one of its name.
void Network::forget_guard(const std::string& tap) {
    if (guards_.erase(tap) == 0)
        return;
    auto removed = links_->unguard_port(table(), tap);
    if (!removed && removed.error().kind() != ErrorKind::unsupported)
        log::warning("net", "tap {}: {}", tap, removed.error().message());
}

// Of taps that an earlier run left, and that are gone. Those of taps that are there stay: a guest
// goes on behind them.
Result<void> Network::remove_stale_guards() {
    auto ports = links_->guarded_ports(table());
    // Nobody left any; or the first thing that is to be made says that there are no rights.
    if (!ports && (ports.error().kind() == ErrorKind::unsupported ||
                   ports.error().kind() == ErrorKind::denied))
        return {};
    for (const auto& port : TRY(std::move(ports)))
        if (!TRY_ON("tap", port, links_->find(port)))
            TRY_ON("tap", port, links_->unguard_port(table(), port));
    return {};
}

Result<std::size_t> Network::mend_guards() {
    if (guards_.empty())
        return 0;
    auto there = TRY(links_->guarded_ports(table()));
    std::size_t mended = 0;
    for (const auto& [tap, guard] : guards_) {
        if (!guard.anything() || std::ranges::find(there, tap) != there.end() ||
            !TRY_ON("tap", tap, links_->find(tap)))
            continue;
        TRY_ON("tap", tap, links_->guard_port(table(), tap, guard));
        ++mended;
    }
    if (mended > 0 && translated_)
        TRY(translate(translated_));
    return mended;
}

Result<void> Network::translate(const std::optional<Ipv4Prefix>& locals) {
    auto done = links_->translate(table(), locals);
    // Without nf_tables there is nothing to remove.
    if (!done && !locals && done.error().kind() == ErrorKind::unsupported)
        return {};
    TRY(std::move(done));
    translated_ = locals;
    return {};
}

Result<std::vector<GuardCount>> Network::guard_counts() {
    if (guards_.empty())
        return std::vector<GuardCount>();
    auto counts = TRY(links_->guard_counts(table()));
    std::erase_if(counts, [&](const GuardCount& one) { return !guards_.contains(one.port); });
    return counts;
}

Result<void> Network::remove_made(Kind kind, std::string_view what, const std::string& name) {
    auto made = find_made(kind, name);
    if (made == made_.end())
        return fail(ErrorKind::not_found, "{} {}: not made by this vmhost", what, name);
    TRY(undo(*made));
    made_.erase(made);
    return drop_unneeded();
}

Result<void> Network::remove_bridge(const std::string& name) {
    if (auto bridge = find_made(Kind::bridge, name); bridge != made_.end()) {
        auto index = bridge->index;
        for (std::size_t i = made_.size(); i-- > 0;)
            if ((made_[i].kind == Kind::port || made_[i].kind == Kind::beneath) &&
                made_[i].bridge == index) {
                TRY(undo(made_[i]));
                made_.erase(made_.begin() + static_cast<std::ptrdiff_t>(i));
            }
    }
    TRY(remove_made(Kind::bridge, "bridge", name));
    for (auto& [tap, spec] : taps_)
        if (spec.bridge == name)
            spec.bridge.clear(); // it hangs loose, as it should from now on
    return {};
}
Result<void> Network::remove_tap(const std::string& name) {
    taps_.erase(name);
    return remove_made(Kind::tap, "tap", name);
}
Result<void> Network::release_port(const std::string& port) {
    return remove_made(Kind::port, "port", port);
}

Result<void> Network::remove_stale_bridges() {
    auto is_made = [&](const Link& link) {
        return std::ranges::any_of(made_, [&](const Made& one) {
            return one.index == link.index && one.kind != Kind::port && one.kind != Kind::raised;
        });
    };
    for (const auto& link : TRY(links_->list()))
        if (link.kind == "bridge" && ours(link) && !is_made(link))
            TRY(undo({Kind::bridge, link.index, link.name}));
    // What is beneath a bridge that had to stay, for the guests of an earlier parent, stays too.
    const auto links = TRY(links_->list());
    for (const auto& link : links) {
        const bool used = link.master != 0 || std::ranges::any_of(links, [&](const Link& other) {
                              return other.master == link.index;
                          });
        if (!may_be_ours(link.kind) || link.kind == "bridge" || !ours(link) || is_made(link) ||
            used)
            continue;
        TRY(undo({link.kind == "vrf" ? Kind::rdomain : Kind::beneath, link.index, link.name}));
    }
    return {};
}

// Taps of ours on the bridge that this object did not make: guests of an earlier parent.
Result<bool> Network::carries_foreign_taps(unsigned bridge) {
    for (const auto& link : TRY(links_->list())) {
        if (link.master != bridge || link.kind != "tun" || !ours(link))
            continue;
        if (std::ranges::none_of(made_, [&](const Made& made) {
                return made.kind == Kind::tap && made.index == link.index;
            }))
            return true;
    }
    return false;
}

Result<void> Network::undo(const Made& made) {
    const char* what = made.kind == Kind::bridge    ? "bridge"
                       : made.kind == Kind::tap     ? "tap"
                       : made.kind == Kind::rdomain ? "routing domain"
                                                    : "port";
    auto link = TRY_ON(what, made.name, links_->find(made.index));
    if (made.kind == Kind::tap && !link)
        forget_guard(made.name);
    if (!link)
        return {}; // gone by itself
    const bool hosts = made.kind == Kind::port || made.kind == Kind::raised;
    if (!hosts && !ours(*link))
        return {}; // somebody made it theirs
    if (hosts) {
        // Also of one that somebody has taken out; but not of one that is another's by now.
        if (made.kind == Kind::port && link->master != 0 && link->master != made.bridge)
            return {};
        LinkChange change;
        if (made.kind == Kind::port)
            change.master = 0;
        if (!made.was_up)
            change.up = false;
        TRY_ON(what, made.name, links_->change(made.index, change));
        return {};
    }
    if (made.kind == Kind::bridge && TRY_ON(what, made.name, carries_foreign_taps(made.index)))
        return {};
    if (const auto* domain = std::get_if<VrfOptions>(&link->options))
        TRY_ON(what, made.name, links_->open_table(domain->table));
    TRY_ON(what, made.name, links_->remove(made.index));
    if (made.kind == Kind::tap)
        forget_guard(made.name);
    return {};
}

void Network::undo_from(std::size_t count) {
    while (made_.size() > count) {
        // Still listed while it is undone: its taps are not foreign to it.
        if (auto undone = undo(made_.back()); !undone)
            log::warning("net", "undo: {}", undone.error().message());
        made_.pop_back();
    }
}

} // namespace vmhost::net
