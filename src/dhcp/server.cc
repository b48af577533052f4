// What the server knows: the configuration, who has what, and what of it outlives a restart. The
// rules are in rules.cc.
#include "dhcp/server.h"

#include <algorithm>

#include "dhcp/turn.h"

namespace vmhost::dhcp {

namespace {

constexpr std::size_t max_file_bytes = 127; // the header's field less its NUL
constexpr std::size_t max_option_text_bytes = 255;
constexpr std::size_t max_option_addresses = 63; // times four fit into one option

Result<void> check_network(const Network& network) {
    auto wrong = [&](std::string what) {
        return fail(ErrorKind::invalid, "dhcp on {}: {}", printable(network.name), what);
    };
    if (network.server.address.is_zero() || network.server.length == 0)
        return wrong("the network has no address of its own");
    if (network.routers.size() > max_option_addresses ||
        network.domain_name_servers.size() > max_option_addresses)
        return wrong(
            fmt::format("more than {} addresses do not fit into an option", max_option_addresses));
    if (network.domain_name.size() > max_option_text_bytes)
        return wrong(fmt::format("the domain name is longer than {} bytes", max_option_text_bytes));
    if (network.filename.size() > max_file_bytes)
        return wrong(fmt::format("the file name is longer than {} bytes", max_file_bytes));
    if (network.lease_time_s == 0)
        return wrong("the lease time is zero");
    std::uint64_t addresses = 0;
    for (const auto& range : network.ranges) {
        auto text = range.first.text() + "-" + range.last.text();
        if (range.last < range.first)
            return wrong("the range " + text + " ends before it begins");
        addresses += std::uint64_t{range.last.value} - range.first.value + 1;
        auto holds = [&](const Ipv4Prefix& prefix) {
            return prefix.contains(range.first) && prefix.contains(range.last);
        };
        if (!holds(network.server) && std::ranges::none_of(network.relays, holds))
            return wrong("the range " + text + " is not in the network, nor in one of a relay");
    }
    if (addresses > limits::max_dhcp_range_addresses)
        return wrong(fmt::format("the ranges have {} addresses, more than {}", addresses,
                                 limits::max_dhcp_range_addresses));
    return {};
}

Result<void> check_guest(const Network& network, const Guest& guest) {
    auto wrong = [&](std::string what) {
        return fail(ErrorKind::invalid, "dhcp on {}: guest {}: {}", printable(network.name),
                    printable(guest.vm), what);
    };
    if (guest.mac.is_zero() || guest.mac.is_multicast())
        return wrong(guest.mac.text() + " is no address of a station");
    if (guest.filename && guest.filename->size() > max_file_bytes)
        return wrong(fmt::format("the file name is longer than {} bytes", max_file_bytes));
    if (!guest.ipv4)
        return {};
    auto address = guest.ipv4->text();
    if (!network.server.contains(*guest.ipv4))
        return wrong(address + " is not in " + network.server.text());
    if (*guest.ipv4 == network.server.address)
        return wrong(address + " is the host's own address");
    if (network.server.length < 31 &&
        (*guest.ipv4 == network.server.network() || *guest.ipv4 == network.server.broadcast()))
        return wrong(address + " is the network's or its broadcast address");
    return {};
}

} // namespace

bool legal_host_name(std::string_view name) {
    if (name.empty() || name.size() > 255)
        return false;
    std::size_t label_bytes = 0;
    for (char c : name) {
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool digit = c >= '0' && c <= '9';
        if (c == '.' ? label_bytes == 0 : !(letter || digit || c == '-'))
            return false;
        label_bytes = c == '.' ? 0 : label_bytes + 1;
        if (label_bytes > 63)
            return false;
    }
    return label_bytes > 0;
}

// What a range may hold, but no client may have.
static std::unordered_set<std::uint32_t> reserved_of(const Network& network) {
    std::unordered_set<std::uint32_t> out{network.server.address.value, network.next_server.value};
    for (const auto& list : {network.routers, network.domain_name_servers})
        for (auto address : list)
            out.insert(address.value);
    auto prefixes = network.relays;
    prefixes.push_back(network.server);
    for (const auto& prefix : prefixes)
        if (prefix.length < 31) {
            out.insert(prefix.network().value);
            out.insert(prefix.broadcast().value);
        }
    for (const auto& guest : network.guests)
        if (guest.ipv4)
            out.insert(guest.ipv4->value);
    return out;
}

Result<Server::Served> Server::served_of(Network network) {
    TRY(check_network(network));
    Served served;
    served.subnets.push_back({.prefix = network.server, .own = true});
    for (const auto& prefix : network.relays)
        if (prefix.network() == network.server.network() && prefix.length == network.server.length)
            served.subnets.front().relayed = true;
        else
            served.subnets.push_back({.prefix = prefix, .relayed = true});
    const auto reserved = reserved_of(network);
    for (auto& subnet : served.subnets) {
        std::vector<Range> ranges;
        for (const auto& range : network.ranges)
            if (subnet.prefix.contains(range.first))
                ranges.push_back(range);
        subnet.pool.configure(std::move(ranges), reserved);
    }
    std::map<Ipv4, std::string> taken;
    std::size_t position = 0;
    for (auto& guest : network.guests) {
        TRY(check_guest(network, guest));
        auto context = fmt::format("dhcp on {}: guests {} and ", network.name, guest.vm);
        if (auto same = served.guests.find(key_of(guest.mac)); same != served.guests.end())
            return fail(ErrorKind::invalid, "{}{} have the same Ethernet address {}", context,
                        same->second.guest.vm, guest.mac.text());
        if (guest.ipv4)
            if (auto [same, added] = taken.try_emplace(*guest.ipv4, guest.vm); !added)
                return fail(ErrorKind::invalid, "{}{} have the same address {}", context,
                            same->second, guest.ipv4->text());
        Record record;
        record.position = position++;
        record.guest = std::move(guest);
        served.guests.emplace(key_of(record.guest.mac), std::move(record));
    }
    network.guests.clear();
    served.network = std::move(network);
    return served;
}

Result<void> Server::configure(std::vector<Network> networks) {
    std::map<std::string, Served, std::less<>> fresh;
    for (auto& network : networks) {
        auto name = network.name;
        if (!fresh.try_emplace(name, TRY(served_of(std::move(network)))).second)
            return fail(ErrorKind::invalid, "dhcp on {}: the network is there twice", name);
    }
    // Nothing can fail from here on: carry over what is known.
    for (auto& [name, served] : fresh)
        if (auto old = networks_.find(name); old != networks_.end())
            keep_what_is_known(served, old->second);
    networks_ = std::move(fresh);
    return {};
}

void Server::keep_what_is_known(Served& fresh, Served& old) {
    fresh.log = old.log;
    fresh.clients_log = old.clients_log;
    for (auto& [mac, record] : fresh.guests) {
        auto before = old.guests.find(mac);
        if (before == old.guests.end() || before->second.guest.vm != record.guest.vm)
            continue;
        record.log = before->second.log;
        record.held = std::move(before->second.held);
        if (record.guest.ipv4 != before->second.guest.ipv4) {
            // It holds the old address, if any; the next message puts it right.
            record.held.state = LeaseState::none;
            record.held.until_ms = never_ms;
        }
    }
    auto ranges = fresh.network.ranges;
    auto reserved = reserved_of(fresh.network);
    for (const auto& [mac, record] : fresh.guests)
        if (record.guest.ipv4)
            reserved.insert(record.guest.ipv4->value);
    for (auto& subnet : fresh.subnets) {
        auto same = std::ranges::find_if(old.subnets, [&](const Subnet& one) {
            return one.prefix.network() == subnet.prefix.network() &&
                   one.prefix.length == subnet.prefix.length;
        });
        if (same == old.subnets.end())
            continue;
        subnet.pool = std::move(same->pool);
        std::vector<Range> own;
        for (const auto& range : ranges)
            if (subnet.prefix.contains(range.first))
                own.push_back(range);
        subnet.pool.configure(std::move(own), reserved);
    }
}

void Server::restore(const std::vector<store::LeaseRow>& rows, std::uint64_t now_ms,
                     std::int64_t time_s) {
    auto fill = [&](Holding& held, const store::LeaseRow& row) {
        held.state = row.state;
        held.since_s = row.since_s;
        held.seen_s = row.seen_s;
        held.client_id = row.client_id;
        held.host_name = row.host_name;
    };
    // The clock may have been set meanwhile; a lease that seems to be over is free to be given.
    auto until = [&](const store::LeaseRow& row) -> std::uint64_t {
        if (row.until_s == store::lease_for_ever)
            return never_ms;
        auto left_s = std::max<std::int64_t>(0, row.until_s - time_s);
        return now_ms + static_cast<std::uint64_t>(left_s) * 1000;
    };
    for (const auto& row : rows) {
        auto found = networks_.find(row.network);
        if (found == networks_.end())
            continue;
        auto guest = found->second.guests.find(key_of(row.mac));
        if (guest != found->second.guests.end()) {
            if (guest->second.guest.ipv4 != row.address)
                continue;
            fill(guest->second.held, row);
            guest->second.held.until_ms = until(row);
            continue;
        }
        for (auto& subnet : found->second.subnets) {
            if (!subnet.pool.serves(row.address))
                continue;
            if (row.state == LeaseState::declined) {
                subnet.pool.abandon(row.address, until(row))->held.since_s = row.since_s;
            } else if (auto* binding = subnet.pool.restore(row.mac, row.address)) {
                fill(binding->held, row);
                subnet.pool.set(*binding, row.state, until(row));
            }
        }
    }
}

std::optional<store::LeaseRow> Server::found_in_use(std::string_view network, Ipv4 address,
                                                    std::uint64_t now_ms, std::int64_t time_s) {
    auto served = networks_.find(network);
    if (served == networks_.end())
        return std::nullopt;
    for (auto& subnet : served->second.subnets) {
        auto* binding = subnet.pool.at(address);
        if (binding == nullptr || binding->held.state != LeaseState::offered)
            continue;
        subnet.pool.abandon(address, now_ms + limits::dhcp_quarantine_ms)->held.since_s = time_s;
        store::LeaseRow row;
        row.network = network;
        row.address = address;
        row.state = LeaseState::declined;
        row.since_s = time_s;
        row.until_s = time_s + static_cast<std::int64_t>(limits::dhcp_quarantine_ms / 1000);
        return row;
    }
    return std::nullopt;
}

std::optional<store::LeaseRow> Server::forget(Ipv4 address) {
    for (auto& [name, served] : networks_) {
        store::LeaseRow row;
        row.network = name;
        row.address = address; // in the state none: the row goes
        for (auto& [mac, record] : served.guests)
            if (record.guest.ipv4 == address && record.held.state != LeaseState::none) {
                record.held.state = LeaseState::none;
                record.held.until_ms = never_ms;
                return row;
            }
        for (auto& subnet : served.subnets)
            if (subnet.pool.at(address) != nullptr) {
                subnet.pool.remove(address);
                return row;
            }
    }
    return std::nullopt;
}

std::vector<Lease> Server::leases(std::uint64_t now_ms) const {
    std::vector<Lease> all;
    auto add = [&](Lease lease, const Holding& held) {
        bool over = held.state == LeaseState::bound && held.until_ms <= now_ms;
        lease.state = over ? LeaseState::expired : held.state;
        lease.since_s = held.since_s;
        lease.last_seen_s = held.seen_s;
        if (held.until_ms != never_ms)
            lease.expires_ms = held.until_ms;
        lease.client_host_name = held.host_name;
        lease.client_id = held.client_id;
        lease.messages = held.received;
        lease.dropped = held.dropped;
        all.push_back(std::move(lease));
    };
    for (const auto& [name, served] : networks_) {
        std::vector<const Record*> records;
        for (const auto& [mac, record] : served.guests)
            records.push_back(&record);
        std::ranges::sort(records, {}, &Record::position);
        for (const auto* record : records)
            add({.network = name,
                 .vm = record->guest.vm,
                 .mac = record->guest.mac,
                 .address = record->guest.ipv4.value_or(Ipv4{})},
                record->held);
        std::map<Ipv4, const Binding*> bindings;
        for (const auto& subnet : served.subnets)
            subnet.pool.each(
                [&](const Binding& binding) { bindings.emplace(binding.address, &binding); });
        for (const auto& [address, binding] : bindings)
            add({.network = name, .mac = binding->mac, .address = address}, binding->held);
    }
    return all;
}

} // namespace vmhost::dhcp
