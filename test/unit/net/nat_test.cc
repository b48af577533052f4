// Translation in a real kernel: a guest on a local interface, this host, and a machine beyond it
// in a network namespace of its own.
#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <csignal>
#include <fstream>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "frames.h"
#include "namespace.h"

using namespace vmhost;
using namespace vmhost::test;
using net::Network;

namespace {

constexpr unsigned port = 4242;
const Mac guest{{2, 0, 0, 0, 0, 1}};
constexpr const char* guest_ip = "100.64.0.3";

// Says from which address each datagram to its port comes, and answers it.
class Beyond {
public:
    Beyond() {
        int ready[2], said[2];
        REQUIRE(::pipe(ready) == 0);
        REQUIRE(::pipe(said) == 0);
        pid_ = ::fork();
        if (pid_ == 0)
            serve(ready[1], said[1]);
        ::close(ready[1]);
        ::close(said[1]);
        ready_ = Fd(ready[0]);
        said_ = Fd(said[0]);
        char one = 0;
        REQUIRE(::read(ready_.get(), &one, 1) == 1); // in its namespace
        sh("ip link add v0 type veth peer name v1 && ip link set v1 netns " + std::to_string(pid_));
        sh("ip addr add 192.0.2.1/24 dev v0 && ip link set v0 up");
        sh("nsenter -t " + std::to_string(pid_) +
           " -n sh -c 'ip addr add 192.0.2.2/24 dev v1 && ip link set v1 up && "
           "ip route add default via 192.0.2.1'");
    }
    ~Beyond() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    // Where the next datagram came from.
    std::string heard(int timeout_ms = 10'000) const {
        pollfd waiting{said_.get(), POLLIN, 0};
        char text[INET_ADDRSTRLEN] = {};
        if (::poll(&waiting, 1, timeout_ms) <= 0)
            return "nothing";
        (void)!::read(said_.get(), text, sizeof(text));
        return text;
    }
    void run(const std::string& command) const {
        sh("nsenter -t " + std::to_string(pid_) + " -n " + command);
    }

private:
    [[noreturn]] static void serve(int ready, int said) {
        (void)::unshare(CLONE_NEWNET);
        int udp = ::socket(AF_INET, SOCK_DGRAM, 0);
        sockaddr_in own{};
        own.sin_family = AF_INET;
        own.sin_port = htons(port);
        (void)::bind(udp, reinterpret_cast<sockaddr*>(&own), sizeof(own));
        (void)!::write(ready, "x", 1);
        for (;;) {
            char data[64], text[INET_ADDRSTRLEN] = {};
            sockaddr_in from{};
            socklen_t length = sizeof(from);
            auto got =
                ::recvfrom(udp, data, sizeof(data), 0, reinterpret_cast<sockaddr*>(&from), &length);
            if (got < 0)
                ::_exit(1);
            ::inet_ntop(AF_INET, &from.sin_addr, text, sizeof(text));
            (void)::sendto(udp, data, static_cast<std::size_t>(got), 0,
                           reinterpret_cast<sockaddr*>(&from), length);
            (void)!::write(said, text, sizeof(text));
        }
    }
    pid_t pid_ = -1;
    Fd ready_, said_;
};

void forwarding(bool on) {
    std::ofstream("/proc/sys/net/ipv4/ip_forward") << (on ? "1" : "0");
}

// With a checksum: this goes through IP.
Frame datagram(unsigned from_port) {
    auto packet =
        ipv4(guest_ip, "192.0.2.2", 17, be16(from_port) + be16(port) + be16(16) + zeros(10));
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < 20; i += 2)
        sum += load_be<std::uint16_t>(Bytes(packet).subspan(i));
    sum = (sum & 0xffff) + (sum >> 16);
    store_be(MutableBytes(packet).subspan(10), static_cast<std::uint16_t>(~sum));
    return packet;
}

// A guest alone with this host.
struct Local {
    std::unique_ptr<Network> network;
    Port wire;

    explicit Local() {
        network = Network::open("t").value();
        REQUIRE(network->make_bridge(
            {.name = "a-br0", .ipv4 = parse_ipv4_prefix("100.64.0.2/31").value()}));
        wire.fd = network->make_tap({.name = "a", .bridge = "a-br0"}).value();
        sh(fmt::format("ip neigh replace {} lladdr {} dev a-br0", guest_ip, guest.text()));
    }
    void send(unsigned from_port) const {
        wire.send(ethernet(guest, net::bridge_mac("t", "a-br0"), 0x800, datagram(from_port)));
    }
    // Whether UDP to this port of the guest comes, soon.
    bool hears(unsigned to_port, int timeout_ms = 10'000) const {
        for (;;) {
            Frame frame(2000);
            pollfd ready{wire.fd.get(), POLLIN, 0};
            if (::poll(&ready, 1, timeout_ms) <= 0)
                return false;
            const auto count = ::read(wire.fd.get(), frame.data(), frame.size());
            const auto ethernet_at = Bytes(frame).subspan(12); // behind the header of virtio-net
            if (count >= 12 + 42 && load_be<std::uint16_t>(ethernet_at.subspan(12)) == 0x800 &&
                ethernet_at[23] == 17 && load_be<std::uint16_t>(ethernet_at.subspan(36)) == to_port)
                return true;
        }
    }
};

} // namespace

TEST_CASE("guests of local interfaces reach beyond this host with its address, and get answers") {
    fresh_namespace();
    sh("cd /proc/sys/net/bridge 2> /dev/null || exit 0; echo 0 > bridge-nf-call-iptables");
    forwarding(true);
    const Beyond beyond;
    const auto locals = parse_ipv4_prefix("100.64.0.0/10").value();
    const auto knock = [&] {
        beyond.run(fmt::format("bash -c 'echo x > /dev/udp/{}/9'", guest_ip));
    };
    const Local local;
    local.send(1000);
    CHECK(beyond.heard() == guest_ip); // nobody translates
    CHECK(local.hears(1000));
    knock();
    CHECK(local.hears(9));

    REQUIRE(local.network->translate(locals));
    REQUIRE(local.network->translate(locals)); // what is there is made anew
    local.send(1001);
    CHECK(beyond.heard() == "192.0.2.1");
    CHECK(local.hears(1001));
    knock();
    CHECK_FALSE(local.hears(9, 300));

    // After a crash it is still there, until the next run removes it, or keeps it.
    local.network->leave();
    auto next = Network::open("t").value();
    local.send(1002);
    CHECK(beyond.heard() == "192.0.2.1");
    REQUIRE(next->translate({}));
    local.send(1003);
    CHECK(beyond.heard() == guest_ip);
    REQUIRE(next->translate(locals));
    local.send(1004);
    CHECK(beyond.heard() == "192.0.2.1");
    next.reset();
    local.send(1005);
    CHECK(beyond.heard() == guest_ip);
}

TEST_CASE("a host that forwards nothing says so, and how it would") {
    fresh_namespace();
    forwarding(false);
    auto network = Network::open("t").value();
    auto refused = network->translate(parse_ipv4_prefix("100.64.0.0/10").value());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message().find("net.ipv4.ip_forward = 1") != std::string::npos);
    CHECK(network->translate({}));
}
