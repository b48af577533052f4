#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <thread>

#include "machine/console/frames.h"
#include "machine/machine.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

// The far end of an attached socket, read without blocking.
class Peer {
public:
    explicit Peer(Fd socket) : socket_(std::move(socket)) {}

    // Takes what has arrived; false = the stream has ended.
    bool read() {
        std::uint8_t buffer[8192];
        for (;;) {
            auto count = ::recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
            if (count < 0)
                return errno == EAGAIN;
            if (count == 0)
                return false;
            REQUIRE(frames_.feed(Bytes(buffer, static_cast<std::size_t>(count)),
                                 [this](ConsoleFrame kind, Bytes data) { take(kind, data); }));
        }
    }
    void send(Bytes bytes) {
        REQUIRE(::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
                static_cast<ssize_t>(bytes.size()));
    }
    void type(std::string_view text) {
        send(encode_console_frame(ConsoleFrame::data, as_bytes(text)));
    }
    bool can_send() {
        auto frame = encode_console_frame(ConsoleFrame::data, std::vector<std::uint8_t>(4096, 'f'));
        return ::send(socket_.get(), frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
    }
    void hang_up() { socket_.reset(); }

    std::string output;
    std::vector<std::string> notices;
    std::string tokens; // '0' or '1' each time we were told
    bool ended = false;

private:
    void take(ConsoleFrame kind, Bytes data) {
        if (kind == ConsoleFrame::data)
            output += as_text(data);
        else if (kind == ConsoleFrame::notice)
            notices.emplace_back(as_text(data));
        else if (kind == ConsoleFrame::writer)
            tokens += static_cast<char>('0' + data[0]);
        else if (kind == ConsoleFrame::ended)
            ended = true;
    }
    Fd socket_;
    ConsoleFrameReader frames_;
};

struct Rig {
    Loop loop;
    std::unique_ptr<Console> console = Console::create(loop);
    std::string taken;                  // by the serial device
    std::size_t room = ~std::size_t{0}; // it has
    unsigned breaks = 0;

    Rig() { plug(); }
    void plug() {
        console->on_input(
            [this](Bytes bytes) {
                auto part = bytes.first(std::min(bytes.size(), room));
                room -= part.size();
                taken += as_text(part);
                return part.size();
            },
            [this] {
                ++breaks;
                taken += '!';
            });
    }
    std::unique_ptr<Peer> attach(bool want_writer) {
        auto [ours, theirs] = socket_pair(SOCK_STREAM).value();
        REQUIRE(console->attach(std::move(theirs), want_writer));
        return std::make_unique<Peer>(std::move(ours));
    }
    void turn(unsigned turns = 40) {
        while (turns-- > 0)
            loop.run_once(false);
    }
    void print(std::string_view text) { console->write_from_guest(as_bytes(text)); }
};

std::string numbers(unsigned from, unsigned to) {
    std::string text;
    for (; from < to; ++from)
        text += fmt::format("{:07}\n", from);
    return text;
}

} // namespace

TEST_CASE("a late reader gets the ring, then what comes") {
    Rig rig;
    std::string all = numbers(0, 50'000); // 400,000 bytes, more than the ring
    rig.print(all);
    auto peer = rig.attach(false);
    for (unsigned i = 0; i < 200; ++i) {
        rig.turn(4);
        REQUIRE(peer->read());
    }
    CHECK(peer->output == all.substr(all.size() - limits::console_ring_bytes));
    CHECK(peer->tokens == "0");
    CHECK(peer->notices.empty());
    rig.print("more");
    rig.turn();
    peer->read();
    CHECK(peer->output.ends_with("more"));
    CHECK(rig.console->output_bytes() == all.size() + 4);
}

TEST_CASE("a slow reader loses the oldest bytes and is told, the others lose nothing") {
    Rig rig;
    auto slow = rig.attach(false), fast = rig.attach(false);
    std::string all;
    for (unsigned i = 0; i < 200; ++i) {
        auto text = numbers(i * 1000, (i + 1) * 1000);
        all += text;
        rig.print(text);
        rig.turn(2);
        REQUIRE(fast->read());
    }
    rig.turn();
    fast->read();
    CHECK(fast->output == all);
    CHECK(fast->notices.empty());
    for (unsigned i = 0; i < 200; ++i) {
        REQUIRE(slow->read());
        rig.turn(2);
    }
    REQUIRE(slow->notices.size() == 1);
    auto lost = std::stoul(slow->notices[0]);
    CHECK(slow->notices[0] == fmt::format("{} bytes of output were lost", lost));
    CHECK(slow->output.size() + lost == all.size());
    CHECK(slow->output.ends_with(all.substr(all.size() - limits::max_console_backlog_bytes)));
    // What a stalled reader can cost and be behind is bounded: backlog and socket buffer.
    CHECK(slow->output.size() < 4 * limits::max_console_backlog_bytes);
}

TEST_CASE("output from another thread arrives whole") {
    Rig rig;
    auto peer = rig.attach(false);
    std::string all = numbers(0, 4000);
    std::jthread guest([&] {
        for (char one : all)
            rig.print({&one, 1});
    });
    while (peer->output.size() < all.size()) {
        rig.loop.run_once(true);
        REQUIRE(peer->read());
    }
    CHECK(peer->output == all);
}

TEST_CASE("the writer's token goes to the first that asks, then to the next") {
    Rig rig;
    auto reader = rig.attach(false), first = rig.attach(true), second = rig.attach(true),
         third = rig.attach(true);
    rig.turn();
    second->type("no");
    reader->type("no");
    first->type("yes");
    rig.turn();
    CHECK(rig.taken == "yes");
    second->hang_up();
    rig.turn();
    first->hang_up();
    rig.turn();
    for (auto* peer : {reader.get(), third.get()})
        peer->read();
    CHECK(reader->tokens == "0");
    CHECK(third->tokens == "01");
    third->type(" third");
    rig.turn();
    CHECK(rig.taken == "yes third");
    third->hang_up();
    rig.turn();
    auto fourth = rig.attach(true);
    rig.turn();
    fourth->read();
    CHECK(fourth->tokens == "1");
}

TEST_CASE("input waits in the client while the serial device has no room") {
    Rig rig;
    rig.room = 3;
    auto peer = rig.attach(true);
    peer->type("abcdef");
    peer->send(encode_console_frame(ConsoleFrame::line_break, {}));
    peer->type("ghi");
    rig.turn();
    CHECK(rig.taken == "abc");
    CHECK(rig.breaks == 0); // it keeps its place
    rig.room = 4;
    std::jthread([&] { rig.console->input_space(); }).join();
    rig.turn();
    CHECK(rig.taken == "abcdef!g");
    // A flood fills the socket and goes no further.
    unsigned sent = 0;
    while (peer->can_send() && sent < 10'000) {
        ++sent;
        rig.turn(1);
    }
    CHECK(sent < 500);
    rig.room = ~std::size_t{0};
    rig.console->input_space();
    rig.turn();
    CHECK(rig.taken.starts_with("abcdef!ghif"));
}

TEST_CASE("a writer that vanishes while nobody reads it loses the token") {
    Rig rig;
    rig.room = 0;
    auto first = rig.attach(true), second = rig.attach(true);
    first->type("x");
    rig.turn();
    first->hang_up();
    for (unsigned i = 0; i < 200 && second->tokens != "01"; ++i) {
        rig.loop.run_once(true);
        second->read();
    }
    CHECK(second->tokens == "01");
    rig.room = 10;
    second->type("y");
    rig.console->input_space();
    rig.turn();
    CHECK(rig.taken == "xy"); // what was typed before is not lost
}

TEST_CASE("readers vanish in the middle of output") {
    Rig rig;
    auto stays = rig.attach(false);
    std::string all;
    for (unsigned i = 0; i < 100; ++i) {
        auto leaves = rig.attach(i % 2 == 0);
        auto text = numbers(i * 1000, (i + 1) * 1000);
        all += text;
        rig.print(text);
        rig.turn(i % 3);
        leaves->hang_up();
        rig.turn(3);
        REQUIRE(stays->read());
    }
    rig.turn();
    stays->read();
    CHECK(stays->output == all);
}

TEST_CASE("garbage ends one client only") {
    Rig rig;
    auto good = rig.attach(false);
    const std::vector<std::vector<std::uint8_t>> garbage{
        {0xff, 0xff, 0xff, 0xff, 1, 2, 3},
        encode_console_frame(ConsoleFrame::ended, {}), // only the other way
        encode_console_frame(ConsoleFrame::notice, as_bytes("boo")),
        encode_console_frame(ConsoleFrame::writer, as_bytes("1")),
    };
    for (const auto& bytes : garbage) {
        auto bad = rig.attach(true);
        bad->send(bytes);
        rig.turn();
        CHECK_FALSE(bad->read());
    }
    rig.print("still here");
    rig.turn();
    CHECK(good->read());
    CHECK(good->output == "still here");
    auto next = rig.attach(true);
    rig.turn();
    next->read();
    CHECK(next->tokens == "1");
}

TEST_CASE("only so many clients") {
    Rig rig;
    std::vector<std::unique_ptr<Peer>> peers;
    for (std::size_t i = 0; i < limits::max_console_readers; ++i)
        peers.push_back(rig.attach(false));
    auto [ours, theirs] = socket_pair(SOCK_STREAM).value();
    CHECK(rig.console->attach(std::move(theirs), false).error().kind() == ErrorKind::limit);
    Peer turned_away(std::move(ours));
    CHECK_FALSE(turned_away.read()); // it is told, then hung up on
    CHECK(turned_away.notices == std::vector<std::string>{"16 clients are attached already"});
    peers.pop_back();
    rig.turn();
    rig.attach(false);
}

TEST_CASE("the end is told, after the last output") {
    Rig rig;
    auto peer = rig.attach(false);
    rig.turn();
    rig.print("last words");
    rig.console.reset();
    CHECK_FALSE(peer->read());
    CHECK(peer->output == "last words");
    CHECK(peer->ended);
}

TEST_CASE("a client that is behind gets the tail when the guest has ended") {
    Rig rig;
    auto peer = rig.attach(false), gone = rig.attach(false);
    rig.turn();
    // More than a socket takes, in two parts so that nobody falls back too far.
    auto all = numbers(0, 14'000);
    rig.print(all.substr(0, 56'000));
    rig.turn();
    rig.print(all.substr(56'000));
    bool closed = false;
    rig.console->close([&] { closed = true; });
    rig.turn();
    CHECK_FALSE(closed);
    gone.reset(); // holds nobody up
    for (unsigned i = 0; !closed && i < 1000; ++i) {
        REQUIRE(peer->read());
        rig.loop.run_once(true);
    }
    CHECK(closed);
    rig.console.reset();
    CHECK_FALSE(peer->read());
    CHECK(peer->output == all);
    CHECK(peer->ended);
}

TEST_CASE("a client that takes nothing does not hold the end up for ever") {
    Rig rig;
    auto peer = rig.attach(false);
    rig.turn();
    for (unsigned i = 0; i < 10; ++i)
        rig.print(numbers(0, 7000));
    bool closed = false;
    rig.console->close([&] { closed = true; });
    while (!closed)
        rig.loop.run_once(true);
    CHECK(closed);
}

TEST_CASE("the size of the terminal is that of who types") {
    Rig rig;
    std::string sizes;
    rig.console->on_size([&](std::uint16_t columns, std::uint16_t rows) {
        sizes += fmt::format("{}x{} ", columns, rows);
    });
    auto writer = rig.attach(true), reader = rig.attach(false);
    std::uint8_t size[] = {132, 0, 44, 1};
    auto frame = encode_console_frame(ConsoleFrame::size, size);
    writer->send(frame);
    reader->send(frame);
    rig.turn();
    CHECK(sizes == "132x300 ");
    rig.console->on_size({}); // a serial line has no use for it
    writer->send(frame);
    rig.turn();
    writer->type("still here");
    rig.turn();
    CHECK(rig.taken == "still here");
}

TEST_CASE("whoever types next brings the size of another terminal, and a new device is told") {
    Rig rig;
    std::string sizes;
    auto take = [&](std::uint16_t columns, std::uint16_t rows) {
        sizes += fmt::format("{}x{} ", columns, rows);
    };
    auto first = rig.attach(true), second = rig.attach(true);
    std::uint8_t small[] = {80, 0, 24, 0}, large[] = {200, 0, 50, 0};
    first->send(encode_console_frame(ConsoleFrame::size, small));
    second->send(encode_console_frame(ConsoleFrame::size, large));
    rig.turn();
    rig.console->on_size(take); // a guest that reboots is told again
    CHECK(sizes == "80x24 ");
    first->hang_up();
    rig.turn();
    CHECK(sizes == "80x24 200x50 ");
    second->hang_up();
    rig.turn();
    rig.console->on_size(take);
    CHECK(sizes == "80x24 200x50 ");
}

TEST_CASE("while input is held it waits, breaks too") {
    Rig rig;
    auto peer = rig.attach(true);
    rig.console->hold_input(true);
    peer->type("abc");
    rig.turn();
    CHECK(rig.taken.empty());
    rig.console->hold_input(false);
    rig.turn();
    CHECK(rig.taken == "abc");
}

TEST_CASE("a console outlives its serial device") {
    Rig rig;
    rig.room = 0;
    auto peer = rig.attach(true);
    peer->type("old");
    rig.turn();
    rig.console->on_input({}, {}); // the machine is rebuilt: typed ahead for the old one
    rig.turn();
    peer->type("new");
    rig.turn();
    CHECK(rig.taken.empty());
    rig.room = 10;
    rig.plug();
    rig.turn();
    CHECK(rig.taken == "new");
}
