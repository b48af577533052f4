// A clock that moves only when a test says so. For the tests of any room.
#pragma once

#include <algorithm>
#include <map>
#include <utility>

#include "machine/clock.h"

namespace vmhost::machine {

class FakeClock final : public Clock {
public:
    std::uint64_t now_ns() const override { return now_; }
    std::int64_t wall_seconds() const override { return wall; }
    Ticket schedule(std::uint64_t when_ns, std::function<void()> due) override {
        deadlines_.emplace(std::pair{when_ns, ++last_}, std::move(due));
        return last_;
    }
    void cancel(Ticket ticket) override {
        std::erase_if(deadlines_, [&](const auto& one) { return one.first.second == ticket; });
    }

    // Moves time forward and runs what becomes due, each at its own time.
    void advance(std::uint64_t by_ns) {
        const std::uint64_t until = now_ + by_ns;
        while (!deadlines_.empty() && deadlines_.begin()->first.first <= until) {
            auto next = deadlines_.begin();
            now_ = std::max(now_, next->first.first);
            auto due = std::move(next->second);
            deadlines_.erase(next);
            due();
        }
        now_ = until;
        wall += static_cast<std::int64_t>(until / 1'000'000'000 - (until - by_ns) / 1'000'000'000);
    }
    std::size_t pending() const { return deadlines_.size(); }

    std::int64_t wall = 1'700'000'000;

private:
    std::uint64_t now_ = 0;
    Ticket last_ = 0;
    std::map<std::pair<std::uint64_t, Ticket>, std::function<void()>> deadlines_;
};

} // namespace vmhost::machine
