// Network: what to make, adopt, refuse and undo. The kernel is behind Links.
//
// Each public call notes what it makes at the end of made_ and, when a later
// step fails, undoes back to the mark that it set at its start. The destructor
// is the same with the mark at zero.
#include <algorithm>

#include "net/net.h"

namespace vmhost::net {

namespace {

constexpr std::size_t max_link_name_bytes = 15;
constexpr std::size_t max_alias_bytes = 255; // the kernel's IFALIASZ - 1

// FNV-1a: only to spread names over addresses, not to resist anybody.
std::uint64_t spread(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (unsigned char c : text)
        hash = (hash ^ c) * 0x100000001b3;
    return hash ^ hash >> 32;
}

template <class T>
std::unexpected<Error> in(Result<T>&& failed, std::string_view what, std::string_view name) {
    return std::unexpected(std::move(failed).error().in(fmt::format("{} {}", what, name)));
}

} // namespace

// TRY with the object's name in front of the error.
#define TRY_ON(what, name, expression)                                                             \
    ({                                                                                             \
        auto try_result_ = (expression);                                                           \
        if (!try_result_)                                                                          \
            return in(std::move(try_result_), what, name);                                         \
        *std::move(try_result_);                                                                   \
    })

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
    return network;
}

Network::~Network() {
    undo_from(0);
}

bool Network::ours(const Link& link) const {
    if (link.alias.starts_with(prefix_))
        return true;
    // A crash between creating a bridge and giving it its alias.
    return link.alias.empty() && link.kind == "bridge" && link.mac == bridge_mac(tag_, link.name);
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

Result<void> Network::change_bridge(const BridgeSpec& spec) {
    auto bridge = std::ranges::find_if(made_, [&](const Made& made) {
        return made.kind == Kind::bridge && made.name == spec.name;
    });
    if (bridge == made_.end())
        return fail(ErrorKind::not_found, "bridge {}: not made by this vmhost", spec.name);
    TRY(check_conflict(spec));
    auto index = bridge->index;
    for (std::size_t i = made_.size(); i-- > 0;)
        if (made_[i].kind == Kind::port && made_[i].bridge == index &&
            std::ranges::find(spec.ports, made_[i].name) == spec.ports.end()) {
            TRY(undo(made_[i]));
            made_.erase(made_.begin() + static_cast<std::ptrdiff_t>(i));
        }
    return set_up_bridge(index, spec);
}

// The host's addresses must stay unambiguous.
Result<void> Network::check_conflict(const BridgeSpec& spec) {
    if (!spec.ipv4)
        return {};
    for (const auto& have : TRY_ON("bridge", spec.name, links_->addresses())) {
        if (have.prefix.address != spec.ipv4->address)
            continue;
        auto link = TRY_ON("bridge", spec.name, links_->find(have.index));
        if (link && link->name != spec.name)
            return fail(ErrorKind::exists,
                        "bridge {}: interface {} of this host has the address {} already",
                        spec.name, link->name, have.prefix.text());
    }
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
    TRY_ON("bridge", spec.name,
           links_->change(
               index,
               {.alias = alias(spec.name), .mac = bridge_mac(tag_, spec.name), .mtu = spec.mtu}));
    TRY_ON("bridge", spec.name, links_->set_bridge_options(index));
    // The host has only IPv4 on it: a guest's router advertisements must find nobody.
    TRY_ON("bridge", spec.name, links_->disable_ipv6(spec.name));
    TRY(release_other_ports(index, spec));
    for (const auto& port : spec.ports)
        TRY(attach(index, spec.name, port));
    TRY(set_address(index, spec));
    TRY_ON("bridge", spec.name, links_->change(index, {.up = spec.up}));
    return {};
}

// Of an adopted bridge: ports that an earlier configuration named.
Result<void> Network::release_other_ports(unsigned index, const BridgeSpec& spec) {
    for (const auto& link : TRY_ON("bridge", spec.name, links_->list()))
        if (link.master == index && !ours(link) &&
            std::ranges::find(spec.ports, link.name) == spec.ports.end())
            TRY_ON("bridge", spec.name, links_->change(link.index, {.master = 0}));
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

Result<void> Network::attach_port(const std::string& bridge, const std::string& port) {
    for (const auto& made : made_)
        if (made.kind == Kind::bridge && made.name == bridge)
            return attach(made.index, bridge, port);
    return fail(ErrorKind::not_found, "port {}: there is no bridge {} of ours", port, bridge);
}

Result<void> Network::attach(unsigned bridge, const std::string& bridge_name,
                             const std::string& port) {
    TRY(check_link_name("port", port));
    if (std::ranges::any_of(made_, [&](const Made& made) {
            return made.kind == Kind::port && made.name == port && made.bridge == bridge;
        }))
        return {};
    auto context = fmt::format("{}: port {}", bridge_name, port);
    auto link = TRY_ON("bridge", context, links_->find(port));
    if (!link)
        return fail(ErrorKind::not_found, "bridge {}: no such interface", context);
    if (link->master != 0 && link->master != bridge) {
        auto master = TRY_ON("bridge", context, links_->find(link->master));
        return fail(ErrorKind::busy, "bridge {}: belongs to {} already", context,
                    master ? master->name : "another interface");
    }
    if (ours(*link))
        return fail(ErrorKind::exists, "bridge {}: made by vmhost itself", context);
    // One by one: the kernel raises the link even when it refuses the bridge.
    TRY_ON("bridge", context, links_->change(link->index, {.master = bridge}));
    auto mark = made_.size();
    made_.push_back({Kind::port, link->index, port, bridge, link->up});
    if (auto raised = links_->change(link->index, {.up = true}); !raised) {
        undo_from(mark);
        return in(std::move(raised), "bridge", context);
    }
    return {};
}

Result<Fd> Network::make_tap(const TapSpec& spec) {
    TRY(check_link_name("tap", spec.name));
    auto bridge = std::ranges::find_if(made_, [&](const Made& made) {
        return made.kind == Kind::bridge && made.name == spec.bridge;
    });
    if (bridge == made_.end() && !spec.bridge.empty())
        return fail(ErrorKind::not_found, "tap {}: there is no bridge {} of ours", spec.name,
                    spec.bridge);
    auto bridge_index = spec.bridge.empty() ? std::nullopt : std::optional(bridge->index);
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
    auto fd = TRY(links_->open_tap(spec.name, spec.owner, spec.several_queues));
    // From here on closing fd is the undo.
    TRY(configure_tap(spec, bridge_index));
    return fd;
}

Result<Fd> Network::add_tap_queue(const std::string& name) {
    if (std::ranges::none_of(
            made_, [&](const Made& made) { return made.kind == Kind::tap && made.name == name; }))
        return fail(ErrorKind::not_found, "tap {}: not made by this vmhost", name);
    return links_->open_tap_queue(name);
}

Result<void> Network::configure_tap(const TapSpec& spec, std::optional<unsigned> bridge) {
    TRY(links_->disable_ipv6(spec.name));
    auto link = TRY_ON("tap", spec.name, links_->find(spec.name));
    if (!link)
        return fail(ErrorKind::not_found, "tap {}: vanished while it was made", spec.name);
    auto text = alias(printable(spec.description.empty() ? spec.name : spec.description));
    text.resize(std::min(text.size(), max_alias_bytes));
    TRY_ON("tap", spec.name,
           links_->change(link->index, {.alias = text, .mtu = spec.mtu, .master = bridge}));
    // Nothing passes before the lock is on.
    if (bridge && spec.locked_to)
        TRY_ON("tap", spec.name, links_->lock_port(link->index, *spec.locked_to));
    if (spec.up)
        TRY_ON("tap", spec.name, links_->change(link->index, {.up = true}));
    made_.push_back({Kind::tap, link->index, spec.name});
    return {};
}

Result<void> Network::remove_made(Kind kind, std::string_view what, const std::string& name) {
    auto made = std::ranges::find_if(
        made_, [&](const Made& one) { return one.kind == kind && one.name == name; });
    if (made == made_.end())
        return fail(ErrorKind::not_found, "{} {}: not made by this vmhost", what, name);
    TRY(undo(*made));
    made_.erase(made);
    return {};
}

Result<void> Network::remove_bridge(const std::string& name) {
    auto bridge = std::ranges::find_if(
        made_, [&](const Made& made) { return made.kind == Kind::bridge && made.name == name; });
    if (bridge != made_.end()) {
        auto index = bridge->index;
        for (std::size_t i = made_.size(); i-- > 0;)
            if (made_[i].kind == Kind::port && made_[i].bridge == index) {
                TRY(undo(made_[i]));
                made_.erase(made_.begin() + static_cast<std::ptrdiff_t>(i));
            }
    }
    return remove_made(Kind::bridge, "bridge", name);
}
Result<void> Network::remove_tap(const std::string& name) {
    return remove_made(Kind::tap, "tap", name);
}
Result<void> Network::release_port(const std::string& port) {
    return remove_made(Kind::port, "port", port);
}

Result<void> Network::remove_stale_bridges() {
    for (const auto& link : TRY(links_->list())) {
        bool made = std::ranges::any_of(made_, [&](const Made& one) {
            return one.kind == Kind::bridge && one.index == link.index;
        });
        if (link.kind != "bridge" || !ours(link) || made)
            continue;
        TRY(undo({Kind::bridge, link.index, link.name}));
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
    const char* what = made.kind == Kind::bridge ? "bridge"
                       : made.kind == Kind::tap  ? "tap"
                                                 : "port";
    auto link = TRY_ON(what, made.name, links_->find(made.index));
    if (!link)
        return {}; // gone by itself
    if (made.kind != Kind::port && !ours(*link))
        return {}; // somebody made it theirs
    if (made.kind == Kind::port) {
        if (link->master != made.bridge)
            return {};
        LinkChange change{.master = 0};
        if (!made.was_up)
            change.up = false;
        TRY_ON(what, made.name, links_->change(made.index, change));
        return {};
    }
    if (made.kind == Kind::bridge && TRY_ON(what, made.name, carries_foreign_taps(made.index)))
        return {};
    TRY_ON(what, made.name, links_->remove(made.index));
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
