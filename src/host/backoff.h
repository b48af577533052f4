// How long to wait before a service that ended unasked is started again: a second, then twice as
// long each time, up to half a minute; one that has stayed up for a minute begins anew.
#pragma once

#include <algorithm>
#include <chrono>

#include "config/config.h"

namespace vmhost::host {

class Backoff {
public:
    // worked_ms: how long it had, before it ended.
    std::chrono::milliseconds after_end(std::uint64_t worked_ms) {
        if (worked_ms >= limits::good_service_run_ms)
            in_a_row_ = 0;
        auto delay_ms = limits::first_restart_delay_ms << std::min(in_a_row_, 16U);
        ++in_a_row_;
        return std::chrono::milliseconds(std::min(delay_ms, limits::max_service_restart_delay_ms));
    }
    // Somebody has changed what it is to do.
    void begin_anew() { in_a_row_ = 0; }

private:
    unsigned in_a_row_ = 0;
};

} // namespace vmhost::host
