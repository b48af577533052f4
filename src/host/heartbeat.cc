#include "host/heartbeat.h"

#include <algorithm>

namespace vmhost::host {

using namespace std::chrono_literals;

Heartbeat::Heartbeat(Loop& loop, std::function<void()> ping, std::function<void(bool)> changed)
    : ping_(std::move(ping)), changed_(std::move(changed)), timer_(loop, [this] { turn(); }) {}

void Heartbeat::start(std::chrono::milliseconds timeout) {
    stop();
    if (timeout == 0ms)
        return;
    timeout_ = timeout;
    // Often enough that the report is not late by more than a quarter.
    interval_ = std::clamp(timeout / 4, 1ms, std::chrono::milliseconds(5s));
    timer_.start(interval_, interval_);
}

void Heartbeat::stop() {
    timer_.stop();
    waiting_ = silent_ = false;
}

void Heartbeat::answered() {
    waiting_ = false;
    if (std::exchange(silent_, false))
        changed_(true);
}

void Heartbeat::turn() {
    if (!waiting_) {
        waiting_ = true;
        waited_ = 0ms;
        return ping_();
    }
    waited_ += interval_;
    if (waited_ < timeout_ || silent_)
        return;
    silent_ = true;
    changed_(false);
}

} // namespace vmhost::host
