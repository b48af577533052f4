#include <catch2/catch.hpp>

#include <atomic>
#include <thread>
#include <vector>

#include "fake_clock.h"
#include "machine/loop_clock.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {
constexpr std::uint64_t ms = 1'000'000;

struct Rig {
    Loop loop;
    Bus bus;
    std::unique_ptr<LoopClock> clock = LoopClock::create(loop, bus.lock()).value();

    Clock::Ticket in(std::uint64_t delay_ns, std::function<void()> due) {
        std::scoped_lock guard(bus.lock());
        return clock->schedule(clock->now_ns() + delay_ns, std::move(due));
    }
};
} // namespace

TEST_CASE("deadlines run in order, equal ones in the order of scheduling") {
    Rig rig;
    std::string order;
    auto base = rig.clock->now_ns();
    {
        std::scoped_lock guard(rig.bus.lock());
        rig.clock->schedule(base + 5 * ms, [&] { order += 'c'; });
        rig.clock->schedule(base + 1 * ms, [&] { order += 'a'; });
        rig.clock->schedule(base + 5 * ms, [&] { order += 'd'; });
        rig.clock->schedule(base + 2 * ms, [&] { order += 'b'; });
        rig.clock->schedule(base + 8 * ms, [&] {
            order += 'e';
            rig.loop.stop();
        });
    }
    rig.loop.run();
    CHECK(order == "abcde");
    CHECK(rig.clock->now_ns() >= base + 8 * ms);
}

TEST_CASE("a deadline in the past runs soon, one at the end of time never hurts") {
    Rig rig;
    bool ran = false;
    rig.in(~std::uint64_t{0} - rig.clock->now_ns() - ms, [] { FAIL("too early"); });
    {
        std::scoped_lock guard(rig.bus.lock());
        rig.clock->schedule(0, [&] {
            ran = true;
            rig.loop.stop();
        });
    }
    rig.loop.run();
    CHECK(ran);
}

TEST_CASE("callbacks cancel and schedule inside callbacks") {
    Rig rig;
    std::string order;
    Clock::Ticket victim = 0, self = 0;
    auto base = rig.clock->now_ns() + ms;
    {
        std::scoped_lock guard(rig.bus.lock());
        self = rig.clock->schedule(base, [&] {
            order += 'a';
            rig.clock->cancel(victim);
            rig.clock->cancel(self); // running already: nothing to do
            rig.clock->schedule(0, [&] { order += 'b'; });
        });
        victim = rig.clock->schedule(base, [&] { order += 'x'; });
        rig.clock->schedule(base + 4 * ms, [&] {
            order += 'c';
            rig.loop.stop();
        });
    }
    rig.loop.run();
    CHECK(order == "abc");
}

TEST_CASE("a deadline that is always due does not hold the loop") {
    Rig rig;
    unsigned runs = 0;
    std::function<void()> again = [&] {
        ++runs;
        rig.clock->schedule(0, again);
    };
    rig.in(0, again);
    Timer stop(rig.loop, [&] { rig.loop.stop(); });
    stop.start(std::chrono::milliseconds(20));
    rig.loop.run();
    CHECK(runs > 1);
}

TEST_CASE("another thread schedules an earlier deadline than the armed one") {
    Rig rig;
    std::atomic<bool> locked_by_caller = false;
    rig.in(60'000 * ms, [] { FAIL("too early"); });
    std::jthread other([&] {
        std::scoped_lock guard(rig.bus.lock());
        rig.clock->schedule(rig.clock->now_ns() + ms, [&] {
            // The device lock is held by the loop thread now: nobody else gets it.
            std::jthread prober([&] { locked_by_caller = !rig.bus.lock().try_lock(); });
            prober.join();
            rig.loop.stop();
        });
    });
    rig.loop.run();
    CHECK(locked_by_caller);
}

TEST_CASE("the fake clock runs deadlines at their own times") {
    FakeClock clock;
    std::vector<std::uint64_t> at;
    clock.schedule(30, [&] { at.push_back(clock.now_ns()); });
    auto never = clock.schedule(20, [&] { at.push_back(0); });
    clock.schedule(10, [&] {
        at.push_back(clock.now_ns());
        clock.cancel(never);
        clock.schedule(15, [&] { at.push_back(clock.now_ns()); });
    });
    clock.advance(29);
    CHECK(at == std::vector<std::uint64_t>{10, 15});
    clock.advance(3'000'000'000);
    CHECK(at.back() == 30);
    CHECK(clock.pending() == 0);
    CHECK(clock.wall_seconds() == 1'700'000'003);
}

TEST_CASE("a paused clock stands still, and its deadlines come as much later") {
    Rig rig;
    bool ran = false;
    std::uint64_t at = 0, before = 0;
    {
        std::scoped_lock guard(rig.bus.lock());
        before = rig.clock->now_ns();
        rig.clock->schedule(before + 20 * ms, [&] {
            ran = true;
            at = rig.clock->now_ns();
            rig.loop.stop();
        });
        rig.clock->pause();
        rig.clock->pause(); // twice is once
        before = rig.clock->now_ns();
        rig.clock->schedule(before, [] {}); // due at once, but not now
    }
    Timer wait(rig.loop, [&] { rig.loop.stop(); });
    wait.start(std::chrono::milliseconds(60));
    rig.loop.run();
    CHECK_FALSE(ran);
    {
        std::scoped_lock guard(rig.bus.lock());
        CHECK(rig.clock->now_ns() == before);
        rig.clock->resume();
        rig.clock->resume();
    }
    rig.loop.run();
    CHECK(ran);
    CHECK(at >= before + 15 * ms); // not counting what was paused, which is more
}
