// The rules, in the order in which a message meets them: network, guest, rate,
// form, identity, then RFC 2131 §4.3 by type and client state.
#include "dhcp/server.h"

#include <algorithm>

#include "dhcp/packet.h"
#include "dhcp/reply.h"

namespace vmhost::dhcp {

namespace {

constexpr Ipv4 everybody{0xffffffff};
constexpr std::uint16_t server_port = 67;
constexpr std::size_t max_file_bytes = 127; // the header's field less its NUL
constexpr std::size_t max_option_text_bytes = 255;
constexpr std::size_t max_option_addresses = 63; // times four fit into one option

std::uint64_t key(const Mac& mac) {
    std::uint64_t value = 0;
    for (auto octet : mac.octets)
        value = value << 8 | octet;
    return value;
}

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

std::string_view name_of(LeaseState state) {
    switch (state) {
    case LeaseState::none:
        return "none";
    case LeaseState::offered:
        return "offered";
    case LeaseState::bound:
        return "bound";
    case LeaseState::expired:
        return "expired";
    case LeaseState::released:
        return "released";
    case LeaseState::declined:
        return "declined";
    }
    return "none";
}

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

bool TokenBucket::take(std::uint64_t now_ms) {
    auto passed = now_ms > last_ms_ ? now_ms - last_ms_ : 0;
    credit_ = std::min(full_, credit_ + std::min(passed, full_));
    last_ms_ = std::max(last_ms_, now_ms);
    if (credit_ < cost_)
        return false;
    credit_ -= cost_;
    return true;
}

Result<void> Server::configure(std::vector<Network> networks) {
    std::map<std::string, Served, std::less<>> fresh;
    for (auto& network : networks) {
        TRY(check_network(network));
        Served served;
        std::map<Ipv4, std::string> taken;
        std::size_t position = 0;
        for (auto& guest : network.guests) {
            TRY(check_guest(network, guest));
            auto context = fmt::format("dhcp on {}: guests {} and ", network.name, guest.vm);
            if (auto same = served.guests.find(key(guest.mac)); same != served.guests.end())
                return fail(ErrorKind::invalid, "{}{} have the same Ethernet address {}", context,
                            same->second.guest.vm, guest.mac.text());
            if (guest.ipv4)
                if (auto [same, added] = taken.try_emplace(*guest.ipv4, guest.vm); !added)
                    return fail(ErrorKind::invalid, "{}{} have the same address {}", context,
                                same->second, guest.ipv4->text());
            Record record;
            record.position = position++;
            record.guest = std::move(guest);
            served.guests.emplace(key(record.guest.mac), std::move(record));
        }
        network.guests.clear();
        auto name = network.name;
        served.network = std::move(network);
        if (!fresh.try_emplace(name, std::move(served)).second)
            return fail(ErrorKind::invalid, "dhcp on {}: the network is there twice", name);
    }
    // Nothing can fail from here on: carry over what is known.
    for (auto& [name, served] : fresh) {
        auto old = networks_.find(name);
        if (old == networks_.end())
            continue;
        served.log = old->second.log;
        for (auto& [mac, record] : served.guests)
            if (auto before = old->second.guests.find(mac);
                before != old->second.guests.end() && before->second.guest.vm == record.guest.vm) {
                auto guest = std::move(record.guest);
                auto position = record.position;
                bool moved = guest.ipv4 != before->second.guest.ipv4;
                record = std::move(before->second);
                record.guest = std::move(guest);
                record.position = position;
                if (moved) { // it holds the old address, if any; the next message puts it right
                    record.state = LeaseState::none;
                    record.since_ms = record.expires_ms = std::nullopt;
                }
            }
    }
    networks_ = std::move(fresh);
    return {};
}

// One message on its way through the rules.
struct Server::Turn {
    const Incoming& incoming;
    Event event;
    Served* served = nullptr;
    Record* record = nullptr;
    Message message;

    const Network& network() const { return served->network; }
    const Guest& guest() const { return record->guest; }
    const Header& header() const { return message.header; }
};

Answer Server::handle(const Incoming& incoming) {
    Turn turn{incoming, {}, nullptr, nullptr, {}};
    turn.event.network = incoming.network;
    turn.event.mac = incoming.ethernet_source;
    auto served = networks_.find(incoming.network);
    if (served == networks_.end())
        return drop(turn, Drop::unknown_network);
    turn.served = &served->second;
    auto found = turn.served->guests.find(key(incoming.ethernet_source));
    if (found == turn.served->guests.end()) {
        for (const auto& [name, other] : networks_)
            if (auto there = other.guests.find(key(incoming.ethernet_source));
                there != other.guests.end())
                return drop(turn, Drop::other_network,
                            fmt::format("it is {} on {}", there->second.guest.vm, name));
        return drop(turn, Drop::unknown_guest);
    }
    turn.record = &found->second;
    turn.event.vm = turn.guest().vm;
    ++turn.record->received;
    if (!turn.record->messages.take(incoming.now_ms))
        return drop(turn, Drop::rate_limited);
    turn.record->last_seen_ms = incoming.now_ms;
    if (incoming.source_port == server_port)
        return drop(turn, Drop::server_port);
    auto message = parse(incoming.payload);
    if (!message)
        return drop(turn, Drop::malformed, std::string(message.error()));
    turn.message = *std::move(message);
    turn.event.xid = turn.header().xid;
    return decide(turn);
}

Answer Server::decide(Turn& turn) {
    const auto& header = turn.header();
    if (header.op != boot_request)
        return drop(turn, Drop::server_message, fmt::format("op {}", header.op));
    if (header.htype != 1 || header.hlen != 6)
        return drop(turn, Drop::hardware_type,
                    fmt::format("type {}, {} bytes", header.htype, header.hlen));
    if (header.hardware_address() != turn.incoming.ethernet_source)
        return drop(turn, Drop::spoofed, "it says it is " + header.hardware_address().text());
    if (!header.giaddr.is_zero() || header.hops != 0)
        return drop(turn, Drop::relayed,
                    fmt::format("giaddr {}, hops {}", header.giaddr.text(), header.hops));
    for (auto code : {option::requested_address, option::server_identifier})
        if (turn.message.has_other_length(code, 4))
            return drop(turn, Drop::malformed, fmt::format("option {} is not 4 bytes long", code));
    if (turn.message.has_other_length(option::message_type, 1))
        return drop(turn, Drop::malformed, "option 53 is not one byte long");
    if (!turn.guest().ipv4)
        return drop(turn, Drop::no_address, "its interface has no ipv4 in the configuration");
    auto to = turn.incoming.destination;
    const auto& own = turn.network().server;
    if (!to.is_zero() && to != everybody && to != own.address && to != own.broadcast())
        return drop(turn, Drop::other_server, "sent to " + to.text());
    remember_client(turn);
    auto type = turn.message.number<std::uint8_t>(option::message_type).value_or(0);
    switch (static_cast<MessageType>(type)) {
    case MessageType::bootp:
        return turn.message.find(option::message_type) ? drop(turn, Drop::unexpected_type, "type 0")
                                                       : bootp(turn);
    case MessageType::discover:
        return discover(turn);
    case MessageType::request:
        return request(turn);
    case MessageType::decline:
        return decline(turn);
    case MessageType::release:
        return release(turn);
    case MessageType::inform:
        return inform(turn);
    default:
        return drop(turn, Drop::unexpected_type, fmt::format("type {}", type));
    }
}

// A client identifier decides nothing here; one that belongs to another guest is
// a cloned image or an attempt, and worth a word.
void Server::remember_client(Turn& turn) {
    if (auto name = turn.message.find(option::host_name)) {
        auto text = as_text(*name);
        text = text.substr(0, text.find('\0'));
        if (legal_host_name(text))
            turn.record->client_host_name = text;
    }
    auto sent = turn.message.find(option::client_identifier);
    if (!sent || sent->empty())
        return;
    auto& guests = turn.served->guests;
    auto warn = [&](const Guest& other) {
        turn.event.warning = "its client identifier is that of " + other.vm;
    };
    if (sent->size() == 7 && (*sent)[0] == 1) {
        auto other = guests.find(key(Mac::from(sent->subspan(1))));
        if (other != guests.end() && &other->second != turn.record)
            warn(other->second.guest);
    } else if (turn.record->client_id != as_text(*sent)) {
        // Only when it changes: the search is as long as the list of guests.
        for (const auto& [mac, other] : guests)
            if (&other != turn.record && other.client_id == as_text(*sent))
                warn(other.guest);
    }
    turn.record->client_id = as_text(*sent);
}

Answer Server::discover(Turn& turn) {
    turn.event.address = *turn.guest().ipv4;
    // A bound guest that asks again has lost its lease or boots: what counts is the next ACK.
    if (turn.record->state != LeaseState::bound)
        set_state(turn, LeaseState::offered);
    return reply(turn, EventKind::offered,
                 {.type = MessageType::offer,
                  .yiaddr = *turn.guest().ipv4,
                  .lease_time_s = lease_time_s(turn.network(), turn.message)},
                 *turn.guest().ipv4);
}

// RFC 2131 §4.3.2. SELECTING has 54, INIT-REBOOT 50 alone, RENEWING and REBINDING ciaddr.
Answer Server::request(Turn& turn) {
    auto server = turn.message.address(option::server_identifier);
    if (server && *server != turn.network().server.address) {
        if (turn.record->state == LeaseState::offered)
            set_state(turn, LeaseState::none);
        return drop(turn, Drop::other_server, "the guest chose " + server->text());
    }
    auto address = *turn.guest().ipv4;
    auto ciaddr = turn.header().ciaddr;
    auto wanted = ciaddr.is_zero()
                      ? turn.message.address(option::requested_address).value_or(address)
                      : ciaddr;
    if (wanted != address) {
        turn.event.address = wanted;
        if (turn.record->state == LeaseState::bound)
            set_state(turn, LeaseState::none);
        auto detail = "its address is " + address.text();
        turn.event.detail = detail;
        return reply(turn, EventKind::refused,
                     {.type = MessageType::nak, .message = "not your address on this network"},
                     everybody);
    }
    turn.event.address = address;
    auto lease_s = lease_time_s(turn.network(), turn.message);
    set_state(turn, LeaseState::bound);
    if (lease_s != 0xffffffff)
        turn.record->expires_ms = turn.incoming.now_ms + std::uint64_t{lease_s} * 1000;
    return reply(turn, EventKind::acknowledged,
                 {.type = MessageType::ack, .yiaddr = address, .lease_time_s = lease_s}, address);
}

Answer Server::inform(Turn& turn) {
    auto address = turn.header().ciaddr.is_zero() ? turn.incoming.source : turn.header().ciaddr;
    turn.event.address = address;
    if (!turn.network().server.contains(address) || address == turn.network().server.address)
        return drop(turn, Drop::off_link, "from " + address.text());
    return reply(turn, EventKind::informed, {.type = MessageType::ack}, address);
}

Answer Server::bootp(Turn& turn) {
    auto address = *turn.guest().ipv4;
    turn.event.address = address;
    set_state(turn, LeaseState::bound); // for ever
    return reply(turn, EventKind::booted, {.type = MessageType::bootp, .yiaddr = address}, address);
}

Answer Server::release(Turn& turn) {
    auto server = turn.message.address(option::server_identifier);
    if (server && *server != turn.network().server.address)
        return drop(turn, Drop::other_server, "released to " + server->text());
    turn.event.address = turn.header().ciaddr;
    if (turn.header().ciaddr != *turn.guest().ipv4)
        return drop(turn, Drop::wrong_address, "RELEASE of " + turn.header().ciaddr.text());
    set_state(turn, LeaseState::released);
    return note(turn, EventKind::released);
}

// The address stays the guest's: there is no other. The operator has to find the thief.
Answer Server::decline(Turn& turn) {
    auto server = turn.message.address(option::server_identifier);
    if (!server || *server != turn.network().server.address)
        return drop(turn, Drop::other_server, "DECLINE for another server, or for none");
    auto declined = turn.message.address(option::requested_address).value_or(Ipv4{});
    turn.event.address = declined;
    if (declined != *turn.guest().ipv4)
        return drop(turn, Drop::wrong_address, "DECLINE of " + declined.text());
    set_state(turn, LeaseState::declined);
    turn.event.warning = "another station on the wire uses this address";
    return note(turn, EventKind::declined);
}

void Server::set_state(Turn& turn, LeaseState state) {
    turn.record->state = state;
    turn.record->since_ms = turn.incoming.now_ms;
    turn.record->expires_ms.reset();
}

Answer Server::reply(Turn& turn, EventKind kind, const ReplyForm& form, Ipv4 destination) {
    if (turn.header().ciaddr.is_zero() && turn.header().flags & broadcast_flag)
        destination = everybody;
    auto answer = note(turn, kind, std::move(turn.event.detail));
    answer.reply =
        Reply{build_reply(turn.network(), turn.guest(), turn.message, form),
              turn.network().server.address, destination, 68, turn.incoming.ethernet_source};
    return answer;
}

Answer Server::note(Turn& turn, EventKind kind, std::string detail) {
    turn.event.kind = kind;
    turn.event.detail = std::move(detail);
    auto& budget = turn.record ? turn.record->log : turn.served ? turn.served->log : nowhere_;
    spend_log_line(budget, turn.event, turn.incoming.now_ms);
    return {std::nullopt, std::move(turn.event)};
}

Answer Server::drop(Turn& turn, Drop reason, std::string detail) {
    turn.event.drop = reason;
    ++drops_[static_cast<std::size_t>(reason)];
    if (turn.record)
        ++turn.record->dropped;
    return note(turn, EventKind::dropped, std::move(detail));
}

Event Server::drop_frame(std::string_view network, const Mac& source, std::string_view why,
                         std::uint64_t now_ms) {
    Incoming incoming{.network = network, .ethernet_source = source, .now_ms = now_ms};
    Turn turn{incoming, {}, nullptr, nullptr, {}};
    turn.event.network = network;
    turn.event.mac = source;
    if (auto served = networks_.find(network); served != networks_.end()) {
        turn.served = &served->second;
        auto found = turn.served->guests.find(key(source));
        if (found != turn.served->guests.end()) {
            turn.record = &found->second;
            turn.event.vm = turn.guest().vm;
        }
    }
    return drop(turn, Drop::bad_frame, std::string(why)).event;
}

void Server::spend_log_line(LogBudget& budget, Event& event, std::uint64_t now_ms) {
    event.log = budget.bucket.take(now_ms);
    if (!event.log)
        ++budget.suppressed;
    else
        event.suppressed = std::exchange(budget.suppressed, 0);
}

std::vector<Lease> Server::leases(std::uint64_t now_ms) const {
    std::vector<Lease> all;
    for (const auto& [name, served] : networks_) {
        std::vector<const Record*> records;
        for (const auto& [mac, record] : served.guests)
            records.push_back(&record);
        std::ranges::sort(records, {}, &Record::position);
        for (const auto* record : records) {
            bool over = record->expires_ms && *record->expires_ms <= now_ms;
            all.push_back(
                {name, record->guest.vm, record->guest.mac, record->guest.ipv4.value_or(Ipv4{}),
                 over ? LeaseState::expired : record->state, record->since_ms, record->last_seen_ms,
                 record->expires_ms, record->client_host_name, record->received, record->dropped});
        }
    }
    return all;
}

} // namespace vmhost::dhcp
