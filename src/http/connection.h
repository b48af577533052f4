// One client (http/ only).
//
//   asking ──head complete──▶ answers queued, sent ──▶ asking again
//      │                          │ last answer
//      │ nothing sent yet, EOF    ▼
//      └──────────────────▶ lingering: our side is shut down, what still comes is
//                           thrown away until the client closes or time is up
//
// A request is answered when its body has been read, and thrown away: so the next one begins where
// it has to, and a client that writes its whole body before it reads gets on. Only one that waits
// for "100 Continue" is answered at once, for the last time: nothing here wants its body, and
// whether it sends that after an answer is not known.
//
// While answers wait to be sent, or to be made, nothing is read, so a client that does not read
// cannot make us keep more than what it already asked for. A file is sent after the answers before
// it, and nothing is answered until it has been: of a file we keep its descriptor and a position.
#pragma once

#include "http/body.h"
#include "http/parser.h"
#include "http/server.h"

namespace vmhost::http {

class Connection {
public:
    Connection(Server& server, std::uint64_t id, Fd socket, IpAddress peer, IpAddress local,
               std::uint16_t local_port);

    ~Connection(); // tells of a file that was cut off
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    // Whose share of the connections it takes: an IPv4 address, or the network of an IPv6 address,
    // which has as many of them as it likes.
    std::uint64_t client() const {
        return peer_.is_ipv4() ? peer_.ipv4().value : peer_.ipv6().high;
    }
    // Between requests, or before the first, with nothing in either direction.
    bool idle() const { return !lingering_ && !pending_ && !body_ && input_.empty() && !sending(); }
    // To the request that waits for it.
    void answer(const Response& response);

private:
    void ready(bool hangup);
    void timed_out();
    // Every step returns false when the connection is gone for good.
    bool step();
    bool read_input(bool& any, bool& drained);
    void answer_input();
    bool next_request();
    void answer_head(Head&& head);
    void refuse(int status, std::string_view reason);
    void queue(const Response& response, Access access, bool head_only);
    bool sending() const { return !output_.empty() || file_; }
    bool waits_to_send() const { return sending() || turn_over_; }
    bool flush();
    bool flush_output();
    bool flush_file();
    void got_on(std::uint64_t bytes);
    void tell_progress();
    void end_file();
    bool discard_input();
    void begin_linger();
    void start_deadline();
    void watch();

    Server& server_;
    std::uint64_t id_;
    Fd socket_;
    IpAddress peer_, local_;
    std::uint16_t local_port_;
    std::string input_; // of heads not yet answered
    struct Body {
        Head head; // to be answered after it
        BodyReader reader;
    };
    std::optional<Body> body_;
    std::string output_;         // answers not yet sent
    std::size_t sent_bytes_ = 0; // of output_
    // Goes after output_.
    struct Sending {
        FileBody rest; // what is not sent yet
        Access access;
        std::uint64_t began_us = 0;
        std::uint64_t told_us = 0; // of its progress
    };
    std::optional<Sending> file_;
    std::size_t requests_ = 0;
    std::uint64_t request_began_us_ = 0; // 0 = not yet
    // Asked, and the handler answers later.
    struct Pending {
        Access access;
        bool head_only = false;
        std::uint64_t began_us = 0;
    };
    std::optional<Pending> pending_;
    bool last_answer_queued_ = false;
    bool lingering_ = false;
    bool blocked_ = false;   // the socket takes no more for now, or the turn is over
    bool turn_over_ = false; // there is more to do, after others have had a turn
    unsigned answers_in_turn_ = 0;
    std::uint64_t taken_bytes_ = 0; // by the client, since the time to send began
    bool hangup_ = false;           // the loop saw the peer's end, there may be input before it
    bool peer_finished_ = false;    // input was read up to its end
    enum class Deadline { none, head, body, idle, answer, send, linger } deadline_ = Deadline::none;
    // Timers and the watch go first: nothing may call a half-destroyed connection.
    Timer deadline_timer_;
    Timer retry_timer_;
    Watch watch_;
};

} // namespace vmhost::http
