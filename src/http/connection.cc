// A connection's life; the picture is in connection.h.
//
// All work happens in step(), called when the socket or a timer has something to
// say; its callers let go of the connection as their last act, because that
// destroys it.

#include "http/connection.h"

#include <array>
#include <cerrno>
#include <ctime>
#include <sys/sendfile.h>
#include <sys/socket.h>

namespace vmhost::http {

namespace {

// One turn reads at most this often from one client.
constexpr int max_reads_per_turn = 8;
// The loop reports a half-closed peer on every turn; while such a peer does not
// read either, the socket is looked at this often instead.
constexpr std::chrono::milliseconds retry_interval{50};
// Of a file, and of requests, at a time, so that many get on alike; the next turn is as soon as the
// loop has looked at all others.
constexpr std::uint64_t max_file_bytes_per_turn = 256 << 10;
constexpr unsigned max_answers_per_turn = 16;

std::uint64_t now_us() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec) / 1000;
}

} // namespace

Connection::Connection(Server& server, std::uint64_t id, Fd socket, IpAddress peer, IpAddress local,
                       std::uint16_t local_port)
    : server_(server), id_(id), socket_(std::move(socket)), peer_(peer), local_(local),
      local_port_(local_port), deadline_timer_(server.loop_, [this] { timed_out(); }),
      retry_timer_(server.loop_, [this] { ready(false); }),
      watch_(server.loop_, socket_.get(),
             [this](Watch::Ready happened) { ready(happened.hangup); }) {
    watch_.set(true, false);
    start_deadline();
}

Connection::~Connection() {
    if (file_)
        end_file();
}

void Connection::ready(bool hangup) {
    hangup_ |= hangup;
    if (!step())
        server_.forget(id_);
}

bool Connection::step() {
    if (lingering_)
        return discard_input();
    bool drained = false; // the socket had less than there was room for
    turn_over_ = false;
    answers_in_turn_ = 0;
    for (int turn = 0; turn < max_reads_per_turn; ++turn) {
        if (!flush())
            return false;
        if (blocked_ || lingering_)
            break;
        answer_input(); // what was read before and had to wait
        if (sending())
            continue;
        if (pending_ || turn_over_)
            break;
        if (peer_finished_)
            return false;
        if (drained)
            break; // the loop tells of more
        bool any = false;
        if (!read_input(any, drained))
            return false;
        answer_input();
        if (pending_ && !sending())
            break;
        if (!any && !sending() && !peer_finished_)
            break;
    }
    start_deadline();
    watch();
    return true;
}

bool Connection::read_input(bool& any, bool& drained) {
    std::array<char, limits::max_http_head_bytes> buffer;
    const auto room = buffer.size() - std::min(input_.size(), buffer.size());
    auto count = ::recv(socket_.get(), buffer.data(), room, MSG_DONTWAIT);
    if (count < 0)
        return errno == EAGAIN || errno == EINTR;
    any = count > 0;
    drained = any && static_cast<std::size_t>(count) < room;
    if (count == 0) {
        peer_finished_ = true;
    } else {
        if (input_.empty() && !body_)
            request_began_us_ = now_us();
        input_.append(buffer.data(), static_cast<std::size_t>(count));
    }
    return true;
}

void Connection::answer_input() {
    while (!input_.empty() && !last_answer_queued_ && !pending_ && !file_ &&
           output_.size() < limits::max_http_unsent_bytes) {
        if (answers_in_turn_ >= max_answers_per_turn) {
            turn_over_ = true;
            return;
        }
        if (!next_request())
            return;
        request_began_us_ = input_.empty() ? 0 : now_us();
    }
}

// False: more input is needed, or none is any longer.
bool Connection::next_request() {
    if (!body_) {
        auto parsed = parse_head(input_);
        if (parsed.refusal)
            refuse(parsed.refusal->status, parsed.refusal->reason);
        if (!parsed.head)
            return false;
        input_.erase(0, parsed.used_bytes);
        if (!parsed.head->has_body || parsed.head->expects_continue) {
            answer_head(*std::move(parsed.head));
            return true;
        }
        BodyReader reader(*parsed.head);
        body_ = {*std::move(parsed.head), reader};
    }
    auto taken = body_->reader.take(input_);
    input_.erase(0, taken.used_bytes);
    if (!taken.refusal && !taken.whole)
        return false;
    auto head = std::exchange(body_, std::nullopt)->head;
    if (taken.refusal) {
        refuse(taken.refusal->status, taken.refusal->reason);
        return false;
    }
    answer_head(std::move(head));
    return true;
}

void Connection::answer_head(Head&& head) {
    if (head.host_port && *head.host_port != local_port_)
        return refuse(400, "host names another port");
    ++requests_;
    ++answers_in_turn_;
    deadline_ = Deadline::none; // each request has its own time
    last_answer_queued_ = !head.keep_alive || head.expects_continue ||
                          requests_ >= server_.options_.max_requests_per_connection;
    const bool head_only = head.method == "HEAD";
    const bool is_asked = head_only || head.method == "GET";
    std::optional<Response> response;
    Request request{std::move(head.method),
                    std::move(head.path),
                    std::move(head.query),
                    std::move(head.host),
                    peer_,
                    local_,
                    local_port_,
                    id_,
                    std::move(head.conditions)};
    if (is_asked) {
        response = server_.ask(request);
    } else {
        response = error_response(405);
        response->headers.emplace_back("Allow", "GET, HEAD");
    }
    Access access;
    access.peer = peer_;
    access.method = std::move(request.method);
    access.path = std::move(request.path);
    access.query = std::move(request.query);
    access.target = std::move(head.target);
    access.referer = std::move(head.referer);
    access.user_agent = std::move(head.user_agent);
    access.http_1_0 = head.http_1_0;
    if (response)
        queue(*response, std::move(access), head_only);
    else
        pending_ = {std::move(access), head_only, request_began_us_};
}

void Connection::answer(const Response& response) {
    auto pending = std::exchange(pending_, std::nullopt);
    if (!pending)
        return;
    auto next_began_us = std::exchange(request_began_us_, pending->began_us);
    queue(response, std::move(pending->access), pending->head_only);
    request_began_us_ = next_began_us;
    ready(false);
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
    if (!has_sound_fields(response)) {
        log::error("http", "an answer with status {} has a field that is not one line",
                   response.status);
        return queue(error_response(500), std::move(access), head_only);
    }
    append_response(output_, response, server_.options_.name, ::time(nullptr), !last_answer_queued_,
                    head_only);
    access.status = response.status;
    access.vm = response.vm;
    const auto& file = response.file;
    if (file && !file->content && !head_only && file->length > 0) {
        file_ = Sending{*file, std::move(access), request_began_us_};
        return;
    }
    access.body_bytes = head_only ? 0 : body_in_memory(response).size();
    access.duration_us = request_began_us_ ? now_us() - request_began_us_ : 0;
    server_.report(access);
}

void Connection::tell_progress() {
    if (!server_.on_progress_)
        return;
    const auto now = now_us();
    const std::chrono::microseconds since(now - std::max(file_->told_us, file_->began_us));
    if (since < server_.options_.progress_interval)
        return;
    file_->told_us = now;
    server_.on_progress_(file_->access);
    file_->access.told_bytes = file_->access.body_bytes;
}

// It is sent, or never will be.
void Connection::end_file() {
    auto ended = std::exchange(file_, std::nullopt);
    ended->access.cut_off_bytes = ended->rest.length;
    ended->access.duration_us = ended->began_us ? now_us() - ended->began_us : 0;
    server_.report(ended->access);
}

// The time to send starts anew, but not for a few bytes: who takes one now and then would keep its
// place for ever.
void Connection::got_on(std::uint64_t bytes) {
    taken_bytes_ += bytes;
    if (taken_bytes_ < limits::min_http_sent_bytes)
        return;
    taken_bytes_ = 0;
    deadline_ = Deadline::none;
}

bool Connection::flush() {
    blocked_ = false;
    if (!flush_output() || (!blocked_ && file_ && !flush_file()))
        return false;
    if (!blocked_ && last_answer_queued_ && !pending_)
        begin_linger();
    return true;
}

bool Connection::flush_file() {
    auto& rest = file_->rest;
    for (std::uint64_t turn = 0; rest.length > 0;) {
        if (turn >= max_file_bytes_per_turn) {
            blocked_ = turn_over_ = true;
            return true;
        }
        auto offset = static_cast<off_t>(rest.offset);
        auto count = ::sendfile(socket_.get(), rest.file->get(), &offset,
                                std::min(rest.length, max_file_bytes_per_turn));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && errno == EAGAIN) {
            blocked_ = true;
            return true;
        }
        if (count <= 0) { // the client is gone, or the file is shorter than it was
            if (count < 0 && errno != EPIPE && errno != ECONNRESET && server_.may_log())
                log::warning("http", "{}: {}", printable(file_->access.path),
                             Error::system(errno, "send it").text());
            return false;
        }
        const auto bytes = static_cast<std::uint64_t>(count);
        rest.offset += bytes;
        rest.length -= bytes;
        file_->access.body_bytes += bytes;
        turn += bytes;
        got_on(bytes);
        tell_progress();
    }
    end_file();
    return true;
}

bool Connection::flush_output() {
    // With what follows of a file in one segment.
    const int more = file_ ? MSG_MORE : 0;
    while (sent_bytes_ < output_.size()) {
        auto count = ::send(socket_.get(), output_.data() + sent_bytes_,
                            output_.size() - sent_bytes_, MSG_NOSIGNAL | MSG_DONTWAIT | more);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            blocked_ = errno == EAGAIN;
            return blocked_;
        }
        sent_bytes_ += static_cast<std::size_t>(count);
        got_on(static_cast<std::uint64_t>(count));
    }
    output_.clear();
    if (output_.capacity() > limits::max_http_unsent_bytes)
        output_.shrink_to_fit();
    sent_bytes_ = 0;
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
    } else if (waits_to_send()) {
        phase = Deadline::send;
        time = options.send_stall_timeout;
    } else if (pending_) {
        phase = Deadline::answer;
        time = options.answer_timeout;
    } else if (body_) {
        phase = Deadline::body;
        time = options.body_timeout;
    } else if (input_.empty() && requests_ > 0) {
        phase = Deadline::idle;
        time = options.idle_timeout;
    }
    if (phase == deadline_)
        return;
    deadline_ = phase;
    taken_bytes_ = 0;
    deadline_timer_.start(time);
}

void Connection::watch() {
    retry_timer_.stop();
    if (blocked_ && hangup_ && !turn_over_) {
        watch_.set(false, false);
        retry_timer_.start(retry_interval);
        return;
    }
    // A turn that was over goes on when the socket takes more, after the turns of others.
    watch_.set(!waits_to_send() && !pending_, waits_to_send());
}

void Connection::timed_out() {
    if (deadline_ == Deadline::body || (deadline_ == Deadline::head && !input_.empty())) {
        deadline_ = Deadline::none;
        body_.reset();
        refuse(408, "request did not come in time");
        ready(false);
        return;
    }
    // A client that does not take what came before gets no further answer.
    if (pending_ && deadline_ == Deadline::answer)
        return answer(error_response(503));
    server_.forget(id_);
}

} // namespace vmhost::http
