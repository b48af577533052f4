// What vmhost net shows: the switches of the model as the kernel has them, with their ports, the
// addresses behind each, and what has passed. "in" is what came into the switch by a port: of a
// guest's, what the guest has sent.
//
// Loop thread of the parent.
#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "host/host.h"

namespace vmhost::host {

using nlohmann::json;

namespace {

// Everything is asked for once.
struct View {
    std::vector<net::Link> links;
    std::map<unsigned, net::LinkCounters> counters;
    std::vector<net::Forwarding> forwarding;
    std::vector<net::GuardCount> guarded;
    std::map<std::string, Host::Plug> plugs;

    const net::Link* find(const std::string& name) const {
        auto found = std::ranges::find(links, name, &net::Link::name);
        return found == links.end() ? nullptr : &*found;
    }

    // Reasons why frames of a port were dropped, with their numbers: those of its guard, and what
    // the kernel had no room for.
    json drops_of(const std::string& port, const net::LinkCounters& counted) const {
        json all{{"in", counted.rx_dropped}, {"out", counted.tx_dropped}};
        for (const auto& one : guarded)
            if (one.port == port && one.frames != 0)
                all[std::string(net::name_of(one.reason))] = one.frames;
        return all;
    }

    json addresses_of(unsigned index) const {
        auto all = json::array();
        for (const auto& entry : forwarding) {
            if (entry.link != index || entry.mac.is_zero() || all.size() >= limits::max_shown_macs)
                continue;
            json one{{"mac", entry.mac.text()}, {"fixed", entry.fixed}};
            if (entry.vlan != 0)
                one["vlan"] = entry.vlan;
            if (entry.remote)
                one["remote"] = entry.remote->text();
            all.push_back(std::move(one));
        }
        return all;
    }

    json port(const net::Link& link) const {
        auto found = counters.find(link.index);
        const auto counted = found == counters.end() ? net::LinkCounters{} : found->second;
        const auto options = link.port.value_or(net::PortOptions{});
        json one{{"port", link.name},
                 {"kind", link.kind == "tun" ? "tap" : link.kind},
                 {"up", link.up},
                 {"mtu", link.mtu},
                 {"isolated", options.isolated},
                 {"locked", options.locked},
                 {"in_packets", counted.rx_packets},
                 {"in_bytes", counted.rx_bytes},
                 {"out_packets", counted.tx_packets},
                 {"out_bytes", counted.tx_bytes},
                 {"drops", drops_of(link.name, counted)},
                 {"addresses", addresses_of(link.index)}};
        if (auto plug = plugs.find(link.name); plug != plugs.end()) {
            one["vm"] = plug->second.vm;
            one["interface"] = plug->second.interface;
        }
        return one;
    }

    json ports(unsigned bridge) const {
        auto all = json::array();
        for (const auto& link : links)
            if (bridge != 0 && link.master == bridge)
                all.push_back(port(link));
        return all;
    }
};

json switch_of(const config::Switch& one, const net::Link* bridge) {
    json out{{"switch", one.name},
             {"interface", one.interface},
             {"there", bridge != nullptr},
             {"up", bridge && bridge->up},
             {"mtu", bridge ? bridge->mtu : one.mtu}};
    if (one.ipv4)
        out["ipv4"] = one.ipv4->text();
    if (one.ipv6)
        out["ipv6"] = one.ipv6->text();
    if (one.vlan)
        out["vlan"] = *one.vlan;
    if (one.rdomain != 0)
        out["rdomain"] = one.rdomain;
    if (one.vxlan)
        out["vxlan"] = one.vxlan->id;
    return out;
}

} // namespace

std::map<std::string, Host::Plug> Host::plugs() const {
    std::map<std::string, Plug> all;
    for (const auto& guest : guests_)
        for (std::size_t i = 0; i < guest->taps().size(); ++i)
            all[guest->taps()[i]] = {guest->config().name, i};
    return all;
}

std::map<std::string, net::LinkCounters> Host::counters_of_taps() const {
    std::map<std::string, net::LinkCounters> all;
    const bool lent = std::ranges::any_of(guests_, [](const auto& guest) {
        return std::ranges::any_of(guest->counted().nics, &ipc::VmNicCounted::lent);
    });
    if (!lent || !network_)
        return all;
    auto links = network_->links().list();
    auto counted = network_->links().counters();
    if (!links || !counted)
        return all;
    std::map<unsigned, net::LinkCounters> by_index;
    for (const auto& one : *counted)
        by_index.emplace(one.index, one);
    for (const auto& link : *links)
        if (auto found = by_index.find(link.index); link.kind == "tun" && found != by_index.end())
            all.emplace(link.name, found->second);
    return all;
}

Result<std::string> Host::net_view() {
    auto out = json::array();
    if (!network_)
        return out.dump();
    auto& kernel = network_->links();
    View view{TRY(kernel.list()), {}, TRY(kernel.forwarding()), guard_counts(), plugs()};
    for (const auto& counted : TRY(kernel.counters()))
        view.counters.emplace(counted.index, counted);
    for (const auto& one : model_.switches) {
        const auto* bridge = view.find(one.interface);
        auto row = switch_of(one, bridge);
        row["ports"] = view.ports(bridge ? bridge->index : 0);
        out.push_back(std::move(row));
    }
    return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

} // namespace vmhost::host
