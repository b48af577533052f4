// A connection's life; the picture is in connection.h.
//
// All work happens in step(), called when the socket or a timer has something to
// say; its callers let go of the connection as their last act, because that
// destroys it.

#include "http/connection.h"

#include <array>
#include <cerrno>
#include <ctime>
#include <sys/socket.h>

namespace vmhost::http {

namespace {

// One turn reads at most this often from one client.
constexpr int max_reads_per_turn = 8;
// The loop reports a half-closed peer on every turn; while such a peer does not
// read either, the socket is looked at this often instead.
constexpr std::chrono::milliseconds retry_interval{50};

std::uint64_t now_us() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec) / 1000;
}

} // namespace

Connection::Connection(Server& server, std::uint64_t id, Fd socket, Ipv4 peer, Ipv4 local,
                       std::uint16_t local_port)
    : server_(server), id_(id), socket_(std::move(socket)), peer_(peer), local_(local),
      local_port_(local_port), deadline_timer_(server.loop_, [this] { timed_out(); }),
      retry_timer_(server.loop_, [this] { ready(false); }),
      watch_(server.loop_, socket_.get(),
             [this](Watch::Ready happened) { ready(happened.hangup); }) {
    watch_.set(true, false);
    start_deadline();
}

void Connection::ready(bool hangup) {
    hangup_ |= hangup;
    if (!step())
        server_.forget(id_);
}

bool Connection::step() {
    if (lingering_)
        return discard_input();
    for (int turn = 0; turn < max_reads_per_turn; ++turn) {
        if (!flush())
            return false;
        if (blocked_ || lingering_)
            break;
        answer_input(); // what was read before and had to wait
        if (!output_.empty())
            continue;
        if (peer_finished_)
            return false;
        bool any = false;
        if (!read_input(any))
            return false;
        answer_input();
        if (!any && output_.empty() && !peer_finished_)
            break;
    }
    start_deadline();
    watch();
    return true;
}

bool Connection::read_input(bool& any) {
    std::array<char, limits::max_http_head_bytes> buffer;
    const auto room = buffer.size() - std::min(input_.size(), buffer.size());
    auto count = ::recv(socket_.get(), buffer.data(), room, MSG_DONTWAIT);
    if (count < 0)
        return errno == EAGAIN || errno == EINTR;
    any = count > 0;
    if (count == 0) {
        peer_finished_ = true;
    } else {
        if (input_.empty())
            request_began_us_ = now_us();
        input_.append(buffer.data(), static_cast<std::size_t>(count));
    }
    return true;
}

void Connection::answer_input() {
    while (!input_.empty() && !last_answer_queued_ &&
           output_.size() < limits::max_http_unsent_bytes) {
        auto parsed = parse_head(input_);
        if (!parsed.head && !parsed.refusal)
            return;
        if (parsed.refusal) {
            refuse(parsed.refusal->status, parsed.refusal->reason);
            return;
        }
        input_.erase(0, parsed.used_bytes);
        answer_head(*parsed.head);
        request_began_us_ = input_.empty() ? 0 : now_us();
    }
}

void Connection::answer_head(const Head& head) {
    if (head.host_port && *head.host_port != local_port_)
        return refuse(400, "host names another port");
    ++requests_;
    // A body is never read: it would have to be told from the next request, so the
    // connection ends with this answer, also when the client asked for 100-continue.
    last_answer_queued_ = !head.keep_alive || head.has_body ||
                          requests_ >= server_.options_.max_requests_per_connection;
    Access access{peer_, head.method, head.path, head.query, 0, 0, 0};
    const bool head_only = head.method == "HEAD";
    if (!head_only && head.method != "GET") {
        auto response = error_response(405);
        response.headers.emplace_back("Allow", "GET, HEAD");
        return queue(response, std::move(access), false);
    }
    Request request{head.method, head.path, head.query, head.host, peer_, local_, local_port_, id_};
    queue(server_.answer(request), std::move(access), head_only);
}

void Connection::refuse(int status, std::string_view reason) {
    log::debug("http", "{}: {}: {}", peer_.text(), status, reason);
    last_answer_queued_ = true;
    input_.clear();
    Access access;
    access.peer = peer_;
    queue(error_response(status), std::move(access), false);
}

void Connection::queue(const Response& response, Access access, bool head_only) {
    output_ += response_bytes(response, server_.options_.name, ::time(nullptr),
                              !last_answer_queued_, head_only);
    access.status = response.status;
    access.body_bytes = head_only ? 0 : response.body.size();
    access.duration_us = request_began_us_ ? now_us() - request_began_us_ : 0;
    server_.report(access);
}

bool Connection::flush() {
    blocked_ = false;
    while (sent_bytes_ < output_.size()) {
        auto count = ::send(socket_.get(), output_.data() + sent_bytes_,
                            output_.size() - sent_bytes_, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            blocked_ = errno == EAGAIN;
            return blocked_;
        }
        sent_bytes_ += static_cast<std::size_t>(count);
        deadline_ = Deadline::none; // there was progress: the time to send starts anew
    }
    output_.clear();
    if (output_.capacity() > limits::max_http_unsent_bytes)
        output_.shrink_to_fit();
    sent_bytes_ = 0;
    if (last_answer_queued_)
        begin_linger();
    return true;
}

// The installer reads to the end of the connection: our side is shut down at once.
// Closing it as well could turn unread input into a reset that overtakes the answer.
void Connection::begin_linger() {
    ::shutdown(socket_.get(), SHUT_WR);
    input_.clear();
    lingering_ = true;
}

bool Connection::discard_input() {
    std::array<char, 16 << 10> buffer;
    for (int turn = 0; turn < max_reads_per_turn; ++turn) {
        auto count = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (count < 0)
            break;
    }
    watch_.set(true, false);
    return true;
}

// A deadline belongs to a phase and keeps running while the phase lasts, however
// many bytes dribble in: a head has to be whole in time.
void Connection::start_deadline() {
    const auto& options = server_.options_;
    auto phase = Deadline::head;
    auto time = options.head_timeout;
    if (lingering_) {
        phase = Deadline::linger;
        time = options.linger_timeout;
    } else if (!output_.empty()) {
        phase = Deadline::send;
        time = options.send_stall_timeout;
    } else if (input_.empty() && requests_ > 0) {
        phase = Deadline::idle;
        time = options.idle_timeout;
    }
    if (phase == deadline_)
        return;
    deadline_ = phase;
    deadline_timer_.start(time);
}

void Connection::watch() {
    retry_timer_.stop();
    if (blocked_ && hangup_) {
        watch_.set(false, false);
        retry_timer_.start(retry_interval);
    } else {
        watch_.set(output_.empty(), !output_.empty());
    }
}

void Connection::timed_out() {
    if (deadline_ == Deadline::head && !input_.empty()) {
        deadline_ = Deadline::none;
        refuse(408, "head did not come in time");
        ready(false);
        return;
    }
    server_.forget(id_);
}

} // namespace vmhost::http
