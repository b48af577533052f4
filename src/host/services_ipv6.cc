// What the ipv6 process is told of IPv6: a network for each switch whose guests are served router
// advertisements or DHCPv6.
#include <algorithm>

#include "host/services.h"

namespace vmhost::host {

namespace {

bool serves_ipv6(const config::Switch& one) {
    return one.enabled && one.ipv6 && (one.ra.enabled || one.dhcp6.enabled);
}

std::uint32_t seconds(std::chrono::milliseconds duration) {
    return static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::seconds>(duration).count());
}

} // namespace

bool wants_ipv6(const config::Model& model) {
    return std::ranges::any_of(model.switches, serves_ipv6);
}

Result<std::vector<ipc::Frame>> describe_ipv6(Ground& ground, const config::Model& model,
                                              const std::vector<BridgeLink>& bridges) {
    std::vector<ipc::Frame> frames;
    for (const auto& bridge : bridges) {
        const auto* one = model.find_switch(bridge.switch_name);
        if (one == nullptr || !serves_ipv6(*one))
            continue;
        auto opened = ground.open_ipv6(one->interface, bridge.index);
        if (!opened)
            return std::unexpected(std::move(opened).error().at(one->place));
        ipc::Ipv6Network network;
        network.name = one->name;
        network.own = *one->ipv6;
        network.mac = opened->mac;
        network.mtu = one->mtu;
        network.packet_socket = std::move(opened->packet);
        network.udp_socket = std::move(opened->udp);
        network.advertise = one->ra.enabled;
        network.router = one->ra.router;
        network.autonomous = one->ra.autonomous;
        network.dhcp = one->dhcp6.enabled;
        network.domain_name_servers = one->ra.domain_name_servers;
        network.domain_name = one->ra.domain_name;
        network.interval_s = seconds(one->ra.interval);
        network.lifetime_s = seconds(one->ra.lifetime);
        network.lease_s = seconds(one->dhcp6.lease_time);
        for (const auto& vm : model.vms)
            for (const auto& interface : vm.interfaces)
                if (interface.switch_name == one->name)
                    network.guests.push_back({vm.name, interface.lladdr, interface.ipv6});
        frames.push_back(ipc::encode(std::move(network)));
    }
    return frames;
}

Advertised advertised_by(const config::Model& model) {
    Advertised out;
    for (const auto& one : model.switches)
        if (serves_ipv6(one) && one.ra.enabled)
            out.emplace(one.name, Advertisement{*one.ipv6, one.ra.router, one.ra.autonomous});
    return out;
}

std::vector<std::string> to_withdraw(const Advertised& before, const Advertised& now) {
    std::vector<std::string> out;
    for (const auto& [name, was] : before) {
        auto is = now.find(name);
        if (is == now.end() || is->second.prefix != was.prefix ||
            (was.router && !is->second.router) || (was.autonomous && !is->second.autonomous))
            out.push_back(name);
    }
    return out;
}

} // namespace vmhost::host
