// The rules, in the order in which a message meets them: network, who it is from, rate, form,
// identity, then RFC 2131 §4.3 by type and client state.
#include <algorithm>
#include <utility>

#include "dhcp/reply.h"
#include "dhcp/turn.h"

namespace vmhost::dhcp {

namespace {

constexpr Ipv4 everybody{0xffffffff};

std::uint64_t end_of(std::uint32_t lease_s, std::uint64_t now_ms) {
    return lease_s == 0xffffffff ? never_ms : now_ms + std::uint64_t{lease_s} * 1000;
}

} // namespace

// ---- who it is from ---------------------------------------------------------

Answer Server::handle(const Incoming& incoming) {
    Turn turn{.incoming = incoming, .client = incoming.ethernet_source};
    turn.event.network = incoming.network;
    turn.event.mac = incoming.ethernet_source;
    auto served = networks_.find(incoming.network);
    if (served == networks_.end())
        return drop(turn, Drop::unknown_network);
    turn.served = &served->second;
    turn.subnet = &turn.served->subnets.front();
    auto found = turn.served->guests.find(key_of(incoming.ethernet_source));
    if (found != turn.served->guests.end())
        return from_guest(turn, found->second);
    const auto& subnets = turn.served->subnets;
    if (subnets.size() == 1 && !subnets.front().relayed && subnets.front().pool.empty())
        return from_stranger(turn);
    return from_client(turn);
}

Answer Server::from_guest(Turn& turn, Record& record) {
    turn.record = &record;
    turn.event.vm = turn.guest().vm;
    ++record.held.received;
    if (!record.held.messages.take(turn.incoming.now_ms))
        return drop(turn, Drop::rate_limited);
    record.held.seen_s = turn.incoming.time_s;
    if (turn.incoming.source_port == bootps_port)
        return drop(turn, Drop::server_port);
    auto message = parse(turn.incoming.payload);
    if (!message)
        return drop(turn, Drop::malformed, std::string(message.error()));
    turn.message = *std::move(message);
    turn.event.xid = turn.header().xid;
    return check_form(turn);
}

Answer Server::from_stranger(Turn& turn) {
    for (const auto& [name, other] : networks_)
        if (auto there = other.guests.find(key_of(turn.client)); there != other.guests.end())
            return drop(turn, Drop::other_network,
                        fmt::format("it is {} on {}", there->second.guest.vm, name));
    return drop(turn, Drop::unknown_guest);
}

// No guest, but somebody who may have an address of a range: on the wire, or behind a relay agent.
Answer Server::from_client(Turn& turn) {
    turn.event.client = "client";
    auto message = parse(turn.incoming.payload);
    if (!message)
        return drop(turn, Drop::malformed, std::string(message.error()));
    turn.message = *std::move(message);
    turn.event.xid = turn.header().xid;
    const auto& header = turn.header();
    if (!header.giaddr.is_zero()) {
        auto& subnets = turn.served->subnets;
        auto subnet = std::ranges::find_if(subnets, [&](const Subnet& one) {
            return one.relayed && one.prefix.contains(header.giaddr);
        });
        if (subnet == subnets.end() || header.hops > limits::max_dhcp_hops)
            return drop(turn, Drop::relayed,
                        fmt::format("giaddr {}, hops {}", header.giaddr.text(), header.hops));
        turn.subnet = &*subnet;
        turn.relayed = true;
        turn.client = header.hardware_address();
        turn.event.mac = turn.client;
        if (auto guest = turn.served->guests.find(key_of(turn.client));
            guest != turn.served->guests.end())
            return drop(turn, Drop::spoofed,
                        fmt::format("through a relay it says it is {}", guest->second.guest.vm));
    } else if (turn.incoming.source_port == bootps_port) {
        return drop(turn, Drop::server_port);
    } else if (turn.subnet->pool.empty()) {
        return from_stranger(turn);
    }
    if (turn.client.is_zero() || turn.client.is_multicast())
        return drop(turn, Drop::hardware_type, "no address of a station");
    turn.binding = turn.subnet->pool.of(turn.client);
    if (turn.binding != nullptr) {
        auto& held = turn.binding->held;
        ++held.received;
        if (!held.messages.take(turn.incoming.now_ms))
            return drop(turn, Drop::rate_limited);
        held.seen_s = turn.incoming.time_s;
    }
    return check_form(turn);
}

// ---- form -------------------------------------------------------------------

Answer Server::check_form(Turn& turn) {
    const auto& header = turn.header();
    if (header.op != boot_request)
        return drop(turn, Drop::server_message, fmt::format("op {}", header.op));
    if (header.htype != 1 || header.hlen != 6)
        return drop(turn, Drop::hardware_type,
                    fmt::format("type {}, {} bytes", header.htype, header.hlen));
    if (header.hardware_address() != turn.client)
        return drop(turn, Drop::spoofed, "it says it is " + header.hardware_address().text());
    if (!turn.relayed && (!header.giaddr.is_zero() || header.hops != 0))
        return drop(turn, Drop::relayed,
                    fmt::format("giaddr {}, hops {}", header.giaddr.text(), header.hops));
    for (auto code : {option::requested_address, option::server_identifier})
        if (turn.message.has_other_length(code, 4))
            return drop(turn, Drop::malformed, fmt::format("option {} is not 4 bytes long", code));
    if (turn.message.has_other_length(option::message_type, 1))
        return drop(turn, Drop::malformed, "option 53 is not one byte long");
    if (turn.record && !turn.guest().ipv4)
        return drop(turn, Drop::no_address, "its interface has no ipv4 in the configuration");
    auto to = turn.incoming.destination;
    const auto& own = turn.network().server;
    if (!to.is_zero() && to != everybody && to != own.address && to != own.broadcast())
        return drop(turn, Drop::other_server, "sent to " + to.text());
    if (turn.held())
        remember_client(turn);
    return decide(turn);
}

Answer Server::decide(Turn& turn) {
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

// A client identifier decides nothing here; a guest's that belongs to another guest is
// a cloned image or an attempt, and worth a word.
void Server::remember_client(Turn& turn) {
    auto& held = *turn.held();
    if (auto name = turn.message.find(option::host_name)) {
        auto text = as_text(*name);
        text = text.substr(0, text.find('\0'));
        if (legal_host_name(text))
            held.host_name = text;
    }
    auto sent = turn.message.find(option::client_identifier);
    if (!sent || sent->empty() || sent->size() > 255)
        return;
    auto& guests = turn.served->guests;
    auto warn = [&](const Guest& other) {
        turn.event.warning = "its client identifier is that of " + other.vm;
    };
    if (sent->size() == 7 && (*sent)[0] == 1) {
        auto other = guests.find(key_of(Mac::from(sent->subspan(1))));
        if (other != guests.end() && &other->second != turn.record)
            warn(other->second.guest);
    } else if (turn.record && held.client_id != as_text(*sent)) {
        // Only when it changes: the search is as long as the list of guests.
        for (const auto& [mac, other] : guests)
            if (&other != turn.record && other.held.client_id == as_text(*sent))
                warn(other.guest);
    }
    held.client_id = as_text(*sent);
}

// ---- by type ----------------------------------------------------------------

Answer Server::discover(Turn& turn) {
    const auto now_ms = turn.incoming.now_ms;
    if (!turn.record && !turn.binding) {
        turn.binding = turn.subnet->pool.choose(
            turn.client, turn.message.address(option::requested_address), now_ms);
        if (!turn.binding)
            return drop(turn, Drop::no_free_address,
                        fmt::format("all of {} are taken", turn.subnet->prefix.text()));
        ++turn.binding->held.received;
        turn.binding->held.seen_s = turn.incoming.time_s;
        remember_client(turn);
    }
    turn.event.address = turn.address();
    const bool its_own = turn.is_bound() && turn.held()->until_ms > now_ms;
    if (turn.binding && !its_own && turn.network().ping_check &&
        (turn.binding->checked_ms == 0 ||
         turn.binding->checked_ms + limits::dhcp_checked_ms < now_ms)) {
        turn.check = turn.binding->address;
        turn.binding->checked_ms = now_ms;
    }
    // A bound client that asks again has lost its lease or boots: what counts is the next ACK.
    if (turn.record ? !turn.is_bound() : !its_own)
        set_state(turn, LeaseState::offered,
                  turn.record ? never_ms : now_ms + limits::dhcp_offer_ms);
    return reply(turn, EventKind::offered,
                 {.type = MessageType::offer,
                  .yiaddr = turn.address(),
                  .lease_time_s = lease_time_s(turn.network(), turn.message)},
                 turn.address());
}

// RFC 2131 §4.3.2. SELECTING has 54, INIT-REBOOT 50 alone, RENEWING and REBINDING ciaddr.
Answer Server::request(Turn& turn) {
    auto server = turn.message.address(option::server_identifier);
    if (server && *server != turn.network().server.address) {
        if (turn.held() && turn.held()->state == LeaseState::offered) {
            if (turn.binding)
                turn.subnet->pool.remove(turn.binding->address);
            else
                set_state(turn, LeaseState::none, never_ms);
            turn.binding = nullptr;
        }
        return drop(turn, Drop::other_server, "it chose " + server->text());
    }
    auto ciaddr = turn.header().ciaddr;
    auto wanted =
        ciaddr.is_zero() ? turn.message.address(option::requested_address) : std::optional(ciaddr);
    if (turn.record)
        return wanted.value_or(turn.address()) == turn.address()
                   ? bind(turn)
                   : refuse(turn, *wanted, "its address is " + turn.address().text());
    if (!wanted)
        return drop(turn, Drop::malformed, "a REQUEST of no address");
    if (!turn.binding || turn.binding->address != *wanted) {
        // An offer of ours would be in its binding: this one was made up, or made by somebody who
        // was here before us.
        auto* taken =
            server ? nullptr : turn.subnet->pool.take(turn.client, *wanted, turn.incoming.now_ms);
        if (!taken)
            return refuse(turn, *wanted,
                          turn.binding ? "its address is " + turn.binding->address.text()
                                       : std::string("not free, or in no range"));
        turn.binding = taken;
        taken->held.seen_s = turn.incoming.time_s;
        remember_client(turn);
    }
    return bind(turn);
}

Answer Server::bind(Turn& turn) {
    turn.event.address = turn.address();
    auto lease_s = lease_time_s(turn.network(), turn.message);
    set_state(turn, LeaseState::bound, end_of(lease_s, turn.incoming.now_ms));
    if (turn.binding)
        turn.binding->checked_ms = turn.incoming.now_ms;
    turn.row = row_of(turn);
    return reply(turn, EventKind::acknowledged,
                 {.type = MessageType::ack, .yiaddr = turn.address(), .lease_time_s = lease_s},
                 turn.address());
}

Answer Server::refuse(Turn& turn, Ipv4 wanted, std::string detail) {
    turn.event.address = wanted;
    if (turn.record && turn.is_bound())
        set_state(turn, LeaseState::none, never_ms);
    turn.event.detail = std::move(detail);
    return reply(turn, EventKind::refused,
                 {.type = MessageType::nak, .message = "not your address on this network"},
                 everybody);
}

Answer Server::inform(Turn& turn) {
    auto address = turn.header().ciaddr.is_zero() ? turn.incoming.source : turn.header().ciaddr;
    turn.event.address = address;
    if (!turn.subnet->prefix.contains(address) || address == turn.network().server.address)
        return drop(turn, Drop::off_link, "from " + address.text());
    return reply(turn, EventKind::informed, {.type = MessageType::ack}, address);
}

// It has no end, so that only guests may have one.
Answer Server::bootp(Turn& turn) {
    if (!turn.record)
        return drop(turn, Drop::no_address, "BOOTP is for guests with an address of their own");
    turn.event.address = turn.address();
    set_state(turn, LeaseState::bound, never_ms);
    turn.row = row_of(turn);
    return reply(turn, EventKind::booted, {.type = MessageType::bootp, .yiaddr = turn.address()},
                 turn.address());
}

Answer Server::release(Turn& turn) {
    auto server = turn.message.address(option::server_identifier);
    if (server && *server != turn.network().server.address)
        return drop(turn, Drop::other_server, "released to " + server->text());
    turn.event.address = turn.header().ciaddr;
    if (!turn.held() || turn.header().ciaddr != turn.address())
        return drop(turn, Drop::wrong_address, "RELEASE of " + turn.header().ciaddr.text());
    // Free for others at once, but kept in mind for the client.
    set_state(turn, LeaseState::released, turn.record ? never_ms : turn.incoming.now_ms);
    turn.row = row_of(turn);
    return note(turn, EventKind::released);
}

// A guest's address stays the guest's: there is no other. The operator has to find the thief.
Answer Server::decline(Turn& turn) {
    auto server = turn.message.address(option::server_identifier);
    if (!server || *server != turn.network().server.address)
        return drop(turn, Drop::other_server, "DECLINE for another server, or for none");
    auto declined = turn.message.address(option::requested_address).value_or(Ipv4{});
    turn.event.address = declined;
    if (!turn.held() || declined != turn.address())
        return drop(turn, Drop::wrong_address, "DECLINE of " + declined.text());
    if (turn.binding && !turn.served->declines.take(turn.incoming.now_ms))
        return drop(turn, Drop::declines, "DECLINE of " + declined.text());
    turn.event.warning = "another station on the wire uses this address";
    if (turn.record) {
        set_state(turn, LeaseState::declined, never_ms);
        turn.row = row_of(turn);
    } else {
        turn.binding =
            turn.subnet->pool.abandon(declined, turn.incoming.now_ms + limits::dhcp_quarantine_ms);
        turn.binding->held.since_s = turn.incoming.time_s;
        turn.row = row_of(turn);
        turn.binding = nullptr;
    }
    return note(turn, EventKind::declined);
}

// ---- what comes of it ---------------------------------------------------------

void Server::set_state(Turn& turn, LeaseState state, std::uint64_t until_ms) {
    auto& held = *turn.held();
    if (held.state != state || state != LeaseState::bound)
        held.since_s = turn.incoming.time_s;
    if (turn.binding) {
        turn.subnet->pool.set(*turn.binding, state, until_ms);
    } else {
        held.state = state;
        held.until_ms = until_ms;
    }
}

store::LeaseRow Server::row_of(const Turn& turn) {
    const auto& held = *turn.held();
    store::LeaseRow row;
    row.network = turn.network().name;
    row.address = turn.address();
    row.mac = turn.record ? turn.guest().mac : turn.binding->mac;
    if (turn.record)
        row.vm = turn.guest().vm;
    row.client_id = held.client_id;
    row.host_name = held.host_name;
    row.state = held.state;
    row.since_s = held.since_s;
    row.seen_s = turn.incoming.time_s;
    row.until_s = store::lease_for_ever;
    if (held.until_ms != never_ms)
        row.until_s = turn.incoming.time_s +
                      static_cast<std::int64_t>((held.until_ms - turn.incoming.now_ms) / 1000);
    return row;
}

Answer Server::reply(Turn& turn, EventKind kind, const ReplyForm& form, Ipv4 destination) {
    const auto& header = turn.header();
    if (header.ciaddr.is_zero() && header.flags & broadcast_flag)
        destination = everybody;
    auto answer = note(turn, kind, std::move(turn.event.detail));
    auto full = form;
    full.guest = turn.record ? &turn.guest() : nullptr;
    full.prefix = turn.subnet->own ? turn.network().server : turn.subnet->prefix;
    full.foreign = !turn.subnet->own;
    auto built = build_reply(turn.network(), turn.message, full);
    if (!built.left_out.empty() && answer.event.detail.empty())
        answer.event.detail = fmt::format("there is no room for {} of the options, the first is {}",
                                          built.left_out.size(), built.left_out.front());
    answer.reply = Reply{std::move(built.payload), turn.network().server.address,
                         turn.relayed ? header.giaddr : destination,
                         turn.relayed ? bootps_port : bootpc_port, turn.incoming.ethernet_source};
    answer.check = turn.check;
    return answer;
}

Answer Server::note(Turn& turn, EventKind kind, std::string detail) {
    turn.event.kind = kind;
    turn.event.detail = std::move(detail);
    auto& budget = turn.record                   ? turn.record->log
                   : turn.binding && turn.served ? turn.served->clients_log
                   : turn.served                 ? turn.served->log
                                                 : nowhere_;
    spend_log_line(budget, turn.event, turn.incoming.now_ms);
    return {std::nullopt, std::move(turn.event), std::move(turn.row), std::nullopt};
}

Answer Server::drop(Turn& turn, Drop reason, std::string detail) {
    turn.event.drop = reason;
    ++drops_[static_cast<std::size_t>(reason)];
    if (turn.held())
        ++turn.held()->dropped;
    return note(turn, EventKind::dropped, std::move(detail));
}

Event Server::drop_frame(std::string_view network, const Mac& source, std::string_view why,
                         std::uint64_t now_ms) {
    Incoming incoming{.network = network, .ethernet_source = source, .now_ms = now_ms};
    Turn turn{.incoming = incoming, .client = source};
    turn.event.network = network;
    turn.event.mac = source;
    if (auto served = networks_.find(network); served != networks_.end()) {
        turn.served = &served->second;
        auto found = turn.served->guests.find(key_of(source));
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

} // namespace vmhost::dhcp
