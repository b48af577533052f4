// The guard in a real kernel: one guest sends, the other one must not hear it, and the counters
// say why.
#include <catch2/catch.hpp>

#include "frames.h"
#include "namespace.h"

using namespace vmhost;
using namespace vmhost::test;
using net::GuardReason;
using net::Network;

namespace {

const Mac a{{2, 0, 0, 0, 0, 1}}, b{{2, 0, 0, 0, 0, 2}}, stranger{{2, 0, 0, 0, 0, 9}};
constexpr const char *ip_a = "10.0.0.11", *ip_b = "10.0.0.12";
constexpr Ipv6Octets nobody{}, all_nodes{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
    local_a{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa},
    host_local{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
    ip6_a{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa},
    ip6_b{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb};
constexpr unsigned type_ipv4 = 0x800, type_arp = 0x806, type_ipv6 = 0x86dd;
constexpr unsigned tcp = 6, udp_protocol = 17, icmp6 = 58, fragment = 44, options = 60;

net::PortGuard whole_guard() {
    return {.frames = true,
            .mac = a,
            .ipv4 = {{parse_ipv4(ip_a).value(), 32}},
            .ipv6 = {{ip6_a, 128}},
            .others = {{host_local, 128}}};
}

struct Two {
    std::unique_ptr<Network> network;
    Port from, to;

    explicit Two(const net::PortGuard& guard) {
        fresh_namespace();
        // What bridges pass is not to be judged by the filters of IP as well.
        sh("cd /proc/sys/net/bridge 2> /dev/null || exit 0; for i in ip ip6; do "
           "echo 0 > bridge-nf-call-${i}tables; done");
        network = Network::open("t").value();
        REQUIRE(network->make_bridge({.name = "br0"}));
        from.fd = network->make_tap({.name = "a", .bridge = "br0", .guard = guard}).value();
        to.fd = network->make_tap({.name = "b", .bridge = "br0"}).value();
    }
    // What b hears of these frames.
    std::vector<Frame> heard(const std::vector<Frame>& frames) const {
        for (const auto& frame : frames)
            from.send(frame);
        from.send(mark(a));
        return to.received();
    }
    std::uint64_t dropped(GuardReason reason) const {
        std::uint64_t frames = 0;
        const auto counts = network->guard_counts().value();
        for (const auto& count : counts)
            if (count.port == "a" && count.reason == reason)
                frames += count.frames;
        return frames;
    }
    std::uint64_t dropped() const {
        std::uint64_t frames = 0;
        const auto counts = network->guard_counts().value();
        for (const auto& count : counts)
            frames += count.frames;
        return frames;
    }
};

Frame over_ipv4(const Frame& packet) {
    return ethernet(a, b, type_ipv4, packet);
}
Frame over_ipv6(const Frame& packet) {
    return ethernet(a, b, type_ipv6, packet);
}
// Behind an extension header without content.
Frame behind_options(unsigned next, const Frame& rest) {
    return Frame{static_cast<std::uint8_t>(next), 0, 1, 4, 0, 0, 0, 0} + rest;
}
// The first of several, or one further on.
Frame fragment_of(unsigned next, unsigned offset_and_more, const Frame& rest) {
    return Frame{static_cast<std::uint8_t>(next), 0} + be16(offset_and_more) + zeros(4) + rest;
}

struct Forbidden {
    const char* what;
    GuardReason reason;
    Frame frame;
};

std::vector<Forbidden> forbidden() {
    const Frame port_547 = udp(547, 546), data = zeros(16);
    return {
        {"another's Ethernet address", GuardReason::lladdr,
         ethernet(b, everybody, type_arp, arp(b, ip_b, ip_a))},
        {"nobody's Ethernet address", GuardReason::lladdr,
         ethernet(stranger, everybody, 0x88b5, zeros(46))},
        {"a frame of spanning tree", GuardReason::control,
         ethernet(a, {{1, 0x80, 0xc2, 0, 0, 0}}, 38, zeros(46))},
        {"LLDP", GuardReason::control, ethernet(a, {{1, 0x80, 0xc2, 0, 0, 14}}, 0x88cc, zeros(46))},
        {"a VLAN tag", GuardReason::tag,
         ethernet(a, b, 0x8100, be16(5) + be16(type_ipv4) + ipv4(ip_a, ip_b, tcp, data))},
        {"an empty VLAN tag", GuardReason::tag,
         ethernet(a, b, 0x8100, be16(0) + be16(type_ipv6) + ipv6(ip6_a, ip6_b, icmp6, data))},
        {"a service tag", GuardReason::tag,
         ethernet(a, b, 0x88a8, be16(5) + be16(type_ipv4) + ipv4(ip_a, ip_b, tcp, data))},
        {"two VLAN tags", GuardReason::tag,
         ethernet(a, b, 0x8100,
                  be16(0) + be16(0x8100) + be16(0) + be16(type_ipv4) +
                      ipv4(ip_a, ip_b, tcp, data))},
        {"LLC and SNAP", GuardReason::llc,
         ethernet(a, b, 46, Frame{0xaa, 0xaa, 3, 0, 0, 0} + be16(type_arp) + arp(a, ip_b, ip_a))},
        {"ARP with another's IPv4 address", GuardReason::arp,
         ethernet(a, everybody, type_arp, arp(a, ip_b, ip_b))},
        {"ARP with another's Ethernet address", GuardReason::arp,
         ethernet(a, everybody, type_arp, arp(b, ip_a, ip_b))},
        {"ARP of other sizes", GuardReason::arp,
         ethernet(a, everybody, type_arp, Frame{0, 1, 8, 0, 6, 2} + zeros(40))},
        {"ARP cut short", GuardReason::arp, ethernet(a, everybody, type_arp, Frame{0, 1, 8, 0})},
        {"another's IPv4 address", GuardReason::ipv4_source,
         over_ipv4(ipv4(ip_b, "10.0.0.1", tcp, data))},
        {"no IPv4 address, and not for DHCP", GuardReason::ipv4_source,
         over_ipv4(ipv4("0.0.0.0", "10.0.0.1", udp_protocol, udp(68, 67)))},
        {"no IPv4 address, and not to a server", GuardReason::ipv4_source,
         over_ipv4(ipv4("0.0.0.0", "255.255.255.255", udp_protocol, udp(68, 53)))},
        {"a later fragment with another's address", GuardReason::ipv4_source,
         over_ipv4(ipv4(ip_b, "10.0.0.1", udp_protocol, data, 3))},
        {"an IPv4 packet cut short", GuardReason::ipv4_source, over_ipv4({0x45, 0, 0, 40})},
        {"a DHCP server", GuardReason::dhcp,
         over_ipv4(ipv4(ip_a, "255.255.255.255", udp_protocol, udp(67, 68)))},
        {"a DHCP server on another port", GuardReason::dhcp,
         over_ipv4(ipv4(ip_a, ip_b, udp_protocol, udp(1067, 68)))},
        {"a DHCP server to a relay", GuardReason::dhcp,
         over_ipv4(ipv4(ip_a, ip_b, udp_protocol, udp(67, 67)))},
        {"another's IPv6 address", GuardReason::ipv6_source,
         over_ipv6(ipv6(ip6_b, all_nodes, tcp, data))},
        {"this host's link-local address", GuardReason::ipv6_source,
         over_ipv6(ipv6(host_local, all_nodes, icmp6, icmpv6(128, nobody)))},
        {"no IPv6 address, and not ICMPv6", GuardReason::ipv6_source,
         over_ipv6(ipv6(nobody, all_nodes, udp_protocol, udp(53, 53)))},
        {"an advertisement of another's address", GuardReason::neighbour,
         over_ipv6(ipv6(local_a, all_nodes, icmp6, icmpv6(136, ip6_b)))},
        {"an advertisement of this host's address", GuardReason::neighbour,
         over_ipv6(ipv6(local_a, all_nodes, icmp6, icmpv6(136, host_local)))},
        {"wish for another's address", GuardReason::neighbour,
         over_ipv6(ipv6(nobody, all_nodes, icmp6, icmpv6(135, ip6_b)))},
        {"an advertisement cut by a fragment", GuardReason::neighbour,
         over_ipv6(ipv6(local_a, all_nodes, fragment,
                        fragment_of(icmp6, 1, {136, 0, 0, 0, 0, 0, 0, 0})))},
        {"an advertisement behind options", GuardReason::neighbour,
         over_ipv6(ipv6(local_a, all_nodes, options, behind_options(icmp6, icmpv6(136, ip6_b))))},
        {"a router", GuardReason::router,
         over_ipv6(ipv6(local_a, all_nodes, icmp6, icmpv6(134, nobody)))},
        {"a redirect", GuardReason::router,
         over_ipv6(ipv6(local_a, all_nodes, icmp6, icmpv6(137, ip6_b)))},
        {"a router behind options", GuardReason::router,
         over_ipv6(ipv6(local_a, all_nodes, options,
                        behind_options(options, behind_options(icmp6, icmpv6(134, nobody)))))},
        {"a router in a fragment", GuardReason::router,
         over_ipv6(ipv6(local_a, all_nodes, fragment, fragment_of(icmp6, 1, icmpv6(134, nobody))))},
        {"options that end in the next fragment", GuardReason::ipv6_header,
         over_ipv6(ipv6(local_a, all_nodes, fragment,
                        fragment_of(options, 1, {icmp6, 1, 1, 4, 0, 0, 0, 0})))},
        {"IPv6 cut short", GuardReason::ipv6_header, over_ipv6({0x60, 0, 0, 0, 0, 9, 6, 255})},
        {"a DHCPv6 server", GuardReason::dhcp,
         over_ipv6(ipv6(local_a, all_nodes, udp_protocol, port_547))},
        {"a DHCPv6 server on another port", GuardReason::dhcp,
         over_ipv6(ipv6(local_a, all_nodes, udp_protocol, udp(1547, 546)))},
        {"a DHCPv6 server behind options", GuardReason::dhcp,
         over_ipv6(ipv6(local_a, all_nodes, options, behind_options(udp_protocol, port_547)))},
    };
}

// What honest guests send.
std::vector<Frame> allowed() {
    const Frame data = zeros(16);
    return {
        ethernet(a, everybody, type_arp, arp(a, ip_a, ip_b)),
        ethernet(a, everybody, type_arp, arp(a, "0.0.0.0", ip_a)),
        over_ipv4(ipv4(ip_a, "192.0.2.1", tcp, data)),
        over_ipv4(ipv4(ip_a, ip_b, udp_protocol, udp(5353, 5353))),
        over_ipv4(ipv4(ip_a, ip_b, udp_protocol, udp(68, 67))), // renews
        over_ipv4(ipv4("0.0.0.0", "255.255.255.255", udp_protocol, udp(68, 67))),
        over_ipv4(ipv4(ip_a, ip_b, udp_protocol, Frame{0, 67, 0, 68} + data, 3)), // no ports
        over_ipv6(ipv6(ip6_a, ip6_b, tcp, data)),
        over_ipv6(ipv6(local_a, all_nodes, icmp6, icmpv6(133, nobody))),
        over_ipv6(ipv6(local_a, all_nodes, icmp6, icmpv6(136, ip6_a))),
        over_ipv6(ipv6(local_a, all_nodes, icmp6, icmpv6(136, local_a))),
        over_ipv6(ipv6(ip6_a, all_nodes, icmp6, icmpv6(135, ip6_b))), // looks for b
        over_ipv6(ipv6(nobody, all_nodes, icmp6, icmpv6(135, ip6_a))),
        over_ipv6(ipv6(nobody, all_nodes, icmp6, icmpv6(143, nobody))),
        over_ipv6(ipv6(local_a, all_nodes, udp_protocol, udp(546, 547))),
        over_ipv6(ipv6(ip6_a, ip6_b, fragment, fragment_of(udp_protocol, 1, udp(53, 53)))),
        over_ipv6(ipv6(ip6_a, ip6_b, fragment, fragment_of(udp_protocol, 8, data))),
        over_ipv6(ipv6(ip6_a, ip6_b, fragment, fragment_of(udp_protocol, 8, udp(547, 546)))),
        over_ipv6(ipv6(ip6_a, ip6_b, fragment, fragment_of(icmp6, 8, icmpv6(134, nobody)))),
        over_ipv6(ipv6(ip6_a, ip6_b, 59, {})),                     // nothing follows
        ethernet(a, everybody, 0x0842, zeros(46)),                 // Wake on LAN
        ethernet(a, {{1, 0, 0x5e, 0, 0, 251}}, 0x88b5, zeros(46)), // a group
    };
}

} // namespace

TEST_CASE("a guarded guest says nothing for others, and each drop has its reason") {
    const Two two(whole_guard());
    std::uint64_t dropped = 0;
    for (const auto& one : forbidden()) {
        INFO(one.what);
        auto before = two.dropped(one.reason);
        CHECK(two.heard({one.frame}).empty());
        CHECK(two.dropped(one.reason) == before + 1);
        CHECK(two.dropped() == ++dropped);
    }
}

TEST_CASE("what honest guests send passes the guard as it is") {
    const Two two(whole_guard());
    const auto frames = allowed();
    CHECK(two.heard(frames) == frames);
    CHECK(two.dropped() == 0);
}

TEST_CASE("without a guard everything passes that is a frame") {
    const Two two({});
    std::size_t passed = 0;
    for (const auto& one : forbidden()) {
        // The bridge has just learnt otherwise, it may be.
        two.to.send(ethernet(b, everybody, 0x88b6, zeros(46)));
        passed += two.heard({one.frame}).size();
    }
    // Bridges never forward what is for bridges.
    CHECK(passed == forbidden().size() - 2);
}

TEST_CASE("a guest without addresses in the model may have any") {
    auto guard = whole_guard();
    guard.ipv4.clear();
    guard.ipv6.clear();
    const Two two(guard);
    const std::vector<Frame> now{
        ethernet(a, everybody, type_arp, arp(a, ip_b, ip_b)),
        over_ipv4(ipv4(ip_b, "10.0.0.1", tcp, zeros(16))),
        over_ipv6(ipv6(ip6_b, all_nodes, tcp, zeros(16))),
        over_ipv6(ipv6(local_a, all_nodes, icmp6, icmpv6(136, ip6_b))),
    };
    CHECK(two.heard(now) == now);
    for (const auto& one : forbidden()) {
        INFO(one.what);
        const bool address = one.reason == GuardReason::ipv4_source ||
                             one.reason == GuardReason::ipv6_source ||
                             one.reason == GuardReason::neighbour || one.reason == GuardReason::arp;
        if (!address)
            CHECK(two.heard({one.frame}).empty());
    }
    // This host's own address is nobody else's, ever.
    CHECK(two.heard({over_ipv6(ipv6(host_local, all_nodes, tcp, zeros(16)))}).empty());
}

TEST_CASE("a trunk may carry tags, and nothing is hidden behind them") {
    auto guard = whole_guard();
    guard.tags = true;
    const Two two(guard);
    const auto tagged = [](const Frame& rest) { return ethernet(a, b, 0x8100, be16(5) + rest); };
    const std::vector<Frame> honest{
        tagged(be16(type_ipv4) + ipv4(ip_a, ip_b, tcp, zeros(16))),
        tagged(be16(type_arp) + arp(a, ip_a, ip_b)),
    };
    CHECK(two.heard(honest) == honest);
    CHECK(two.heard({tagged(be16(type_ipv4) + ipv4(ip_b, ip_a, tcp, zeros(16))),
                     tagged(be16(type_arp) + arp(a, ip_b, ip_a)),
                     tagged(be16(type_ipv6) + ipv6(local_a, all_nodes, icmp6, icmpv6(134, nobody))),
                     tagged(be16(0x8100) + be16(6) + be16(type_ipv4) +
                            ipv4(ip_a, ip_b, tcp, zeros(16)))})
              .empty());
    CHECK(two.dropped(GuardReason::ipv4_source) == 1);
    CHECK(two.dropped(GuardReason::arp) == 1);
    CHECK(two.dropped(GuardReason::router) == 1);
    CHECK(two.dropped(GuardReason::tag) == 1);
}

TEST_CASE("a large segment passes the guard, and arrives in pieces") {
    const Two two(whole_guard());
    constexpr unsigned payload = 20'000, piece = 1000;
    const auto header =
        Frame{0, 1, 0, 2} + zeros(4) + zeros(4) + Frame{0x50, 0x10, 1, 0} + zeros(4);
    const auto frame = over_ipv4(ipv4(ip_a, ip_b, tcp, header + Frame(payload, 'x')));
    // A checksum to complete, TCP over IPv4, the headers' length, and where the checksum goes.
    const auto virtio = Frame{1, 1, 54, 0, piece & 0xff, piece >> 8, 34, 0, 16, 0, 0, 0};
    two.from.send(frame, virtio);
    // The same from another's address is one frame as well.
    two.from.send(over_ipv4(ipv4(ip_b, ip_a, tcp, header + Frame(payload, 'x'))), virtio);
    two.from.send(mark(a));
    std::size_t bytes = 0;
    for (const auto& one : two.to.received())
        bytes += static_cast<std::size_t>(std::ranges::count(one, 'x'));
    CHECK(bytes == payload);
    CHECK(two.dropped(GuardReason::ipv4_source) == 1);
}

TEST_CASE("a storm is cut down to its rate, and unicast goes on") {
    net::PortGuard guard;
    guard.storm = net::Storm{1, 10};
    const Two two(guard);
    std::vector<Frame> storm(100, ethernet(a, everybody, 0x0842, zeros(46)));
    for (int i = 0; i < 20; ++i)
        storm.push_back(ethernet(a, b, 0x88b6, zeros(46)));
    for (const auto& frame : storm)
        two.from.send(frame);
    // Its own mark would be part of the storm.
    auto end = mark(a);
    std::ranges::copy(b.octets, end.begin());
    two.from.send(end);
    auto heard = two.to.received();
    CHECK(std::ranges::count(heard, storm.back()) == 20);
    const auto broadcasts = static_cast<std::uint64_t>(std::ranges::count(heard, storm.front()));
    CHECK(broadcasts >= 10);
    CHECK(broadcasts < 50);
    CHECK(two.dropped(GuardReason::storm) == 100 - broadcasts);
}

TEST_CASE("a guard changes at once, and goes on counting") {
    const Two two(whole_guard());
    const auto as_b = over_ipv4(ipv4(ip_b, "10.0.0.1", tcp, zeros(16)));
    const auto as_a = over_ipv4(ipv4(ip_a, "10.0.0.1", tcp, zeros(16)));
    CHECK(two.heard({as_a, as_b}) == std::vector<Frame>{as_a});
    auto guard = whole_guard();
    guard.ipv4 = {{parse_ipv4(ip_b).value(), 32}};
    REQUIRE(two.network->guard_tap("a", guard));
    CHECK(two.heard({as_a, as_b}) == std::vector<Frame>{as_b});
    CHECK(two.dropped(GuardReason::ipv4_source) == 2);
    REQUIRE(two.network->guard_tap("a", {}));
    CHECK(two.heard({as_a, as_b}).size() == 2);
    CHECK(two.network->guard_tap("b", guard));
    CHECK_FALSE(two.network->guard_tap("c", guard));
}

TEST_CASE("rules that somebody flushed are put back") {
    const Two two(whole_guard());
    CHECK(two.network->mend_guards().value() == 0);
    auto changes = two.network->watch_guards().value().value();
    pollfd ready{changes.get(), POLLIN, 0};
    CHECK(::poll(&ready, 1, 0) == 0);
    auto kernel = net::open_kernel_links().value();
    REQUIRE(kernel->unguard_port("vmhost-t", "a"));
    CHECK(::poll(&ready, 1, 10'000) == 1);
    const auto as_b = over_ipv4(ipv4(ip_b, "10.0.0.1", tcp, zeros(16)));
    CHECK(two.heard({as_b}).size() == 1);
    CHECK(two.network->mend_guards().value() == 1);
    CHECK(two.heard({as_b}).empty());
}

TEST_CASE("guards go with their taps, and never with another host's") {
    fresh_namespace();
    auto kernel = net::open_kernel_links().value();
    auto other = Network::open("other").value();
    REQUIRE(other->make_bridge({.name = "br1"}));
    auto theirs = other->make_tap({.name = "x", .bridge = "br1", .guard = whole_guard()}).value();
    {
        auto network = Network::open("t").value();
        REQUIRE(network->make_bridge({.name = "br0"}));
        auto one = network->make_tap({.name = "a", .bridge = "br0", .guard = whole_guard()});
        auto two = network->make_tap({.name = "b", .bridge = "br0", .guard = whole_guard()});
        REQUIRE(two);
        CHECK(kernel->guarded_ports("vmhost-t").value() == std::vector<std::string>{"a", "b"});
        REQUIRE(network->remove_tap("a"));
        CHECK(kernel->guarded_ports("vmhost-t").value() == std::vector<std::string>{"b"});
        two->reset(); // its process dies
        REQUIRE(network->remove_tap("b"));
        CHECK(kernel->guarded_ports("vmhost-t").value().empty());
        two = network->make_tap({.name = "b", .bridge = "br0", .guard = whole_guard()});
        two->reset();
        // The next one of the name has no guard, nor that of the last.
        const Port plain{network->make_tap({.name = "b", .bridge = "br0"}).value()};
        const Port ear{network->make_tap({.name = "c", .bridge = "br0"}).value()};
        plain.send(ethernet(stranger, everybody, 0x88b6, zeros(46)));
        plain.send(mark(stranger));
        CHECK(ear.received().size() == 1);
        two = network->make_tap({.name = "d", .bridge = "br0", .guard = whole_guard()});
        one->release();
    }
    CHECK(kernel->guarded_ports("vmhost-t").value().empty());
    CHECK(kernel->guard_counts("vmhost-t").value().empty());
    CHECK(kernel->guarded_ports("vmhost-other").value() == std::vector<std::string>{"x"});
}

TEST_CASE("a guard goes with a tap that goes while the next daemon comes") {
    const Two two(whole_guard());
    auto kernel = net::open_kernel_links().value();
    auto gone = two.network->make_tap({.name = "g", .bridge = "br0", .guard = whole_guard()});
    auto later = two.network->make_tap({.name = "h", .bridge = "br0", .guard = whole_guard()});
    two.network->leave();
    auto next = Network::open("t").value();
    REQUIRE(next->make_bridge({.name = "br0"}));
    gone->reset();
    CHECK_FALSE(next->adopt_tap("g"));
    REQUIRE(next->adopt_tap("h"));
    later->reset();
    REQUIRE(next->remove_tap("h"));
    CHECK(kernel->guarded_ports("vmhost-t").value() == std::vector<std::string>{"a"});
}

TEST_CASE("a guard outlives its daemon, and is the next one's") {
    const Two two(whole_guard());
    const auto as_b = over_ipv4(ipv4(ip_b, "10.0.0.1", tcp, zeros(16)));
    CHECK(two.heard({as_b}).empty());
    auto gone = two.network->make_tap({.name = "g", .bridge = "br0", .guard = whole_guard()});
    two.network->leave();
    gone->reset();
    CHECK(two.heard({as_b}).empty());
    auto next = Network::open("t").value();
    auto kernel = net::open_kernel_links().value();
    CHECK(kernel->guarded_ports("vmhost-t").value() == std::vector<std::string>{"a"});
    REQUIRE(next->make_bridge({.name = "br0"}));
    REQUIRE(next->adopt_tap("a"));
    CHECK(two.heard({as_b}).empty());
    REQUIRE(next->guard_tap("a", whole_guard()));
    CHECK(two.heard({as_b}).empty());
    const auto counts = next->guard_counts().value();
    for (const auto& count : counts)
        if (count.reason == GuardReason::ipv4_source)
            CHECK(count.frames == 4);
    next.reset();
    CHECK(kernel->guarded_ports("vmhost-t").value().empty());
}
