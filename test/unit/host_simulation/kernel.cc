#include "kernel.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace vmhost::simulation {

Fd Held::hold() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        std::abort(); // the test leaks descriptors, or has far too few
    ends_.emplace_back(ends[0]);
    return Fd(ends[1]);
}

bool Held::held() const {
    return std::ranges::any_of(ends_, [](const Fd& end) {
        pollfd ready{end.get(), 0, 0};
        return ::poll(&ready, 1, 0) == 0; // no hang-up
    });
}

void Kernel::add_device(const std::string& name, const std::string& kind, bool up) {
    Device device;
    device.link = {.index = next_index_, .name = name, .kind = kind, .mtu = 1500, .up = up};
    device.link.mac.octets = {2, 0, 0, 0, 0, static_cast<std::uint8_t>(next_index_)};
    devices.emplace(next_index_++, std::move(device));
}

void Kernel::settle() {
    std::erase_if(devices, [](const auto& one) {
        return one.second.link.kind == "tun" && !one.second.holders.held();
    });
    std::erase_if(bound_, [](const auto& one) { return !one.second.held(); });
}

Kernel::Device* Kernel::find(const std::string& name) {
    settle();
    for (auto& [index, device] : devices)
        if (device.link.name == name)
            return &device;
    return nullptr;
}

Kernel::Device* Kernel::find(unsigned index) {
    settle();
    auto found = devices.find(index);
    return found == devices.end() ? nullptr : &found->second;
}

bool Kernel::has_address(Ipv4 address) const {
    return std::ranges::any_of(addresses,
                               [&](const auto& one) { return one.prefix.address == address; });
}

namespace {

std::string text_of(const net::PortOptions& port) {
    return fmt::format("{}{}{}{}", port.locked ? " locked" : "", port.isolated ? " isolated" : "",
                       port.learning ? "" : " no-learning", port.flooding ? "" : " no-flooding");
}

std::string text_of(const net::Vlans& vlans) {
    return fmt::format("{}{}{}", vlans.untagged ? fmt::format(" vlan {}", *vlans.untagged) : "",
                       vlans.tagged.empty() ? "" : " trunk ", fmt::join(vlans.tagged, ","));
}

} // namespace

std::string text_of(const net::PortGuard& guard) {
    std::string text = guard.frames ? " guarded" : "";
    if (guard.mac)
        text += " " + guard.mac->text();
    for (const auto& prefix : guard.ipv4)
        text += " " + prefix.text();
    if (guard.storm)
        text += fmt::format(" storm {}", guard.storm->frames_per_s);
    return text;
}

std::string Kernel::text() const {
    std::string all;
    for (const auto& [index, device] : devices) {
        const auto& link = device.link;
        auto master = devices.find(link.master);
        all += fmt::format("{} kind \"{}\" alias \"{}\" mtu {} master {} {}{}{}", link.name,
                           link.kind, link.alias, link.mtu,
                           master == devices.end() ? "-" : master->second.link.name,
                           link.up ? "up" : "down", device.ipv6 ? "" : " no-ipv6",
                           link.port ? text_of(*link.port) : "");
        all += text_of(device.vlans);
        for (const auto& entry : device.forwarding)
            all += fmt::format(" knows {}{}", entry.mac.text(),
                               entry.remote ? " at " + entry.remote->text() : "");
        for (const auto& address : addresses)
            if (address.index == index)
                all += " " + address.prefix.text();
        for (const auto& address : addresses6)
            if (address.index == index && !address.prefix.address.is_link_local())
                all += " " + address.prefix.text();
        if (auto guard = guards.find(link.name); guard != guards.end())
            all += text_of(guard->second);
        all += "\n";
    }
    for (unsigned table : closed_tables)
        all += fmt::format("table {} closed\n", table);
    if (translated)
        all += "translated " + translated->text() + "\n";
    // Rules of a port that is not there would be those of the next one.
    for (const auto& [port, guard] : guards)
        if (std::ranges::none_of(devices,
                                 [&](const auto& one) { return one.second.link.name == port; }))
            all += "guard without port: " + port + "\n";
    return all;
}

std::optional<Fd> Kernel::bind(const std::string& name) {
    settle();
    if (bound_.contains(name))
        return std::nullopt;
    return bound_[name].hold();
}

bool Kernel::anything_bound() {
    settle();
    return !bound_.empty();
}

Result<Kernel::Device*> VirtualLinks::get(unsigned index) {
    auto* device = kernel_.find(index);
    if (!device)
        return fail_errno(ENODEV, "link {}", index);
    return device;
}

Result<std::vector<net::Link>> VirtualLinks::list() {
    TRY(about_to_("list links", false));
    kernel_.settle();
    std::vector<net::Link> links;
    for (const auto& [index, device] : kernel_.devices)
        links.push_back(device.link);
    return links;
}

Result<std::optional<net::Link>> VirtualLinks::find(const std::string& name) {
    auto* device = kernel_.find(name);
    return device ? std::optional(device->link) : std::nullopt;
}

Result<std::optional<net::Link>> VirtualLinks::find(unsigned index) {
    auto* device = kernel_.find(index);
    return device ? std::optional(device->link) : std::nullopt;
}

Result<std::vector<net::LinkCounters>> VirtualLinks::counters() {
    std::vector<net::LinkCounters> all;
    for (const auto& [index, device] : kernel_.devices)
        all.push_back({.index = index});
    return all;
}

Result<void> VirtualLinks::create(const std::string& name, const Mac& mac, const std::string& kind,
                                  net::LinkOptions options) {
    TRY(about_to_(fmt::format("create {} {}", kind, name), true));
    if (kernel_.find(name))
        return fail_errno(EEXIST, "{} {}", kind, name);
    kernel_.add_device(name, kind, false);
    auto& link = kernel_.find(name)->link;
    link.mac = mac;
    link.options = options;
    return {};
}

Result<void> VirtualLinks::create_bridge(const std::string& name, const Mac& mac) {
    // As the kernel makes one: nothing of what we want is set.
    return create(name, mac, "bridge", net::BridgeOptions{false, true, 1500, false});
}
Result<void> VirtualLinks::create_vlan(const std::string& name, const Mac& mac,
                                       const net::VlanOptions& options) {
    TRY(get(options.parent));
    return create(name, mac, "vlan", options);
}
Result<void> VirtualLinks::create_vxlan(const std::string& name, const Mac& mac,
                                        const net::VxlanOptions& options) {
    return create(name, mac, "vxlan", options);
}
Result<void> VirtualLinks::create_vrf(const std::string& name, const Mac& mac,
                                      const net::VrfOptions& options) {
    return create(name, mac, "vrf", options);
}

Result<void> VirtualLinks::set_bridge_options(unsigned index, const net::BridgeOptions& options) {
    TRY(about_to_("set options of bridge", true));
    TRY(get(index))->link.options = options;
    return {};
}

Result<void> VirtualLinks::close_table(unsigned table) {
    TRY(about_to_(fmt::format("close table {}", table), true));
    kernel_.closed_tables.insert(table);
    return {};
}
Result<void> VirtualLinks::open_table(unsigned table) {
    TRY(about_to_(fmt::format("open table {}", table), false));
    kernel_.closed_tables.erase(table);
    return {};
}

Result<void> VirtualLinks::change(unsigned index, const net::LinkChange& change) {
    auto* device = TRY(get(index));
    // To give up a port, or to take it down, is part of an undo.
    const bool undo = change.master == 0U || change.up == false;
    TRY(about_to_("change " + device->link.name, !undo));
    if (change.master && *change.master != 0) {
        auto* master = kernel_.find(*change.master);
        if (!master || (master->link.kind != "bridge" && master->link.kind != "vrf"))
            return fail_errno(ENODEV, "master of {}", device->link.name);
    }
    if (change.alias)
        device->link.alias = *change.alias;
    if (change.mac)
        device->link.mac = *change.mac;
    if (change.mtu)
        device->link.mtu = *change.mtu;
    if (change.master && device->link.master != *change.master) {
        auto* master = kernel_.find(*change.master);
        device->link.master = *change.master;
        device->link.port.reset();
        device->vlans = {};
        device->forwarding.clear();
        if (master && master->link.kind == "bridge")
            device->link.port.emplace();
    }
    if (change.up)
        device->link.up = *change.up;
    return {};
}

Result<void> VirtualLinks::set_port(unsigned index, const net::PortOptions& options) {
    TRY(about_to_("set up a port", true));
    auto* device = TRY(get(index));
    if (!device->link.port)
        return fail_errno(EINVAL, "{} is no port", device->link.name);
    device->link.port = options;
    return {};
}

Result<void> VirtualLinks::set_vlans(unsigned index, const net::Vlans& vlans) {
    TRY(about_to_("set VLANs", true));
    TRY(get(index))->vlans = vlans;
    return {};
}
Result<net::Vlans> VirtualLinks::vlans(unsigned index) {
    return TRY(get(index))->vlans;
}

Result<std::vector<net::Forwarding>> VirtualLinks::forwarding() {
    std::vector<net::Forwarding> all;
    for (const auto& [index, device] : kernel_.devices)
        all.insert(all.end(), device.forwarding.begin(), device.forwarding.end());
    return all;
}

Result<void> VirtualLinks::add_forwarding(const net::Forwarding& entry) {
    TRY(about_to_("enter an address", true));
    auto* device = TRY(get(entry.link));
    if (!entry.remote && !device->link.port)
        return fail_errno(EINVAL, "{} is no port", device->link.name);
    if (std::ranges::find(device->forwarding, entry) == device->forwarding.end())
        device->forwarding.push_back(entry);
    return {};
}
Result<void> VirtualLinks::remove_forwarding(const net::Forwarding& entry) {
    TRY(about_to_("remove an address", false));
    std::erase(TRY(get(entry.link))->forwarding, entry);
    return {};
}

Result<void> VirtualLinks::remove(unsigned index) {
    auto* device = TRY(get(index));
    TRY(about_to_("remove " + device->link.name, false));
    for (auto& [other, one] : kernel_.devices)
        if (one.link.master == index) {
            one.link.master = 0;
            one.link.port.reset();
            one.vlans = {};
            one.forwarding.clear();
        }
    // What is on top of it goes with it.
    std::erase_if(kernel_.devices, [&](const auto& one) {
        const auto* vlan = std::get_if<net::VlanOptions>(&one.second.link.options);
        return vlan && vlan->parent == index;
    });
    std::erase_if(kernel_.addresses, [&](const auto& one) { return one.index == index; });
    std::erase_if(kernel_.addresses6, [&](const auto& one) { return one.index == index; });
    kernel_.devices.erase(index);
    return {};
}

Result<std::vector<net::LinkAddress>> VirtualLinks::addresses() {
    return kernel_.addresses;
}

Result<void> VirtualLinks::add_address(unsigned index, const Ipv4Prefix& prefix) {
    auto* device = TRY(get(index));
    TRY(about_to_(fmt::format("add {} to {}", prefix.text(), device->link.name), true));
    kernel_.addresses.push_back({index, prefix});
    return {};
}

Result<void> VirtualLinks::remove_address(unsigned index, const Ipv4Prefix& prefix) {
    auto* device = TRY(get(index));
    TRY(about_to_(fmt::format("remove {} from {}", prefix.text(), device->link.name), false));
    std::erase_if(kernel_.addresses,
                  [&](const auto& one) { return one.index == index && one.prefix == prefix; });
    return {};
}

Result<std::vector<net::LinkAddress6>> VirtualLinks::addresses6() {
    return kernel_.addresses6;
}

Result<void> VirtualLinks::add_address6(unsigned index, const Ipv6Prefix& prefix) {
    auto* device = TRY(get(index));
    TRY(about_to_(fmt::format("add {} to {}", prefix.text(), device->link.name), true));
    if (!device->ipv6)
        return fail_errno(EACCES, "{}: add {}: IPv6 is disabled", device->link.name, prefix.text());
    kernel_.addresses6.push_back({index, prefix});
    return {};
}

Result<void> VirtualLinks::remove_address6(unsigned index, const Ipv6Prefix& prefix) {
    auto* device = TRY(get(index));
    TRY(about_to_(fmt::format("remove {} from {}", prefix.text(), device->link.name), false));
    std::erase_if(kernel_.addresses6,
                  [&](const auto& one) { return one.index == index && one.prefix == prefix; });
    return {};
}

Result<Fd> VirtualLinks::open_tap(const std::string& name, uid_t, bool several_queues) {
    TRY(about_to_("open tap " + name, true));
    if (kernel_.find(name))
        return fail_errno(EBUSY, "tap {}", name);
    kernel_.add_device(name, "tun", false);
    auto found = std::ranges::find_if(
        kernel_.devices, [&](const auto& one) { return one.second.link.name == name; });
    found->second.several_queues = several_queues;
    return found->second.holders.hold();
}

Result<Fd> VirtualLinks::open_tap_queue(const std::string& name) {
    TRY(about_to_("open another queue of tap " + name, true));
    auto* device = kernel_.find(name);
    if (!device || !device->several_queues)
        return fail_errno(EINVAL, "tap {}: another queue", name);
    return device->holders.hold();
}

Result<bool> VirtualLinks::reap_tap(const std::string& name) {
    TRY(about_to_("reap tap " + name, false));
    auto* device = kernel_.find(name);
    return device == nullptr; // one that is there is held: none here is persistent
}

Result<void> VirtualLinks::disable_ipv6(const std::string& name) {
    TRY(about_to_("disable IPv6 on " + name, true));
    auto* device = kernel_.find(name);
    if (!device)
        return fail_errno(ENOENT, "{}: disable IPv6", name);
    device->ipv6 = false;
    std::erase_if(kernel_.addresses6,
                  [&](const auto& one) { return one.index == device->link.index; });
    return {};
}

Result<void> VirtualLinks::enable_ipv6(const std::string& name) {
    TRY(about_to_("enable IPv6 on " + name, true));
    auto* device = kernel_.find(name);
    if (!device)
        return fail_errno(ENOENT, "{}: enable IPv6", name);
    device->ipv6 = true;
    return {};
}

Result<void> VirtualLinks::guard_port(const std::string&, const std::string& port,
                                      const net::PortGuard& guard) {
    TRY(about_to_("guard " + port, true));
    if (!kernel_.find(port))
        return fail_errno(ENOENT, "guard {}", port);
    kernel_.guards[port] = guard;
    return {};
}

Result<void> VirtualLinks::unguard_port(const std::string&, const std::string& port) {
    TRY(about_to_("unguard " + port, false));
    kernel_.guards.erase(port);
    return {};
}

Result<std::vector<std::string>> VirtualLinks::guarded_ports(const std::string&) {
    TRY(about_to_("list guards", false));
    std::vector<std::string> ports;
    for (const auto& [port, guard] : kernel_.guards)
        ports.push_back(port);
    return ports;
}

Result<void> VirtualLinks::translate(const std::string&, const std::optional<Ipv4Prefix>& locals) {
    TRY(about_to_("translate", locals.has_value()));
    kernel_.translated = locals;
    return {};
}

Result<std::vector<net::GuardCount>> VirtualLinks::guard_counts(const std::string&) {
    return std::vector<net::GuardCount>();
}

} // namespace vmhost::simulation
