// Rate limits of disks and NICs: so many bytes and operations a second, and how much of that
// may be saved up while nothing happens.
//
// A Rate is a bucket of tokens seen from its other side: instead of a level it keeps
// the time at which everything taken so far is paid for. An operation may begin while
// that time is less than the burst ahead of now, and then takes what it takes, however
// much: its debt keeps the next ones waiting. So a request that is larger than the
// whole bucket still goes through, and over time the rate holds exactly.
//
// A Throttle is a device's two Rates and a deadline. What it does not admit stays where
// it is (in the guest's queue, in the tap) until resume is called; nothing is dropped.
//
// Threads: under the device lock; resume is called on the loop thread with the lock held.
#pragma once

#include <algorithm>
#include <functional>

#include "machine/clock.h"

namespace vmhost::machine {

// Zero = no limit. One direction of a NIC, or a disk.
struct IoLimit {
    std::uint64_t bytes_per_s = 0;
    std::uint64_t operations_per_s = 0;
    std::uint64_t burst_ms = 0; // of the full rate that an idle device saves up
};

class Rate {
public:
    Rate() = default;
    Rate(std::uint64_t per_s, std::uint64_t burst_ns) : per_s_(per_s), burst_ns_(burst_ns) {}

    // When the next operation may begin; not later than now when it may at once.
    std::uint64_t ready_ns() const { return paid_ns_ > burst_ns_ ? paid_ns_ - burst_ns_ : 0; }
    void take(std::uint64_t amount, std::uint64_t now_ns);

private:
    std::uint64_t per_s_ = 0; // 0 = no limit
    std::uint64_t burst_ns_ = 0;
    std::uint64_t paid_ns_ = 0;
};

class Throttle {
public:
    Throttle(Clock& clock, const IoLimit& limit, std::function<void()> resume);
    ~Throttle();
    Throttle(const Throttle&) = delete;
    Throttle& operator=(const Throttle&) = delete;

    // True when an operation may begin: take() it. False: resume is called when one may.
    bool admit();
    void take(std::uint64_t bytes);
    // Not admitted at present.
    bool waiting() const { return ticket_ != 0; }
    std::uint64_t times_waited() const { return times_waited_; }

private:
    Clock& clock_;
    const bool limited_;
    const std::uint64_t burst_ns_;
    Rate bytes_, operations_;
    std::function<void()> resume_;
    Clock::Ticket ticket_ = 0;
    std::uint64_t times_waited_ = 0;
};

} // namespace vmhost::machine
