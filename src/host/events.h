// What has happened on this host: the newest events in a ring, and those who follow. An event is
// for people: log lines say the same and more, but the log is root's, while the owner of a VM may
// look at the events of that VM.
//
// Loop thread of the parent.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "config/config.h"

namespace vmhost::host {

struct Event {
    std::uint64_t number = 0; // 1, 2, … since the daemon started
    std::int64_t time_us = 0; // since 1970
    std::string vm;           // empty: of the host itself
    std::uint32_t id = 0;     // of that VM
    std::string kind;         // a word: "started", "crashed", "lease"
    std::string text;         // printable
};

class Events {
public:
    // Of the VM with that name and id, or of the host. The text is made printable here, and cut.
    void tell(std::string_view vm, std::uint32_t id, std::string_view kind,
              std::string_view text = {});
    void tell(std::string_view kind, std::string_view text = {}) { tell("", 0, kind, text); }
    // Oldest first, at most limits::max_events.
    const std::deque<Event>& kept() const { return kept_; }
    // Calls take for each event that comes, until it returns false.
    using Take = std::function<bool(const Event&)>;
    // active says whether anybody listens still; limit when there are too many who do.
    Result<void> follow(Take take, std::function<bool()> active);

private:
    struct Follower {
        Take take;
        std::function<bool()> active;
    };
    std::deque<Event> kept_;
    std::uint64_t last_number_ = 0;
    std::vector<Follower> followers_;
};

} // namespace vmhost::host
