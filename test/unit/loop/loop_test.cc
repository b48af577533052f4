#include <catch2/catch.hpp>

#include <csignal>
#include <sys/socket.h>
#include <thread>

#include "loop/loop.h"

using namespace vmhost;
using namespace std::chrono_literals;

TEST_CASE("a timer may destroy itself in its callback") {
    Loop loop;
    std::unique_ptr<Timer> timer;
    int fired = 0;
    timer = std::make_unique<Timer>(loop, [&] {
        ++fired;
        timer.reset();
    });
    timer->start(1ms, 1ms);
    loop.run();
    CHECK(fired == 1);
}

TEST_CASE("a watch reports data and hang-up") {
    Loop loop;
    auto [a, b] = socket_pair(SOCK_STREAM).value();
    bool readable = false, hangup = false;
    Watch watch(loop, a.get(), [&](Watch::Ready ready) {
        readable |= ready.readable;
        if (ready.hangup) {
            hangup = true;
            loop.stop();
        }
    });
    watch.set(true, false);
    REQUIRE(::write(b.get(), "x", 1) == 1);
    b.reset();
    loop.run();
    CHECK(readable);
    CHECK(hangup);
}

TEST_CASE("wakeups come from other threads") {
    Loop loop;
    int woken = 0;
    Wakeup wakeup(loop, [&] {
        ++woken;
        loop.stop();
    });
    std::jthread other([&] { wakeup.wake(); });
    loop.run();
    CHECK(woken == 1);
}

TEST_CASE("the end of a turn comes after everything that was ready in it, and does not wait") {
    Loop loop;
    auto [a, b] = socket_pair(SOCK_STREAM).value();
    std::string order;
    std::unique_ptr<TurnEnd> end;
    end = std::make_unique<TurnEnd>(loop, [&] {
        order += "e";
        if (order.size() < 4)
            end->arm(); // again, in the next turn
        else
            end.reset(); // inside its own callback
    });
    Wakeup first(loop, [&] {
        order += "f";
        end->arm();
        end->arm();
    });
    Watch watch(loop, a.get(), [&](Watch::Ready) {
        order += "w";
        watch.set(false, false);
        end->arm();
    });
    watch.set(true, false);
    REQUIRE(::write(b.get(), "x", 1) == 1);
    first.wake();
    loop.run_once(true);
    CHECK((order == "fwe" || order == "wfe"));
    loop.run_once(true); // nothing is ready: it would wait for ever
    CHECK(order.substr(2) == "ee");
    CHECK_FALSE(end);
}

TEST_CASE("work runs elsewhere and reports here") {
    Loop loop;
    std::thread::id worker, here;
    loop.work([&] { worker = std::this_thread::get_id(); },
              [&] { here = std::this_thread::get_id(); });
    loop.run();
    CHECK(worker != std::this_thread::get_id());
    CHECK(here == std::this_thread::get_id());
}

TEST_CASE("a loop that ends waits for its jobs") {
    bool done = false;
    {
        Loop loop;
        loop.work([] { std::this_thread::sleep_for(50ms); }, [&] { done = true; });
    }
    CHECK(done);
}

TEST_CASE("a child gets its descriptors and tells its end") {
    Loop loop;
    auto [ours, theirs] = socket_pair(SOCK_STREAM).value();
    Child::Exit exit;
    auto child = Child::start(loop,
                              {.path = "/bin/sh",
                               .arguments = {"sh", "-c", "echo hello >&3; exit 7"},
                               .environment = {"PATH=/bin:/usr/bin"},
                               .fds = {-1, 2, 2, theirs.get()}},
                              [&](Child::Exit how) { exit = how; });
    REQUIRE(child);
    theirs.reset();
    loop.run();
    CHECK(exit.status == 7);
    CHECK(exit.signal == 0);
    char text[16] = {};
    CHECK(::read(ours.get(), text, sizeof(text)) == 6);
    CHECK(std::string(text) == "hello\n");
    child.value().reset();
    CHECK(Child::start(loop, {.path = "/nonexistent", .arguments = {"x"}}, {}).error().kind() ==
          ErrorKind::not_found);
}

TEST_CASE("signals reach the loop") {
    Loop loop;
    Timer keep(loop, [&] { loop.stop(); });
    keep.start(5s);
    bool caught = false;
    SignalWatch watch(loop, SIGUSR1, [&] {
        caught = true;
        loop.stop();
    });
    ::raise(SIGUSR1);
    loop.run();
    CHECK(caught);
}
