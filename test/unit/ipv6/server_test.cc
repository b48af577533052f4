// What is answered, read field by field, and what is not, with the reason.
#include "guest.h"

using namespace vmhost;
using namespace vmhost::test;

namespace {

struct Desk {
    Server server;
    std::uint64_t now_ms = 1'000'000;

    explicit Desk(Network network = lan()) {
        auto done = server.configure({std::move(network)});
        if (!done)
            FAIL(done.error().message());
    }
    Answer say(MessageBuilder builder, const Mac& from = guest_mac) {
        auto payload = builder.take();
        return say(dhcp_packet(payload, from));
    }
    Answer say(const Packet& packet) {
        now_ms += 1000;
        return server.handle("lan", packet, now_ms);
    }
};

// The DHCPv6 message of an answer, whose frame is as a guest wants it.
std::vector<std::uint8_t> message_of(const Answer& answer) {
    auto packet = parse_frame(answer.frame, Checksum::verify);
    REQUIRE(packet);
    CHECK(packet->ethernet_destination == guest_mac);
    CHECK(packet->ethernet_source == bridge_mac);
    CHECK(packet->source == Ipv6::link_local(bridge_mac));
    CHECK(packet->destination == Ipv6::link_local(guest_mac));
    CHECK(packet->source_port == 547);
    CHECK(packet->destination_port == 546);
    return {packet->payload.begin(), packet->payload.end()};
}

unsigned status_of(Bytes options) {
    auto status = option_of(options, 13);
    return status ? load_be<std::uint16_t>(*status) : 0;
}

Packet solicitation(Bytes message, std::uint8_t hop_limit = 255) {
    return {.ethernet_source = guest_mac,
            .ethernet_destination = mac("33:33:00:00:00:02"),
            .source = Ipv6::link_local(guest_mac),
            .destination = all_routers,
            .protocol = protocol_icmp,
            .hop_limit = hop_limit,
            .payload = message};
}
const std::vector<std::uint8_t> plain_solicitation{133, 0, 0, 0, 0, 0, 0, 0};

} // namespace

TEST_CASE("dhcp6: solicit, advertise, request, reply: the guest has its address") {
    Desk desk;
    auto offer = desk.say(MessageBuilder(MessageType::solicit).client().want(3, 0x11223344));
    CHECK(offer.event.kind == EventKind::offered);
    CHECK(offer.event.vm == "a");
    CHECK(offer.event.address == guest_address);
    auto message = message_of(offer);
    CHECK(load_be<std::uint32_t>(message) == 0x02123456);
    Bytes options = Bytes(message).subspan(4);
    CHECK(std::ranges::equal(option_of(options, 1).value(), as_bytes("some-uuid")));
    CHECK(std::ranges::equal(option_of(options, 2).value(), duid_of(bridge_mac)));
    CHECK(option_of(options, 7).value()[0] == 255);
    auto association = option_of(options, 3).value();
    CHECK(load_be<std::uint32_t>(association) == 0x11223344);
    CHECK(load_be<std::uint32_t>(association.subspan(4)) == 500); // T1
    CHECK(load_be<std::uint32_t>(association.subspan(8)) == 800); // T2
    auto address = option_of(association.subspan(12), 5).value();
    CHECK(Ipv6::from(address) == guest_address);
    CHECK(load_be<std::uint32_t>(address.subspan(16)) == 1000);
    CHECK(load_be<std::uint32_t>(address.subspan(20)) == 1000);
    CHECK(Ipv6::from(option_of(options, 23).value()) == ip6("2001:db8::53"));
    CHECK(option_of(options, 24).value().size() == 13);

    auto reply = desk.say(
        MessageBuilder(MessageType::request).client().server().want(3, 1, {guest_address}));
    CHECK(reply.event.kind == EventKind::acknowledged);
    CHECK(message_of(reply)[0] == 7);
    CHECK(text(reply.event).starts_with("lan: a (fe:e1:bb:d1:00:01): acknowledged 2001:db8::d"));
}

TEST_CASE("dhcp6: rapid commit takes two messages") {
    Desk desk;
    auto reply = desk.say(MessageBuilder(MessageType::solicit).client().option(14, {}).want(3, 1));
    CHECK(reply.event.kind == EventKind::acknowledged);
    auto message = message_of(reply);
    CHECK(message[0] == 7);
    CHECK(option_of(Bytes(message).subspan(4), 14));
}

TEST_CASE("dhcp6: an address that is not the guest's gets no lifetime") {
    Desk desk;
    for (auto type : {MessageType::renew, MessageType::rebind}) {
        MessageBuilder builder(type);
        builder.client();
        if (type == MessageType::renew)
            builder.server();
        auto message = message_of(desk.say(builder.want(3, 1, {ip6("2001:db8::99")})));
        auto association = option_of(Bytes(message).subspan(4), 3).value();
        auto addresses = options_of(association.subspan(12));
        REQUIRE(addresses.size() == 2);
        CHECK(Ipv6::from(addresses[0].second) == guest_address);
        CHECK(load_be<std::uint32_t>(addresses[0].second.subspan(20)) == 1000);
        CHECK(Ipv6::from(addresses[1].second) == ip6("2001:db8::99"));
        CHECK(load_be<std::uint32_t>(addresses[1].second.subspan(16)) == 0);
        CHECK(load_be<std::uint32_t>(addresses[1].second.subspan(20)) == 0);
    }
}

TEST_CASE("dhcp6: one address, and no prefix: the other associations hear so") {
    Desk desk;
    auto message = message_of(desk.say(MessageBuilder(MessageType::solicit)
                                           .client()
                                           .want(25, 1)
                                           .want(3, 2)
                                           .want(3, 3)
                                           .want(4, 4)));
    auto options = options_of(Bytes(message).subspan(4));
    std::vector<std::pair<unsigned, unsigned>> said; // kind and status
    for (const auto& [code, body] : options)
        if (code == 3 || code == 4 || code == 25)
            said.emplace_back(code, status_of(body.subspan(code == 4 ? 4 : 12)));
    CHECK(said == std::vector<std::pair<unsigned, unsigned>>{{25, 6}, {3, 0}, {3, 2}, {4, 2}});
    CHECK(desk.say(MessageBuilder(MessageType::solicit).client().want(25, 1)).event.kind ==
          EventKind::refused);
}

TEST_CASE("dhcp6: confirm tells whether the address is still good") {
    Desk desk;
    auto ask = [&](std::vector<Ipv6> addresses) {
        auto message = message_of(
            desk.say(MessageBuilder(MessageType::confirm).client().want(3, 1, addresses)));
        return status_of(Bytes(message).subspan(4));
    };
    CHECK(ask({guest_address}) == 0);
    CHECK(ask({ip6("2001:db8:5::5")}) == 4);
    CHECK(ask({guest_address, ip6("2001:db8::99")}) == 4);
    for (auto message : {MessageBuilder(MessageType::confirm).client().want(3, 1, {}),
                         MessageBuilder(MessageType::confirm).client()}) {
        auto silent = desk.say(message); // RFC 8415 §18.3.3
        CHECK(silent.frame.empty());
        CHECK(silent.event.drop == Drop::malformed);
    }
}

TEST_CASE("dhcp6: release, decline and information requests are answered") {
    Desk desk;
    auto released = desk.say(
        MessageBuilder(MessageType::release).client().server().want(3, 1, {guest_address}));
    CHECK(released.event.kind == EventKind::released);
    CHECK(status_of(Bytes(message_of(released)).subspan(4)) == 0);
    auto wrong = message_of(desk.say(
        MessageBuilder(MessageType::release).client().server().want(3, 1, {ip6("fd00::1")})));
    CHECK(status_of(option_of(Bytes(wrong).subspan(4), 3).value().subspan(12)) == 3);
    auto declined = desk.say(
        MessageBuilder(MessageType::decline).client().server().want(3, 1, {guest_address}));
    CHECK(declined.event.kind == EventKind::declined);
    CHECK_FALSE(declined.event.warning.empty());
    auto informed = desk.say(MessageBuilder(MessageType::information_request));
    CHECK(informed.event.kind == EventKind::informed);
    auto message = message_of(informed);
    CHECK(option_of(Bytes(message).subspan(4), 23));
    CHECK_FALSE(option_of(Bytes(message).subspan(4), 1));
}

TEST_CASE("dhcp6: a message to this host alone is told to go to everybody") {
    Desk desk;
    auto payload = MessageBuilder(MessageType::renew).client().server().want(3, 1).take();
    auto packet = dhcp_packet(payload);
    packet.destination = Ipv6::link_local(bridge_mac);
    auto message = message_of(desk.say(packet));
    CHECK(status_of(Bytes(message).subspan(4)) == 5);
    CHECK_FALSE(option_of(Bytes(message).subspan(4), 3));
    payload = MessageBuilder(MessageType::solicit).client().want(3, 1).take();
    packet.payload = payload;
    CHECK(desk.say(packet).event.drop == Drop::other_server);
}

TEST_CASE("dhcp6: what gets no answer is counted with its reason") {
    Desk desk;
    using Builder = MessageBuilder;
    auto dropped = [&](Builder builder, const Mac& from = guest_mac) {
        auto answer = desk.say(builder, from);
        CHECK(answer.frame.empty());
        return answer.event.drop;
    };
    CHECK(dropped(Builder(MessageType::solicit).client(), mac("02:00:00:00:00:09")) ==
          Drop::unknown_guest);
    CHECK(dropped(Builder(MessageType::solicit).client().want(3, 1), mac("fe:e1:bb:d1:00:02")) ==
          Drop::no_address);
    for (auto type : {MessageType::advertise, MessageType::reply, MessageType::reconfigure,
                      MessageType::relay_forward, MessageType::relay_reply})
        CHECK(dropped(Builder(type).client()) == Drop::server_message);
    CHECK(dropped(Builder(static_cast<MessageType>(99))) == Drop::unexpected_type);
    CHECK(dropped(Builder(static_cast<MessageType>(0))) == Drop::unexpected_type);
    CHECK(dropped(Builder(MessageType::solicit)) == Drop::malformed);
    CHECK(dropped(Builder(MessageType::solicit).client().server()) == Drop::malformed);
    CHECK(dropped(Builder(MessageType::request).client()) == Drop::malformed);
    CHECK(dropped(Builder(MessageType::information_request).want(3, 1)) == Drop::malformed);
    CHECK(dropped(Builder(MessageType::request).client().server(mac("02:00:00:00:00:09"))) ==
          Drop::other_server);
    auto payload = Builder(MessageType::solicit).client().take();
    auto packet = dhcp_packet(payload);
    packet.source_port = 547;
    CHECK(desk.say(packet).event.drop == Drop::server_message);
    packet = dhcp_packet(payload);
    packet.source = {};
    CHECK(desk.say(packet).event.drop == Drop::malformed);
    CHECK(desk.server.handle("elsewhere", packet, 0).event.drop == Drop::unknown_network);
    CHECK(desk.server.drop_frame("lan", guest_mac, "odd", 0).vm == "a");
    CHECK(desk.server.dropped(Drop::server_message) == 6);
    CHECK(desk.server.dropped(Drop::bad_frame) == 1);

    auto off = lan();
    off.dhcp = false;
    CHECK(Desk(off).say(Builder(MessageType::solicit).client()).event.drop == Drop::not_served);
}

TEST_CASE("ipv6: a guest that never stops asking is held to its rate") {
    Desk desk;
    auto payload = MessageBuilder(MessageType::solicit).client().want(3, 1).take();
    unsigned answered = 0, logged = 0;
    for (unsigned i = 0; i < 1000; ++i) {
        auto answer = desk.server.handle("lan", dhcp_packet(payload), 1'000'000);
        answered += !answer.frame.empty();
        logged += answer.event.log;
    }
    CHECK(answered == limits::dhcp_message_burst);
    CHECK(logged == limits::dhcp_log_burst);
    CHECK_FALSE(desk.server.handle("lan", dhcp_packet(payload), 1'000'200).frame.empty());
}

TEST_CASE("nd: a guest that asks for a router is told, once, in a frame of its own") {
    Desk desk;
    CHECK(desk.say(solicitation(plain_solicitation)).event.kind == EventKind::solicited);
    CHECK(desk.say(solicitation(plain_solicitation)).event.kind == EventKind::solicited);
    CHECK(desk.server.anybody_asked("lan"));
    auto frames = desk.server.solicited("lan");
    REQUIRE(frames.size() == 1);
    CHECK_FALSE(desk.server.anybody_asked("lan"));
    CHECK(desk.server.solicited("lan").empty());
    auto packet = parse_frame(frames[0], Checksum::verify);
    REQUIRE(packet);
    CHECK(packet->ethernet_destination == guest_mac);
    CHECK(packet->destination == all_nodes);
    CHECK(packet->source == Ipv6::link_local(bridge_mac));
    CHECK(packet->hop_limit == 255);
    CHECK(packet->payload[0] == 134);
    CHECK(packet->payload[5] == 0xc0);
    CHECK(load_be<std::uint16_t>(packet->payload.subspan(6)) == 1800);
    // To each guest, also one without an address.
    CHECK(desk.server.advertisements("lan").size() == 2);
    auto last = desk.server.advertisements("lan", true);
    auto farewell = parse_frame(last[0], Checksum::verify);
    REQUIRE(farewell);
    CHECK(load_be<std::uint16_t>(farewell->payload.subspan(6)) == 0);
}

TEST_CASE("nd: solicitations that are none are dropped") {
    Desk desk;
    CHECK(desk.say(solicitation(plain_solicitation, 254)).event.drop == Drop::hop_limit);
    std::vector<std::uint8_t> other{134, 0, 0, 0, 0, 0, 0, 0};
    CHECK(desk.say(solicitation(other)).event.drop == Drop::unexpected_type);
    std::vector<std::uint8_t> odd{133, 0, 0, 0, 0, 0, 0, 0, 1, 0};
    CHECK(desk.say(solicitation(odd)).event.drop == Drop::malformed);
    std::vector<std::uint8_t> spoofed{133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 9};
    CHECK(desk.say(solicitation(spoofed)).event.drop == Drop::spoofed);
    CHECK_FALSE(desk.server.anybody_asked("lan"));
    auto off = lan();
    off.advertise = false;
    Desk silent(off);
    CHECK(silent.say(solicitation(plain_solicitation)).event.drop == Drop::not_served);
    CHECK(silent.server.advertisements("lan").empty());
    auto no_router = lan();
    no_router.router = false;
    auto frames = Desk(no_router).server.advertisements("lan");
    CHECK(load_be<std::uint16_t>(Bytes(frames[0]).subspan(14 + 40 + 6)) == 0);
}

TEST_CASE("ipv6: a configuration that cannot be is refused whole") {
    Desk desk;
    auto refused = [&](auto change) {
        auto network = lan();
        change(network);
        auto done = desk.server.configure({network});
        return done ? std::string() : done.error().message();
    };
    CHECK_THAT(refused([](auto& n) { n.own.length = 127; }), Catch::Contains("no address"));
    CHECK_THAT(refused([](auto& n) { n.interval_s = 0; }), Catch::Contains("interval"));
    CHECK_THAT(refused([](auto& n) { n.lease_s = 0; }), Catch::Contains("lease time"));
    CHECK_THAT(refused([](auto& n) { n.guests[0].ipv6 = ip6("fd00::1"); }),
               Catch::Contains("guest a: fd00::1 is not in 2001:db8::1/64"));
    CHECK_THAT(refused([](auto& n) { n.guests[1].mac = n.guests[0].mac; }),
               Catch::Contains("two guests"));
    CHECK_THAT(refused([](auto& n) { n.domain_name_servers.resize(16); }),
               Catch::Contains("too many name servers"));
    CHECK(desk.server.find("lan") != nullptr); // as it was
}

TEST_CASE("dhcp6: the largest answer fits into IPv6's smallest packet") {
    auto network = lan();
    network.domain_name_servers.assign(limits::max_ra_addresses, ip6("2001:db8::53"));
    std::string label(62, 'x');
    network.domain_name = label + "." + label + "." + label + "." + label;
    Desk desk(network);
    MessageBuilder builder(MessageType::solicit);
    builder.option(1, std::vector<std::uint8_t>(130, 1));
    for (unsigned i = 0; i < 20; ++i)
        builder.want(3, i, std::vector<Ipv6>(20, ip6("2001:db8::99")));
    auto frame = desk.say(builder).frame;
    CHECK(!frame.empty());
    CHECK(frame.size() <= 14 + 1280);
    CHECK(desk.server.advertisements("lan")[0].size() <= 14 + 1280);
}
