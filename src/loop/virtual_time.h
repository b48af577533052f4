// A clock that nobody waits for, and what is to happen when: the inside of a Loop that was made
// with VirtualTime. Time stands still while something is to be done and jumps to the next moment
// at which there is; what is due at the same moment runs in the order in which it was asked for.
// The same program therefore does the same thing each time.
//
// One thread: that of the loop.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

namespace vmhost {

class VirtualClock {
public:
    using Job = std::function<void()>;
    using Key = std::pair<std::uint64_t, std::uint64_t>; // when, and the how manieth job it is

    std::uint64_t now_ms() const { return now_ms_; }
    Key add(std::uint64_t delay_ms, Job job);
    void remove(const Key& key) { waiting_.erase(key); }
    // At the end of this turn; in it, at the end of the next one.
    std::uint64_t add_turn_end(Job job);
    void remove_turn_end(std::uint64_t key) { turn_ends_.erase(key); }

    bool empty() const { return waiting_.empty() && turn_ends_.empty(); }
    // Everything that is due and was asked for before the turn. jump: goes to the next moment first
    // when nothing is due.
    void turn(bool jump);

private:
    std::uint64_t now_ms_ = 1000; // a difference to a time that was never set is not small
    std::uint64_t next_ = 1;
    std::map<Key, Job> waiting_;
    std::map<std::uint64_t, Job> turn_ends_;
};

} // namespace vmhost
