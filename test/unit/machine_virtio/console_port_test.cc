// The virtio console driven through PCI, with the far end of the line in the test's hands.
#include <catch2/catch.hpp>

#include "../machine_device/state.h"
#include "guest.h"
#include "machine/virtio/console_port.h"

using namespace vmhost;
using namespace vmhost::test;
using machine::virtio::ConsolePort;

namespace {

constexpr std::uint16_t to_guest = ConsolePort::receive_queue,
                        from_guest = ConsolePort::transmit_queue;

struct ConsoleGuest : Guest {
    ConsolePort* console;
    std::string output;
    unsigned room_told = 0;
    explicit ConsoleGuest(Interface interface = Interface::modern) {
        auto made = std::make_unique<ConsolePort>(
            "vm-console", bus.lock(),
            ConsolePort::Hooks{.output = [this](Bytes text) { output += as_text(text); },
                               .input_space = [this] { ++room_told; }});
        console = made.get();
        add(std::move(made), nullptr, interface);
    }
    Submitted offer_room(std::size_t bytes) {
        return queue(to_guest).chain().writable(bytes).submit();
    }
    std::string received(const Submitted& where, std::uint32_t length) {
        auto all = queue(to_guest).contents(where.buffers.at(0));
        all.resize(length);
        return std::string(as_text(all));
    }
    void print(ChainBuilder chain) {
        auto sent = chain.submit();
        notify(from_guest);
        auto used = wait_used(from_guest);
        CHECK(used.id == sent.head);
        CHECK(used.length == 0);
    }
};

Bytes bytes(std::string_view text) {
    return as_bytes(text);
}

} // namespace

TEST_CASE("a console port prints what the driver sends") {
    ConsoleGuest g;
    CHECK(g.config<std::uint32_t>(0) == 0x10431af4);
    CHECK(g.config<std::uint16_t>(10) == 0x0780);
    CHECK((g.offered() & 0xffffff) == 1);
    CHECK(g.read<std::uint16_t>(18) == 2);
    g.start();
    g.print(g.queue(from_guest).chain().readable(bytes("hello, ")));
    g.print(g.queue(from_guest).chain().readable(bytes("wor")).readable(bytes("ld")));
    CHECK(g.output == "hello, world");
    std::string long_text(10'000, 'x');
    g.print(g.queue(from_guest).chain().readable(bytes(long_text)));
    CHECK(g.output == "hello, world" + long_text);
    CHECK(g.console->malformed_requests() == 0);
    CHECK(g.line());
}

TEST_CASE("what is typed goes into the driver's buffers, and waits when there are none") {
    ConsoleGuest g;
    CHECK(g.console->receive(bytes("early")) == 0); // no driver yet
    g.start();
    g.turn();
    CHECK(g.room_told == 1); // queues are looked at once
    CHECK(g.console->receive(bytes("early")) == 0);
    auto first = g.offer_room(3), second = g.offer_room(16);
    CHECK(g.room_told == 1);
    g.notify(to_guest);
    g.turn();
    CHECK(g.room_told == 2);
    CHECK(g.console->receive(bytes("abcdef")) == 6);
    CHECK(g.wait_used(to_guest) == Used{first.head, 3});
    CHECK(g.wait_used(to_guest) == Used{second.head, 3});
    CHECK(g.received(first, 3) == "abc");
    CHECK(g.received(second, 3) == "def");
    auto third = g.offer_room(2);
    CHECK(g.console->receive(bytes("ghij")) == 2);
    CHECK(g.wait_used(to_guest) == Used{third.head, 2});
    CHECK(g.line());
}

TEST_CASE("the terminal's size is told to the guest") {
    ConsoleGuest g;
    CHECK(g.read<std::uint32_t>(0x2000) == 0);
    g.start();
    g.console->set_size(132, 43);
    CHECK(g.line());
    CHECK(g.read<std::uint8_t>(PciTransport::isr_offset) == 2);
    CHECK(g.read<std::uint16_t>(0x2000) == 132);
    CHECK(g.read<std::uint16_t>(0x2002) == 43);
    auto generation = g.read<std::uint8_t>(21);
    g.console->set_size(132, 43); // no news
    CHECK(!g.line());
    CHECK(g.read<std::uint8_t>(21) == generation);
    g.write<std::uint32_t>(0x2000, 0x12345678); // not the driver's
    CHECK(g.read<std::uint16_t>(0x2000) == 132);
    g.reset();
    CHECK(g.read<std::uint16_t>(0x2000) == 132);
    for (unsigned offset = 4; offset < 64; ++offset)
        CHECK(g.read<std::uint8_t>(0x2000 + offset) == g.read<std::uint8_t>(0x2000 + 4));
}

TEST_CASE("hostile requests to a console port are counted, and good ones still work") {
    ConsoleGuest g;
    g.start();
    // Too long, for all that is one piece of memory many times.
    auto huge = g.queue(from_guest).chain();
    for (unsigned i = 0; i < 32; ++i)
        huge.raw(0x100000, 1 << 20);
    g.print(huge);
    g.print(g.queue(from_guest).chain().readable(ConsolePort::max_request_bytes + 1, 'z'));
    g.print(g.queue(from_guest).chain().readable(4, 'z').writable(4));
    g.print(g.queue(from_guest).chain().writable(4));
    CHECK(g.console->malformed_requests() == 4);
    CHECK(g.output.empty());
    g.print(g.queue(from_guest).chain().readable(ConsolePort::max_request_bytes, 'y'));
    CHECK(g.output.size() == ConsolePort::max_request_bytes);
    // Buffers that cannot be written to.
    auto wrong = g.queue(to_guest).chain().readable(8, 0).submit();
    auto half = g.queue(to_guest).chain().readable(8, 0).writable(8).submit();
    auto good = g.offer_room(8);
    CHECK(g.console->receive(bytes("ok")) == 2);
    CHECK(g.wait_used(to_guest) == Used{wrong.head, 0});
    CHECK(g.wait_used(to_guest) == Used{half.head, 0});
    CHECK(g.wait_used(to_guest) == Used{good.head, 2});
    CHECK(g.console->malformed_requests() == 6);
    // Nothing but such: it gives up after a queue's worth and comes back.
    for (unsigned i = 0; i < ConsolePort::queue_size; ++i)
        g.queue(to_guest).chain().readable(8, 0).submit();
    auto told = g.room_told;
    CHECK(g.console->receive(bytes("ok")) == 0);
    CHECK(g.room_told == told + 1);
    g.queue(to_guest).set_available_index(static_cast<std::uint16_t>(
        g.queue(to_guest).available_index() + ConsolePort::queue_size + 1));
    CHECK(g.console->receive(bytes("ok")) == 0); // the queue is broken until a reset
    g.start();
    auto last = g.offer_room(8);
    CHECK(g.console->receive(bytes("ok")) == 2);
    CHECK(g.wait_used(to_guest) == Used{last.head, 2});
}

TEST_CASE("a flood of output is taken in turns, so that others get theirs") {
    ConsoleGuest g;
    g.start();
    for (unsigned i = 0; i < ConsolePort::max_requests_per_turn + 8; ++i)
        g.queue(from_guest).chain().readable(1, 'a').submit();
    std::scoped_lock guard(g.bus.lock());
    CHECK(g.console->notify(from_guest));
    CHECK(g.output.size() == ConsolePort::max_requests_per_turn);
    CHECK(!g.console->notify(from_guest));
    CHECK(g.output.size() == ConsolePort::max_requests_per_turn + 8);
}

TEST_CASE("a console port that was reset or stands still takes nothing") {
    ConsoleGuest g;
    g.start();
    g.offer_room(8);
    {
        std::scoped_lock guard(g.bus.lock());
        g.transport->pause();
    }
    CHECK(g.console->receive(bytes("x")) == 0);
    auto told = g.room_told;
    {
        std::scoped_lock guard(g.bus.lock());
        g.transport->resume();
    }
    g.turn();
    CHECK(g.room_told > told);
    CHECK(g.console->receive(bytes("x")) == 1);
    g.reset();
    CHECK(g.console->receive(bytes("x")) == 0);
    g.notify(to_guest);
    g.notify(from_guest);
    g.turn();
    CHECK(g.output.empty());
}

TEST_CASE("a legacy driver has a console port") {
    ConsoleGuest g(Guest::Interface::transitional);
    CHECK(g.config<std::uint32_t>(0) == 0x10031af4);
    g.start_legacy(2);
    g.queue(from_guest).chain().readable(bytes("old")).submit();
    g.notify_legacy(from_guest);
    g.wait_used(from_guest);
    CHECK(g.output == "old");
    auto room = g.offer_room(8);
    CHECK(g.console->receive(bytes("new")) == 3);
    CHECK(g.wait_used(to_guest) == Used{room.head, 3});
}

TEST_CASE("state: a console port goes on with its buffers and its size") {
    ConsoleGuest before;
    before.start();
    before.console->set_size(100, 40);
    before.offer_room(8);
    auto room = before.offer_room(8);
    CHECK(before.console->receive(bytes("1")) == 1);
    auto saved = machine::save(*before.transport);

    ConsoleGuest after;
    REQUIRE(machine::load(*after.transport, saved).has_value());
    REQUIRE(after.memory.write(0, *before.memory.slice(0, Guest::ram_bytes)));
    CHECK(after.read<std::uint16_t>(0x2000) == 100);
    CHECK(after.read<std::uint16_t>(0x2002) == 40);
    CHECK(after.status() == 15);
    auto told = after.room_told;
    after.turn();
    CHECK(after.room_told > told); // input that waited is asked for
    CHECK(after.console->receive(bytes("second")) == 6);
    CHECK(*after.memory.read_le<std::uint16_t>(before.queue(to_guest).addresses().used + 2) == 2);
    auto all = RingDriver(after.memory, 0x2000000, 4, 0x2100000).contents(room.buffers.at(0));
    CHECK(as_text(Bytes(all).first(6)) == "second");
    struct Holder {
        ConsoleGuest guest;
        PciTransport& part() { return *guest.transport; }
    };
    for (std::size_t size = 0; size < saved.payload.size(); size += 3) {
        auto cut = saved;
        cut.payload.resize(size);
        CHECK_FALSE(machine::load(Holder().part(), cut).has_value());
    }
}
