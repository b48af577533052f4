#include "machine/throttle.h"

namespace vmhost::machine {

namespace {

constexpr std::uint64_t ns_per_ms = 1'000'000;

} // namespace

// The amounts are below 2^32 (a request's bytes) and the time below 2^63 (centuries).
void Rate::take(std::uint64_t amount, std::uint64_t now_ns) {
    if (per_s_ == 0)
        return;
    auto whole_s = amount / per_s_, rest = amount % per_s_;
    auto cost_ns =
        whole_s * second_ns + static_cast<std::uint64_t>(static_cast<double>(rest) * second_ns /
                                                         static_cast<double>(per_s_));
    paid_ns_ = std::max(paid_ns_, now_ns) + cost_ns;
}

Throttle::Throttle(Clock& clock, const IoLimit& limit, std::function<void()> resume)
    : clock_(clock), limited_(limit.bytes_per_s != 0 || limit.operations_per_s != 0),
      burst_ns_(limit.burst_ms * ns_per_ms), bytes_(limit.bytes_per_s, burst_ns_),
      operations_(limit.operations_per_s, burst_ns_), resume_(std::move(resume)) {}

Throttle::~Throttle() {
    if (ticket_ != 0)
        clock_.cancel(ticket_);
}

bool Throttle::admit() {
    if (!limited_)
        return true;
    if (waiting())
        return false;
    auto ready_ns = std::max(bytes_.ready_ns(), operations_.ready_ns());
    if (ready_ns <= clock_.now_ns())
        return true;
    ++times_waited_;
    // Not for each single operation: what is saved up meanwhile is not lost.
    auto rest_ns = std::min<std::uint64_t>(burst_ns_, ns_per_ms);
    ticket_ = clock_.schedule(std::max(ready_ns, clock_.now_ns() + rest_ns), [this] {
        ticket_ = 0;
        resume_();
    });
    return false;
}

void Throttle::take(std::uint64_t bytes) {
    if (!limited_)
        return;
    auto now_ns = clock_.now_ns();
    bytes_.take(bytes, now_ns);
    operations_.take(1, now_ns);
}

} // namespace vmhost::machine
