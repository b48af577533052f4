// A console of one guest.
//
// Output: the guest's bytes go into one ring under a mutex; every reader is only a
// position in it, so a slow reader costs no memory and nobody waits for it. A
// reader that falls back further than max_console_backlog_bytes (or, while it still
// gets the replay, than the ring) is moved forward, and a notice says by how much.
// Frames are made when the socket has room.
//
// Input: from the holder of the writer's token. Its socket is read only while all
// earlier input has been taken by the device, so at most one read is queued
// here and the rest waits in the client.
//
// Threads: loop thread; write_from_guest and input_space may come from any thread,
// touch only the ring and a flag, and wake the loop.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <mutex>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "machine/console/frames.h"
#include "machine/console/ring.h"
#include "machine/machine.h"

namespace vmhost::machine {

namespace {

class RealConsole;

struct TerminalSize {
    std::uint16_t columns = 0, rows = 0;
};

// One attached client.
class Client {
public:
    Client(RealConsole& console, Loop& loop, Fd socket, bool wants_token, std::uint64_t position,
           std::uint64_t replay_end);

    void tell(ConsoleFrame kind, Bytes data);
    // Sends what the socket takes; false = the client is gone.
    bool send();
    void update_interest();

    // Not everything that it may have is with its socket.
    bool behind() const;
    // Once, after its last output.
    void tell_end() {
        if (!std::exchange(told_end_, true))
            tell(ConsoleFrame::ended, {});
    }
    bool told_end() const { return told_end_; }
    bool wants_token() const { return wants_token_; }
    // Of its terminal, once it has said.
    std::optional<TerminalSize> size;
    bool hung_up() const;

private:
    void ready(Watch::Ready ready);
    bool receive();
    bool next_frame();

    RealConsole& console_;
    Fd socket_;
    bool wants_token_;
    std::uint64_t position_;   // next byte of the ring to send
    std::uint64_t replay_end_; // up to here only the ring's size limits the lag
    ConsoleFrameReader frames_;
    std::vector<std::uint8_t> sending_; // one frame, the part from sent_ is not out yet
    std::size_t sent_ = 0;
    std::deque<std::vector<std::uint8_t>> notices_; // frames that come before more output
    bool told_end_ = false;
    bool blocked_ = false; // the socket is full
    Watch watch_;
};

class RealConsole final : public Console {
public:
    explicit RealConsole(Loop& loop)
        : loop_(loop), wakeup_(loop, [this] { woken(); }), ring_(limits::console_ring_bytes),
          hangup_timer_(loop, [this] { drop_silent_holder(); }),
          bell_timer_(loop, [this] { ring_bell(); }), drain_timer_(loop, [this] { drained(); }) {}
    RealConsole(Loop& loop, ipc::SharedRing shared, Fd bell)
        : loop_(loop), wakeup_(loop, [this] { woken(); }), ring_(std::move(shared)),
          bell_(std::move(bell)), hangup_timer_(loop, [this] { drop_silent_holder(); }),
          bell_timer_(loop, [this] { ring_bell(); }), drain_timer_(loop, [this] { drained(); }) {}
    ~RealConsole() override;

    Result<void> attach(Fd client, bool want_writer) override;
    void write_from_guest(Bytes output) override;
    void on_input(std::function<std::size_t(Bytes)> take,
                  std::function<void()> line_break) override;
    void on_size(std::function<void(std::uint16_t, std::uint16_t)> take) override {
        take_size_ = std::move(take);
        tell_size();
    }
    void input_space() override;
    void hold_input(bool hold) override;
    std::uint64_t output_bytes() const override;
    void close(std::function<void()> closed) override;

    // For clients.
    bool is_holder(const Client& client) const { return &client == holder_; }
    bool input_waits() const { return !input_.empty(); }
    void take_input(Client& from, ConsoleFrame kind, Bytes data);
    void take_size(Client& from, TerminalSize size);
    // Moves position forward to what a reader may still have, copies from it; the bytes lost.
    std::uint64_t copy_output(std::uint64_t& position, std::uint64_t replay_end,
                              std::vector<std::uint8_t>& into);
    void drop(Client& client);

private:
    void woken();
    void ring_bell();
    void drained();
    void deliver_input();
    void pass_token();
    void tell_size();
    void drop_silent_holder();
    void wake();

    Loop& loop_;
    Wakeup wakeup_;
    mutable std::mutex mutex_;
    OutputRing ring_; // under mutex_
    std::atomic<bool> has_clients_{false};
    std::atomic<bool> space_again_{false};
    std::vector<std::unique_ptr<Client>> clients_; // in order of arrival
    Client* holder_ = nullptr;
    std::deque<std::vector<std::uint8_t>> input_; // not taken yet; an empty piece is a BREAK
    std::function<std::size_t(Bytes)> take_;
    std::function<void()> line_break_;
    std::function<void(std::uint16_t, std::uint16_t)> take_size_;
    bool input_held_ = false;
    Fd bell_;
    std::function<void()> closed_; // of close(), until it has been called
    std::uint64_t close_deadline_ms_ = 0;
    Timer hangup_timer_, bell_timer_, drain_timer_;
};

// A client that stops reading its socket is looked after this often.
constexpr std::chrono::milliseconds hangup_interval(500);
// New output is told to the parent at most this often.
constexpr std::chrono::milliseconds bell_interval(20);
// Clients have this long to take the last output of a guest that has ended.
constexpr std::uint64_t drain_ms = 2000;
constexpr std::chrono::milliseconds drain_interval(10);
// Per turn of the loop and client, so that one fast reader does not hold the others up.
constexpr unsigned frames_per_turn = 16;
// What the kernel may hold beyond our bound on the lag; small, so that the answer to ^C is
// not behind a megabyte of older output.
constexpr int socket_buffer_bytes = 32 << 10;

Client::Client(RealConsole& console, Loop& loop, Fd socket, bool wants_token,
               std::uint64_t position, std::uint64_t replay_end)
    : console_(console), socket_(std::move(socket)), wants_token_(wants_token), position_(position),
      replay_end_(replay_end),
      watch_(loop, socket_.get(), [this](Watch::Ready happened) { ready(happened); }) {
    (void)::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDBUF, &socket_buffer_bytes,
                       sizeof socket_buffer_bytes);
}

void Client::tell(ConsoleFrame kind, Bytes data) {
    notices_.push_back(encode_console_frame(kind, data));
}

bool Client::behind() const {
    return sent_ < sending_.size() || !notices_.empty() || position_ < console_.output_bytes();
}

bool Client::hung_up() const {
    pollfd look{socket_.get(), POLLRDHUP, 0};
    return ::poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void Client::update_interest() {
    bool readable = !console_.is_holder(*this) || !console_.input_waits();
    watch_.set(readable, blocked_);
}

// Nothing may follow a drop: it destroys this client.
void Client::ready(Watch::Ready happened) {
    bool alive = true;
    if (happened.readable)
        alive = receive();
    else if (happened.hangup)
        alive = false;
    if (alive && happened.writable) {
        blocked_ = false;
        alive = send();
    }
    if (alive)
        update_interest();
    else
        console_.drop(*this);
}

bool Client::receive() {
    std::uint8_t buffer[max_console_frame_bytes];
    auto count = ::recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (count < 0)
        return errno == EAGAIN || errno == EINTR;
    if (count == 0)
        return false;
    bool sane = true;
    bool whole = frames_.feed(
        Bytes(buffer, static_cast<std::size_t>(count)), [&](ConsoleFrame kind, Bytes data) {
            if (kind == ConsoleFrame::data || kind == ConsoleFrame::line_break)
                console_.take_input(*this, kind, data);
            else if (kind == ConsoleFrame::size)
                console_.take_size(
                    *this, {load_le<std::uint16_t>(data), load_le<std::uint16_t>(data.subspan(2))});
            else
                sane = false; // these only go the other way
        });
    return whole && sane;
}

// Puts the next frame into sending_; false = nothing to say.
bool Client::next_frame() {
    sent_ = 0;
    sending_.clear();
    if (notices_.empty()) {
        std::vector<std::uint8_t> output;
        auto lost = console_.copy_output(position_, replay_end_, output);
        if (lost != 0)
            tell(ConsoleFrame::notice, as_bytes(fmt::format("{} bytes of output were lost", lost)));
        if (!output.empty())
            notices_.push_back(encode_console_frame(ConsoleFrame::data, output));
    }
    if (notices_.empty())
        return false;
    sending_ = std::move(notices_.front());
    notices_.pop_front();
    return true;
}

bool Client::send() {
    for (unsigned frames = 0; !blocked_;) {
        if (sent_ == sending_.size() && (frames++ == frames_per_turn || !next_frame())) {
            blocked_ = frames > frames_per_turn; // more to say: go on when writable, at once
            break;
        }
        auto count = ::send(socket_.get(), sending_.data() + sent_, sending_.size() - sent_,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count >= 0)
            sent_ += static_cast<std::size_t>(count);
        else if (errno == EAGAIN)
            blocked_ = true;
        else if (errno != EINTR)
            return false;
    }
    return true;
}

// Each client gets what its socket takes now, then the end.
RealConsole::~RealConsole() {
    for (auto& client : clients_)
        if (client->send()) {
            client->tell_end();
            (void)client->send();
        }
}

Result<void> RealConsole::attach(Fd client, bool want_writer) {
    if (clients_.size() >= limits::max_console_readers) {
        // The one who is turned away is told; a socket that was just made has room for it.
        auto text = fmt::format("{} clients are attached already", clients_.size());
        for (const auto& frame : {encode_console_frame(ConsoleFrame::notice, as_bytes(text)),
                                  encode_console_frame(ConsoleFrame::closed, {})})
            (void)!::send(client.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        return fail(ErrorKind::limit, "console: {} clients are attached already", clients_.size());
    }
    int type = 0;
    socklen_t length = sizeof type;
    if (::getsockopt(client.get(), SOL_SOCKET, SO_TYPE, &type, &length) < 0)
        return fail_errno(errno, "console: client");
    if (type != SOCK_STREAM)
        return fail(ErrorKind::invalid, "console: client is not a stream socket");
    std::uint64_t begin = 0, end = 0;
    {
        std::scoped_lock guard(mutex_);
        begin = ring_.begin();
        end = ring_.end();
        has_clients_ = true;
    }
    auto& added = *clients_.emplace_back(
        std::make_unique<Client>(*this, loop_, std::move(client), want_writer, begin, end));
    if (want_writer && holder_ == nullptr)
        holder_ = &added;
    const std::uint8_t token = holder_ == &added ? 1 : 0;
    added.tell(ConsoleFrame::writer, Bytes(&token, 1));
    wake(); // sends on the loop's next turn: the caller may still hold its own locks
    return {};
}

void RealConsole::wake() {
    wakeup_.wake();
}

void RealConsole::write_from_guest(Bytes output) {
    {
        std::scoped_lock guard(mutex_);
        ring_.append(output);
    }
    if (has_clients_ || bell_)
        wake();
}

std::uint64_t RealConsole::output_bytes() const {
    std::scoped_lock guard(mutex_);
    return ring_.end();
}

std::uint64_t RealConsole::copy_output(std::uint64_t& position, std::uint64_t replay_end,
                                       std::vector<std::uint8_t>& into) {
    std::scoped_lock guard(mutex_);
    std::uint64_t first = ring_.begin();
    if (position >= replay_end && ring_.end() > limits::max_console_backlog_bytes)
        first = std::max(first, ring_.end() - limits::max_console_backlog_bytes);
    std::uint64_t lost = position < first ? first - position : 0;
    position += lost;
    into.resize(std::min<std::uint64_t>(max_console_frame_bytes, ring_.end() - position));
    position += ring_.copy(position, into);
    return lost;
}

// Output or room for input came, or a client did.
void RealConsole::woken() {
    if (space_again_.exchange(false))
        deliver_input();
    if (bell_ && !bell_timer_.active())
        bell_timer_.start(bell_interval);
    std::vector<Client*> gone;
    for (auto& client : clients_) {
        if (client->send())
            client->update_interest();
        else
            gone.push_back(client.get());
    }
    for (Client* client : gone)
        drop(*client);
}

void RealConsole::ring_bell() {
    const std::uint64_t one = 1;
    (void)!::write(bell_.get(), &one, sizeof one); // full: it rings already
}

void RealConsole::close(std::function<void()> closed) {
    closed_ = std::move(closed);
    close_deadline_ms_ = loop_.now_ms() + drain_ms;
    drain_timer_.start(std::chrono::milliseconds(0), drain_interval);
}

void RealConsole::drained() {
    woken();
    for (auto& client : clients_)
        if (!client->behind())
            client->tell_end();
    woken();
    bool waits = std::ranges::any_of(
        clients_, [](const auto& one) { return one->behind() || !one->told_end(); });
    if (waits && loop_.now_ms() < close_deadline_ms_)
        return;
    drain_timer_.stop();
    if (bell_)
        ring_bell();
    if (auto closed = std::exchange(closed_, nullptr))
        closed();
}

void RealConsole::drop(Client& client) {
    bool held = holder_ == &client;
    std::erase_if(clients_, [&](const auto& one) { return one.get() == &client; });
    has_clients_ = !clients_.empty();
    if (held)
        pass_token();
}

void RealConsole::pass_token() {
    auto next = std::ranges::find_if(clients_, [](const auto& one) { return one->wants_token(); });
    holder_ = next == clients_.end() ? nullptr : next->get();
    if (holder_ != nullptr) {
        const std::uint8_t token = 1;
        holder_->tell(ConsoleFrame::writer, Bytes(&token, 1));
        tell_size();
        wake();
    }
}

void RealConsole::on_input(std::function<std::size_t(Bytes)> take,
                           std::function<void()> line_break) {
    take_ = std::move(take);
    line_break_ = std::move(line_break);
    if (!take_)
        input_.clear();
    input_held_ = false;
    space_again_ = true;
    wake();
}

void RealConsole::input_space() {
    space_again_ = true;
    wake();
}

// The size of whoever types is the terminal's.
void RealConsole::take_size(Client& from, TerminalSize size) {
    from.size = size;
    if (is_holder(from))
        tell_size();
}

void RealConsole::tell_size() {
    if (take_size_ && holder_ != nullptr && holder_->size)
        take_size_(holder_->size->columns, holder_->size->rows);
}

void RealConsole::hold_input(bool hold) {
    input_held_ = hold;
    input_space();
}

void RealConsole::take_input(Client& from, ConsoleFrame kind, Bytes data) {
    if (!is_holder(from) || (kind == ConsoleFrame::data && data.empty()))
        return;
    if (kind == ConsoleFrame::line_break)
        data = {};
    input_.emplace_back(data.begin(), data.end());
    deliver_input();
}

void RealConsole::deliver_input() {
    while (take_ && !input_held_ && !input_.empty()) {
        auto& piece = input_.front();
        if (piece.empty()) {
            if (line_break_)
                line_break_();
        } else {
            auto taken = std::min(take_(piece), piece.size());
            piece.erase(piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(taken));
            if (!piece.empty())
                break;
        }
        input_.pop_front();
    }
    // While its socket is not read, nothing tells that the holder has gone.
    if (input_.empty())
        hangup_timer_.stop();
    else if (!hangup_timer_.active())
        hangup_timer_.start(hangup_interval, hangup_interval);
}

void RealConsole::drop_silent_holder() {
    if (input_.empty())
        hangup_timer_.stop();
    else if (holder_ != nullptr && holder_->hung_up())
        drop(*holder_);
}

} // namespace

std::unique_ptr<Console> Console::create(Loop& loop) {
    return std::make_unique<RealConsole>(loop);
}

Result<std::unique_ptr<Console>> Console::create(Loop& loop, const Fd& memory, Fd bell) {
    auto ring = TRY(ipc::SharedRing::map(memory, limits::console_ring_bytes));
    return std::unique_ptr<Console>(
        std::make_unique<RealConsole>(loop, std::move(ring), std::move(bell)));
}

} // namespace vmhost::machine
