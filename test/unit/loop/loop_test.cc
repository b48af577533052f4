#include <catch2/catch.hpp>

#include <csignal>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

TEST_CASE("an adopted child tells its end, and can be signalled") {
    const auto pid = ::fork();
    if (pid == 0) {
        ::pause();
        ::_exit(1);
    }
    Loop loop;
    Child::Exit exit;
    int ends = 0;
    Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    REQUIRE(process);
    auto child = Child::adopt(loop, pid, std::move(process), [&](Child::Exit how) {
        exit = how;
        ++ends;
        loop.stop();
    });
    CHECK(child->pid() == pid);
    child->signal(SIGKILL);
    loop.run();
    CHECK(ends == 1);
    CHECK(exit.signal == SIGKILL);
    CHECK(exit.status == 0);
    CHECK(::waitpid(pid, nullptr, 0) < 0); // nothing is left of it
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

TEST_CASE("a virtual clock: time jumps, and what is due at one moment keeps its order") {
    Loop loop{VirtualTime{}};
    std::string order;
    const auto begin_ms = loop.now_ms();
    Timer late(loop, [&] { order += fmt::format("late@{} ", loop.now_ms() - begin_ms); });
    Timer first(loop, [&] { order += "first "; });
    Timer never(loop, [&] { order += "never "; });
    Timer second(loop, [&] {
        order += "second ";
        never.stop();
    });
    late.start(24h);
    first.start(1min);
    second.start(1min);
    never.start(1min);
    CHECK(never.active());
    CHECK(loop.alive());
    loop.run_once(false);
    CHECK(order.empty()); // nothing is due, and time does not pass by itself
    loop.run();
    CHECK(order == "first second late@86400000 ");
    CHECK(loop.now_ms() - begin_ms == 86'400'000);
    CHECK_FALSE(late.active());
    CHECK_FALSE(loop.alive());
}

TEST_CASE("a virtual clock: repeated, moved and destroyed timers, ends of turns, work, stop") {
    Loop loop{VirtualTime{}};
    std::string order;
    int ticks = 0;
    std::unique_ptr<Timer> tick;
    tick = std::make_unique<Timer>(loop, [&] {
        if (++ticks == 3)
            tick.reset();
    });
    tick->start(5ms, 10ms);
    loop.run();
    CHECK(ticks == 3);
    CHECK(loop.now_ms() == 1000 + 25);

    Timer moved(loop, [&] { order += "moved "; });
    TurnEnd end(loop, [&] { order += "end "; });
    Timer now(loop, [&] {
        order += "now ";
        end.arm();
        end.arm();
        moved.start(0ms); // in a turn of its own
    });
    moved.start(1h);
    now.start(0ms);
    loop.run();
    CHECK(order == "now end moved ");

    order.clear();
    loop.work([&] { order += "job "; }, [&] { order += "done"; });
    Timer forever(loop, [&] { loop.stop(); });
    forever.start(1s, 1s);
    loop.run();
    CHECK(order == "job done");
    CHECK(Child::start(loop, {.path = "/bin/true", .arguments = {"true"}}, {}).error().kind() ==
          ErrorKind::unsupported);
}
