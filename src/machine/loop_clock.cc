#include "machine/loop_clock.h"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <sys/timerfd.h>

namespace vmhost::machine {

namespace {

std::uint64_t monotonic_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * second_ns +
           static_cast<std::uint64_t>(now.tv_nsec);
}

} // namespace

Result<std::unique_ptr<LoopClock>> LoopClock::create(Loop& loop, Bus::Lock& device_lock) {
    Fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!timer)
        return fail_errno(errno, "guest clock: timerfd_create");
    return std::unique_ptr<LoopClock>(new LoopClock(loop, device_lock, std::move(timer)));
}

LoopClock::LoopClock(Loop& loop, Bus::Lock& device_lock, Fd timer)
    : lock_(device_lock), timer_(std::move(timer)), start_ns_(monotonic_ns()),
      watch_(loop, timer_.get(), [this](Watch::Ready) { expired(); }) {
    watch_.set(true, false);
}

LoopClock::~LoopClock() = default;

std::uint64_t LoopClock::now_ns() const {
    return paused_ns_ ? *paused_ns_ : monotonic_ns() - start_ns_;
}

void LoopClock::pause() {
    if (!paused_ns_)
        paused_ns_ = now_ns(); // an expiry that is on its way finds nothing due
}

void LoopClock::resume() {
    if (!paused_ns_)
        return;
    start_ns_ = monotonic_ns() - *paused_ns_;
    paused_ns_.reset();
    armed_ns_ = 0;
    arm();
}

void LoopClock::go_on_from(std::uint64_t now_ns) {
    start_ns_ = monotonic_ns() - now_ns;
}

std::int64_t LoopClock::wall_seconds() const {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec;
}

std::int64_t LoopClock::wall_us() const {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

Clock::Ticket LoopClock::schedule(std::uint64_t when_ns, std::function<void()> due) {
    Ticket ticket = ++last_ticket_;
    deadlines_.emplace(Key{when_ns, ticket}, std::move(due));
    arm();
    return ticket;
}

// A machine has a dozen deadlines at most: looking through them costs less than an index.
void LoopClock::cancel(Ticket ticket) {
    auto found = std::ranges::find_if(
        deadlines_, [ticket](const auto& entry) { return entry.first.second == ticket; });
    if (found != deadlines_.end())
        deadlines_.erase(found); // a needless expiry finds nothing due and arms again
}

// Sets the timer to the earliest deadline unless it stands there already.
void LoopClock::arm() {
    if (deadlines_.empty() || paused_ns_)
        return;
    std::uint64_t when_ns = deadlines_.begin()->first.first;
    // A deadline beyond what a timespec holds is centuries away: wait that long and look again.
    constexpr std::uint64_t longest_ns = second_ns * 60 * 60 * 24 * 365 * 100;
    std::uint64_t absolute_ns = start_ns_ + std::min(when_ns, longest_ns);
    if (armed_ns_ == absolute_ns)
        return;
    armed_ns_ = absolute_ns;
    itimerspec value{};
    value.it_value.tv_sec = static_cast<time_t>(absolute_ns / second_ns);
    value.it_value.tv_nsec = static_cast<long>(absolute_ns % second_ns);
    ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &value, nullptr);
}

// Runs what was due and scheduled before this turn: a deadline that schedules itself for
// "now" comes again on the next turn and cannot hold the loop.
void LoopClock::expired() {
    std::uint64_t expirations = 0;
    if (::read(timer_.get(), &expirations, sizeof expirations) < 0 && errno == EAGAIN)
        return;
    std::scoped_lock guard(lock_);
    armed_ns_ = 0;
    if (paused_ns_)
        return;
    const std::uint64_t now = now_ns();
    const Ticket last = last_ticket_;
    auto is_due = [now, last](const auto& entry) {
        return entry.first.first <= now && entry.first.second <= last;
    };
    for (;;) {
        auto next = std::ranges::find_if(deadlines_, is_due);
        if (next == deadlines_.end())
            break;
        auto due = std::move(next->second);
        deadlines_.erase(next);
        due();
    }
    arm();
}

} // namespace vmhost::machine
