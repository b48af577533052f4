// Rate limits against a clock that only moves when told to.
#include <catch2/catch.hpp>

#include "fake_clock.h"
#include "machine/throttle.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

constexpr std::uint64_t ms = 1'000'000, s = 1000 * ms;

struct Meter {
    FakeClock clock;
    unsigned resumed = 0;
    Throttle throttle;
    explicit Meter(const IoLimit& limit) : throttle(clock, limit, [this] { ++resumed; }) {}

    // As many operations of this size as pass in a time, trying whenever it may help.
    std::uint64_t operations_in(std::uint64_t time_ns, std::uint64_t bytes) {
        std::uint64_t passed = 0;
        for (std::uint64_t end = clock.now_ns() + time_ns; clock.now_ns() < end;
             clock.advance(ms / 10))
            while (throttle.admit()) {
                throttle.take(bytes);
                ++passed;
            }
        return passed;
    }
};

} // namespace

TEST_CASE("without a limit everything passes, and no timer runs") {
    Meter m({});
    for (unsigned i = 0; i < 10'000; ++i) {
        REQUIRE(m.throttle.admit());
        m.throttle.take(1 << 30);
    }
    CHECK(m.clock.pending() == 0);
    CHECK(m.throttle.times_waited() == 0);
}

TEST_CASE("operations per second: the rate, and the burst once") {
    Meter m({.operations_per_s = 500, .burst_ms = 100});
    auto first = m.operations_in(s, 512);
    CHECK(first >= 549); // 100 ms worth of them were saved up
    CHECK(first <= 552);
    auto later = m.operations_in(10 * s, 512);
    CHECK(later >= 4995);
    CHECK(later <= 5005);
    CHECK(m.throttle.times_waited() > 0);
    m.clock.advance(60 * s); // idle time beyond the burst is not saved
    auto after = m.operations_in(s, 512);
    CHECK(after >= 549);
    CHECK(after <= 552);
}

TEST_CASE("bytes per second hold whatever the sizes, also larger than the burst") {
    for (std::uint64_t bytes : {512ULL, 4096ULL, 1ULL << 20, 64ULL << 20}) {
        Meter m({.bytes_per_s = 50 << 20, .burst_ms = 10});
        auto moved = m.operations_in(20 * s, bytes) * bytes;
        INFO(bytes);
        CHECK(moved >= 20 * (50ULL << 20));
        CHECK(moved <= 20 * (50ULL << 20) + (1 << 20) + bytes);
    }
}

TEST_CASE("both limits at once: the tighter one counts") {
    Meter m({.bytes_per_s = 1 << 20, .operations_per_s = 100, .burst_ms = 1});
    CHECK(m.operations_in(10 * s, 512) <= 1001);
    m.clock.advance(s);
    CHECK(m.operations_in(10 * s, 1 << 20) <= 11);
}

TEST_CASE("what is not admitted is resumed once, when it may begin") {
    Meter m({.operations_per_s = 10, .burst_ms = 0});
    REQUIRE(m.throttle.admit());
    m.throttle.take(0);
    CHECK_FALSE(m.throttle.admit());
    CHECK_FALSE(m.throttle.admit());
    CHECK(m.throttle.waiting());
    CHECK(m.clock.pending() == 1);
    m.clock.advance(99 * ms);
    CHECK(m.resumed == 0);
    m.clock.advance(ms);
    CHECK(m.resumed == 1);
    CHECK_FALSE(m.throttle.waiting());
    CHECK(m.throttle.admit());
}

TEST_CASE("a throttle that goes away takes its deadline along") {
    FakeClock clock;
    {
        Throttle throttle(clock, {.operations_per_s = 1}, [] { FAIL("resumed"); });
        throttle.take(0);
        CHECK_FALSE(throttle.admit());
    }
    CHECK(clock.pending() == 0);
    clock.advance(10 * s);
}
