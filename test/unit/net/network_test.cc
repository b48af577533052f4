// Real bridges and taps in a namespace: make, adopt, refuse, undo.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <fstream>
#include <linux/if_tun.h>
#include <set>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "namespace.h"
#include "wire.h"

using namespace vmhost;
using namespace vmhost::test;
using net::Network;

namespace {

std::string file_text(const std::string& path) {
    std::ifstream file(path);
    std::string text;
    std::getline(file, text);
    return text;
}

// Runs in a child and gives back the text that it returns.
template <class Function>
std::string in_child(Function function) {
    int ends[2];
    if (::pipe(ends) != 0)
        throw std::runtime_error("pipe");
    pid_t pid = ::fork();
    if (pid == 0) {
        std::string text = function();
        (void)!::write(ends[1], text.data(), text.size());
        ::_exit(0);
    }
    ::close(ends[1]);
    std::string all;
    char piece[512];
    for (ssize_t got; (got = ::read(ends[0], piece, sizeof(piece))) > 0;)
        all.append(piece, static_cast<std::size_t>(got));
    ::close(ends[0]);
    ::waitpid(pid, nullptr, 0);
    return all;
}

} // namespace

TEST_CASE("tap names fit the kernel and stay apart") {
    CHECK(net::tap_name("vm13", 0) == "vm13-if0");
    CHECK(net::tap_name("exactly-11b", 0) == "exactly-11b-if0");
    auto a = net::tap_name("a-rather-long-name-1", 0), b = net::tap_name("a-rather-long-name-2", 0);
    CHECK(a.size() == 15);
    CHECK(a != b);
    CHECK(a.ends_with("-if0"));
    CHECK(net::tap_name(std::string(63, 'x'), limits::max_interfaces - 1).size() == 15);
}

TEST_CASE("a bridge has the settings a host for guests needs, and is gone at the end") {
    fresh_namespace();
    auto before = snapshot();
    {
        auto network = Network::open("server8").value();
        auto index =
            network->make_bridge({.name = "br-lan", .ipv4 = prefix("10.0.0.1/24"), .mtu = 1400});
        REQUIRE(index);
        auto bridge = link("br-lan");
        CHECK(bridge.index == *index);
        CHECK(bridge.kind == "bridge");
        CHECK(bridge.alias == "vmhost:server8:br-lan");
        CHECK(bridge.mac == net::bridge_mac("server8", "br-lan"));
        CHECK(bridge.mac.octets[0] == 0xfe);
        CHECK(bridge.mtu == 1400);
        CHECK(bridge.up);
        sh("ip -d link show br-lan | grep -q 'forward_delay 0 .*stp_state 0 .*mcast_snooping 0'");
        sh("ip addr show br-lan | grep -q 'inet 10.0.0.1/24 brd 10.0.0.255'");
        CHECK(network->make_bridge({.name = "br-lan"}).error().kind() == ErrorKind::exists);
    }
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("a bridge has the IPv6 address that it is given, at once, and no other") {
    fresh_namespace();
    auto before = snapshot();
    {
        auto network = Network::open("t").value();
        auto six = [](const char* text) { return parse_ipv6_prefix(text).value(); };
        REQUIRE(network->make_bridge({.name = "br0", .ipv6 = six("2001:db8::1/64")}));
        auto own = Ipv6::link_local(net::bridge_mac("t", "br0")).text();
        auto addresses = [] {
            auto links = net::open_kernel_links().value();
            std::set<std::string> all;
            const auto listed = links->addresses6().value();
            for (const auto& one : listed)
                if (one.index == link("br0").index)
                    all.insert(one.prefix.text());
            return all;
        };
        CHECK(addresses() == std::set<std::string>{"2001:db8::1/64", own + "/64"});
        sh("! ip -6 addr show br0 | grep -q tentative");
        CHECK(file_text("/proc/sys/net/ipv6/conf/br0/accept_ra") == "0");
        CHECK(file_text("/proc/sys/net/ipv6/conf/br0/accept_redirects") == "0");
        // What somebody else put there is no part of it.
        sh("ip addr add 2001:db8:5::5/64 dev br0");
        CHECK(network->change_bridge({.name = "br0", .ipv6 = six("2001:db8:1::1/64")}));
        CHECK(addresses() == std::set<std::string>{"2001:db8:1::1/64", own + "/64"});
        // Down and up again, both are back once there is a carrier.
        sh("ip link add v0 type veth peer name v1 && ip link set v1 up");
        REQUIRE(network->attach_port("br0", "v0"));
        sh("ip link set br0 down && ip link set br0 up");
        for (int i = 0; i < 100 && addresses().size() < 2; ++i)
            ::usleep(50'000);
        CHECK(addresses() == std::set<std::string>{"2001:db8:1::1/64", own + "/64"});
        sh("ip link delete v0");
        // A second bridge with the address of the first is refused, by name.
        auto same = network->make_bridge({.name = "br1", .ipv6 = six("2001:db8:1::1/64")});
        REQUIRE_FALSE(same);
        CHECK_THAT(same.error().message(), Catch::Contains("interface br0 of this host has"));
        CHECK(network->change_bridge({.name = "br0"}));
        CHECK(addresses().empty());
        CHECK(file_text("/proc/sys/net/ipv6/conf/br0/disable_ipv6") == "1");
    }
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("a tap is ready for a guest, and is gone at the end") {
    fresh_namespace();
    auto before = snapshot();
    {
        auto network = Network::open("t").value();
        auto bridge = network->make_bridge({.name = "br0", .mtu = 9000}).value();
        auto fd = network->make_tap({.name = "vm13-if0",
                                     .bridge = "br0",
                                     .description = "vm13 interface 0",
                                     .owner = 1234,
                                     .mtu = 9000});
        REQUIRE(fd);
        auto tap = link("vm13-if0");
        CHECK(tap.kind == "tun");
        CHECK(tap.master == bridge);
        CHECK(tap.alias == "vmhost:t:vm13 interface 0");
        CHECK(tap.mtu == 9000);
        CHECK(tap.up);
        CHECK(link("br0").mac == net::bridge_mac("t", "br0")); // ports do not change it
        CHECK(link("br0").mtu == 9000);
        CHECK(file_text("/proc/sys/net/ipv6/conf/vm13-if0/disable_ipv6") == "1");
        CHECK((::fcntl(fd->get(), F_GETFL) & O_NONBLOCK));
        CHECK((::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC));
        int header_bytes = 0;
        REQUIRE(::ioctl(fd->get(), TUNGETVNETHDRSZ, &header_bytes) == 0);
        CHECK(header_bytes == 12);
        sh("ip -d link show vm13-if0 | grep -q 'type tap.*user 1234'");
        char frame[64];
        (void)!::read(fd->get(), frame, sizeof(frame)); // does not block
        // The guest ends: the tap goes with the descriptor and can be made again.
        CHECK(network->make_tap({.name = "vm13-if0", .bridge = "br0"}).error().kind() ==
              ErrorKind::busy);
        fd->reset();
        CHECK_FALSE(exists("vm13-if0"));
        fd = network->make_tap({.name = "vm13-if0", .bridge = "br0"});
        REQUIRE(fd);
        auto kept = fd->duplicate().value(); // even one that somebody still holds is removed
        fd->release();
    }
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("a tap can be plugged into nothing, and be left down") {
    fresh_namespace();
    auto network = Network::open("t").value();
    auto loose = network->make_tap({.name = "tap7"}).value();
    CHECK(link("tap7").master == 0);
    CHECK(link("tap7").up);
    auto down = network->make_tap({.name = "tap8", .up = false}).value();
    CHECK_FALSE(link("tap8").up);
    REQUIRE(network->make_bridge({.name = "br0", .up = false}));
    CHECK_FALSE(link("br0").up);
}

TEST_CASE("a locked guest sends from its own address only, and hears what is for it") {
    fresh_namespace();
    const Mac a{{2, 0, 0, 0, 0, 1}}, b{{2, 0, 0, 0, 0, 2}}, c{{2, 0, 0, 0, 0, 3}},
        other{{2, 0, 0, 0, 0, 9}}, group{{1, 0, 0x5e, 0, 0, 7}};
    auto network = Network::open("t").value();
    REQUIRE(network->make_bridge({.name = "br0"}));
    Wire wire_a{network->make_tap({.name = "a", .bridge = "br0", .locked_to = a}).value()};
    Wire wire_b{network->make_tap({.name = "b", .bridge = "br0", .locked_to = b}).value()};
    Wire wire_c{network->make_tap({.name = "c", .bridge = "br0"}).value()}; // free
    wire_a.send(other, everybody, '1');                                     // not its address
    wire_a.send(b, everybody, '2');                                         // its neighbour's
    wire_a.send(a, c, '3');     // nobody has learnt where c is: not to b
    wire_a.send(a, other, '4'); // nobody's
    wire_a.send(a, b, '5');
    wire_a.send(a, group, '6');
    wire_a.send(a, everybody, '.');
    CHECK(wire_b.received() == "56.");
    CHECK(wire_c.received() == "346.");
    wire_c.send(other, a, '7'); // c may send as anybody
    wire_c.send(c, everybody, '.');
    CHECK(wire_a.received() == "7.");
}

TEST_CASE("a tap with several queues is one interface, and is gone with its last queue") {
    fresh_namespace();
    auto before = snapshot();
    {
        auto network = Network::open("t").value();
        REQUIRE(network->make_bridge({.name = "br0"}));
        CHECK(network->add_tap_queue("a-if0").error().kind() == ErrorKind::not_found);
        auto first = network->make_tap({.name = "a-if0", .bridge = "br0", .several_queues = true});
        REQUIRE(first);
        auto index = link("a-if0").index;
        std::vector<Fd> more;
        for (unsigned i = 1; i < limits::max_queue_pairs; ++i) {
            auto queue = network->add_tap_queue("a-if0");
            REQUIRE(queue);
            int header_bytes = 0;
            REQUIRE(::ioctl(queue->get(), TUNGETVNETHDRSZ, &header_bytes) == 0);
            CHECK(header_bytes == 12);
            CHECK((::fcntl(queue->get(), F_GETFL) & O_NONBLOCK));
            more.push_back(*std::move(queue));
        }
        CHECK(link("a-if0").index == index);
        sh("ip -d link show a-if0 | grep -q multi_queue");
        // Another run leaves it alone while somebody holds it.
        network->leave();
        {
            auto other = Network::open("t").value();
            CHECK(exists("a-if0"));
        }
        first->reset();
        CHECK(exists("a-if0"));
        more.clear();
        CHECK_FALSE(exists("a-if0"));
        auto single = Network::open("t").value();
        REQUIRE(single->make_bridge({.name = "br0"}));
        auto one = single->make_tap({.name = "a-if0", .bridge = "br0"});
        REQUIRE(one);
        CHECK_FALSE(single->add_tap_queue("a-if0"));
    }
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("single things can be removed") {
    fresh_namespace();
    sh("ip link add v0 type veth peer name v1");
    auto before = snapshot();
    auto network = Network::open("t").value();
    REQUIRE(network->make_bridge({.name = "br0", .ports = {"v0"}}));
    REQUIRE(network->attach_port("br0", "v1"));
    auto fd = network->make_tap({.name = "a-if0", .bridge = "br0"}).value();
    REQUIRE(network->remove_tap("a-if0"));
    CHECK_FALSE(exists("a-if0"));
    REQUIRE(network->release_port("v1"));
    CHECK(link("v1").master == 0);
    CHECK(network->release_port("v1").error().kind() == ErrorKind::not_found);
    REQUIRE(network->remove_bridge("br0"));
    CHECK(network->remove_bridge("br0").error().kind() == ErrorKind::not_found);
    CHECK(network->attach_port("br0", "v1").error().kind() == ErrorKind::not_found);
    CHECK(network->make_tap({.name = "a-if0", .bridge = "br0"}).error().kind() ==
          ErrorKind::not_found);
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("named ports are attached, raised, and given back as they were") {
    fresh_namespace();
    sh("ip link add v0 type veth peer name v1 && ip link set v1 up");
    auto before = snapshot();
    {
        auto network = Network::open("t").value();
        auto bridge = network->make_bridge({.name = "br0", .ports = {"v0", "v1"}}).value();
        CHECK(link("v0").master == bridge);
        CHECK(link("v0").up);
        CHECK(link("v1").master == bridge);
    }
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("a bridge changes its address and ports while its taps stay") {
    fresh_namespace();
    sh("ip link add v0 type veth peer name v1 && ip link set v1 up");
    auto before = snapshot();
    {
        auto network = Network::open("t").value();
        auto bridge =
            network->make_bridge({.name = "br0", .ipv4 = prefix("10.0.0.1/24"), .ports = {"v0"}})
                .value();
        auto tap = network->make_tap({.name = "t0", .bridge = "br0"});
        REQUIRE(tap);
        net::BridgeSpec other{.name = "br0", .ipv4 = prefix("10.0.9.1/24"), .ports = {"v1"}};
        REQUIRE(network->change_bridge(other));
        REQUIRE(network->change_bridge(other)); // twice is once
        CHECK(link("t0").master == bridge);
        CHECK(link("v0").master == 0);
        CHECK_FALSE(link("v0").up);
        CHECK(link("v1").master == bridge);
        sh("ip addr show br0 | grep -q 10.0.9.1/24 && ! ip addr show br0 | grep -q 10.0.0.1");
        CHECK(network->change_bridge({.name = "br1"}).error().kind() == ErrorKind::not_found);
        auto missing = network->change_bridge({.name = "br0", .ports = {"eth9"}});
        CHECK(missing.error().text() == "bridge br0: port eth9: no such interface");
    }
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("what is not ours is refused by name") {
    fresh_namespace();
    sh("ip link add br0 type bridge && ip link add v0 type veth peer name v1 &&"
       "ip link set v0 master br0 && ip addr add 10.0.0.1/16 dev v1 &&"
       "ip tuntap add mode tap name t0 && ip link set t0 alias 'vmhost:other:t0'");
    auto before = snapshot();
    {
        auto network = Network::open("t").value();
        auto refused = network->make_bridge({.name = "br0"});
        REQUIRE_FALSE(refused);
        CHECK(refused.error().kind() == ErrorKind::exists);
        CHECK(refused.error().text().starts_with("bridge br0 exists and was not made by vmhost: "));
        CHECK(network->make_bridge({.name = "v1"}).error().text() ==
              "bridge v1: an interface of that name exists and is no bridge");
        auto taken = network->make_bridge({.name = "br1", .ports = {"v0"}});
        CHECK(taken.error().kind() == ErrorKind::busy);
        CHECK(taken.error().text() == "bridge br1: port v0: belongs to br0 already");
        CHECK(network->make_bridge({.name = "br1", .ipv4 = prefix("10.0.0.1/24")}).error().text() ==
              "bridge br1: interface v1 of this host has the address 10.0.0.1/16 already");
        REQUIRE(network->make_bridge({.name = "br2"}));
        CHECK(network->make_tap({.name = "t0", .bridge = "br2"}).error().kind() ==
              ErrorKind::exists);
        for (auto bad : {"", "sixteen-bytes-xx", "a/b", ".", "..", "a b", "a:b", "%d"})
            CHECK(network->make_bridge({.name = bad}).error().kind() == ErrorKind::invalid);
        CHECK(Network::open("a:b").error().kind() == ErrorKind::invalid);
        CHECK(Network::open("").error().kind() == ErrorKind::invalid);
    }
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("wrong values of a specification name the object and leave nothing") {
    fresh_namespace();
    sh("ip link add v0 type veth peer name v1");
    auto before = snapshot();
    {
        auto network = Network::open("t").value();
        auto failed = network->make_bridge({.name = "br0", .mtu = 10, .ports = {"v0"}});
        REQUIRE_FALSE(failed);
        CHECK(failed.error().text().starts_with("bridge br0: set address "));
        CHECK(failed.error().text().find("mtu 10") != std::string::npos);
        CHECK(network->make_bridge({.name = "br0", .ports = {"v0", "eth9"}}).error().text() ==
              "bridge br0: port eth9: no such interface");
        auto loopback = network->make_bridge({.name = "br0", .ports = {"v0", "lo"}});
        REQUIRE_FALSE(loopback);
        CHECK(loopback.error().text().starts_with("bridge br0: port lo: set bridge: "));
        CHECK(text(snapshot()) == text(before));
        REQUIRE(network->make_bridge({.name = "br0"}));
        auto tap = network->make_tap({.name = "a-if0", .bridge = "br0", .mtu = 1 << 20});
        REQUIRE_FALSE(tap);
        CHECK(tap.error().text().starts_with("tap a-if0: set mtu 1048576"));
        CHECK_FALSE(exists("a-if0"));
    }
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("an earlier run's bridge is adopted and reset") {
    fresh_namespace();
    sh("ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up");
    auto before = snapshot();
    {
        auto crashed = Network::open("t").value();
        REQUIRE(crashed->make_bridge(
            {.name = "br0", .ipv4 = prefix("10.0.0.1/24"), .mtu = 1400, .ports = {"v0"}}));
        REQUIRE(crashed->make_bridge({.name = "br-old"}));
        crashed->leave();
    }
    sh("ip addr add 10.9.9.9/32 dev br0 && ip link set br0 down");
    auto index = link("br0").index;
    {
        CHECK(Network::open("other").value()->make_bridge({.name = "br0"}).error().kind() ==
              ErrorKind::exists);
        auto network = Network::open("t").value();
        CHECK(network->make_bridge(
                  {.name = "br0", .ipv4 = prefix("10.0.1.1/24"), .ports = {"v1"}}) == index);
        REQUIRE(network->remove_stale_bridges());
        CHECK_FALSE(exists("br-old"));
        CHECK(link("br0").mtu == 1500);
        CHECK(link("br0").up);
        CHECK(link("v0").master == 0);
        CHECK(link("v1").master == index);
        CHECK(snapshot().addresses ==
              std::vector<std::string>{fmt::format("{} 10.0.1.1/24", index)});
    }
    CHECK(text(snapshot()) == text(before));
}

// The parent was killed, and the file was changed before the next one came.
TEST_CASE("bridges that an earlier run left may have swapped their addresses and ports") {
    fresh_namespace();
    sh("ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up");
    auto before = snapshot();
    {
        auto killed = Network::open("t").value();
        REQUIRE(
            killed->make_bridge({.name = "br0", .ipv4 = prefix("10.0.0.1/24"), .ports = {"v0"}}));
        REQUIRE(
            killed->make_bridge({.name = "br1", .ipv4 = prefix("10.0.1.1/24"), .ports = {"v1"}}));
        killed->leave();
    }
    {
        auto network = Network::open("t").value();
        REQUIRE(
            network->make_bridge({.name = "br0", .ipv4 = prefix("10.0.1.1/24"), .ports = {"v1"}}));
        // What this run has made is still nobody else's.
        CHECK(network->make_bridge({.name = "br2", .ipv4 = prefix("10.0.1.1/24")}).error().kind() ==
              ErrorKind::exists);
        CHECK(network->make_bridge({.name = "br2", .ports = {"v1"}}).error().kind() ==
              ErrorKind::busy);
        REQUIRE(
            network->make_bridge({.name = "br1", .ipv4 = prefix("10.0.0.1/24"), .ports = {"v0"}}));
        CHECK(link("v1").master == link("br0").index);
        CHECK(link("v0").master == link("br1").index);
    }
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("a bridge whose alias was never written is known by its address") {
    fresh_namespace();
    auto before = snapshot();
    REQUIRE(net::open_kernel_links().value()->create_bridge("br0", net::bridge_mac("t", "br0")));
    {
        auto network = Network::open("t").value();
        REQUIRE(network->make_bridge({.name = "br0"}));
        CHECK(link("br0").alias == "vmhost:t:br0");
    }
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("taps that nobody holds are deleted, those of living guests are kept") {
    fresh_namespace();
    auto before = snapshot();
    {
        auto earlier = Network::open("t").value();
        REQUIRE(earlier->make_bridge({.name = "br0"}));
        auto live = earlier->make_tap({.name = "live-if0", .bridge = "br0"}).value();
        {
            auto stale = earlier->make_tap({.name = "stale-if0", .bridge = "br0"}).value();
            REQUIRE(::ioctl(stale.get(), TUNSETPERSIST, 1UL) == 0);
        }
        earlier->leave();
        REQUIRE(exists("stale-if0"));
        {
            auto other = Network::open("other").value();
            CHECK(exists("stale-if0"));
        }
        {
            auto network = Network::open("t").value();
            CHECK_FALSE(exists("stale-if0"));
            CHECK(exists("live-if0"));
            REQUIRE(network->make_bridge({.name = "br0"}));
            CHECK(network->make_tap({.name = "live-if0", .bridge = "br0"}).error().kind() ==
                  ErrorKind::busy);
            CHECK(network->adopt_tap("br0").error().kind() == ErrorKind::not_found);
            CHECK(network->adopt_tap("none").error().kind() == ErrorKind::not_found);
        }
        {
            auto network = Network::open("t").value();
            REQUIRE(network->make_bridge({.name = "br0"}));
            REQUIRE(network->adopt_tap("live-if0"));
            REQUIRE(network->remove_tap("live-if0"));
            CHECK_FALSE(exists("live-if0"));
            live = network->make_tap({.name = "live-if0", .bridge = "br0"}).value();
            network->leave();
        }
        CHECK(exists("br0")); // a guest of the earlier parent is still on it
        CHECK(link("live-if0").master == link("br0").index);
    }
    {
        auto network = Network::open("t").value();
        REQUIRE(network->remove_stale_bridges());
    }
    CHECK(text(snapshot()) == text(before));
}

TEST_CASE("without rights the error says what is needed") {
    fresh_namespace();
    auto network = Network::open("t").value();
    REQUIRE(network->make_bridge({.name = "br0"}));
    // The lower half of each test runs as nobody; the parent's Network is not touched there.
    auto tap = in_child([&] {
        if (::setresuid(65534, 65534, 65534) != 0)
            return std::string("setresuid failed");
        return network->make_tap({.name = "a-if0", .bridge = "br0"}).error().text();
    });
    CHECK((tap == "tap a-if0: create: Operation not permitted; vmhost run needs root or "
                  "CAP_NET_ADMIN" ||
           tap == "tap a-if0: open /dev/net/tun: Permission denied; vmhost run needs root or "
                  "CAP_NET_ADMIN"));
    auto bridge = in_child([&] {
        if (::setresuid(65534, 65534, 65534) != 0)
            return std::string("setresuid failed");
        auto mine = Network::open("t");
        return mine ? (*mine)->make_bridge({.name = "br1"}).error().text() : mine.error().text();
    });
    CHECK(bridge ==
          "bridge br1: create: Operation not permitted; vmhost run needs root or CAP_NET_ADMIN");
}

TEST_CASE("a kernel without the tun device is named") {
    fresh_namespace();
    auto network = Network::open("t").value();
    REQUIRE(network->make_bridge({.name = "br0"}));
    auto text = in_child([&] {
        if (::unshare(CLONE_NEWNS) != 0 ||
            ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            ::mount("none", "/dev/net", "tmpfs", 0, nullptr) != 0)
            return std::string("cannot hide /dev/net");
        return network->make_tap({.name = "a-if0", .bridge = "br0"}).error().text();
    });
    CHECK(text.starts_with("tap a-if0: open /dev/net/tun: No such file or directory; "));
}
