// The guest clock of a machine: the host's monotonic clock since the machine was
// built, less the time that it was paused, and one timerfd on the loop for the earliest deadline. The
// timerfd (and not a loop timer) because it has nanoseconds and may be armed from
// a vCPU thread without waking the loop first.
//
// Threads: as in machine/clock.h: schedule and cancel under the device lock from
// any thread; constructed, fired and destroyed on the loop thread.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "loop/loop.h"
#include "machine/bus.h"
#include "machine/clock.h"

namespace vmhost::machine {

class LoopClock final : public Clock {
public:
    static Result<std::unique_ptr<LoopClock>> create(Loop& loop, Bus::Lock& device_lock);
    ~LoopClock() override;

    std::uint64_t now_ns() const override;
    std::int64_t wall_seconds() const override;
    std::int64_t wall_us() const override;
    Ticket schedule(std::uint64_t when_ns, std::function<void()> due) override;
    void cancel(Ticket ticket) override;

    // Time stands still, nothing becomes due. Loop thread, under the device lock.
    void pause();
    void resume();

private:
    LoopClock(Loop& loop, Bus::Lock& device_lock, Fd timer);
    void arm();
    void expired();

    using Key = std::pair<std::uint64_t, Ticket>; // deadline, then order of scheduling
    Bus::Lock& lock_;
    Fd timer_;
    std::uint64_t start_ns_;               // of the host's clock when now_ns() was 0
    std::optional<std::uint64_t> paused_ns_; // now_ns() of a clock that stands still
    Ticket last_ticket_ = 0;
    std::uint64_t armed_ns_ = 0; // 0 = not armed
    std::map<Key, std::function<void()>> deadlines_;
    Watch watch_;
};

} // namespace vmhost::machine
