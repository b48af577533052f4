// A connection on the loop: reads frames, keeps what waits to be sent.
//
// The state outlives the Channel while one of its callbacks runs (the handler of
// the loop holds it), so a callback may destroy the Channel. Everything that
// calls back happens in ready() and in the timer's callback, never in send():
// a failure while sending is kept and reported on the next turn of the loop.

#include "ipc/ipc.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <sys/socket.h>

namespace vmhost::ipc {

namespace {

// One wake-up reads at most this often, so that a flooding peer cannot starve
// the other connections of the loop.
constexpr int max_reads_per_turn = 8;
constexpr std::size_t read_bytes = 64 << 10;

struct Received {
    ssize_t count = 0; // < 0: errno
    bool descriptors_lost = false;
    std::vector<Fd> fds;
};

Received receive(int socket, MutableBytes into) {
    alignas(cmsghdr) std::array<std::uint8_t, CMSG_SPACE(sizeof(int) * limits::max_frame_fds)>
        control;
    iovec vector{into.data(), into.size()};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    Received received;
    do
        received.count = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (received.count < 0 && errno == EINTR);
    // It ended before it read all that we sent: an end like others.
    if (received.count < 0 && errno == ECONNRESET)
        received.count = 0;
    if (received.count <= 0)
        return received;
    for (auto* item = CMSG_FIRSTHDR(&message); item; item = CMSG_NXTHDR(&message, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS)
            continue;
        const std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int number = -1;
            std::memcpy(&number, CMSG_DATA(item) + i * sizeof(int), sizeof(int));
            received.fds.emplace_back(number);
        }
    }
    received.descriptors_lost = (message.msg_flags & MSG_CTRUNC) != 0;
    return received;
}

ssize_t transmit(int socket, Bytes bytes, const std::vector<Fd>& fds) {
    alignas(cmsghdr) std::array<std::uint8_t, CMSG_SPACE(sizeof(int) * limits::max_frame_fds)>
        control{};
    iovec vector{const_cast<std::uint8_t*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
        auto* item = CMSG_FIRSTHDR(&message);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
        for (std::size_t i = 0; i < fds.size(); ++i) {
            int number = fds[i].get();
            std::memcpy(CMSG_DATA(item) + i * sizeof(int), &number, sizeof(int));
        }
    }
    ssize_t sent = 0;
    do
        sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent;
}

} // namespace

struct Channel::State : std::enable_shared_from_this<Channel::State> {
    struct Outgoing {
        std::vector<std::uint8_t> bytes;
        std::size_t sent_bytes = 0;
        std::vector<Fd> fds;
    };

    State(Loop& loop_arg, Fd socket_arg, OnFrame on_frame_arg, OnClose on_close_arg,
          FrameLimits receive_limits)
        : loop(loop_arg), socket(std::move(socket_arg)), on_frame(std::move(on_frame_arg)),
          on_close(std::move(on_close_arg)), reader(receive_limits) {}

    void open();
    void send(Frame frame);
    void write_queue();
    void ready(Watch::Ready happened);
    bool read_some(); // false when the connection came to its end
    void end_later(std::optional<Error> why);
    void end(std::optional<Error> why);
    void detach();

    Loop& loop;
    Fd socket;
    OnFrame on_frame;
    OnClose on_close;
    std::unique_ptr<Watch> watch;
    std::unique_ptr<Timer> end_timer; // set: the end is decided and will be reported by it
    FrameReader reader;
    std::deque<Outgoing> queue;
    std::size_t queued_bytes = 0;
    std::size_t queued_fds = 0;
    bool closing = false;
    bool ended = false;
};

void Channel::State::open() {
    watch = std::make_unique<Watch>(loop, socket.get(),
                                    [this](Watch::Ready happened) { ready(happened); });
    watch->set(true, false);
}

void Channel::State::send(Frame frame) {
    if (ended || closing || end_timer)
        return;
    if (frame.payload.size() > limits::max_frame_bytes || frame.fds.size() > limits::max_frame_fds)
        return end_later(Error(ErrorKind::limit,
                               fmt::format("ipc: frame of type {} to be sent has {} bytes and {} "
                                           "descriptors, the limits are {} and {}",
                                           frame.type, frame.payload.size(), frame.fds.size(),
                                           limits::max_frame_bytes, limits::max_frame_fds)));
    Outgoing outgoing{frame_bytes(frame), 0, std::move(frame.fds)};
    queued_bytes += outgoing.bytes.size();
    queued_fds += outgoing.fds.size();
    queue.push_back(std::move(outgoing));
    write_queue();
    if (queued_bytes > limits::max_queued_bytes || queued_fds > limits::max_queued_fds)
        end_later(Error(ErrorKind::limit,
                        fmt::format("ipc: the peer does not read, {} bytes and {} descriptors wait "
                                    "for it",
                                    queued_bytes, queued_fds)));
}

void Channel::State::write_queue() {
    while (!queue.empty()) {
        auto& front = queue.front();
        auto sent = transmit(socket.get(), Bytes(front.bytes).subspan(front.sent_bytes), front.fds);
        if (sent < 0) {
            if (errno == EAGAIN)
                break;
            if (errno != EPIPE && errno != ECONNRESET)
                return end_later(Error::system(errno, "ipc: send to the peer"));
            // The peer is gone. What it said last is still to be read; the end comes with that.
            queue.clear();
            queued_bytes = queued_fds = 0;
            break;
        }
        // The first byte took the descriptors along.
        queued_fds -= front.fds.size();
        front.fds.clear();
        front.sent_bytes += static_cast<std::size_t>(sent);
        queued_bytes -= static_cast<std::size_t>(sent);
        if (front.sent_bytes == front.bytes.size())
            queue.pop_front();
    }
    if (closing && queue.empty())
        return end_later(std::nullopt);
    watch->set(true, !queue.empty());
}

void Channel::State::ready(Watch::Ready happened) {
    auto keep = shared_from_this();
    if (ended || end_timer)
        return;
    if ((happened.readable || happened.hangup) && !read_some())
        return;
    if (ended || end_timer)
        return;
    // Also arms the watch again: the loop lets go of a descriptor that reported an error.
    write_queue();
}

bool Channel::State::read_some() {
    std::array<std::uint8_t, read_bytes> buffer;
    for (int turn = 0; turn < max_reads_per_turn; ++turn) {
        auto received = receive(socket.get(), buffer);
        if (received.count < 0) {
            if (errno == EAGAIN)
                return true;
            end(Error::system(errno, "ipc: receive from the peer"));
            return false;
        }
        if (received.count == 0) {
            if (reader.between_frames())
                end(std::nullopt);
            else
                end(Error(ErrorKind::corrupt, "ipc: the peer closed in the middle of a frame"));
            return false;
        }
        if (received.descriptors_lost) {
            end(Error(ErrorKind::limit, "ipc: descriptors from the peer were lost: too many in one "
                                        "frame or in this process"));
            return false;
        }
        auto frames = reader.feed(Bytes(buffer).first(static_cast<std::size_t>(received.count)),
                                  std::move(received.fds));
        if (!frames) {
            end(std::move(frames).error());
            return false;
        }
        for (auto& frame : *frames) {
            if (closing || end_timer)
                break;
            on_frame(std::move(frame));
            if (ended)
                return false;
        }
        if (end_timer)
            return false;
    }
    return true;
}

void Channel::State::end_later(std::optional<Error> why) {
    if (ended || end_timer)
        return;
    watch->set(false, false);
    end_timer = std::make_unique<Timer>(loop, [this, reason = std::move(why)] {
        auto keep = shared_from_this();
        end(reason);
    });
    end_timer->start(std::chrono::milliseconds(0));
}

void Channel::State::end(std::optional<Error> why) {
    if (ended)
        return;
    detach();
    if (on_close)
        on_close(std::move(why));
}

void Channel::State::detach() {
    ended = true;
    watch.reset();
    end_timer.reset();
    queue.clear();
    queued_bytes = queued_fds = 0;
    socket.reset();
}

Channel::Channel(Loop& loop, Fd socket, OnFrame on_frame, OnClose on_close,
                 FrameLimits receive_limits)
    : state_(std::make_shared<State>(loop, std::move(socket), std::move(on_frame),
                                     std::move(on_close), receive_limits)) {
    state_->open();
}

Channel::~Channel() {
    state_->detach();
}

void Channel::send(Frame frame) {
    state_->send(std::move(frame));
}

std::size_t Channel::queued_bytes() const {
    return state_->queued_bytes;
}

Result<Peer> Channel::peer() const {
    ucred credentials{};
    socklen_t size = sizeof(credentials);
    if (::getsockopt(state_->socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
        return fail_errno(errno, "ipc: ask for the peer's credentials");
    Peer peer{credentials.pid, credentials.uid, credentials.gid, {}};
    peer.groups.resize(max_peer_groups);
    size = static_cast<socklen_t>(max_peer_groups * sizeof(gid_t));
    if (::getsockopt(state_->socket.get(), SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &size) <
        0)
        size = 0; // too many, or a kernel before 4.13
    peer.groups.resize(size / sizeof(gid_t));
    return peer;
}

void Channel::close_when_sent() {
    if (state_->ended || state_->closing)
        return;
    state_->closing = true;
    if (state_->queue.empty())
        state_->end_later(std::nullopt);
}

} // namespace vmhost::ipc
