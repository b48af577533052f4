// One client (http/ only).
//
//   asking ──head complete──▶ answers queued, sent ──▶ asking again
//      │                          │ last answer
//      │ nothing sent yet, EOF    ▼
//      └──────────────────▶ lingering: our side is shut down, what still comes is
//                           thrown away until the client closes or time is up
//
// While answers wait to be sent nothing is read, so a client that does not read
// cannot make us keep more than what it already asked for.
#pragma once

#include "http/parser.h"
#include "http/server.h"

namespace vmhost::http {

class Connection {
public:
    Connection(Server& server, std::uint64_t id, Fd socket, Ipv4 peer, Ipv4 local,
               std::uint16_t local_port);

    Ipv4 peer() const { return peer_; }
    // Between requests, or before the first, with nothing in either direction.
    bool idle() const { return !lingering_ && input_.empty() && output_.empty(); }

private:
    void ready(bool hangup);
    void timed_out();
    // Every step returns false when the connection is gone for good.
    bool step();
    bool read_input(bool& any);
    void answer_input();
    void answer_head(const Head& head);
    void refuse(int status, std::string_view reason);
    void queue(const Response& response, Access access, bool head_only);
    bool flush();
    bool discard_input();
    void begin_linger();
    void start_deadline();
    void watch();

    Server& server_;
    std::uint64_t id_;
    Fd socket_;
    Ipv4 peer_, local_;
    std::uint16_t local_port_;
    std::string input_;          // of heads not yet answered
    std::string output_;         // answers not yet sent
    std::size_t sent_bytes_ = 0; // of output_
    std::size_t requests_ = 0;
    std::uint64_t request_began_us_ = 0; // 0 = not yet
    bool last_answer_queued_ = false;
    bool lingering_ = false;
    bool blocked_ = false;       // the socket takes no more for now
    bool hangup_ = false;        // the loop saw the peer's end, there may be input before it
    bool peer_finished_ = false; // input was read up to its end
    enum class Deadline { none, head, idle, send, linger } deadline_ = Deadline::none;
    // Timers and the watch go first: nothing may call a half-destroyed connection.
    Timer deadline_timer_;
    Timer retry_timer_;
    Watch watch_;
};

} // namespace vmhost::http
