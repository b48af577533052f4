#include "host/events.h"

#include <algorithm>
#include <ctime>

namespace vmhost::host {

void Events::tell(std::string_view vm, std::uint32_t id, std::string_view kind,
                  std::string_view text) {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    kept_.push_back({.number = ++last_number_,
                     .time_us = now.tv_sec * std::int64_t{1'000'000} + now.tv_nsec / 1000,
                     .vm = std::string(vm),
                     .id = id,
                     .kind = std::string(kind),
                     .text = printable(text, limits::max_event_text_bytes)});
    if (kept_.size() > limits::max_events)
        kept_.pop_front();
    // What a follower does with it must not change the list that is being walked.
    auto followers = std::exchange(followers_, {});
    const Event event = kept_.back();
    std::erase_if(followers, [&](const Follower& one) { return !one.take(event); });
    followers_.insert(followers_.begin(), std::make_move_iterator(followers.begin()),
                      std::make_move_iterator(followers.end()));
}

Result<void> Events::follow(Take take, std::function<bool()> active) {
    std::erase_if(followers_, [](const Follower& one) { return !one.active(); });
    if (followers_.size() >= limits::max_event_followers)
        return fail(ErrorKind::limit, "{} clients follow the events already", followers_.size());
    followers_.push_back({std::move(take), std::move(active)});
    return {};
}

} // namespace vmhost::host
