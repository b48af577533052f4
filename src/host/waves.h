// When a guest that was started has answered, so that the next wave of a start may begin: the
// rule of delay = "boot" in [host.start].
//
// Any thread.
#pragma once

#include <chrono>
#include <cstdint>

#include "host/guest.h"

namespace vmhost::host {

// What is known of a guest of the last wave.
struct Awaited {
    GuestState state = GuestState::running;
    std::uint64_t up_ms = 0; // since it runs
    std::uint64_t timeout_ms = 0;
    bool gets_address = false; // the DHCP service has one for it
    bool has_lease = false;
    bool listens = false; // a driver listens for requests to end
};

enum class Answer : std::uint8_t {
    none, // yet
    given,
    no_more, // it ended, or is held or about to end: nothing is to be expected
    late,    // its time is up
};

// A guest that is to get an address answers with its lease, for then its network works; any other
// with a driver that listens, for then its kernel runs.
constexpr Answer answer_of(const Awaited& guest) {
    if (guest.state != GuestState::running)
        return Answer::no_more;
    if (guest.has_lease || (!guest.gets_address && guest.listens))
        return Answer::given;
    return guest.up_ms >= guest.timeout_ms ? Answer::late : Answer::none;
}

} // namespace vmhost::host
