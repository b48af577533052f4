// Clients that the model does not know: addresses of ranges, relay agents, and what outlives a
// restart.
#include <catch2/catch.hpp>

#include <set>

#include "client.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::dhcp;

namespace {

const Mac guest_mac = mac("fe:e1:bb:d1:00:01");
const Ipv4 everybody = ip("255.255.255.255"), own = ip("10.0.0.1");

Mac client_mac(unsigned number) {
    return {
        {2, 0, 0, 0, static_cast<std::uint8_t>(number >> 8), static_cast<std::uint8_t>(number)}};
}

Network lan() {
    return {.name = "lan",
            .server = parse_ipv4_prefix("10.0.0.1/24").value(),
            .routers = {own},
            .lease_time_s = 3600,
            .max_lease_time_s = 7200,
            .guests = {{.vm = "a", .mac = guest_mac, .ipv4 = ip("10.0.0.102")}},
            .ranges = {{ip("10.0.0.100"), ip("10.0.0.104")}, {ip("192.0.2.10"), ip("192.0.2.20")}},
            .relays = {parse_ipv4_prefix("192.0.2.0/24").value()},
            .ping_check = false};
}

struct Rig {
    Server server;
    std::uint64_t now_ms = 1'000'000;
    std::vector<store::LeaseRow> written;

    explicit Rig(const Network& network = lan()) { use(network); }
    void use(const Network& network) {
        auto done = server.configure({network});
        if (!done)
            throw std::runtime_error(done.error().text());
    }
    std::int64_t time_s() const { return 1'800'000'000 + static_cast<std::int64_t>(now_ms / 1000); }
    Answer send(const Client& client, Mac from, Ipv4 destination = everybody,
                std::uint16_t port = 68) {
        auto bytes = client.bytes();
        now_ms += 10;
        auto answer = server.handle({.network = "lan",
                                     .ethernet_source = from,
                                     .destination = destination,
                                     .source_port = port,
                                     .payload = bytes,
                                     .now_ms = now_ms,
                                     .time_s = time_s()});
        if (answer.row)
            written.push_back(*answer.row);
        return answer;
    }
    Answer send(const Client& client) { return send(client, client.mac); }
    Answer discover(const Mac& mac) { return send(dhcpleased(mac, MessageType::discover)); }
    Answer request(const Mac& mac, Ipv4 address) {
        return send(dhcpleased(mac, MessageType::request).option(50, address).option(54, own));
    }
    // The whole exchange; the address.
    Ipv4 obtain(const Mac& mac) {
        auto offered = offer_of(discover(mac));
        auto answer = request(mac, offered);
        if (answer.event.kind != EventKind::acknowledged)
            throw std::runtime_error(text(answer.event));
        return offered;
    }
    static Ipv4 offer_of(const Answer& answer) {
        if (!answer.reply)
            throw std::runtime_error(text(answer.event));
        return parse(answer.reply->payload).value().header.yiaddr;
    }
};

Message message_of(const Answer& answer) {
    if (!answer.reply)
        throw std::runtime_error("no reply: " + text(answer.event));
    return parse(answer.reply->payload).value();
}

} // namespace

TEST_CASE("clients get all addresses of a range, but none that is a guest's") {
    Rig rig;
    std::set<Ipv4> given;
    for (unsigned i = 1; i <= 4; ++i)
        given.insert(rig.obtain(client_mac(i)));
    CHECK(given ==
          std::set{ip("10.0.0.100"), ip("10.0.0.101"), ip("10.0.0.103"), ip("10.0.0.104")});
    auto fifth = rig.discover(client_mac(5));
    CHECK_FALSE(fifth.reply);
    CHECK(fifth.event.drop == Drop::no_free_address);
    CHECK(rig.server.dropped(Drop::no_free_address) == 1);
    CHECK(Rig::offer_of(rig.discover(guest_mac)) == ip("10.0.0.102"));
}

TEST_CASE("a lease is to be written down, with its end and its client") {
    Rig rig;
    auto address = rig.obtain(client_mac(1));
    REQUIRE(rig.written.size() == 1);
    const auto& row = rig.written[0];
    CHECK(row.network == "lan");
    CHECK(row.address == address);
    CHECK(row.mac == client_mac(1));
    CHECK(row.vm.empty());
    CHECK(row.state == LeaseState::bound);
    CHECK(row.until_s == rig.time_s() + 3600);
    CHECK(row.client_id.size() == 7);
    // An offer is not.
    rig.discover(client_mac(2));
    CHECK(rig.written.size() == 1);
    // A guest's is, with its name.
    rig.send(dhcpleased(guest_mac, MessageType::request).option(50, ip("10.0.0.102")));
    REQUIRE(rig.written.size() == 2);
    CHECK(rig.written[1].vm == "a");
}

TEST_CASE("a client gets the address that it had, whatever client identifier it sends") {
    Rig rig;
    auto address = rig.obtain(client_mac(1));
    rig.obtain(client_mac(2));
    rig.now_ms += 4'000'000; // over
    CHECK(rig.server.leases(rig.now_ms).at(1).state == LeaseState::expired);
    Client rom{.mac = client_mac(1)};
    rom.type(MessageType::discover).option(61, "another identifier");
    CHECK(Rig::offer_of(rig.send(rom)) == address);
}

TEST_CASE("two clients with one identifier get two addresses") {
    Rig rig;
    auto clone = [&](unsigned number) {
        Client client{.mac = client_mac(number)};
        client.type(MessageType::discover).option(61, "machine-id");
        return Rig::offer_of(rig.send(client));
    };
    CHECK(clone(1) != clone(2));
}

TEST_CASE("the requested address is given when it is free, the longest free one at last") {
    Rig rig;
    auto wish = dhcpleased(client_mac(1), MessageType::discover).option(50, ip("10.0.0.104"));
    CHECK(Rig::offer_of(rig.send(wish)) == ip("10.0.0.104"));
    rig.request(client_mac(1), ip("10.0.0.104"));
    auto other = dhcpleased(client_mac(2), MessageType::discover).option(50, ip("10.0.0.104"));
    CHECK(Rig::offer_of(rig.send(other)) != ip("10.0.0.104"));
    auto guests = dhcpleased(client_mac(3), MessageType::discover).option(50, ip("10.0.0.102"));
    CHECK(Rig::offer_of(rig.send(guests)) != ip("10.0.0.102"));
    rig.now_ms += 200'000; // the offers to 2 and 3 are over, the lease of 1 is not
    std::set<Ipv4> given{rig.obtain(client_mac(4)), rig.obtain(client_mac(5)),
                         rig.obtain(client_mac(6))};
    CHECK(given.size() == 3);
    CHECK_FALSE(given.contains(ip("10.0.0.104")));
    CHECK_FALSE(rig.discover(client_mac(7)).reply);
}

TEST_CASE("an offer that the client does not take is free again") {
    Rig rig;
    for (unsigned i = 1; i <= 4; ++i)
        rig.discover(client_mac(i));
    CHECK_FALSE(rig.discover(client_mac(5)).reply);
    auto elsewhere = dhcpleased(client_mac(1), MessageType::request)
                         .option(50, ip("10.0.0.100"))
                         .option(54, ip("10.0.0.9"));
    auto answer = rig.send(elsewhere);
    CHECK_FALSE(answer.reply);
    CHECK(answer.event.drop == Drop::other_server);
    CHECK(Rig::offer_of(rig.discover(client_mac(5))) == ip("10.0.0.100"));
}

TEST_CASE("REQUEST without an offer: rapid rebind, foreign and taken addresses") {
    Rig rig;
    auto reboot = [&](unsigned number, std::string_view address) {
        return rig.send(
            dhcpleased(client_mac(number), MessageType::request).option(50, ip(address)));
    };
    CHECK(reboot(1, "10.0.0.103").event.kind == EventKind::acknowledged); // free
    CHECK(reboot(1, "10.0.0.103").event.kind == EventKind::acknowledged);
    CHECK(reboot(2, "10.0.0.103").event.kind == EventKind::refused); // another's
    CHECK(reboot(2, "10.0.0.102").event.kind == EventKind::refused); // a guest's
    CHECK(reboot(2, "10.0.0.50").event.kind == EventKind::refused);  // in no range
    CHECK(reboot(2, "172.16.0.1").event.kind == EventKind::refused); // of another network
    auto nak = reboot(2, "172.16.0.1");
    CHECK(nak.reply->destination == everybody);
    CHECK(message_of(nak).header.yiaddr.is_zero());
    // An offer of ours that was never made.
    CHECK(rig.request(client_mac(3), ip("10.0.0.100")).event.kind == EventKind::refused);
}

TEST_CASE("RELEASE frees for others at once, DECLINE keeps from all for a while") {
    Rig rig;
    auto address = rig.obtain(client_mac(1));
    Client release{.mac = client_mac(1), .ciaddr = address};
    CHECK(rig.send(release.type(MessageType::release).option(54, own)).event.kind ==
          EventKind::released);
    CHECK(rig.written.back().state == LeaseState::released);
    // Not another's.
    auto second = rig.obtain(client_mac(2));
    Client theft{.mac = client_mac(3), .ciaddr = second};
    CHECK(rig.send(theft.type(MessageType::release).option(54, own)).event.drop ==
          Drop::wrong_address);
    auto declined =
        dhcpleased(client_mac(2), MessageType::decline).option(50, second).option(54, own);
    CHECK(rig.send(declined).event.kind == EventKind::declined);
    CHECK(rig.written.back().state == LeaseState::declined);
    std::set<Ipv4> rest;
    for (unsigned i = 11; i <= 13; ++i)
        rest.insert(rig.obtain(client_mac(i)));
    CHECK(rest.size() == 3);
    CHECK_FALSE(rest.contains(second));
    // Nothing else is left: then it is tried again.
    CHECK(Rig::offer_of(rig.discover(client_mac(14))) == second);
}

TEST_CASE("DECLINE flood: a client cannot empty a range") {
    auto network = lan();
    network.ranges = {{ip("10.0.0.50"), ip("10.0.0.99")}};
    network.relays.clear();
    Rig rig(network);
    unsigned taken = 0;
    for (unsigned i = 0; i < 40; ++i) {
        rig.now_ms += 1000;
        auto answer = rig.discover(client_mac(1));
        REQUIRE(answer.reply);
        auto offered = Rig::offer_of(answer);
        taken += rig.send(dhcpleased(client_mac(1), MessageType::decline)
                              .option(50, offered)
                              .option(54, own))
                     .event.kind == EventKind::declined;
    }
    CHECK(taken == limits::dhcp_declines);
    CHECK(rig.server.dropped(Drop::declines) == 40 - taken);
}

TEST_CASE("an address that answers a ping is not given out") {
    auto network = lan();
    network.ping_check = true;
    Rig rig(network);
    auto offer = rig.discover(client_mac(1));
    REQUIRE(offer.check);
    CHECK(*offer.check == Rig::offer_of(offer));
    auto row = rig.server.found_in_use("lan", *offer.check, rig.now_ms, rig.time_s());
    REQUIRE(row);
    CHECK(row->state == LeaseState::declined);
    auto next = rig.discover(client_mac(1));
    CHECK(Rig::offer_of(next) != *offer.check);
    CHECK(next.check);
    rig.request(client_mac(1), Rig::offer_of(next));
    CHECK_FALSE(rig.discover(client_mac(1)).check); // it is its own by now
    CHECK_FALSE(rig.discover(guest_mac).check);     // never for guests
    CHECK_FALSE(rig.server.found_in_use("lan", Rig::offer_of(next), rig.now_ms, rig.time_s()));
}

TEST_CASE(
    "relay agents: answered at giaddr with their option 82, those that are not ours dropped") {
    Rig rig;
    const auto router = mac("02:aa:00:00:00:01");
    const std::string circuit("\x01\x04wall\x02\x02me", 10);
    Client client{.mac = client_mac(1), .hops = 1, .giaddr = ip("192.0.2.1")};
    client.type(MessageType::discover).option(55, {1, 3, 28}).option(82, circuit);
    auto answer = rig.send(client, router, own, 67);
    auto offer = message_of(answer);
    CHECK(offer.header.yiaddr == ip("192.0.2.10"));
    CHECK(offer.header.giaddr == ip("192.0.2.1"));
    CHECK(answer.reply->destination == ip("192.0.2.1"));
    CHECK(answer.reply->port == 67);
    CHECK(answer.reply->ethernet_destination == router);
    CHECK(answer.event.mac == client_mac(1));
    CHECK(offer.address(1) == ip("255.255.255.0"));
    CHECK(offer.address(3) == ip("192.0.2.1"));
    CHECK(offer.address(28) == ip("192.0.2.255"));
    CHECK(as_text(*offer.find(82)) == circuit);
    // Last of all.
    const auto& bytes = answer.reply->payload;
    std::string_view wire(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    auto at = wire.find(circuit);
    CHECK(bytes.at(at + circuit.size()) == 255);

    auto foreign = client;
    foreign.giaddr = ip("198.51.100.1");
    CHECK(rig.send(foreign, router, own, 67).event.drop == Drop::relayed);
    auto looping = client;
    looping.hops = 17;
    CHECK(rig.send(looping, router, own, 67).event.drop == Drop::relayed);
    auto from_guest = client;
    CHECK(rig.send(from_guest, guest_mac, own, 68).event.drop == Drop::spoofed);
    auto claims = client;
    claims.mac = guest_mac;
    CHECK(rig.send(claims, router, own, 67).event.drop == Drop::spoofed);
    claims.mac = guest_mac;
    CHECK(rig.send(claims, guest_mac, own, 68).event.drop == Drop::relayed);
    // A NAK goes there, too, and asks the relay to broadcast it.
    Client wrong{.mac = client_mac(2), .hops = 1, .giaddr = ip("192.0.2.1")};
    auto nak =
        rig.send(wrong.type(MessageType::request).option(50, ip("10.0.0.100")), router, own, 67);
    CHECK(nak.reply->destination == ip("192.0.2.1"));
    CHECK(message_of(nak).header.flags == 0x8000);
}

TEST_CASE("option 82 without a relay agent is not sent back") {
    Rig rig;
    Client client{.mac = client_mac(1)};
    auto answer = rig.send(client.type(MessageType::discover).option(82, "guest made"));
    CHECK_FALSE(message_of(answer).find(82));
}

TEST_CASE("strangers of a switch without ranges are still none of ours") {
    auto network = lan();
    network.ranges.clear();
    Rig rig(network);
    CHECK(rig.discover(client_mac(1)).event.drop == Drop::unknown_guest);
    network.relays.clear();
    rig.use(network);
    CHECK(rig.discover(client_mac(1)).event.drop == Drop::unknown_guest);
}

TEST_CASE("leases come back after a restart, with what is left of them") {
    Rig first;
    auto address = first.obtain(client_mac(1));
    auto gone = first.obtain(client_mac(2));
    Client release{.mac = client_mac(2), .ciaddr = gone};
    first.send(release.type(MessageType::release).option(54, own));
    first.send(dhcpleased(guest_mac, MessageType::request).option(50, ip("10.0.0.102")));

    Rig second;
    second.now_ms = 5000; // another boot
    std::map<Ipv4, store::LeaseRow> last;
    for (const auto& row : first.written)
        last[row.address] = row;
    std::vector<store::LeaseRow> rows;
    for (const auto& [at, row] : last)
        rows.push_back(row);
    auto nobody = rows.front();
    nobody.network = "elsewhere";
    rows.push_back(nobody);
    second.server.restore(rows, second.now_ms, first.time_s() + 600);
    auto leases = second.server.leases(second.now_ms);
    REQUIRE(leases.size() == 3);
    CHECK(leases[0].vm == "a");
    CHECK(leases[0].state == LeaseState::bound);
    CHECK(leases[1].address == address);
    CHECK(leases[1].state == LeaseState::bound);
    CHECK(leases[1].expires_ms == 5000 + 3'000'000);
    CHECK(leases[2].state == LeaseState::released);
    // Nobody else gets it, and its client goes on as if nothing had been.
    CHECK(second.request(client_mac(9), address).event.kind == EventKind::refused);
    Client renew{.mac = client_mac(1), .ciaddr = address};
    CHECK(second.send(renew.type(MessageType::request), client_mac(1), own).event.kind ==
          EventKind::acknowledged);
}

TEST_CASE("a change of the configuration keeps leases and offers in flight") {
    Rig rig;
    auto address = rig.obtain(client_mac(1));
    auto offered = Rig::offer_of(rig.discover(client_mac(2)));
    auto changed = lan();
    changed.lease_time_s = 60;
    changed.guests.push_back({.vm = "b", .mac = client_mac(40), .ipv4 = ip("10.0.0.40")});
    rig.use(changed);
    CHECK(rig.request(client_mac(2), offered).event.kind == EventKind::acknowledged);
    CHECK(rig.request(client_mac(9), address).event.kind == EventKind::refused);
    // An address that left the ranges is its client's no more.
    changed.ranges = {{ip("10.0.0.200"), ip("10.0.0.210")}};
    rig.use(changed);
    Client renew{.mac = client_mac(1), .ciaddr = address};
    CHECK(rig.send(renew.type(MessageType::request), client_mac(1), own).event.kind ==
          EventKind::refused);
    CHECK(Rig::offer_of(rig.discover(client_mac(1))) == ip("10.0.0.200"));
}

TEST_CASE("an operator takes an address back") {
    Rig rig;
    auto address = rig.obtain(client_mac(1));
    auto row = rig.server.forget(address);
    REQUIRE(row);
    CHECK(row->state == LeaseState::none);
    CHECK(row->network == "lan");
    CHECK_FALSE(rig.server.forget(address));
    CHECK(rig.server.leases(rig.now_ms).size() == 1); // the guest
    for (unsigned i = 2; i <= 5; ++i)
        rig.obtain(client_mac(i));
}

TEST_CASE("clients may ask for longer leases, up to the most") {
    Rig rig;
    auto asks = [&](std::uint8_t high, std::uint8_t low) {
        Client client{.mac = client_mac(1)};
        client.type(MessageType::discover).option(51, {0, 0, high, low});
        return message_of(rig.send(client)).number<std::uint32_t>(51).value();
    };
    CHECK(asks(0x17, 0x70) == 6000);
    CHECK(asks(0xff, 0xff) == 7200);
    CHECK(asks(0, 1) == limits::min_dhcp_lease_s);
}

TEST_CASE("BOOTP and INFORM of clients that are no guests") {
    Rig rig;
    Client bootp{.mac = client_mac(1)};
    CHECK(rig.send(bootp).event.drop == Drop::no_address);
    Client inform{.mac = client_mac(1), .ciaddr = ip("10.0.0.77")};
    auto answer = rig.send(inform.type(MessageType::inform));
    CHECK(answer.event.kind == EventKind::informed);
    CHECK(message_of(answer).header.yiaddr.is_zero());
    CHECK_FALSE(message_of(answer).find(51));
    CHECK(rig.server.leases(rig.now_ms).size() == 1);
}

TEST_CASE("ranges that cannot be are refused") {
    Server server;
    auto refused = [&](Range range) {
        auto network = lan();
        network.ranges = {range};
        return !server.configure({network});
    };
    CHECK(refused({ip("10.0.0.104"), ip("10.0.0.100")}));
    CHECK(refused({ip("10.0.0.104"), ip("10.0.1.2")}));
    CHECK(refused({ip("172.16.0.1"), ip("172.16.0.2")}));
    CHECK_FALSE(refused({ip("192.0.2.1"), ip("192.0.2.254")}));
}

TEST_CASE("random clients never share an address, and the range is never left") {
    Rig rig;
    std::uint64_t seed = 12345;
    auto random = [&](std::uint64_t below) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        return (seed >> 33) % below;
    };
    for (int i = 0; i < 20'000; ++i) {
        rig.now_ms += random(20'000);
        auto who = client_mac(static_cast<unsigned>(random(12)));
        auto address = Ipv4{ip("10.0.0.98").value + static_cast<std::uint32_t>(random(9))};
        switch (random(5)) {
        case 0:
            rig.discover(who);
            break;
        case 1:
            rig.request(who, address);
            break;
        case 2:
            rig.send(dhcpleased(who, MessageType::request).option(50, address));
            break;
        case 3: {
            Client release{.mac = who, .ciaddr = address};
            rig.send(release.type(MessageType::release));
            break;
        }
        default:
            rig.send(dhcpleased(who, MessageType::decline).option(50, address).option(54, own));
        }
        std::set<Ipv4> addresses;
        std::set<Mac> clients;
        for (const auto& lease : rig.server.leases(rig.now_ms)) {
            REQUIRE(addresses.insert(lease.address).second);
            if (!lease.mac.is_zero())
                REQUIRE(clients.insert(lease.mac).second);
            REQUIRE((lease.address >= ip("10.0.0.100") && lease.address <= ip("10.0.0.104")));
        }
    }
}
