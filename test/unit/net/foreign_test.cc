// What somebody else changes of our links is seen, and put right.
#include <catch2/catch.hpp>

#include "namespace.h"
#include "wire.h"

using namespace vmhost;
using namespace vmhost::test;
using net::Network;

namespace {

std::string text_of(const std::vector<net::Foreign>& changes) {
    std::string all;
    for (const auto& one : changes)
        all += fmt::format("{} {}: {} -> {}; ", one.link, one.what, one.have, one.wanted);
    return all;
}

} // namespace

TEST_CASE("each change of somebody else is seen, and put right") {
    fresh_namespace();
    sh("ip link add v0 type veth peer name v1 && ip link set v1 up && "
       "ip link add w0 type veth peer name w1");
    auto before = snapshot();
    {
        const net::BridgeSpec spec{
            .name = "br0", .ipv4 = prefix("10.0.0.1/24"), .mtu = 1400, .ports = {"v0"}};
        auto network = Network::open("t").value();
        REQUIRE(network->make_bridge(spec));
        auto tap = network
                       ->make_tap({.name = "a-if0",
                                   .bridge = "br0",
                                   .mtu = 1400,
                                   .locked_to = Mac{{2, 0, 0, 0, 0, 1}}})
                       .value();
        auto seen = [&] { return text_of(network->foreign_changes({spec}).value()); };
        REQUIRE(seen().empty());
        struct Case {
            const char *command, *text;
        };
        for (const auto& one : {
                 Case{"ip addr del 10.0.0.1/24 dev br0", "br0 ipv4: none -> 10.0.0.1/24; "},
                 Case{"ip addr add 10.9.0.1/24 dev br0",
                      "br0 ipv4: 10.0.0.1/24 10.9.0.1/24 -> 10.0.0.1/24; "},
                 Case{"ip link set br0 mtu 1300", "br0 mtu: 1300 -> 1400; "},
                 Case{"ip link set br0 down", "br0 up: false -> true; "},
                 Case{"ip link set br0 type bridge stp_state 1",
                      "br0 spanning tree: true -> false; br0 forward delay: 200 -> 0; "},
                 Case{"ip link set br0 type bridge mcast_snooping 1",
                      "br0 multicast snooping: true -> false; "},
                 Case{"ip link set v0 nomaster", "br0 ports: [] -> [v0]; "},
                 Case{"ip link set v0 down", "br0 ports: [v0 (down)] -> [v0]; "},
                 Case{"ip link set w0 up master br0", "br0 ports: [v0, w0] -> [v0]; "},
                 Case{"ip link set a-if0 mtu 1300", "a-if0 mtu: 1300 -> 1400; "},
                 Case{"ip link set a-if0 down", "a-if0 up: false -> true; "},
                 Case{"ip link set a-if0 nomaster", "a-if0 switch: none -> br0; "},
                 Case{"bridge link set dev a-if0 isolated on", "a-if0 isolated: true -> false; "},
                 Case{"bridge link set dev a-if0 learning on", "a-if0 learning: true -> false; "},
                 Case{"bridge link set dev a-if0 locked off",
                      "a-if0 locked_lladdr: false -> true; "},
                 Case{"bridge fdb del 02:00:00:00:00:01 dev a-if0 master",
                      "a-if0 lladdr: none -> 02:00:00:00:00:01; "},
             }) {
            sh(one.command);
            CHECK(seen() == one.text);
            REQUIRE(network->change_bridge(spec));
            REQUIRE(network->restore_tap("a-if0"));
            INFO(one.command);
            CHECK(seen().empty());
        }
    }
    sh("ip link set w0 down");
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("IPv6 that somebody else changes is seen, and put right") {
    fresh_namespace();
    const net::BridgeSpec with{.name = "br0", .ipv6 = parse_ipv6_prefix("2001:db8::1/64").value()};
    const net::BridgeSpec without{.name = "br1"};
    auto network = Network::open("t").value();
    if (!network->make_bridge(with)) {
        WARN("this kernel has no IPv6");
        return;
    }
    REQUIRE(network->make_bridge(without));
    auto seen = [&] { return text_of(network->foreign_changes({with, without}).value()); };
    REQUIRE(seen().empty());
    const auto local = Ipv6::link_local(net::bridge_mac("t", "br0")).text() + "/64";
    const auto all = " -> 2001:db8::1/64 " + local + "; ";
    const std::pair<std::string, std::string> cases[] = {
        {"ip -6 addr del 2001:db8::1/64 dev br0", "br0 ipv6: " + local + all},
        {"ip -6 addr del " + local + " dev br0", "br0 ipv6: 2001:db8::1/64" + all},
        {"ip -6 addr add 2001:db8::9/64 dev br0",
         "br0 ipv6: 2001:db8::1/64 2001:db8::9/64 " + local + all},
        {"sysctl -qw net.ipv6.conf.br0.disable_ipv6=1", "br0 ipv6: none" + all},
        {"sysctl -qw net.ipv6.conf.br1.disable_ipv6=0; ip -6 addr add 2001:db8:1::1/64 dev br1 && "
         "ip -6 addr flush dev br1 scope link",
         "br1 ipv6: 2001:db8:1::1/64 -> none; "},
    };
    for (const auto& [command, text] : cases) {
        INFO(command);
        sh(command);
        CHECK(seen() == text);
        REQUIRE(network->change_bridge(with));
        REQUIRE(network->change_bridge(without));
        CHECK(seen().empty());
    }
}

TEST_CASE("a bridge that somebody has removed is made again, and its guests are plugged in") {
    fresh_namespace();
    sh("ip link add v0 type veth peer name v1 && ip link set v1 up");
    auto before = snapshot();
    {
        const net::BridgeSpec spec{.name = "br0", .ipv4 = prefix("10.0.0.1/24"), .ports = {"v0"}};
        auto network = Network::open("t").value();
        auto index = network->make_bridge(spec).value();
        auto tap = network->make_tap({.name = "a-if0", .bridge = "br0"}).value();
        sh("ip link delete br0");
        CHECK(text_of(network->foreign_changes({spec}).value()) ==
              "br0 interface: none -> br0; a-if0 switch: none -> br0; ");
        auto again = network->change_bridge(spec);
        REQUIRE(again);
        CHECK(*again != index);
        REQUIRE(network->restore_tap("a-if0"));
        CHECK(link("a-if0").master == *again);
        CHECK(network->foreign_changes({spec}).value().empty());
        sh("ip link delete a-if0");
        CHECK(text_of(network->foreign_changes({spec}).value()) == "a-if0 tap: none -> a-if0; ");
        CHECK(network->restore_tap("a-if0").error().text() == "tap a-if0: removed under its guest");
        tap.release(); // the descriptor is of nothing any more
    }
    CHECK(text(snapshot()) == text(before));
}
