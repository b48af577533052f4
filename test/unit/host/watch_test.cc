// Processes that do not answer, services that do not stay up, and what the service manager is told.
#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/backoff.h"
#include "host/heartbeat.h"
#include "host/service_manager.h"
#include "host/usage.h"

using namespace vmhost;
using namespace vmhost::host;
using namespace std::chrono_literals;

TEST_CASE("a service that does not stay up is tried less and less often") {
    Backoff backoff;
    for (auto delay : {1s, 2s, 4s, 8s, 16s, 30s, 30s})
        CHECK(backoff.after_end(limits::good_service_run_ms - 1) == delay);
    CHECK(backoff.after_end(limits::good_service_run_ms) == 1s); // it had stayed up
    CHECK(backoff.after_end(0) == 2s);
    backoff.begin_anew();
    CHECK(backoff.after_end(0) == 1s);
}

namespace {

struct Rig {
    Loop loop;
    unsigned pings = 0;
    std::vector<bool> told;
    bool answer = true;
    Heartbeat heart{loop,
                    [this] {
                        ++pings;
                        if (answer)
                            heart.answered();
                    },
                    [this](bool answers) { told.push_back(answers); }};
    void run_until(const std::function<bool()>& reached) {
        for (int turns = 0; !reached() && turns < 10'000; ++turns)
            loop.run_once(true);
        REQUIRE(reached());
    }
};

} // namespace

TEST_CASE("a process that answers is asked again and again") {
    Rig rig;
    rig.heart.start(8ms);
    rig.run_until([&] { return rig.pings == 20; });
    CHECK(rig.told.empty());
    CHECK(rig.heart.answers());
}

TEST_CASE("a process that is silent is reported once, and once when it answers again") {
    Rig rig;
    rig.answer = false;
    rig.heart.start(8ms);
    rig.run_until([&] { return !rig.told.empty(); });
    CHECK(rig.pings == 1); // no second while the first is not answered
    CHECK_FALSE(rig.heart.answers());
    for (int turn = 0; turn < 20; ++turn)
        rig.loop.run_once(true);
    CHECK(rig.told == std::vector{false});
    rig.answer = true;
    rig.heart.answered();
    CHECK(rig.told == std::vector{false, true});
    CHECK(rig.heart.answers());
    rig.run_until([&] { return rig.pings == 4; });
    rig.heart.stop();
    rig.loop.run(); // returns: nothing is left that could wake it
    CHECK(rig.told.size() == 2);
}

TEST_CASE("a watch of no time watches nothing") {
    Rig rig;
    rig.heart.start(0ms);
    rig.loop.run();
    CHECK(rig.pings == 0);
    CHECK(rig.heart.answers());
}

TEST_CASE("what this process uses") {
    CHECK(resident_bytes_of(::getpid()) > 64 << 10);
    auto before = cpu_time_ns_of(::getpid());
    CHECK(before > 0);
    volatile unsigned sum = 0;
    for (unsigned i = 0; i < 1'000'000; ++i)
        sum = sum + i;
    CHECK(cpu_time_ns_of(::getpid()) > before);
    CHECK(resident_bytes_of(-1) == 0);
}

namespace {

// A service manager's socket.
struct Manager {
    std::string name;
    Fd socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};

    explicit Manager(bool abstract)
        : name(fmt::format("{}vmhost-notify-{}", abstract ? "@" : "/tmp/", ::getpid())) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        name.copy(address.sun_path, name.size());
        auto bytes = offsetof(sockaddr_un, sun_path) + name.size();
        if (abstract)
            address.sun_path[0] = '\0';
        REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address),
                       static_cast<socklen_t>(bytes)) == 0);
    }
    ~Manager() {
        if (name[0] == '/')
            ::unlink(name.c_str());
    }
    // Empty: nothing is there.
    std::string next() {
        char text[512];
        auto count = ::recv(socket.get(), text, sizeof(text), 0);
        return count < 0 ? std::string() : std::string(text, static_cast<std::size_t>(count));
    }
};

} // namespace

TEST_CASE("the service manager hears of every state") {
    for (bool abstract : {false, true}) {
        Manager manager(abstract);
        Loop loop;
        ServiceManager told(loop, {.socket = manager.name});
        CHECK(told.there());
        told.starting();
        CHECK(manager.next() == "STATUS=starting");
        loop.run_once(false);
        CHECK(manager.next() == "EXTEND_TIMEOUT_USEC=60000000");
        told.ready("3 VMs");
        CHECK(manager.next() == "READY=1\nSTATUS=3 VMs");
        told.reloading();
        auto reload = manager.next();
        CHECK(reload.starts_with("RELOADING=1\nMONOTONIC_USEC="));
        CHECK(std::stoull(reload.substr(27)) > 0);
        told.ready("4 VMs");
        CHECK(manager.next() == "READY=1\nSTATUS=4 VMs");
        told.stopping();
        CHECK(manager.next().starts_with("STOPPING=1\n"));
    }
}

TEST_CASE("the watchdog hears of a loop only while it turns") {
    Manager manager(true);
    Loop loop;
    ServiceManager told(loop, {.socket = manager.name, .watchdog = 20ms});
    ::usleep(60'000); // the loop is busy with something else
    CHECK(manager.next().empty());
    for (int ticks = 0; ticks < 3; ++ticks) {
        loop.run_once(true);
        CHECK(manager.next() == "WATCHDOG=1");
    }
}

TEST_CASE("without a service manager, and with a bad one, nothing happens") {
    Loop loop;
    for (auto name : {"", "relative", "/", "@", "/tmp/vmhost-nobody-is-there"}) {
        ServiceManager told(loop, {.socket = name});
        told.starting();
        told.ready("");
        told.reloading();
        told.ready("");
        CHECK(told.there() == (std::string_view(name).size() > 8 && name[0] == '/'));
    }
    ServiceManager long_name(loop, {.socket = "/" + std::string(200, 'a')});
    CHECK_FALSE(long_name.there());
    loop.run();
}
