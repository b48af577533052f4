// Asks the dhcp process who has which address, and has it take one back.
//
// Each question has a number, which its answer repeats: what is said too late, by a process that
// was busy or had ended meanwhile, belongs to no other question.
//
// Loop thread of the parent.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "ipc/messages.h"
#include "loop/loop.h"

namespace vmhost::host {

class LeaseDesk {
public:
    // To the dhcp process; false: no switch is served.
    using Send = std::function<bool(ipc::Frame)>;
    using Listed = std::function<void(Result<std::vector<ipc::DhcpLeaseRow>>)>;
    using Done = std::function<void(Result<void>)>;
    LeaseDesk(Loop& loop, Send send);

    // Answered soon, whatever the process does.
    void list(Listed listed);
    void release(Ipv4 address, Done done);
    // True when the frame was an answer.
    bool took(ipc::Frame& frame);

private:
    struct Question {
        std::uint32_t number = 0;
        std::uint64_t until_ms = 0;
        Listed listed; // of a listing
        Done done;     // of a release
        std::vector<ipc::DhcpLeaseRow> rows = {};
    };
    using Place = std::deque<Question>::iterator;
    template <class Message>
    void ask(Question question, Message message);
    Place find(std::uint32_t number, bool listing);
    Question take(Place place);
    void took_leases(ipc::DhcpLeases part);
    void took_forgotten(ipc::DhcpForgotten answer);
    void give_up();
    void wait();

    Loop& loop_;
    Send send_;
    std::deque<Question> open_; // the oldest first
    std::uint32_t last_ = 0;    // number that was given
    Timer timer_;               // of the oldest
};

} // namespace vmhost::host
