// The rules, in the order in which a message meets them: network, guest, rate, form, and then
// RFC 4861 §6.2.6 for solicitations or RFC 8415 §16 and §18.3 by type.
#include "ipv6/server.h"

#include <algorithm>

#include "ipv6/dhcp6.h"
#include "ipv6/neighbour.h"

namespace vmhost::ipv6 {

namespace {

// RFC 8415 §7.1: All_DHCP_Relay_Agents_and_Servers.
constexpr Ipv6 all_servers{0xff02'0000'0000'0000, 0x1'0002};
constexpr std::uint8_t reply_hop_limit = 64;

std::uint64_t key(const Mac& mac) {
    std::uint64_t value = 0;
    for (auto octet : mac.octets)
        value = value << 8 | octet;
    return value;
}

Result<void> check_network(const Network& network) {
    auto wrong = [&](std::string what) {
        return fail(ErrorKind::invalid, "ipv6 on {}: {}", printable(network.name), what);
    };
    if (network.own.address.is_zero() || network.own.length == 0 || network.own.length > 126)
        return wrong("the network has no address of its own");
    if (network.domain_name_servers.size() > limits::max_ra_addresses)
        return wrong("too many name servers");
    if (network.interval_s < 4 || network.interval_s > 1800 || network.lifetime_s > 9000)
        return wrong("no such interval or lifetime is allowed");
    if (network.lease_s == 0)
        return wrong("the lease time is zero");
    return {};
}

} // namespace

// One message of DHCPv6, and what is decided about it.
struct DhcpTurn {
    Message message;
    EventKind kind = EventKind::acknowledged;
    MessageType reply = MessageType::reply;
    std::optional<Status> status;
    bool rapid_commit = false;
    std::vector<Given> given;
    std::string detail;
};

bool Server::Budget::take(std::uint64_t now_ms) {
    auto passed = now_ms > last_ms ? now_ms - last_ms : 0;
    last_ms = std::max(last_ms, now_ms);
    used_ms -= std::min(used_ms, passed);
    if (used_ms + refill_ms > burst * refill_ms)
        return false;
    used_ms += refill_ms;
    return true;
}

Result<void> Server::configure(std::vector<Network> networks) {
    std::map<std::string, Served, std::less<>> fresh;
    for (auto& network : networks) {
        TRY(check_network(network));
        Served served;
        for (auto& guest : network.guests) {
            auto wrong = [&](std::string_view what) {
                return fail(ErrorKind::invalid, "ipv6 on {}: guest {}: {}", printable(network.name),
                            printable(guest.vm), what);
            };
            if (guest.mac.is_zero() || guest.mac.is_multicast())
                return wrong("its Ethernet address is none of a station");
            if (guest.ipv6 && !network.own.contains(*guest.ipv6))
                return wrong(guest.ipv6->text() + " is not in " + network.own.text());
            Record record;
            record.guest = std::move(guest);
            auto mac = key(record.guest.mac);
            if (!served.guests.emplace(mac, std::move(record)).second)
                return fail(ErrorKind::invalid, "ipv6 on {}: two guests have one Ethernet address",
                            printable(network.name));
        }
        network.guests.clear();
        auto name = network.name;
        served.network = std::move(network);
        if (!fresh.try_emplace(name, std::move(served)).second)
            return fail(ErrorKind::invalid, "ipv6 on {}: the network is there twice", name);
    }
    networks_ = std::move(fresh);
    return {};
}

const Network* Server::find(std::string_view network) const {
    auto found = networks_.find(network);
    return found == networks_.end() ? nullptr : &found->second.network;
}

void Server::identify(Turn& turn, std::string_view network, const Mac& source) {
    turn.event.network = network;
    turn.event.mac = source;
    auto served = networks_.find(network);
    if (served == networks_.end())
        return;
    turn.served = &served->second;
    auto found = turn.served->guests.find(key(source));
    if (found == turn.served->guests.end())
        return;
    turn.record = &found->second;
    turn.event.vm = turn.record->guest.vm;
}

Answer Server::handle(std::string_view network, const Packet& packet, std::uint64_t now_ms) {
    Turn turn{packet, now_ms, {}};
    identify(turn, network, packet.ethernet_source);
    if (!turn.served)
        return drop(turn, Drop::unknown_network);
    if (!turn.record)
        return drop(turn, Drop::unknown_guest);
    if (!turn.record->messages.take(now_ms))
        return drop(turn, Drop::rate_limited);
    if (packet.protocol == protocol_icmp)
        return solicitation(turn);
    return dhcp(turn);
}

Answer Server::solicitation(Turn& turn) {
    const auto& packet = turn.packet;
    turn.event.address = packet.source;
    if (packet.hop_limit != 255)
        return drop(turn, Drop::hop_limit, fmt::format("{}", packet.hop_limit));
    if (packet.payload.empty() || packet.payload[0] != type_router_solicitation)
        return drop(turn, Drop::unexpected_type);
    auto message = parse_solicitation(packet.payload, packet.source);
    if (!message)
        return drop(turn, Drop::malformed, std::string(message.error()));
    if (message->link_layer && *message->link_layer != packet.ethernet_source)
        return drop(turn, Drop::spoofed, "it says it is " + message->link_layer->text());
    if (!turn.served->network.advertise)
        return drop(turn, Drop::not_served, "router advertisements are off");
    if (!std::exchange(turn.record->asked, true))
        ++turn.served->asked;
    return note(turn, EventKind::solicited);
}

namespace {

// RFC 8415 §16: what a message must and must not have. Empty: it is in order.
std::string_view form_of(const Message& message) {
    switch (message.type) {
    case MessageType::solicit:
    case MessageType::confirm:
    case MessageType::rebind:
        if (!message.client)
            return "no client identifier";
        return message.server ? "a server identifier where none belongs" : "";
    case MessageType::request:
    case MessageType::renew:
    case MessageType::release:
    case MessageType::decline:
        if (!message.client)
            return "no client identifier";
        return message.server ? "" : "no server identifier";
    case MessageType::information_request:
        return message.wanted.empty() ? "" : "wants addresses in an INFORMATION-REQUEST";
    default:
        return "";
    }
}

// The guest's address to the first association that can have it; the others get none.
void give(DhcpTurn& turn, const Ipv6& address) {
    bool given = false;
    for (const auto& wanted : turn.message.wanted) {
        if (wanted.kind == Association::prefixes) {
            turn.given.push_back({&wanted, {}, Status::no_prefix});
        } else if (wanted.kind == Association::temporary || given) {
            turn.given.push_back({&wanted, {}, Status::no_addresses});
        } else {
            turn.given.push_back({&wanted, address, Status::success});
            given = true;
        }
    }
    if (!given) {
        turn.kind = EventKind::refused;
        turn.detail = "it wants no address of the kind that there is";
    }
}

// False: it names no address, and gets no answer (RFC 8415 §18.3.3).
bool confirm(DhcpTurn& turn, const Ipv6& address) {
    bool good = true, any = false;
    for (const auto& wanted : turn.message.wanted)
        for (const auto& one : wanted.addresses) {
            any = true;
            good = good && one == address;
        }
    turn.status = good ? Status::success : Status::not_on_link;
    turn.kind = good ? EventKind::acknowledged : EventKind::refused;
    if (turn.kind == EventKind::refused)
        turn.detail = "its address is " + address.text();
    return any;
}

// RELEASE and DECLINE: the address stays the guest's, as there is no other.
void give_back(DhcpTurn& turn, const Ipv6& address) {
    turn.kind =
        turn.message.type == MessageType::release ? EventKind::released : EventKind::declined;
    turn.status = Status::success;
    for (const auto& wanted : turn.message.wanted)
        if (std::ranges::find(wanted.addresses, address) == wanted.addresses.end())
            turn.given.push_back({&wanted, {}, Status::no_binding});
}

} // namespace

Answer Server::dhcp(Turn& turn) {
    const auto& network = turn.served->network;
    const auto& guest = turn.record->guest;
    if (turn.packet.source_port == server_port)
        return drop(turn, Drop::server_message, "from port 547");
    auto parsed = parse_message(turn.packet.payload);
    if (!parsed)
        return drop(turn, Drop::malformed, std::string(parsed.error()));
    DhcpTurn dhcp{.message = *std::move(parsed)};
    const auto type = dhcp.message.type;
    switch (type) {
    case MessageType::advertise:
    case MessageType::reply:
    case MessageType::reconfigure:
    case MessageType::relay_forward:
    case MessageType::relay_reply:
        return drop(turn, Drop::server_message, std::string(name_of(type)));
    case MessageType::solicit:
    case MessageType::request:
    case MessageType::confirm:
    case MessageType::renew:
    case MessageType::rebind:
    case MessageType::release:
    case MessageType::decline:
    case MessageType::information_request:
        break;
    default:
        return drop(turn, Drop::unexpected_type, fmt::format("type {}", static_cast<int>(type)));
    }
    dhcp.detail = name_of(type);
    if (!network.dhcp)
        return drop(turn, Drop::not_served, "DHCPv6 is off");
    if (auto wrong = form_of(dhcp.message); !wrong.empty())
        return drop(turn, Drop::malformed, fmt::format("{}: {}", name_of(type), wrong));
    if (dhcp.message.server && !std::ranges::equal(*dhcp.message.server, duid_of(network.mac)))
        return drop(turn, Drop::other_server, dhcp.detail);
    if (turn.packet.destination != all_servers) {
        // RFC 8415 §18.4: only these may come to one address, and not without having been told so.
        if (!dhcp.message.server || turn.packet.destination.is_multicast() ||
            type == MessageType::information_request)
            return drop(turn, Drop::other_server, "sent to " + turn.packet.destination.text());
        dhcp.status = Status::use_multicast;
        dhcp.kind = EventKind::refused;
        return answer(turn, dhcp);
    }
    if (type == MessageType::information_request) {
        dhcp.kind = EventKind::informed;
        return answer(turn, dhcp);
    }
    if (!guest.ipv6)
        return drop(turn, Drop::no_address, "its interface has no ipv6 in the configuration");
    turn.event.address = *guest.ipv6;
    if (type == MessageType::confirm) {
        if (!confirm(dhcp, *guest.ipv6))
            return drop(turn, Drop::malformed, "CONFIRM: it names no address");
    } else if (type == MessageType::release || type == MessageType::decline) {
        give_back(dhcp, *guest.ipv6);
        if (type == MessageType::decline)
            turn.event.warning = "another station on the wire uses this address";
    } else {
        give(dhcp, *guest.ipv6);
        if (type == MessageType::solicit && dhcp.message.rapid_commit) {
            dhcp.rapid_commit = true;
        } else if (type == MessageType::solicit) {
            dhcp.reply = MessageType::advertise;
            if (dhcp.kind == EventKind::acknowledged)
                dhcp.kind = EventKind::offered;
        }
    }
    return answer(turn, dhcp);
}

Answer Server::answer(Turn& turn, const DhcpTurn& dhcp) {
    const auto& network = turn.served->network;
    auto server = duid_of(network.mac);
    ReplyForm form;
    form.type = dhcp.reply;
    form.transaction = dhcp.message.transaction;
    form.client = dhcp.message.client.value_or(Bytes{});
    form.server = server;
    form.status = dhcp.status;
    form.rapid_commit = dhcp.rapid_commit;
    form.given = dhcp.given;
    form.lease_s = network.lease_s;
    form.domain_name_servers = network.domain_name_servers;
    form.domain_name = network.domain_name;
    auto payload = build_reply(form);
    Packet reply;
    reply.ethernet_source = network.mac;
    reply.ethernet_destination = turn.packet.ethernet_source;
    reply.source = Ipv6::link_local(network.mac);
    reply.destination = turn.packet.source;
    reply.protocol = protocol_udp;
    reply.hop_limit = reply_hop_limit;
    reply.source_port = server_port;
    reply.destination_port = client_port;
    reply.payload = payload;
    if (turn.packet.source.is_zero())
        return drop(turn, Drop::malformed, "sent from no address");
    auto out = note(turn, dhcp.kind, dhcp.detail);
    out.frame = build_frame(reply);
    return out;
}

std::vector<std::uint8_t> Server::advertisement_for(const Network& network, const Guest& guest,
                                                    bool farewell) {
    Advertisement advertisement;
    advertisement.link_layer = network.mac;
    advertisement.mtu = network.mtu;
    advertisement.prefix = network.own;
    advertisement.autonomous = network.autonomous;
    advertisement.prefix_s = farewell ? 0 : network.lifetime_s;
    advertisement.managed = network.dhcp;
    advertisement.router_s = network.router && !farewell ? network.lifetime_s : 0;
    advertisement.information_s = farewell ? 0 : network.lifetime_s;
    advertisement.domain_name_servers = network.domain_name_servers;
    advertisement.domain_name = network.domain_name;
    auto message = build_advertisement(advertisement);
    Packet packet;
    packet.ethernet_source = network.mac;
    packet.ethernet_destination = guest.mac;
    packet.source = Ipv6::link_local(network.mac);
    packet.destination = all_nodes;
    packet.protocol = protocol_icmp;
    packet.payload = message;
    return build_frame(packet);
}

std::vector<std::vector<std::uint8_t>> Server::solicited(std::string_view network) {
    std::vector<std::vector<std::uint8_t>> frames;
    auto found = networks_.find(network);
    if (found == networks_.end())
        return frames;
    auto& served = found->second;
    for (auto& [mac, record] : served.guests)
        if (std::exchange(record.asked, false))
            frames.push_back(advertisement_for(served.network, record.guest, false));
    served.asked = 0;
    return frames;
}

bool Server::anybody_asked(std::string_view network) const {
    auto found = networks_.find(network);
    return found != networks_.end() && found->second.asked > 0;
}

std::vector<std::vector<std::uint8_t>> Server::advertisements(std::string_view network,
                                                              bool farewell) const {
    std::vector<std::vector<std::uint8_t>> frames;
    auto found = networks_.find(network);
    if (found == networks_.end() || !found->second.network.advertise)
        return frames;
    for (const auto& [mac, record] : found->second.guests)
        frames.push_back(advertisement_for(found->second.network, record.guest, farewell));
    return frames;
}

Answer Server::note(Turn& turn, EventKind kind, std::string detail) {
    turn.event.kind = kind;
    turn.event.detail = std::move(detail);
    auto& budget = turn.record ? turn.record->log : turn.served ? turn.served->log : nowhere_;
    turn.event.log = budget.lines.take(turn.now_ms);
    if (!turn.event.log)
        ++budget.suppressed;
    else
        turn.event.suppressed = std::exchange(budget.suppressed, 0);
    return {{}, std::move(turn.event)};
}

Answer Server::drop(Turn& turn, Drop reason, std::string detail) {
    turn.event.drop = reason;
    ++drops_[static_cast<std::size_t>(reason)];
    return note(turn, EventKind::dropped, std::move(detail));
}

Event Server::drop_frame(std::string_view network, const Mac& source, std::string_view why,
                         std::uint64_t now_ms) {
    Packet nothing;
    Turn turn{nothing, now_ms, {}};
    identify(turn, network, source);
    return drop(turn, Drop::bad_frame, std::string(why)).event;
}

} // namespace vmhost::ipv6
