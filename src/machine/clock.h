// The guest's clocks, and the one queue of everything that is due later.
//
// Devices never read host clocks. Deadlines run on the loop thread with the
// device lock held; schedule and cancel may be called from any thread that holds
// the lock.
#pragma once

#include <cstdint>
#include <functional>

#include "base/base.h"

namespace vmhost::machine {

inline constexpr std::uint64_t second_ns = 1'000'000'000;

class Clock {
public:
    virtual ~Clock() = default;
    // Nanoseconds that the machine has run: stands still while it is paused.
    virtual std::uint64_t now_ns() const = 0;
    // Seconds since 1970, UTC, for the CMOS clock.
    virtual std::int64_t wall_seconds() const = 0;
    // The same in microseconds, for guests that compare their clock with the host's.
    virtual std::int64_t wall_us() const { return wall_seconds() * 1'000'000; }

    using Ticket = std::uint64_t; // 0 = none
    virtual Ticket schedule(std::uint64_t when_ns, std::function<void()> due) = 0;
    virtual void cancel(Ticket ticket) = 0;
};

} // namespace vmhost::machine
