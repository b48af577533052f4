// When a VM that ended by itself is started again: the policy of its `restart`, with a
// delay that doubles from one second to a minute, and an end to trying. A run of ten
// minutes is a good one: counting begins anew.
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/base.h"
#include "config/config.h"

namespace vmhost::host {

class Restarts {
public:
    // The delay until the next start; nothing when the VM stays down.
    std::optional<std::chrono::milliseconds> after_end(config::Restart policy, bool failed,
                                                       std::uint64_t ran_ms) {
        if (policy == config::Restart::never || (policy == config::Restart::on_failure && !failed))
            return std::nullopt;
        if (ran_ms >= limits::good_run_ms)
            in_a_row_ = 0;
        if (in_a_row_ >= limits::max_restarts_in_a_row)
            return std::nullopt;
        auto delay_ms = limits::first_restart_delay_ms << std::min(in_a_row_, 16U);
        ++in_a_row_;
        ++total_;
        return std::chrono::milliseconds(std::min(delay_ms, limits::max_restart_delay_ms));
    }
    // Somebody started it by hand.
    void begin_anew() { in_a_row_ = 0; }
    bool given_up() const { return in_a_row_ >= limits::max_restarts_in_a_row; }
    unsigned total() const { return total_; }
    // Of an earlier parent.
    void go_on_from(unsigned total) { total_ = total; }

private:
    unsigned in_a_row_ = 0, total_ = 0;
};

} // namespace vmhost::host
