// What a switch does for its guests: isolation, entries that stay, segments to other hosts. VLANs
// and routing domains need a kernel that has them: see the lab's scenario "switches".
#include <catch2/catch.hpp>

#include <csignal>
#include <fcntl.h>
#include <sys/wait.h>

#include "namespace.h"
#include "wire.h"

using namespace vmhost;
using namespace vmhost::test;
using net::Network;

namespace {

const Mac a{{2, 0, 0, 0, 0, 1}}, b{{2, 0, 0, 0, 0, 2}}, c{{2, 0, 0, 0, 0, 3}},
    other{{2, 0, 0, 0, 0, 9}};

std::vector<net::Forwarding> entries_of(const std::string& name) {
    auto all = net::open_kernel_links().value()->forwarding().value();
    auto index = link(name).index;
    std::erase_if(all, [&](const net::Forwarding& one) { return one.link != index; });
    return all;
}

// Another network namespace, and a process that keeps it.
class Elsewhere {
public:
    Elsewhere() {
        int ends[2];
        REQUIRE(::pipe(ends) == 0);
        pid_ = ::fork();
        if (pid_ == 0) {
            char done = ::unshare(CLONE_NEWNET) == 0 ? '+' : '-';
            (void)!::write(ends[1], &done, 1);
            for (;;)
                ::pause();
        }
        char done = 0;
        REQUIRE(::read(ends[0], &done, 1) == 1);
        ::close(ends[0]);
        ::close(ends[1]);
        REQUIRE(done == '+');
        there_ = Fd(::open(fmt::format("/proc/{}/ns/net", pid_).c_str(), O_RDONLY | O_CLOEXEC));
        here_ = Fd(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    }
    ~Elsewhere() {
        come_back();
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    pid_t pid() const { return pid_; }
    void go() { REQUIRE(::setns(there_.get(), CLONE_NEWNET) == 0); }
    void come_back() { REQUIRE(::setns(here_.get(), CLONE_NEWNET) == 0); }

private:
    pid_t pid_ = -1;
    Fd there_, here_;
};

} // namespace

TEST_CASE("a bridge knows its guests for ever, and nobody takes their addresses along") {
    fresh_namespace();
    auto network = Network::open("t").value();
    REQUIRE(network->make_bridge({.name = "br0"}));
    Wire wire_a{network->make_tap({.name = "a", .bridge = "br0", .known_as = a}).value()};
    Wire wire_b{network->make_tap({.name = "b", .bridge = "br0", .known_as = b}).value()};
    Wire wire_c{network->make_tap({.name = "c", .bridge = "br0", .known_as = c}).value()};
    CHECK(entries_of("a") ==
          std::vector<net::Forwarding>{{.link = link("a").index, .mac = a, .fixed = true}});
    wire_c.send(a, everybody, '0'); // a forger
    wire_b.send(b, a, '1');         // a has never sent anything, and is known
    wire_b.send(b, everybody, '.');
    CHECK(wire_a.received() == "01.");
    CHECK(wire_c.received() == "."); // and c does not hear it
    // What else it sends from is learnt, as it is not locked.
    wire_a.send(other, everybody, '2');
    wire_b.send(b, other, '3');
    wire_b.send(b, everybody, '.');
    CHECK(wire_a.received() == "3.");
    CHECK(wire_c.received() == "2.");
}

TEST_CASE("the entry of a guest stays when its parent is killed, and goes with its tap") {
    fresh_namespace();
    Fd held;
    {
        auto killed = Network::open("t").value();
        REQUIRE(killed->make_bridge({.name = "br0"}));
        held = killed->make_tap({.name = "a", .bridge = "br0", .known_as = a}).value();
        killed->leave();
    }
    auto network = Network::open("t").value();
    REQUIRE(network->make_bridge({.name = "br0"}));
    REQUIRE(network->adopt_tap("a"));
    CHECK(entries_of("a").size() == 1);
    CHECK(network->foreign_changes({{.name = "br0"}}).value().empty());
    sh("bridge fdb del 02:00:00:00:00:01 dev a master");
    CHECK(entries_of("a").empty());
    REQUIRE(network->restore_tap("a"));
    CHECK(entries_of("a").size() == 1);
    REQUIRE(network->remove_tap("a"));
    const auto left = net::open_kernel_links().value()->forwarding().value();
    CHECK(std::ranges::find(left, a, &net::Forwarding::mac) == left.end());
}

TEST_CASE("isolated guests reach the uplink and this host, and not each other") {
    fresh_namespace();
    sh("ip link add v0 type veth peer name v1 && ip link set v1 up");
    auto network = Network::open("t").value();
    REQUIRE(network->make_bridge({.name = "br0", .ports = {"v0"}}));
    auto tap = [&](const char* name, const Mac& mac, bool isolated) {
        return Wire{
            network
                ->make_tap({.name = name, .bridge = "br0", .locked_to = mac, .isolated = isolated})
                .value()};
    };
    auto wire_a = tap("a", a, true), wire_b = tap("b", b, true), wire_c = tap("c", c, false);
    CHECK(link("a").port->isolated);
    CHECK(link("a").port->locked);
    CHECK_FALSE(link("c").port->isolated);
    CHECK_FALSE(link("v0").port->isolated);
    wire_a.send(a, b, '1');
    wire_a.send(a, everybody, '2');
    wire_c.send(c, b, '3');
    wire_c.send(c, everybody, '.');
    CHECK(wire_b.received() == "3.");
    wire_a.send(a, c, '.');
    CHECK(wire_c.received() == "2.");
}

TEST_CASE("a VXLAN segment joins the bridges of two hosts") {
    fresh_namespace();
    Elsewhere second;
    sh(fmt::format("ip link add u0 type veth peer name u1 && ip link set u1 netns {} && "
                   "ip addr add 192.0.2.1/24 dev u0 && ip link set u0 up",
                   second.pid()));
    auto spec = [](const char* local, const char* peer) {
        net::BridgeSpec all{.name = "br0", .mtu = 1450};
        all.vxlan = net::VxlanSpec{"vxlan42", {42, parse_ipv4(local).value(), 4789}, {}};
        all.vxlan->peers = {parse_ipv4(peer).value(), parse_ipv4("192.0.2.9").value()};
        return all;
    };
    second.go();
    sh("ip addr add 192.0.2.2/24 dev u1 && ip link set u1 up");
    auto before = snapshot();
    auto far = Network::open("t").value();
    REQUIRE(far->make_bridge(spec("192.0.2.2", "192.0.2.1")));
    Wire wire_b{far->make_tap({.name = "b", .bridge = "br0", .mtu = 1450, .locked_to = b}).value()};
    second.come_back();

    auto near_spec = spec("192.0.2.1", "192.0.2.2");
    auto network = Network::open("t").value();
    REQUIRE(network->make_bridge(near_spec));
    Wire wire_a{
        network->make_tap({.name = "a", .bridge = "br0", .mtu = 1450, .locked_to = a}).value()};
    CHECK(link("vxlan42").mtu == 1450);
    CHECK(link("vxlan42").master == link("br0").index);
    CHECK(link("br0").mtu == 1450);
    wire_a.send(a, everybody, '1'); // to both peers, of which one is there
    wire_a.send(a, b, '.');
    CHECK(wire_b.received() == "1.");
    wire_b.send(b, a, '.'); // learnt from what came
    CHECK(wire_a.received() == ".");

    CHECK(network->foreign_changes({near_spec}).value().empty());
    near_spec.vxlan->peers.pop_back();
    auto differs = network->foreign_changes({near_spec}).value();
    REQUIRE(differs.size() == 1);
    CHECK(differs[0].have == "[192.0.2.2, 192.0.2.9]");
    REQUIRE(network->change_bridge(near_spec));
    CHECK(network->foreign_changes({near_spec}).value().empty());
    // Another segment is another link; without one it is gone.
    near_spec.vxlan->options.id = 43;
    REQUIRE(network->change_bridge(near_spec));
    CHECK(link("vxlan42").options == net::LinkOptions(near_spec.vxlan->options));
    near_spec.vxlan.reset();
    REQUIRE(network->change_bridge(near_spec));
    CHECK_FALSE(exists("vxlan42"));

    second.go();
    wire_b.fd.reset();
    far.reset();
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("a segment that an earlier run left is adopted, and one that nobody wants is removed") {
    fresh_namespace();
    auto before = snapshot();
    net::BridgeSpec spec{.name = "br0"};
    spec.vxlan = net::VxlanSpec{"vxlan7", {7, parse_ipv4("192.0.2.1").value(), 4789}, {}};
    unsigned index = 0;
    {
        auto killed = Network::open("t").value();
        REQUIRE(killed->make_bridge(spec));
        index = link("vxlan7").index;
        killed->leave();
    }
    {
        auto network = Network::open("t").value();
        REQUIRE(network->make_bridge(spec));
        REQUIRE(network->remove_stale_bridges());
        CHECK(link("vxlan7").index == index);
        CHECK(network->make_bridge({.name = "br1", .vxlan = spec.vxlan}).error().kind() ==
              ErrorKind::busy);
        network->leave();
    }
    {
        auto network = Network::open("t").value();
        REQUIRE(network->remove_stale_bridges());
        CHECK_FALSE(exists("vxlan7"));
    }
    CHECK(text(snapshot()) == text(before));
    sh("ip link add vxlan7 type vxlan id 8 local 192.0.2.1 dstport 4789");
    auto network = Network::open("t").value();
    auto taken = network->make_bridge(spec);
    CHECK(taken.error().text() == "bridge br0: vxlan7 exists and was not made by vmhost: remove it "
                                  "(ip link delete vxlan7), or name another");
    CHECK_FALSE(exists("br0"));
}
