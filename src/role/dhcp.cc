// The dhcp role: addresses for the guests of the model, and for others where it has ranges.
//
// User: _vmhost. Rights: one packet, one UDP and one ICMP socket per bridge, and the files of
// leases.db, all opened by the parent; threads that wait for the disk.
//
// What it is told comes as one message per network and then Begin, at the start and after each
// change: networks that it knows keep their sockets, guests and clients what they have.
#include <ctime>

#include "dhcp/dhcp.h"
#include "role/child.h"

namespace vmhost::role {

namespace {

std::vector<dhcp::Option> options_of(const std::vector<ipc::DhcpOption>& options) {
    std::vector<dhcp::Option> out;
    for (const auto& option : options)
        out.push_back({option.code, {option.data.begin(), option.data.end()}});
    return out;
}

dhcp::Guest guest_of(ipc::DhcpGuest& described) {
    dhcp::Guest guest;
    guest.vm = std::move(described.vm);
    guest.mac = described.mac;
    guest.ipv4 = described.address;
    guest.host_name = std::move(described.host_name);
    guest.filename = std::move(described.filename);
    if (!guest.filename && !described.installing)
        guest.filename = "";
    guest.installed = described.installed;
    guest.next_server = described.next_server;
    guest.options = options_of(described.options);
    return guest;
}

dhcp::Network network_of(ipc::DhcpNetwork& described) {
    dhcp::Network network;
    network.name = described.name;
    network.server = described.address;
    network.routers = std::move(described.routers);
    network.domain_name_servers = std::move(described.domain_name_servers);
    network.domain_name = std::move(described.domain_name);
    network.lease_time_s = described.lease_seconds;
    network.max_lease_time_s = described.max_lease_seconds;
    network.next_server = described.next_server;
    network.filename = std::move(described.filename);
    network.mtu = described.mtu;
    network.ping_check = described.ping_check;
    network.relays = std::move(described.relays);
    for (const auto& range : described.ranges)
        network.ranges.push_back({range.first, range.last});
    network.options = options_of(described.options);
    for (auto& one : described.classes)
        network.classes.push_back({std::move(one.name), std::move(one.vendor), std::move(one.user),
                                   std::move(one.architectures), std::move(one.filename),
                                   one.next_server, options_of(one.options)});
    for (auto& guest : described.guests)
        network.guests.push_back(guest_of(guest));
    return network;
}

class Dhcp {
public:
    explicit Dhcp(std::unique_ptr<Parent>& parent) : parent_(parent) {}

    Loop& loop() { return loop_; }
    Result<void> take(ipc::Frame frame);

private:
    Result<void> use_store(ipc::DhcpStore store);
    Result<void> begin();
    void told(const dhcp::Event& event);
    void say_counted();
    void say_leases(std::uint32_t question);
    void forget(const ipc::DhcpForget& order);

    Loop loop_;
    std::unique_ptr<Parent>& parent_;
    dhcp::Server server_;
    dhcp::Ledger ledger_{loop_};
    std::map<std::string, std::unique_ptr<dhcp::Listener>> listeners_; // by network
    std::vector<ipc::DhcpNetwork> described_;                          // until Begin
    std::vector<store::LeaseRow> remembered_;                          // until the first Begin
    std::array<std::uint64_t, dhcp::event_kinds> messages_{};          // by what came of them
};

Result<void> Dhcp::take(ipc::Frame frame) {
    switch (frame.type) {
    case ipc::DhcpStore::type:
        return use_store(TRY(ipc::decode<ipc::DhcpStore>(std::move(frame))));
    case ipc::Begin::type:
        TRY(begin());
        parent_->send(ipc::Ready{});
        return {};
    case ipc::ServiceCount::type:
        say_counted();
        return {};
    case ipc::DhcpLeasesWanted::type:
        say_leases(TRY(ipc::decode<ipc::DhcpLeasesWanted>(std::move(frame))).question);
        return {};
    case ipc::DhcpForget::type:
        forget(TRY(ipc::decode<ipc::DhcpForget>(std::move(frame))));
        return {};
    default:
        described_.push_back(TRY(ipc::decode<ipc::DhcpNetwork>(std::move(frame))));
        return {};
    }
}

// At the start, before there is anybody to wait for it.
Result<void> Dhcp::use_store(ipc::DhcpStore files) {
    auto store = TRY(store::LeaseStore::open(
        {std::move(files.database), std::move(files.wal), std::move(files.journal)}));
    if (auto forgotten = TRY(store.forget_older(std::time(nullptr) - limits::dhcp_remembered_s)))
        log::info("dhcp", "{} leases that ended long ago are forgotten", forgotten);
    remembered_ = TRY(store.all());
    ledger_.use(std::move(store));
    return {};
}

Result<void> Dhcp::begin() {
    std::vector<dhcp::Network> networks;
    auto described = std::exchange(described_, {});
    for (auto& network : described)
        networks.push_back(network_of(network));
    TRY(server_.configure(std::move(networks)));
    server_.restore(std::exchange(remembered_, {}), loop_.now_ms(), std::time(nullptr));
    std::map<std::string, std::unique_ptr<dhcp::Listener>> listeners;
    for (auto& network : described) {
        auto& listener = listeners[network.name];
        if (auto known = listeners_.find(network.name); known != listeners_.end())
            listener = std::move(known->second);
        if (!network.sockets) {
            if (!listener)
                return fail(ErrorKind::internal, "dhcp on {}: there are no sockets", network.name);
            continue;
        }
        auto& sockets = *network.sockets;
        listener = std::make_unique<dhcp::Listener>(
            loop_,
            dhcp::Sockets{std::move(sockets.packet), std::move(sockets.udp),
                          sockets.icmp ? std::move(*sockets.icmp) : Fd(), sockets.mac},
            network.name, server_, ledger_, [this](const dhcp::Event& event) { told(event); });
    }
    listeners_ = std::move(listeners);
    return {};
}

void Dhcp::told(const dhcp::Event& event) {
    dhcp::log_event(event);
    ++messages_[static_cast<std::size_t>(event.kind)];
    if (event.vm.empty()) // a client of a range is no VM
        return;
    if (event.kind == dhcp::EventKind::acknowledged || event.kind == dhcp::EventKind::booted)
        parent_->send(ipc::DhcpLease{event.vm, event.address});
}

void Dhcp::say_counted() {
    ipc::ServiceCounted counted;
    for (std::uint16_t kind = 0; kind < messages_.size(); ++kind)
        counted.counters.push_back({ipc::Counted::dhcp_messages, kind, messages_[kind]});
    for (std::uint16_t drop = 1; drop < dhcp::drop_kinds; ++drop)
        counted.counters.push_back(
            {ipc::Counted::dhcp_drops, drop, server_.dropped(static_cast<dhcp::Drop>(drop))});
    counted.counters.push_back({ipc::Counted::dhcp_written, 0, ledger_.written()});
    counted.counters.push_back({ipc::Counted::dhcp_commits, 0, ledger_.commits()});
    parent_->send(std::move(counted));
}

void Dhcp::say_leases(std::uint32_t question) {
    const auto now_ms = loop_.now_ms();
    const auto time_s = std::time(nullptr);
    ipc::DhcpLeases part{question, {}, false};
    for (auto& lease : server_.leases(now_ms)) {
        ipc::DhcpLeaseRow row;
        row.network = std::move(lease.network);
        row.vm = std::move(lease.vm);
        row.mac = lease.mac;
        row.address = lease.address;
        row.state = static_cast<std::uint8_t>(lease.state);
        row.since_s = lease.since_s;
        row.seen_s = lease.last_seen_s;
        if (lease.expires_ms)
            row.until_s = time_s + (static_cast<std::int64_t>(*lease.expires_ms) -
                                    static_cast<std::int64_t>(now_ms)) /
                                       1000;
        row.host_name = std::move(lease.client_host_name);
        row.client_id = std::move(lease.client_id);
        row.messages = lease.messages;
        row.dropped = lease.dropped;
        part.rows.push_back(std::move(row));
        if (part.rows.size() == limits::dhcp_leases_part)
            parent_->send(ipc::DhcpLeases{question, std::exchange(part.rows, {}), false});
    }
    part.last = true;
    parent_->send(std::move(part));
}

void Dhcp::forget(const ipc::DhcpForget& order) {
    auto row = server_.forget(order.address);
    if (!row)
        return parent_->send(ipc::DhcpForgotten{order.question, false});
    log::notice("dhcp", "{}: {} is taken back by hand", row->network, order.address.text());
    ledger_.keep(*std::move(row), [this, question = order.question](bool written) {
        parent_->send(ipc::DhcpForgotten{question, written});
    });
}

} // namespace

int run_dhcp(const Identity& identity) {
    std::unique_ptr<Parent> parent;
    Dhcp service(parent);
    auto status = serve(service.loop(), parent, identity, dhcp_calls,
                        [&](ipc::Frame frame) { return service.take(std::move(frame)); });
    parent.reset(); // before the loop that it is on
    return status;
}

} // namespace vmhost::role
