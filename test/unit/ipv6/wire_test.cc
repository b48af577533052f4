// The listener on a real bridge, in namespaces of the test's own: the kernel itself as a guest that
// asks for a router, and a real DHCPv6 client, both behind a veth.
#define CATCH_CONFIG_RUNNER
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "ipv6/socket.h"
#include "net/net.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace std::chrono_literals;

namespace {

bool works(const std::string& command) {
    return std::system(command.c_str()) == 0;
}
void sh(const std::string& command) {
    if (!works(command))
        throw std::runtime_error(command);
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
    std::string enter() const { return fmt::format("nsenter --net=/proc/{}/ns/net ", pid_); }
    std::string pid() const { return std::to_string(pid_); }

private:
    pid_t pid_;
};

// A bridge with a listener on it, all in a fresh namespace.
struct Wire {
    std::unique_ptr<net::Network> network;
    Server server;
    Loop loop;
    std::vector<Event> events;
    std::optional<Listener> listener;

    Wire() {
        if (::unshare(CLONE_NEWNET) != 0)
            throw std::runtime_error("unshare");
        network = net::Network::open("test").value();
        auto index = network->make_bridge({.name = "br-lan", .ipv6 = lan().own}).value();
        auto sockets = open_sockets("br-lan", index);
        if (!sockets)
            throw std::runtime_error(sockets.error().message());
        auto served = lan();
        served.mac = sockets->mac;
        served.mtu = 1400;
        if (auto done = server.configure({served}); !done)
            throw std::runtime_error(done.error().text());
        listener.emplace(loop, *std::move(sockets), "lan", server,
                         [this](const Event& event) { events.push_back(event); });
    }
    // A guest behind a veth whose far end is in that namespace.
    void plug_in(const Namespace& far) {
        sh("ip link add v0 type veth peer name v1 address " + guest_mac.text() + " netns " +
           far.pid());
        sh(far.enter() + "sh -c 'cd /proc/sys/net/ipv6/conf/v1; echo 0 > accept_dad; "
                         "echo 1 > accept_ra; ip link set v1 up'");
        if (!network->attach_port("br-lan", "v0"))
            throw std::runtime_error("attach");
    }
    // Until done() or time is up; true when done.
    template <class Done>
    bool run(std::chrono::milliseconds limit, Done done) {
        bool late = false;
        Timer timer(loop, [&] { late = true; });
        timer.start(limit);
        Timer look(loop, [] {}); // what others do wakes no loop
        look.start(100ms, 100ms);
        while (!done() && !late)
            loop.run_once(true);
        return done();
    }
    auto count(EventKind kind) const { return std::ranges::count(events, kind, &Event::kind); }
};

} // namespace

TEST_CASE("nd: a kernel takes this host for its router, and no longer after the farewell") {
    Wire wire;
    Namespace far;
    wire.plug_in(far);
    auto own = Ipv6::link_local(net::bridge_mac("test", "br-lan")).text();
    auto route = far.enter() + "ip -6 route show default | grep -q 'via " + own + " dev v1.*ra'";
    REQUIRE(wire.run(15s, [&] { return works(route); }));
    CHECK(wire.run(5s, [&] { return wire.count(EventKind::solicited) > 0; }));
    // On the link, but no address was made up from it.
    CHECK(works(far.enter() + "ip -6 route show dev v1 | grep -q '^2001:db8::/64 .*expires'"));
    CHECK(works(far.enter() + "ip -6 route show dev v1 | grep -q 'mtu 1400' || " + far.enter() +
                "grep -qx 1400 /proc/sys/net/ipv6/conf/v1/mtu"));
    CHECK_FALSE(works(far.enter() + "ip -6 addr show dev v1 | grep -q 2001:db8"));
    wire.listener->farewell();
    CHECK(wire.run(5s, [&] { return !works(route); }));
    CHECK(wire.count(EventKind::dropped) == 0);
}

TEST_CASE("dhcp6: dhclient gets its address and gives it back") {
    Wire wire;
    Namespace far;
    wire.plug_in(far);
    std::string folder = std::filesystem::temp_directory_path() / "vmhost-ipv6-XXXXXX";
    REQUIRE(::mkdtemp(folder.data()));
    auto script = folder + "/script", said = folder + "/said";
    std::ofstream(script) << "#!/bin/sh\n"
                             "case $reason in BOUND6) "
                             "ip -6 addr add $new_ip6_address/128 dev $interface; "
                             "echo $new_ip6_address $new_dhcp6_name_servers "
                             "$new_dhcp6_domain_search $new_max_life >"
                          << said << ".new; mv " << said << ".new " << said << ";; esac\nexit 0\n";
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    std::string common = " -6 -lf " + folder + "/leases -pf " + folder + "/pid -sf " + script +
                         " -cf /dev/null v1 >" + folder + "/log 2>&1";
    bool ended = false;
    auto start = [&](const std::string& flags) {
        ended = false;
        return Child::start(
                   wire.loop,
                   {.path = "/bin/sh",
                    .arguments = {"sh", "-c", "exec " + far.enter() + "dhclient " + flags + common},
                    .environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
                    .fds = {-1, -1, -1}},
                   [&](Child::Exit) { ended = true; })
            .value();
    };
    auto client = start("-d");
    CHECK(wire.run(20s, [&] { return ended || std::filesystem::exists(said); }));
    std::string line;
    std::ifstream answer(said);
    std::getline(answer, line);
    CHECK(line == "2001:db8::d 2001:db8::53 example.org. 1000");
    CHECK(wire.count(EventKind::offered) >= 1);
    CHECK(wire.count(EventKind::acknowledged) == 1);
    if (!ended) {
        client->signal(SIGTERM);
        CHECK(wire.run(5s, [&] { return ended; }));
    }
    auto release = start("-r");
    CHECK(wire.run(20s, [&] { return wire.count(EventKind::released) > 0; }));
    CHECK(wire.run(20s, [&] { return ended; }));
    CHECK(wire.count(EventKind::dropped) == 0);
    for (const auto& event : wire.events)
        UNSCOPED_INFO(text(event));
    std::filesystem::remove_all(folder);
}

TEST_CASE("ipv6: the listener serves on after the bridge was down") {
    Wire wire;
    Namespace far;
    wire.plug_in(far);
    REQUIRE(wire.run(15s, [&] { return wire.count(EventKind::solicited) > 0; }));
    sh("ip link set br-lan down");
    wire.run(50ms, [] { return false; });
    sh("ip link set br-lan up");
    wire.events.clear();
    sh(far.enter() + "sh -c 'ip link set v1 down; ip link set v1 up'");
    CHECK(wire.run(15s, [&] { return wire.count(EventKind::solicited) > 0; }));
}

TEST_CASE("ipv6: port 547 in use is an error at start that names the bridge") {
    if (::unshare(CLONE_NEWNET) != 0)
        throw std::runtime_error("unshare");
    auto network = net::Network::open("test").value();
    auto index = network->make_bridge({.name = "br-lan", .ipv6 = lan().own}).value();
    Fd thief(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(547);
    REQUIRE(::bind(thief.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    auto refused = open_sockets("br-lan", index);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message() == "ipv6 on br-lan: port 547 is in use by another program");
}

int main(int argc, char** argv) {
    if (::unshare(CLONE_NEWNET) != 0) {
        std::perror("skipped: unshare(CLONE_NEWNET)");
        return 77;
    }
    if (!works("command -v ip nsenter dhclient >/dev/null")) {
        std::puts("skipped: ip, nsenter or dhclient is not installed");
        return 77;
    }
    auto network = net::Network::open("probe");
    if (!network || !(*network)->make_bridge({.name = "br-probe", .ipv6 = lan().own})) {
        std::puts("skipped: bridges with IPv6 cannot be made here");
        return 77;
    }
    network->reset();
    return Catch::Session().run(argc, argv);
}
