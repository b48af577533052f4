// Channels over real socket pairs.

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "ipc/ipc.h"

using namespace vmhost;
using namespace vmhost::ipc;
using namespace std::chrono_literals;

namespace {

// One end is a Channel, the other a plain socket for the test to misuse.
struct End {
    Loop& loop;
    std::vector<Frame> frames;
    bool closed = false;
    std::optional<Error> error;
    std::unique_ptr<Channel> channel;

    End(Loop& loop_arg, Fd socket) : loop(loop_arg) {
        channel = std::make_unique<Channel>(
            loop, std::move(socket), [this](Frame frame) { frames.push_back(std::move(frame)); },
            [this](std::optional<Error> why) {
                CHECK_FALSE(closed);
                closed = true;
                error = std::move(why);
            });
    }
    template <class Condition>
    void run_until(Condition condition) {
        bool late = false;
        Timer guard(loop, [&] { late = true; });
        guard.start(5s);
        while (!condition() && !late)
            loop.run_once(true);
        CHECK_FALSE(late);
    }
};

void write_all(const Fd& socket, Bytes bytes) {
    while (!bytes.empty()) {
        auto count = ::write(socket.get(), bytes.data(), bytes.size());
        REQUIRE(count > 0);
        bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
}

ino_t inode(const Fd& fd) {
    struct stat status {};
    REQUIRE(::fstat(fd.get(), &status) == 0);
    return status.st_ino;
}

} // namespace

TEST_CASE("frames and descriptors cross a socket pair in both directions") {
    Loop loop;
    auto [left, right] = socket_pair(SOCK_STREAM).value();
    End a(loop, std::move(left)), b(loop, std::move(right));
    auto [pipe_end, other_end] = socket_pair(SOCK_STREAM).value();
    auto expected = inode(pipe_end);

    Frame with_fds{3, std::vector<std::uint8_t>(300'000, 1), {}};
    with_fds.fds.push_back(std::move(pipe_end));
    with_fds.fds.emplace_back(::open("/dev/null", O_RDONLY));
    a.channel->send({1, {42}, {}});
    a.channel->send(std::move(with_fds));
    a.channel->send({4, {}, {}});
    b.channel->send({5, {9}, {}});
    a.run_until([&] { return b.frames.size() == 3 && a.frames.size() == 1; });

    CHECK(b.frames[0].payload == std::vector<std::uint8_t>{42});
    CHECK(b.frames[0].fds.empty());
    CHECK(b.frames[1].payload.size() == 300'000);
    REQUIRE(b.frames[1].fds.size() == 2);
    CHECK(inode(b.frames[1].fds[0]) == expected);
    CHECK((::fcntl(b.frames[1].fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(b.frames[2].type == 4);
    CHECK(a.frames[0].type == 5);
    CHECK(a.channel->queued_bytes() == 0);
    auto peer = a.channel->peer();
    REQUIRE(peer);
    CHECK(peer->pid == ::getpid());
    CHECK(peer->uid == ::getuid());
}

TEST_CASE("the most descriptors that one frame may carry") {
    Loop loop;
    auto [left, right] = socket_pair(SOCK_STREAM).value();
    End a(loop, std::move(left)), b(loop, std::move(right));
    for (int round = 0; round < 3; ++round) {
        Frame frame{1, {}, {}};
        for (std::size_t i = 0; i < limits::max_frame_fds; ++i)
            frame.fds.emplace_back(::open("/dev/null", O_RDONLY));
        a.channel->send(std::move(frame));
    }
    a.run_until([&] { return b.frames.size() == 3; });
    for (auto& frame : b.frames)
        CHECK(frame.fds.size() == limits::max_frame_fds);

    Frame too_many{1, {}, {}};
    for (std::size_t i = 0; i <= limits::max_frame_fds; ++i)
        too_many.fds.emplace_back(::open("/dev/null", O_RDONLY));
    a.channel->send(std::move(too_many));
    CHECK_FALSE(a.closed);
    a.run_until([&] { return a.closed; });
    REQUIRE(a.error);
    CHECK(a.error->kind() == ErrorKind::limit);
}

TEST_CASE("a raw peer may dribble") {
    Loop loop;
    auto [left, raw] = socket_pair(SOCK_STREAM).value();
    End a(loop, std::move(left));
    auto bytes = frame_bytes({7, {1, 2, 3, 4}, {}});
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        CHECK(a.frames.empty());
        write_all(raw, Bytes(bytes).subspan(i, 1));
        loop.run_once(true);
    }
    REQUIRE(a.frames.size() == 1);
    raw.reset();
    a.run_until([&] { return a.closed; });
    CHECK_FALSE(a.error);
}

TEST_CASE("a peer that closes in the middle of a frame is told apart") {
    Loop loop;
    auto [left, raw] = socket_pair(SOCK_STREAM).value();
    End a(loop, std::move(left));
    auto bytes = frame_bytes({7, {1, 2, 3, 4}, {}});
    auto length = GENERATE(std::size_t{1}, 11, 12, 15);
    write_all(raw, Bytes(bytes).first(length));
    raw.reset();
    a.run_until([&] { return a.closed; });
    REQUIRE(a.error);
    CHECK(a.error->text() == "ipc: the peer closed in the middle of a frame");
    CHECK(a.frames.empty());
}

TEST_CASE("an oversized frame cuts the peer off") {
    Loop loop;
    auto [left, raw] = socket_pair(SOCK_STREAM).value();
    End a(loop, std::move(left));
    auto bytes = frame_bytes({7, {}, {}});
    store_le<std::uint32_t>(MutableBytes(bytes).subspan(4), limits::max_frame_bytes + 1);
    write_all(raw, bytes);
    a.run_until([&] { return a.closed; });
    REQUIRE(a.error);
    CHECK(a.error->kind() == ErrorKind::limit);
    char c = 0;
    CHECK(::read(raw.get(), &c, 1) == 0);
}

TEST_CASE("descriptors beside the frames cut the peer off and do not leak") {
    Loop loop;
    auto [left, raw] = socket_pair(SOCK_STREAM).value();
    End a(loop, std::move(left));
    auto [kept, sent] = socket_pair(SOCK_STREAM).value();
    auto bytes = frame_bytes({7, {}, {}}); // announces none
    int number = sent.get();
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    iovec vector{bytes.data(), bytes.size()};
    msghdr message{.msg_iov = &vector, .msg_iovlen = 1};
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    auto* item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(item), &number, sizeof(int));
    REQUIRE(::sendmsg(raw.get(), &message, 0) > 0);
    sent.reset();
    a.run_until([&] { return a.closed; });
    CHECK(a.error);
    CHECK(a.frames.empty());
    char c = 0;
    CHECK(::read(kept.get(), &c, 1) == 0); // every copy of its other end is closed
}

TEST_CASE("a peer that does not read is cut off at the limit") {
    Loop loop;
    auto [left, raw] = socket_pair(SOCK_STREAM).value();
    End a(loop, std::move(left));
    for (int i = 0; i < 40 && a.channel->queued_bytes() <= limits::max_queued_bytes; ++i)
        a.channel->send({1, std::vector<std::uint8_t>(1 << 20), {}});
    CHECK(a.channel->queued_bytes() <= limits::max_queued_bytes + (2 << 20));
    CHECK_FALSE(a.closed);
    a.run_until([&] { return a.closed; });
    REQUIRE(a.error);
    CHECK(a.error->kind() == ErrorKind::limit);
    CHECK(a.channel->queued_bytes() == 0);
    a.channel->send({1, {}, {}}); // harmless
}

TEST_CASE("a flood of small frames arrives whole and in order") {
    Loop loop;
    auto [left, right] = socket_pair(SOCK_STREAM).value();
    End a(loop, std::move(left)), b(loop, std::move(right));
    constexpr std::uint32_t count = 20'000;
    for (std::uint32_t i = 0; i < count; ++i) {
        ByteWriter writer;
        writer.le(i);
        a.channel->send({1, writer.take(), {}});
    }
    a.channel->close_when_sent();
    CHECK_FALSE(a.closed);
    a.run_until([&] { return b.closed; });
    CHECK(a.closed);
    CHECK_FALSE(a.error);
    CHECK_FALSE(b.error);
    REQUIRE(b.frames.size() == count);
    bool in_order = true;
    for (std::uint32_t i = 0; i < count; ++i)
        in_order = in_order && load_le<std::uint32_t>(b.frames[i].payload) == i;
    CHECK(in_order);
}

TEST_CASE("close_when_sent with nothing to send closes from the loop") {
    Loop loop;
    auto [left, raw] = socket_pair(SOCK_STREAM).value();
    End a(loop, std::move(left));
    a.channel->close_when_sent();
    CHECK_FALSE(a.closed);
    a.run_until([&] { return a.closed; });
    CHECK_FALSE(a.error);
}

TEST_CASE("a channel may be destroyed in its own callbacks") {
    Loop loop;
    auto [left, raw] = socket_pair(SOCK_STREAM).value();
    std::unique_ptr<Channel> channel;
    int frames = 0, closes = 0;
    bool in_close = GENERATE(false, true);
    channel = std::make_unique<Channel>(
        loop, std::move(left),
        [&](Frame) {
            ++frames;
            if (!in_close)
                channel.reset();
        },
        [&](std::optional<Error>) {
            ++closes;
            channel.reset();
        });
    auto bytes = frame_bytes({1, {}, {}});
    auto twice = bytes;
    twice.insert(twice.end(), bytes.begin(), bytes.end());
    write_all(raw, twice);
    raw.reset();
    loop.run(); // ends: nothing of the channel is left on it
    CHECK(frames == (in_close ? 2 : 1));
    CHECK(closes == (in_close ? 1 : 0));
    CHECK_FALSE(channel);
}

TEST_CASE("a failure while sending is reported once, from the loop") {
    Loop loop;
    auto [left, raw] = socket_pair(SOCK_STREAM).value();
    End a(loop, std::move(left));
    raw.reset();
    a.channel->send({1, {}, {}});
    a.channel->send({1, {}, {}});
    CHECK_FALSE(a.closed);
    a.run_until([&] { return a.closed; });
}
