// The listener on a real bridge, in namespaces of the test's own: a real client
// (busybox's udhcpc) behind a veth, and a guest of ours behind a tap that leaves
// its checksums to the network card.
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <catch2/catch.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <map>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <set>
#include <sys/socket.h>
#include <sys/wait.h>

#include "client.h"
#include "dhcp/frame.h"
#include "net/net.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::dhcp;
using namespace std::chrono_literals;

namespace {

const Mac guest_mac = mac("fe:e1:bb:d1:00:01");
const Ipv4 own = ip("10.0.0.1"), guest_address = ip("10.0.0.11");

void sh(const std::string& command) {
    if (std::system(command.c_str()) != 0)
        throw std::runtime_error(command);
}

Network lan() {
    return {.name = "lan",
            .server = parse_ipv4_prefix("10.0.0.1/24").value(),
            .routers = {own},
            .domain_name_servers = {ip("9.9.9.9")},
            .domain_name = "example.org",
            .lease_time_s = 3600,
            .filename = "auto_install",
            .guests = {{.vm = "a", .mac = guest_mac, .ipv4 = guest_address, .host_name = "puffy"}}};
}

// A namespace that lives as long as its process, which does nothing.
class Namespace {
public:
    Namespace() {
        int ends[2];
        if (::pipe(ends) != 0)
            throw std::runtime_error("pipe");
        pid_ = ::fork();
        if (pid_ == 0) {
            char ready = ::unshare(CLONE_NEWNET) == 0 ? '1' : '0';
            (void)!::write(ends[1], &ready, 1);
            for (;;)
                ::pause();
        }
        char ready = '0';
        (void)!::read(ends[0], &ready, 1);
        ::close(ends[0]);
        ::close(ends[1]);
        if (ready != '1')
            throw std::runtime_error("unshare");
    }
    ~Namespace() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    std::string pid() const { return std::to_string(pid_); }

private:
    pid_t pid_;
};

// A bridge with a listener on it, all in a fresh namespace.
struct Wire {
    std::unique_ptr<net::Network> network;
    Server server;
    Loop loop;
    Ledger ledger{loop};
    std::vector<Event> events;
    std::function<void(const Event&)> on_event = [](const Event&) {};
    std::optional<Listener> listener;

    explicit Wire(const Network& served = lan()) {
        if (::unshare(CLONE_NEWNET) != 0)
            throw std::runtime_error("unshare");
        network = net::Network::open("test").value();
        auto index = network->make_bridge({.name = "br-lan", .ipv4 = lan().server}).value();
        if (auto done = server.configure({served}); !done)
            throw std::runtime_error(done.error().text());
        listener.emplace(loop, open_sockets("br-lan", index, own).value(), "lan", server, ledger,
                         [this](const Event& event) {
                             events.push_back(event);
                             on_event(event);
                         });
    }
    // Until done() or time is up; true when done.
    template <class Done>
    bool run(std::chrono::milliseconds limit, Done done) {
        bool late = false;
        Timer timer(loop, [&] { late = true; });
        timer.start(limit);
        Timer look(loop, [] {}); // what a client does to files wakes no loop
        look.start(20ms, 20ms);
        while (!done() && !late)
            loop.run_once(true);
        return done();
    }
};

std::map<std::string, std::string> read_lease(const std::string& path) {
    std::map<std::string, std::string> values;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);)
        if (auto equals = line.find('='); equals != std::string::npos)
            values.emplace(line.substr(0, equals), line.substr(equals + 1));
    return values;
}

struct Directory {
    std::string path = std::filesystem::temp_directory_path() / "vmhost-dhcp-XXXXXX";
    Directory() {
        if (!::mkdtemp(path.data()))
            throw std::runtime_error("mkdtemp");
    }
    ~Directory() { std::filesystem::remove_all(path); }
};

// A frame as a virtio-net driver with checksum offload hands it to its device:
// the UDP field holds the pseudo header's sum only, and the header asks for the rest.
std::vector<std::uint8_t> offloaded(const Client& client) {
    auto payload = client.bytes();
    auto frame = build_frame({.ethernet_source = client.mac,
                              .ethernet_destination = mac("ff:ff:ff:ff:ff:ff"),
                              .source = {},
                              .destination = ip("255.255.255.255"),
                              .source_port = 68,
                              .destination_port = 67,
                              .payload = payload});
    std::uint32_t sum = 0xffffu + 0xffffu + 17 + 8 + static_cast<std::uint32_t>(payload.size());
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    store_be(MutableBytes(frame).subspan(40), static_cast<std::uint16_t>(sum));
    ByteWriter writer;
    writer.le(std::uint8_t{1}); // VIRTIO_NET_HDR_F_NEEDS_CSUM
    writer.zeros(5);
    writer.le(std::uint16_t{34}); // where the sum starts
    writer.le(std::uint16_t{6});  // where it goes from there
    writer.zeros(2);
    writer.bytes(frame);
    return writer.take();
}

// The next DHCP reply on the tap; other frames of the host are skipped.
std::optional<Message> next_reply(const Fd& tap) {
    std::uint8_t buffer[2048];
    // The bridge hands the frame over a moment after it was sent.
    pollfd polled{tap.get(), POLLIN, 0};
    while (::poll(&polled, 1, 1000) == 1) {
        ssize_t count = ::read(tap.get(), buffer, sizeof(buffer));
        if (count <= 12)
            break;
        auto frame = Bytes(buffer, static_cast<std::size_t>(count)).subspan(12);
        auto datagram = parse_frame(frame, UdpChecksum::verify);
        if (!datagram || datagram->destination_port != 68)
            continue;
        CHECK(datagram->ethernet_destination == guest_mac);
        CHECK(datagram->ethernet_source == net::bridge_mac("test", "br-lan"));
        CHECK(datagram->source == own);
        CHECK(load_be<std::uint16_t>(frame.subspan(40)) != 0); // a checksum is there
        return parse(datagram->payload).value();
    }
    return std::nullopt;
}

} // namespace

TEST_CASE("udhcpc gets its lease, renews it by unicast and gives it back") {
    Wire wire;
    Namespace far;
    Directory directory;
    auto script = directory.path + "/script", lease = directory.path + "/lease";
    std::ofstream(script) << "#!/bin/sh\n"
                             "if [ \"$1\" = bound ]; then\n"
                             "  ip addr add $ip/$mask dev $interface && env > "
                          << lease << ".new && mv " << lease << ".new " << lease << "\nfi\n";
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    sh("ip link add v0 type veth peer name v1 address " + guest_mac.text() + " netns " + far.pid());
    sh("nsenter --net=/proc/" + far.pid() + "/ns/net ip link set v1 up");
    REQUIRE(wire.network->attach_port("br-lan", "v0"));

    bool ended = false;
    auto udhcpc = Child::start(wire.loop,
                               {.path = "/usr/bin/nsenter",
                                .arguments = {"nsenter", "--net=/proc/" + far.pid() + "/ns/net",
                                              "udhcpc", "-f", "-R", "-i", "v1", "-s", script, "-O",
                                              "66", "-O", "67", "-O", "mtu"},
                                .environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
                                .fds = {-1, -1, -1}},
                               [&](Child::Exit) { ended = true; })
                      .value();
    auto count = [&](EventKind kind) {
        return std::count_if(wire.events.begin(), wire.events.end(),
                             [&](const Event& event) { return event.kind == kind; });
    };
    REQUIRE(wire.run(10s, [&] { return ended || std::filesystem::exists(lease); }));
    REQUIRE_FALSE(ended);
    auto values = read_lease(lease);
    CHECK(values["ip"] == "10.0.0.11");
    CHECK(values["mask"] == "24");
    CHECK(values["router"] == "10.0.0.1");
    CHECK(values["dns"] == "9.9.9.9");
    CHECK(values["domain"] == "example.org");
    CHECK(values["hostname"] == "puffy");
    CHECK(values["siaddr"] == "10.0.0.1");
    CHECK(values["sname"] == "10.0.0.1");
    CHECK(values["boot_file"] == "auto_install");
    CHECK(values["tftp"] == "10.0.0.1");
    CHECK(values["bootfile"] == "auto_install");
    CHECK(values["mtu"] == "1500");
    CHECK(values["serverid"] == "10.0.0.1");
    CHECK(values["lease"] == "3600");
    CHECK(count(EventKind::offered) == 1);
    CHECK(count(EventKind::acknowledged) == 1);

    udhcpc->signal(SIGUSR1);
    REQUIRE(wire.run(10s, [&] { return count(EventKind::acknowledged) == 2; }));
    udhcpc->signal(SIGUSR2);
    REQUIRE(wire.run(10s, [&] { return count(EventKind::released) == 1; }));
    CHECK(count(EventKind::dropped) == 0);
    CHECK(wire.server.leases(wire.loop.now_ms())[0].state == LeaseState::released);
    udhcpc->signal(SIGTERM);
    CHECK(wire.run(10s, [&] { return ended; }));
}

// A client that is no guest, as an operator would run it; the address that its script was told.
std::string obtain(Wire& wire, const std::string& client, const std::string& arguments,
                   const std::string& variable) {
    Namespace far;
    Directory directory;
    auto script = directory.path + "/script", lease = directory.path + "/lease";
    std::ofstream(script) << "#!/bin/sh\n[ -n \"$" << variable << "\" ] && env > " << lease
                          << ".new && mv " << lease << ".new " << lease << "\nexit 0\n";
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    auto near = "to-" + client;
    sh("ip link add " + near + " type veth peer name v1 netns " + far.pid());
    sh("nsenter --net=/proc/" + far.pid() + "/ns/net ip link set v1 up");
    if (!wire.network->attach_port("br-lan", near))
        throw std::runtime_error("attach");
    bool ended = false;
    auto child = Child::start(wire.loop,
                              {.path = "/bin/sh",
                               .arguments = {"sh", "-c",
                                             "exec nsenter --net=/proc/" + far.pid() + "/ns/net " +
                                                 client + " " + arguments},
                               .environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                                               "SCRIPT=" + script, "DIR=" + directory.path},
                               .fds = {-1, -1, -1}},
                              [&](Child::Exit) { ended = true; })
                     .value();
    wire.run(20s, [&] { return std::filesystem::exists(lease); });
    auto values = read_lease(lease);
    child->signal(SIGTERM);
    wire.run(5s, [&] { return ended; });
    if (!ended) {
        child->signal(SIGKILL);
        wire.run(5s, [&] { return ended; });
    }
    sh("ip link delete " + near);
    return values[variable];
}

TEST_CASE("real clients get addresses of a range that nobody answers on, written down first") {
    auto served = lan();
    served.ranges = {{ip("10.0.0.100"), ip("10.0.0.109")}};
    Wire wire(served);
    Directory state;
    wire.ledger.use(store::LeaseStore::open(store::open_lease_files(state.path).value()).value());
    // Somebody sits on the first address.
    Namespace elsewhere;
    sh("ip link add stranger type veth peer name s1 netns " + elsewhere.pid());
    sh("nsenter --net=/proc/" + elsewhere.pid() +
       "/ns/net sh -c 'ip addr add 10.0.0.100/24 dev s1 && ip link set s1 up'");
    REQUIRE(wire.network->attach_port("br-lan", "stranger"));
    struct Client {
        const char *name, *arguments, *variable;
    };
    std::set<std::string> given;
    for (auto [name, arguments, variable] :
         {Client{"udhcpc", "-f -i v1 -s $SCRIPT", "ip"},
          Client{"dhclient", "-4 -d -1 -cf /dev/null -lf $DIR/l -pf $DIR/p -sf $SCRIPT v1",
                 "new_ip_address"}}) {
        if (std::system(fmt::format("command -v {} >/dev/null", name).c_str()) != 0) {
            WARN(name << " is not installed: not tried");
            continue;
        }
        auto address = obtain(wire, name, arguments, variable);
        INFO(name);
        CHECK(address.starts_with("10.0.0.10"));
        CHECK(given.insert(address).second);
    }
    CHECK_FALSE(given.contains("10.0.0.100"));
    wire.listener.reset();
    std::set<std::string> written;
    bool stranger_found = false;
    for (const auto& lease : wire.server.leases(wire.loop.now_ms())) {
        if (lease.state == LeaseState::declined)
            stranger_found = lease.address.text() == "10.0.0.100";
        else if (lease.vm.empty())
            written.insert(lease.address.text());
    }
    CHECK(stranger_found);
    CHECK(wire.ledger.written() >= given.size());
    for (const auto& address : given)
        CHECK(written.contains(address));
}

TEST_CASE("a guest behind a tap that leaves its checksum to the card") {
    Wire wire;
    auto tap = wire.network->make_tap({.name = "a-if0", .bridge = "br-lan"}).value();
    auto send = [&](const std::vector<std::uint8_t>& frame) {
        wire.events.clear();
        REQUIRE(::write(tap.get(), frame.data(), frame.size()) ==
                static_cast<ssize_t>(frame.size()));
        return wire.run(5s, [&] { return !wire.events.empty(); });
    };
    auto frame = offloaded(dhcpleased(guest_mac, MessageType::discover));
    // The kernel drops what is sent before it has noticed the bridge's carrier: ask again, as
    // clients do.
    std::optional<Message> offer;
    for (int attempt = 0; attempt < 10 && !offer; ++attempt) {
        REQUIRE(send(frame));
        CHECK(wire.events[0].kind == EventKind::offered);
        offer = next_reply(tap);
    }
    REQUIRE(offer);
    CHECK(offer->header.yiaddr == guest_address);
    REQUIRE(send(offloaded(
        dhcpleased(guest_mac, MessageType::request).option(50, guest_address).option(54, own))));
    CHECK(wire.events[0].kind == EventKind::acknowledged);
    CHECK(next_reply(tap)->number<std::uint8_t>(53) == 5);

    // The same without asking for the rest of the sum: a wrong checksum.
    frame[0] = 0;
    REQUIRE(send(frame));
    CHECK(wire.events[0].drop == Drop::bad_frame);
    CHECK(wire.events[0].detail == "bad UDP checksum");
    CHECK(wire.events[0].vm == "a");
    // Its own VLAN inside ours.
    frame = offloaded(dhcpleased(guest_mac, MessageType::discover));
    std::fill(frame.begin(), frame.begin() + 12, std::uint8_t{0});
    frame.insert(frame.begin() + 24, {0x81, 0x00, 0x00, 0x05});
    wire.events.clear();
    REQUIRE(::write(tap.get(), frame.data(), frame.size()) > 0);
    wire.run(50ms, [&] { return !wire.events.empty(); });
    CHECK((wire.events.empty() || wire.events[0].drop == Drop::bad_frame));
    CHECK_FALSE(next_reply(tap));
    // Not for port 67, not UDP, not IPv4: the filter keeps them out.
    for (auto [offset, value] : {std::pair{12 + 37, 69}, {12 + 23, 6}, {12 + 12, 0x86}}) {
        auto other = offloaded(dhcpleased(guest_mac, MessageType::discover));
        other[0] = 0;
        other[static_cast<std::size_t>(offset)] = static_cast<std::uint8_t>(value);
        wire.events.clear();
        REQUIRE(::write(tap.get(), other.data(), other.size()) > 0);
        CHECK_FALSE(wire.run(50ms, [&] { return !wire.events.empty(); }));
    }
    // A frame for another station that the bridge only forwards.
    auto foreign = offloaded(dhcpleased(guest_mac, MessageType::discover));
    foreign[12] = 0x02;
    wire.events.clear();
    REQUIRE(::write(tap.get(), foreign.data(), foreign.size()) > 0);
    CHECK_FALSE(wire.run(50ms, [&] { return !wire.events.empty(); }));
}

TEST_CASE("the listener serves on after the bridge was down") {
    Wire wire;
    auto tap = wire.network->make_tap({.name = "a-if0", .bridge = "br-lan"}).value();
    sh("ip link set br-lan down");
    wire.run(50ms, [] { return false; });
    sh("ip link set br-lan up");
    auto frame = offloaded(dhcpleased(guest_mac, MessageType::discover));
    REQUIRE(::write(tap.get(), frame.data(), frame.size()) > 0);
    REQUIRE(wire.run(5s, [&] { return !wire.events.empty(); }));
    CHECK(next_reply(tap));
}

TEST_CASE("a bridge that vanishes does not spin the loop") {
    Wire wire;
    REQUIRE(wire.network->remove_bridge("br-lan"));
    int turns = 0;
    wire.run(200ms, [&] { return ++turns < 0; });
    CHECK(turns < 50);
}

TEST_CASE("port 67 in use is an error at start that names the bridge") {
    if (::unshare(CLONE_NEWNET) != 0)
        throw std::runtime_error("unshare");
    auto network = net::Network::open("test").value();
    auto index = network->make_bridge({.name = "br-lan", .ipv4 = lan().server}).value();
    auto other = network->make_bridge({.name = "br-other"}).value();
    {
        Fd thief(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(67);
        REQUIRE(::bind(thief.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
        auto sockets = open_sockets("br-lan", index, own);
        REQUIRE_FALSE(sockets);
        CHECK(sockets.error().kind() == ErrorKind::busy);
        CHECK(sockets.error().text() ==
              "dhcp on br-lan: port 67 of 10.0.0.1 is in use by another program");
    }
    auto first = open_sockets("br-lan", index, own);
    REQUIRE(first);
    CHECK(first->mac == net::bridge_mac("test", "br-lan"));
    CHECK_FALSE(open_sockets("br-lan", index, own));
    CHECK(open_sockets("br-other", other, ip("10.1.0.1"))); // each bridge its own
    CHECK_FALSE(open_sockets("br-none", 999, own));
}

namespace {

// A listener and not a main(): Catch's own runner would be compiled again with that.
struct Place : Catch::TestEventListenerBase {
    using TestEventListenerBase::TestEventListenerBase;
    void testRunStarting(const Catch::TestRunInfo&) override {
        if (::unshare(CLONE_NEWNET) != 0) {
            std::perror("skipped: unshare(CLONE_NEWNET)");
            std::exit(77);
        }
        if (std::system("command -v ip nsenter udhcpc >/dev/null") != 0) {
            std::puts("skipped: ip, nsenter or udhcpc is not installed");
            std::exit(77);
        }
        auto network = net::Network::open("probe");
        if (!network || !(*network)->make_bridge({.name = "br-probe"}) ||
            !(*network)->make_tap({.name = "tap-probe", .bridge = "br-probe"})) {
            std::puts("skipped: bridges and taps cannot be made here");
            std::exit(77);
        }
    }
};
CATCH_REGISTER_LISTENER(Place)

} // namespace
