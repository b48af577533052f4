#include "loop/virtual_time.h"

#include <algorithm>

namespace vmhost {

VirtualClock::Key VirtualClock::add(std::uint64_t delay_ms, Job job) {
    Key key{now_ms_ + delay_ms, next_++};
    waiting_.emplace(key, std::move(job));
    return key;
}

std::uint64_t VirtualClock::add_turn_end(Job job) {
    turn_ends_.emplace(next_, std::move(job));
    return next_++;
}

void VirtualClock::turn(bool jump) {
    if (jump && turn_ends_.empty() && !waiting_.empty())
        now_ms_ = std::max(now_ms_, waiting_.begin()->first.first);
    // Taken out before it runs: a job may remove any other, and itself.
    for (auto end = next_; !waiting_.empty();) {
        auto first = waiting_.begin();
        if (first->first.first > now_ms_ || first->first.second >= end)
            break;
        auto job = std::move(first->second);
        waiting_.erase(first);
        job();
    }
    for (auto end = next_; !turn_ends_.empty() && turn_ends_.begin()->first < end;) {
        auto job = std::move(turn_ends_.begin()->second);
        turn_ends_.erase(turn_ends_.begin());
        job();
    }
}

} // namespace vmhost
