// What is answered, and what is not: the behaviour that clients depend on.
#include <catch2/catch.hpp>

#include "client.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::dhcp;

namespace {

const Mac mac_a = mac("fe:e1:bb:d1:00:01"), mac_b = mac("fe:e1:bb:d1:00:02"),
          mac_c = mac("fe:e1:bb:d1:00:03"), stranger = mac("02:00:00:00:00:99");
const Ipv4 everybody = ip("255.255.255.255"), own = ip("10.0.0.1"), address_a = ip("10.0.0.11");

Network lan() {
    return {.name = "lan",
            .server = parse_ipv4_prefix("10.0.0.1/24").value(),
            .routers = {own},
            .domain_name_servers = {ip("9.9.9.9"), ip("1.1.1.1")},
            .domain_name = "example.org",
            .lease_time_s = 43200,
            .filename = "auto_install",
            .guests = {{.vm = "a", .mac = mac_a, .ipv4 = address_a, .host_name = "puffy"},
                       {.vm = "b", .mac = mac_b, .ipv4 = ip("10.0.0.12"), .host_name = "bad_name!"},
                       {.vm = "c", .mac = mac_c}}};
}

struct Rig {
    Server server;
    std::uint64_t now_ms = 1'000'000;

    explicit Rig(std::vector<Network> networks = {lan()}) {
        auto done = server.configure(std::move(networks));
        if (!done)
            throw std::runtime_error(done.error().text());
    }
    Answer send(const Client& client, Ipv4 destination = everybody, Ipv4 source = {}) {
        return send_from(client.mac, client, destination, source);
    }
    Answer send_from(Mac sender, const Client& client, Ipv4 destination = everybody,
                     Ipv4 source = {}) {
        auto bytes = client.bytes();
        now_ms += 1000;
        return server.handle({.network = "lan",
                              .ethernet_source = sender,
                              .source = source,
                              .destination = destination,
                              .payload = bytes,
                              .now_ms = now_ms,
                              .time_s = time_s()});
    }
    std::int64_t time_s() const { return 1'800'000'000 + static_cast<std::int64_t>(now_ms / 1000); }
    Lease lease(std::string_view vm) {
        for (auto& one : server.leases(now_ms))
            if (one.vm == vm)
                return one;
        throw std::runtime_error("no such guest");
    }
};

// Every reply, whatever it answers.
Message checked(const Answer& answer) {
    if (!answer.reply)
        throw std::runtime_error("no reply: " + text(answer.event));
    const auto& bytes = answer.reply->payload;
    CHECK(bytes.size() >= 300);
    auto message = parse(bytes).value();
    CHECK(message.header.op == 2);
    CHECK(message.header.htype == 1);
    CHECK(message.header.hlen == 6);
    CHECK(message.header.xid == 0x1234abcd);
    CHECK(message.header.giaddr.is_zero());
    CHECK_FALSE(message.find(52));
    CHECK(answer.reply->port == 68);
    CHECK(answer.reply->source == own);
    CHECK(answer.reply->ethernet_destination == answer.event.mac);
    return message;
}

// The option codes in the order of the wire; fails unless END follows the last one directly.
std::vector<int> codes(const Answer& answer) {
    std::vector<int> all;
    const auto& bytes = answer.reply->payload;
    for (std::size_t at = 240; at < bytes.size() && bytes[at] != 255; at += 2 + bytes[at + 1]) {
        REQUIRE(bytes[at] != 0);
        all.push_back(bytes[at]);
        REQUIRE(at + 1 < bytes.size());
    }
    return all;
}

MessageType type_of(const Message& message) {
    return static_cast<MessageType>(message.number<std::uint8_t>(53).value_or(0));
}

} // namespace

TEST_CASE("dhcpleased gets an OFFER and an ACK that it accepts") {
    Rig rig;
    auto answer = rig.send(dhcpleased(mac_a, MessageType::discover));
    auto offer = checked(answer);
    CHECK(type_of(offer) == MessageType::offer);
    CHECK(answer.event.kind == EventKind::offered);
    CHECK(answer.event.vm == "a");
    CHECK(answer.event.address == address_a);
    CHECK(answer.event.log);
    CHECK(text(answer.event) == "lan: a (fe:e1:bb:d1:00:01): offered 10.0.0.11 (xid 1234abcd)");
    CHECK(answer.reply->destination == address_a); // flags 0: to the guest alone
    CHECK(offer.header.yiaddr == address_a);
    CHECK(offer.header.flags == 0);
    CHECK(offer.number<std::uint32_t>(1) == 0xffffff00);
    CHECK(offer.number<std::uint32_t>(51) == 43200u);
    CHECK(offer.number<std::uint32_t>(58) == 21600u);
    CHECK(offer.number<std::uint32_t>(59) == 37800u);
    CHECK(offer.address(54) == own);
    CHECK(offer.address(3) == own);
    CHECK(offer.find(6)->size() == 8);
    CHECK(offer.address(28) == ip("10.0.0.255"));
    CHECK(as_text(*offer.find(12)) == "puffy");
    CHECK(as_text(*offer.find(15)) == "example.org");
    auto id = *offer.find(61);
    CHECK(std::vector<std::uint8_t>(id.begin(), id.end()) == client_id(mac_a));
    CHECK(codes(answer) == std::vector<int>{53, 54, 51, 58, 59, 61, 1, 3, 6, 12, 15, 28});
    CHECK(rig.lease("a").state == LeaseState::offered);

    answer =
        rig.send(dhcpleased(mac_a, MessageType::request).option(50, address_a).option(54, own));
    auto ack = checked(answer);
    CHECK(type_of(ack) == MessageType::ack);
    CHECK(ack.header.yiaddr == address_a);
    CHECK(ack.number<std::uint32_t>(51) == 43200u);
    CHECK(ack.number<std::uint32_t>(1) == 0xffffff00);
    CHECK(answer.event.kind == EventKind::acknowledged);
    auto lease = rig.lease("a");
    CHECK(lease.state == LeaseState::bound);
    CHECK(lease.since_s == rig.time_s());
    CHECK(lease.expires_ms == rig.now_ms + 43'200'000);
    CHECK(lease.messages == 2);
    rig.now_ms += 43'200'000;
    CHECK(rig.lease("a").state == LeaseState::expired);
    // No request list at all: the basic set.
    answer = rig.send(Client{.mac = mac_a}.type(MessageType::discover));
    CHECK(codes(answer) == std::vector<int>{53, 54, 51, 58, 59, 1, 3, 6, 12, 15, 28});
}

TEST_CASE("the installer finds its server and mode in the header") {
    Rig rig;
    auto answer = rig.send(dhcpleased(mac_a, MessageType::discover));
    auto offer = checked(answer);
    CHECK(offer.header.file == "auto_install");
    CHECK(offer.header.siaddr == own);
    CHECK(offer.header.sname == "10.0.0.1");
    CHECK_FALSE(offer.find(66));
    CHECK_FALSE(offer.find(67));
    // Byte for byte: the name, then zeros only.
    Bytes file = Bytes(answer.reply->payload).subspan(108, 128);
    CHECK(as_text(file.first(13)) == std::string_view("auto_install\0", 13));
    CHECK(std::all_of(file.begin() + 13, file.end(), [](auto byte) { return byte == 0; }));

    Client old{.mac = mac_a};
    old.type(MessageType::discover).option(55, {1, 28, 121, 3, 15, 119, 6, 12, 67, 66});
    answer = rig.send(old);
    offer = checked(answer);
    CHECK(as_text(*offer.find(66)) == "10.0.0.1");
    CHECK(as_text(*offer.find(67)) == "auto_install");
    CHECK(codes(answer) == std::vector<int>{53, 54, 51, 58, 59, 1, 28, 3, 15, 6, 12, 67, 66});

    auto network = lan();
    network.next_server = ip("10.0.0.7");
    network.guests[0].filename = "lab/auto_upgrade";
    REQUIRE(rig.server.configure({network}));
    offer = checked(rig.send(old));
    CHECK(offer.header.siaddr == ip("10.0.0.7"));
    CHECK(offer.header.sname == "10.0.0.7");
    CHECK(offer.header.file == "lab/auto_upgrade");
    CHECK(offer.address(54) == own);
}

TEST_CASE("SELECTING another server frees the offer and gets no answer") {
    Rig rig;
    rig.send(dhcpleased(mac_a, MessageType::discover));
    auto answer = rig.send(
        dhcpleased(mac_a, MessageType::request).option(50, address_a).option(54, ip("10.0.0.2")));
    CHECK_FALSE(answer.reply);
    CHECK(answer.event.drop == Drop::other_server);
    CHECK(rig.lease("a").state == LeaseState::none);
    CHECK(rig.server.dropped(Drop::other_server) == 1);
}

TEST_CASE("INIT-REBOOT: the own address is confirmed, any other refused by broadcast") {
    Rig rig;
    auto ack = checked(rig.send(dhcpleased(mac_a, MessageType::request).option(50, address_a)));
    CHECK(type_of(ack) == MessageType::ack);
    for (auto wrong : {ip("192.168.1.5"), ip("10.0.0.12"), ip("0.0.0.0")}) {
        auto answer = rig.send(dhcpleased(mac_a, MessageType::request).option(50, wrong));
        auto nak = checked(answer);
        CHECK(type_of(nak) == MessageType::nak);
        CHECK(nak.header.flags == broadcast_flag);
        CHECK(nak.header.yiaddr.is_zero());
        CHECK(nak.header.ciaddr.is_zero());
        CHECK(nak.header.siaddr == own);
        CHECK(nak.header.file.empty());
        CHECK(answer.reply->destination == everybody);
        CHECK(codes(answer) == std::vector<int>{53, 54, 56, 61});
        CHECK(answer.event.kind == EventKind::refused);
        CHECK(rig.lease("a").state == LeaseState::none);
    }
}

TEST_CASE("renewing and rebinding go to the guest's address") {
    Rig rig;
    auto renew = dhcpleased(mac_a, MessageType::request);
    renew.ciaddr = address_a;
    renew.flags = broadcast_flag; // ciaddr comes first (RFC 2131 §4.1)
    for (auto destination : {own, everybody}) {
        auto answer = rig.send(renew, destination, address_a);
        auto ack = checked(answer);
        CHECK(type_of(ack) == MessageType::ack);
        CHECK(ack.header.ciaddr == address_a);
        CHECK(answer.reply->destination == address_a);
    }
    CHECK(rig.send(renew, ip("10.0.0.99"), address_a).event.drop == Drop::other_server);
}

TEST_CASE("a changed address: RENEW is refused, the next round gives the new one") {
    Rig rig;
    checked(rig.send(dhcpleased(mac_a, MessageType::request).option(50, address_a)));
    auto network = lan();
    network.guests[0].ipv4 = ip("10.0.0.77");
    REQUIRE(rig.server.configure({network}));
    auto renew = dhcpleased(mac_a, MessageType::request);
    renew.ciaddr = address_a;
    auto answer = rig.send(renew, own, address_a);
    CHECK(type_of(checked(answer)) == MessageType::nak);
    CHECK(answer.reply->destination == everybody);
    CHECK(text(answer.event).find("refused 10.0.0.11: its address is 10.0.0.77") !=
          std::string::npos);
    CHECK(checked(rig.send(dhcpleased(mac_a, MessageType::discover))).header.yiaddr ==
          ip("10.0.0.77"));
    CHECK(type_of(checked(rig.send(dhcpleased(mac_a, MessageType::request)
                                       .option(50, ip("10.0.0.77"))
                                       .option(54, own)))) == MessageType::ack);
}

TEST_CASE("the broadcast flag is respected") {
    Rig rig;
    auto client = dhcpleased(mac_a, MessageType::discover);
    client.flags = 0xffff;
    auto answer = rig.send(client);
    CHECK(checked(answer).header.flags == broadcast_flag);
    CHECK(answer.reply->destination == everybody);
    CHECK(answer.reply->ethernet_destination == mac_a);
}

TEST_CASE("pxeboot's BOOTP request is answered within 64 bytes of vendor area") {
    Rig rig;
    Client pxeboot{.mac = mac_a};
    auto answer = rig.send(pxeboot);
    auto message = checked(answer);
    CHECK(answer.reply->payload.size() == 300);
    CHECK(answer.event.kind == EventKind::booted);
    CHECK(message.header.yiaddr == address_a);
    CHECK(message.header.siaddr == own);
    CHECK(message.header.file == "auto_install");
    CHECK(codes(answer) == std::vector<int>{1, 3, 6, 12, 15, 28});
    CHECK(answer.reply->destination == address_a);
    CHECK(rig.lease("a").state == LeaseState::bound);
    CHECK_FALSE(rig.lease("a").expires_ms);
    // What does not fit in 60 bytes is left out, the rest is still there.
    auto network = lan();
    network.domain_name = std::string(60, 'd');
    REQUIRE(rig.server.configure({network}));
    answer = rig.send(pxeboot);
    CHECK(codes(answer) == std::vector<int>{1, 3, 6, 12, 28});
    CHECK(answer.reply->payload.size() == 300);
    // A longer request shows room for more.
    pxeboot.pad_to = 548;
    answer = rig.send(pxeboot);
    CHECK(codes(answer) == std::vector<int>{1, 3, 6, 12, 15, 28});
    // RFC 951 alone: no cookie, no options.
    answer = rig.send(Client{.mac = mac_a, .cookie = false});
    message = checked(answer);
    CHECK_FALSE(message.has_cookie);
    CHECK(message.header.yiaddr == address_a);
}

TEST_CASE("a client identifier of another guest decides nothing, and is reported") {
    Rig rig;
    checked(rig.send(dhcpleased(mac_a, MessageType::request).option(50, address_a)));
    Client clone{.mac = mac_b};
    clone.type(MessageType::discover).option(61, client_id(mac_a));
    auto answer = rig.send(clone);
    CHECK(checked(answer).header.yiaddr == ip("10.0.0.12"));
    CHECK(answer.event.vm == "b");
    CHECK(answer.event.warning == "its client identifier is that of a");
    CHECK(rig.lease("a").state == LeaseState::bound);
    CHECK(rig.lease("b").state == LeaseState::offered);
    // Cloned images: the same DUID from both.
    for (auto sender : {mac_a, mac_b}) {
        Client duid{.mac = sender};
        duid.type(MessageType::discover).option(61, {0xff, 1, 2, 3, 4, 5, 6, 7, 8});
        answer = rig.send(duid);
        CHECK(answer.event.warning ==
              (sender == mac_a ? "" : "its client identifier is that of a"));
    }
}

TEST_CASE("messages that a guest has no business to send are dropped with their reason") {
    Rig rig;
    auto why = [&](const Client& client) {
        auto answer = rig.send(client);
        CHECK_FALSE(answer.reply);
        CHECK(answer.event.kind == EventKind::dropped);
        return answer.event.drop;
    };
    auto discover = dhcpleased(mac_a, MessageType::discover);
    auto relayed = discover;
    relayed.giaddr = ip("10.0.0.50");
    CHECK(why(relayed) == Drop::relayed);
    relayed = discover;
    relayed.hops = 1;
    CHECK(why(relayed) == Drop::relayed);
    auto rogue = discover;
    rogue.op = 2;
    CHECK(why(rogue) == Drop::server_message);
    auto odd = discover;
    odd.hlen = 16;
    CHECK(why(odd) == Drop::hardware_type);
    odd = discover;
    odd.htype = 6;
    CHECK(why(odd) == Drop::hardware_type);
    CHECK(why(dhcpleased(mac_a, MessageType::ack)) == Drop::unexpected_type);
    CHECK(why(dhcpleased(mac_a, MessageType::bootp)) == Drop::unexpected_type);
    CHECK(why(dhcpleased(mac_a, static_cast<MessageType>(10))) == Drop::unexpected_type);
    CHECK(why(dhcpleased(mac_a, MessageType::request).option(50, {10, 0, 0})) == Drop::malformed);
    CHECK(why(dhcpleased(mac_a, MessageType::request).option(54, {10, 0, 0, 1, 0})) ==
          Drop::malformed);
    CHECK(why(Client{.mac = mac_a}.option(53, {1, 1})) == Drop::malformed);
    CHECK(why({.mac = mac_a, .end = false, .pad_to = 0, .options = {53, 9, 1}}) == Drop::malformed);
    CHECK(why(dhcpleased(mac_c, MessageType::discover)) == Drop::no_address);
    CHECK(why(dhcpleased(stranger, MessageType::discover)) == Drop::unknown_guest);
    CHECK(rig.server.dropped(Drop::relayed) == 2);
    CHECK(rig.server.dropped(Drop::malformed) == 4);
    CHECK(rig.lease("a").dropped == 12);

    // Another guest's address in chaddr, from either side.
    auto answer = rig.send_from(mac_b, discover);
    CHECK(answer.event.drop == Drop::spoofed);
    CHECK(answer.event.vm == "b");
    CHECK(text(answer.event).find("it says it is fe:e1:bb:d1:00:01") != std::string::npos);
    CHECK(rig.lease("a").state == LeaseState::none);
    // From the port of a server.
    auto bytes = discover.bytes();
    CHECK(rig.server
              .handle({.network = "lan",
                       .ethernet_source = mac_a,
                       .source_port = 67,
                       .payload = bytes,
                       .now_ms = rig.now_ms})
              .event.drop == Drop::server_port);
    CHECK(rig.server.handle({.network = "nowhere", .ethernet_source = mac_a, .payload = bytes})
              .event.drop == Drop::unknown_network);
}

TEST_CASE("a guest of another network is told apart from a stranger") {
    auto other = lan();
    other.name = "other";
    other.guests = {{.vm = "d", .mac = stranger, .ipv4 = ip("10.0.0.13")}};
    Rig rig({lan(), other});
    auto answer = rig.send(dhcpleased(stranger, MessageType::discover));
    CHECK(answer.event.drop == Drop::other_network);
    CHECK(answer.event.detail == "it is d on other");
}

TEST_CASE("INFORM gets options without a lease") {
    Rig rig;
    auto inform = dhcpleased(mac_a, MessageType::inform);
    inform.ciaddr = ip("10.0.0.200");
    auto answer = rig.send(inform, own, ip("10.0.0.200"));
    auto ack = checked(answer);
    CHECK(type_of(ack) == MessageType::ack);
    CHECK(ack.header.yiaddr.is_zero());
    CHECK(answer.reply->destination == ip("10.0.0.200"));
    CHECK(codes(answer) == std::vector<int>{53, 54, 61, 1, 3, 6, 12, 15, 28});
    CHECK(rig.lease("a").state == LeaseState::none);
    inform.ciaddr = {};
    CHECK(rig.send(inform, own, ip("10.0.0.201")).reply->destination == ip("10.0.0.201"));
    inform.ciaddr = ip("8.8.8.8");
    CHECK(rig.send(inform).event.drop == Drop::off_link);
    inform.ciaddr = own;
    CHECK(rig.send(inform).event.drop == Drop::off_link);
}

TEST_CASE("RELEASE ends the lease of the own address only") {
    Rig rig;
    checked(rig.send(dhcpleased(mac_a, MessageType::request).option(50, address_a)));
    auto release = dhcpleased(mac_a, MessageType::release);
    release.option(54, own);
    release.ciaddr = ip("10.0.0.12");
    CHECK(rig.send(release).event.drop == Drop::wrong_address);
    CHECK(rig.lease("a").state == LeaseState::bound);
    release.ciaddr = address_a;
    auto answer = rig.send(release);
    CHECK_FALSE(answer.reply);
    CHECK(answer.event.kind == EventKind::released);
    CHECK(rig.lease("a").state == LeaseState::released);
}

TEST_CASE("DECLINE is reported, and a flood of it is limited") {
    Rig rig;
    auto decline = dhcpleased(mac_a, MessageType::decline);
    CHECK(rig.send(decline).event.drop == Drop::other_server);
    decline.option(54, own);
    CHECK(rig.send(decline).event.drop == Drop::wrong_address);
    decline.option(50, address_a);
    auto answer = rig.send(decline);
    CHECK_FALSE(answer.reply);
    CHECK(answer.event.kind == EventKind::declined);
    CHECK(answer.event.warning == "another station on the wire uses this address");
    CHECK(rig.lease("a").state == LeaseState::declined);

    auto bytes = decline.bytes();
    rig.now_ms += 60'000;
    int taken = 0, logged = 0;
    for (int i = 0; i < 1000; ++i) { // within one second
        auto one = rig.server.handle({.network = "lan",
                                      .ethernet_source = mac_a,
                                      .destination = everybody,
                                      .payload = bytes,
                                      .now_ms = rig.now_ms + static_cast<std::uint64_t>(i)});
        taken += one.event.kind == EventKind::declined;
        logged += one.event.log;
    }
    CHECK(taken == limits::dhcp_message_burst + limits::dhcp_messages_per_s - 1);
    CHECK(rig.server.dropped(Drop::rate_limited) == 1000 - static_cast<unsigned>(taken));
    CHECK(logged <= static_cast<int>(limits::dhcp_log_burst));
    // Other guests do not notice, and the log says later what it left out.
    checked(rig.send(dhcpleased(mac_b, MessageType::discover)));
    rig.now_ms += limits::dhcp_log_refill_ms;
    auto later = rig.send(dhcpleased(mac_a, MessageType::discover));
    checked(later);
    CHECK(later.event.log);
    CHECK(later.event.suppressed >= 900);
    // The address is still its own: there is no pool to drain.
    CHECK(later.event.address == address_a);
}

TEST_CASE("a small message limit keeps what is essential, without overload") {
    auto network = lan();
    network.domain_name = std::string(200, 'd');
    network.domain_name_servers.assign(20, ip("9.9.9.9"));
    Rig rig({network});
    Client client{.mac = mac_a};
    client.type(MessageType::discover)
        .option(61, std::string(60, 'i'))
        .option(55, {15, 6, 1, 3, 12, 28})
        .option(57, {0x02, 0x40});
    auto answer = rig.send(client);
    auto offer = checked(answer);
    CHECK(answer.reply->payload.size() <= 548);
    // 6 comes after 15 in the client's list and no longer fits.
    CHECK(codes(answer) == std::vector<int>{53, 54, 51, 58, 59, 61, 15, 1, 3});
    CHECK(offer.find(61)->size() == 60);
    // Less than 576 counts as 576; more than the wire carries does not count.
    client.options.clear();
    client.type(MessageType::discover).option(57, {0, 10});
    CHECK(codes(rig.send(client)).size() > 6);
    client.options.clear();
    client.type(MessageType::discover).option(55, {15, 6}).option(57, {0xff, 0xff});
    answer = rig.send(client);
    CHECK(codes(answer) == std::vector<int>{53, 54, 51, 58, 59, 15, 6, 1, 3, 12, 28});
    CHECK(answer.reply->payload.size() <= 1472);
}

TEST_CASE("lease times stay within bounds") {
    Rig rig;
    auto lease = [&](std::uint32_t asked) {
        auto client = dhcpleased(mac_a, MessageType::discover);
        client.option(51, Ipv4{asked});
        return checked(rig.send(client)).number<std::uint32_t>(51);
    };
    CHECK(lease(0) == 43200u);
    CHECK(lease(1) == limits::min_dhcp_lease_s);
    CHECK(lease(3600) == 3600u);
    CHECK(lease(0xffffffff) == 43200u);
    auto network = lan();
    network.lease_time_s = 0xffffffff;
    REQUIRE(rig.server.configure({network}));
    auto answer = rig.send(dhcpleased(mac_a, MessageType::request).option(50, address_a));
    auto ack = checked(answer);
    CHECK(ack.number<std::uint32_t>(51) == 0xffffffff);
    CHECK(ack.number<std::uint32_t>(59) == 0xffffffff);
    CHECK_FALSE(rig.lease("a").expires_ms);
}

TEST_CASE("hostile names never come back") {
    Rig rig;
    for (auto name : {"", "-ok-", "a..b", ".a", "a.", "x;rm", "a b", "\x1b[2J", "a_b"}) {
        auto client = dhcpleased(mac_a, MessageType::discover);
        client.option(12, std::string_view(name));
        checked(rig.send(client));
    }
    CHECK(rig.lease("a").client_host_name == "-ok-");
    auto client = dhcpleased(mac_a, MessageType::discover);
    client.option(12, std::string_view("win\0", 4));
    checked(rig.send(client));
    CHECK(rig.lease("a").client_host_name == "win");
    // A name of the model that is no host name is not sent.
    CHECK_FALSE(checked(rig.send(dhcpleased(mac_b, MessageType::discover))).find(12));
    CHECK(legal_host_name(std::string(63, 'a') + "." + std::string(63, 'b')));
    CHECK_FALSE(legal_host_name(std::string(64, 'a')));
}

TEST_CASE("a wrong configuration is refused whole, the old one serves on") {
    Rig rig;
    auto refused = [&](auto change) {
        auto network = lan();
        change(network);
        auto done = rig.server.configure({network});
        CHECK_FALSE(done);
        CHECK(type_of(checked(rig.send(dhcpleased(mac_a, MessageType::discover)))) ==
              MessageType::offer);
        return done ? "" : done.error().text();
    };
    CHECK(refused([](auto& n) { n.guests[1].mac = mac_a; }) ==
          "dhcp on lan: guests b and a have the same Ethernet address fe:e1:bb:d1:00:01");
    CHECK(refused([](auto& n) { n.guests[1].ipv4 = address_a; }) ==
          "dhcp on lan: guests b and a have the same address 10.0.0.11");
    CHECK(refused([](auto& n) { n.guests[0].ipv4 = ip("10.0.1.11"); }) ==
          "dhcp on lan: guest a: 10.0.1.11 is not in 10.0.0.1/24");
    CHECK(refused([](auto& n) { n.guests[0].ipv4 = own; }) ==
          "dhcp on lan: guest a: 10.0.0.1 is the host's own address");
    CHECK_FALSE(refused([](auto& n) { n.guests[0].ipv4 = ip("10.0.0.255"); }).empty());
    CHECK_FALSE(refused([](auto& n) { n.guests[0].mac = Mac{}; }).empty());
    CHECK_FALSE(refused([](auto& n) { n.guests[0].filename = std::string(128, 'f'); }).empty());
    CHECK_FALSE(refused([](auto& n) { n.filename = std::string(128, 'f'); }).empty());
    CHECK_FALSE(refused([](auto& n) { n.domain_name = std::string(256, 'd'); }).empty());
    CHECK_FALSE(refused([](auto& n) { n.routers.resize(64); }).empty());
    CHECK_FALSE(refused([](auto& n) { n.lease_time_s = 0; }).empty());
    CHECK_FALSE(refused([](auto& n) { n.server = {}; }).empty());
    CHECK_FALSE(rig.server.configure({lan(), lan()}));
}

TEST_CASE("a new configuration keeps leases, counters and limits") {
    Rig rig;
    checked(rig.send(dhcpleased(mac_a, MessageType::request).option(50, address_a)));
    auto before = rig.lease("a");
    auto network = lan();
    std::swap(network.guests[0], network.guests[1]);
    network.guests.push_back({.vm = "d", .mac = stranger, .ipv4 = ip("10.0.0.13")});
    REQUIRE(rig.server.configure({network}));
    auto after = rig.lease("a");
    CHECK(after.state == LeaseState::bound);
    CHECK(after.expires_ms == before.expires_ms);
    CHECK(after.messages == 1);
    CHECK(rig.server.leases(0)[0].vm == "b"); // in the order of the model
    checked(rig.send(dhcpleased(stranger, MessageType::discover)));
    // Another VM with the same Ethernet address starts afresh.
    network.guests[1].vm = "renamed";
    REQUIRE(rig.server.configure({network}));
    CHECK(rig.lease("renamed").state == LeaseState::none);
}
