// The ipv6 role: router advertisements and DHCPv6 for the guests of the model.
//
// User: _vmhost. Rights: one packet socket and one UDP socket per bridge, opened by the parent.
#include "ipv6/ipv6.h"

#include <algorithm>

#include "role/child.h"

namespace vmhost::role {

namespace {

ipv6::Network network_of(ipc::Ipv6Network& described) {
    ipv6::Network network;
    network.name = described.name;
    network.own = described.own;
    network.mac = described.mac;
    network.mtu = described.mtu;
    network.advertise = described.advertise;
    network.router = described.router;
    network.autonomous = described.autonomous;
    network.dhcp = described.dhcp;
    network.domain_name_servers = std::move(described.domain_name_servers);
    network.domain_name = std::move(described.domain_name);
    network.interval_s = described.interval_s;
    network.lifetime_s = described.lifetime_s;
    network.lease_s = described.lease_s;
    for (auto& guest : described.guests)
        network.guests.push_back({std::move(guest.vm), guest.mac, guest.ipv6});
    return network;
}

} // namespace

int run_ipv6(const Identity& identity) {
    Loop loop;
    ipv6::Server server;
    std::unique_ptr<Parent> parent;
    std::vector<ipc::Ipv6Network> described;
    std::vector<std::pair<std::string, std::unique_ptr<ipv6::Listener>>> listeners;
    std::array<std::uint64_t, ipv6::event_kinds> messages{}; // by what came of them

    auto told = [&](const ipv6::Event& event) {
        ipv6::log_event(event);
        ++messages[static_cast<std::size_t>(event.kind)];
    };
    auto begin = [&]() -> Result<void> {
        std::vector<ipv6::Network> networks;
        for (auto& network : described)
            networks.push_back(network_of(network));
        TRY(server.configure(std::move(networks)));
        for (auto& network : described)
            listeners.emplace_back(network.name,
                                   std::make_unique<ipv6::Listener>(
                                       loop,
                                       ipv6::Sockets{std::move(network.packet_socket),
                                                     std::move(network.udp_socket), network.mac},
                                       network.name, server, told));
        return {};
    };
    auto message = [&](ipc::Frame frame) -> Result<void> {
        if (frame.type == ipc::Begin::type) {
            TRY(begin());
            parent->send(ipc::Ready{});
        } else if (frame.type == ipc::ServiceCount::type) {
            ipc::ServiceCounted counted;
            for (std::uint16_t kind = 0; kind < messages.size(); ++kind)
                counted.counters.push_back({ipc::Counted::ipv6_messages, kind, messages[kind]});
            for (std::uint16_t drop = 1; drop < ipv6::drop_kinds; ++drop)
                counted.counters.push_back({ipc::Counted::ipv6_drops, drop,
                                            server.dropped(static_cast<ipv6::Drop>(drop))});
            parent->send(std::move(counted));
        } else if (frame.type == ipc::Ipv6Farewell::type) {
            auto order = TRY(ipc::decode<ipc::Ipv6Farewell>(std::move(frame)));
            for (const auto& [name, listener] : listeners)
                if (std::ranges::find(order.networks, name) != order.networks.end())
                    listener->farewell();
        } else {
            described.push_back(TRY(ipc::decode<ipc::Ipv6Network>(std::move(frame))));
        }
        return {};
    };
    return serve(loop, parent, identity, ipv6_calls, message);
}

} // namespace vmhost::role
