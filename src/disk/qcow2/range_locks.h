// Holds on runs of guest clusters. Readers and writers in place share; whoever gives a
// cluster another place (allocation, copy on write, discard) is alone on it. So no I/O is
// ever under way to a host cluster that loses its owner. First come, first served.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>

namespace vmhost::disk::qcow2 {

class RangeLocks {
    struct Range {
        std::uint64_t first, last;
        bool exclusive;
    };

public:
    class Hold {
    public:
        Hold(RangeLocks& locks, std::list<Range>::iterator range) : locks_(locks), range_(range) {}
        ~Hold() {
            std::scoped_lock guard(locks_.mutex_);
            locks_.ranges_.erase(range_);
            locks_.changed_.notify_all();
        }
        Hold(const Hold&) = delete;
        Hold& operator=(const Hold&) = delete;

    private:
        RangeLocks& locks_;
        std::list<Range>::iterator range_;
    };

    [[nodiscard]] Hold hold(std::uint64_t first, std::uint64_t last, bool exclusive) {
        std::unique_lock guard(mutex_);
        auto mine = ranges_.insert(ranges_.end(), {first, last, exclusive});
        changed_.wait(guard, [&] { return !is_blocked(mine); });
        return Hold(*this, mine);
    }

    // Null when it would have to wait.
    [[nodiscard]] std::shared_ptr<Hold> try_hold(std::uint64_t first, std::uint64_t last,
                                                 bool exclusive) {
        std::scoped_lock guard(mutex_);
        auto mine = ranges_.insert(ranges_.end(), {first, last, exclusive});
        if (!is_blocked(mine))
            return std::make_shared<Hold>(*this, mine);
        ranges_.erase(mine);
        return nullptr;
    }

private:
    bool is_blocked(std::list<Range>::iterator mine) const {
        for (auto earlier = ranges_.cbegin(); earlier != mine; ++earlier)
            if (earlier->first <= mine->last && mine->first <= earlier->last &&
                (earlier->exclusive || mine->exclusive))
                return true;
        return false;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::list<Range> ranges_; // in order of arrival
};

} // namespace vmhost::disk::qcow2
