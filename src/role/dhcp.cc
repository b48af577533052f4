// The dhcp role: addresses for the guests of the model.
//
// User: _vmhost. Rights: one packet socket and one UDP socket per bridge, opened
// by the parent.
#include "dhcp/dhcp.h"
#include "role/child.h"

namespace vmhost::role {

namespace {

dhcp::Network network_of(ipc::DhcpNetwork& described) {
    dhcp::Network network;
    network.name = described.name;
    network.server = described.address;
    network.routers = std::move(described.routers);
    network.domain_name_servers = std::move(described.domain_name_servers);
    network.domain_name = std::move(described.domain_name);
    network.lease_time_s = described.lease_seconds;
    network.next_server = described.next_server;
    network.filename = std::move(described.filename);
    network.mtu = described.mtu;
    for (auto& guest : described.guests)
        network.guests.push_back(
            {std::move(guest.vm), guest.mac, guest.address, std::move(guest.host_name),
             guest.installing ? std::nullopt : std::optional<std::string>("")});
    return network;
}

} // namespace

int run_dhcp(const Identity& identity) {
    Loop loop;
    dhcp::Server server;
    std::vector<std::unique_ptr<dhcp::Listener>> listeners;
    std::unique_ptr<Parent> parent;

    auto told = [&](const dhcp::Event& event) {
        dhcp::log_event(event);
        if (event.kind == dhcp::EventKind::acknowledged || event.kind == dhcp::EventKind::booted)
            parent->send(ipc::DhcpLease{event.vm, event.address});
    };
    std::vector<ipc::DhcpNetwork> described;
    auto begin = [&]() -> Result<void> {
        std::vector<dhcp::Network> networks;
        for (auto& network : described)
            networks.push_back(network_of(network));
        TRY(server.configure(std::move(networks)));
        for (auto& network : described)
            listeners.push_back(std::make_unique<dhcp::Listener>(
                loop,
                dhcp::Sockets{std::move(network.packet_socket), std::move(network.udp_socket),
                              network.mac},
                network.name, server, told));
        return {};
    };
    auto message = [&](ipc::Frame frame) -> Result<void> {
        if (frame.type == ipc::Begin::type) {
            TRY(begin());
            parent->send(ipc::Ready{});
        } else {
            described.push_back(TRY(ipc::decode<ipc::DhcpNetwork>(std::move(frame))));
        }
        return {};
    };
    return serve(loop, parent, identity, dhcp_calls, message);
}

} // namespace vmhost::role
