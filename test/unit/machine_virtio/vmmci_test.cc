// vmmci as vmmci(4) drives it, and as a hostile guest does.
#include <catch2/catch.hpp>

#include "../machine/fake_clock.h"
#include "guest.h"
#include "machine/virtio/vmmci.h"

using namespace vmhost;
using namespace vmhost::test;
using machine::virtio::Vmmci;
using Command = Vmmci::Command;

namespace {

constexpr std::uint64_t second = 1'000'000'000;

// With parts of a second, and able to jump.
class WallClock final : public machine::Clock {
public:
    std::uint64_t now_ns() const override { return inner.now_ns(); }
    std::int64_t wall_seconds() const override { return us / 1'000'000; }
    std::int64_t wall_us() const override { return us; }
    Ticket schedule(std::uint64_t when_ns, std::function<void()> due) override {
        return inner.schedule(when_ns, std::move(due));
    }
    void cancel(Ticket ticket) override { inner.cancel(ticket); }

    machine::FakeClock inner;
    std::int64_t us = 0;
};

struct VmmciGuest {
    machine::Bus bus;
    Wires wires;
    WallClock clock;
    std::unique_ptr<machine::PciHost> host = std::make_unique<machine::PciHost>(bus, wires);
    Vmmci* vmmci = nullptr;
    unsigned powered_off = 0;
    std::vector<bool> gave_up;
    std::uint64_t base = 0;

    VmmciGuest() {
        auto made = std::make_unique<Vmmci>(
            "vm-vmmci", clock,
            Vmmci::Hooks{.powers_off = [this] { ++powered_off; },
                         .gave_up = [this](bool acked) { gave_up.push_back(acked); }});
        vmmci = made.get();
        made->set_interrupt(5);
        REQUIRE(host->add(std::move(made)));
        host->place_bars();
        base = config<std::uint32_t>(0x10) & ~3U;
    }
    template <WireInteger T>
    T config(unsigned offset) {
        std::uint8_t raw[sizeof(T)];
        vmmci->read_config(offset, raw);
        return load_le<T>(raw);
    }
    template <WireInteger T>
    T read(unsigned offset) {
        std::uint8_t raw[sizeof(T)];
        bus.read(Space::port, base + offset, raw);
        return load_le<T>(raw);
    }
    template <WireInteger T>
    void write(unsigned offset, T value) {
        std::uint8_t raw[sizeof(T)];
        store_le<T>(raw, value);
        bus.write(Space::port, base + offset, raw);
    }
    void attach(std::uint32_t features = 7) {
        write<std::uint8_t>(18, 0);
        write<std::uint8_t>(18, 1);
        write<std::uint8_t>(18, 3);
        write<std::uint32_t>(4, features & read<std::uint32_t>(0));
        write<std::uint8_t>(18, 7);
    }
    void write_command(Command command) { write(20, static_cast<std::uint32_t>(command)); }
    Command command() { return static_cast<Command>(read<std::uint32_t>(20)); }
    // As vmmci(4)'s interrupt handler: ISR, command, acknowledgement.
    Command handle_interrupt() {
        CHECK(wires.levels[5]);
        CHECK(read<std::uint8_t>(19) == 2);
        CHECK_FALSE(wires.levels[5]);
        auto got = command();
        write_command(got);
        return got;
    }
    void pass(std::uint64_t ns) { clock.inner.advance(ns); }
};

} // namespace

TEST_CASE("vmmci: the function is the one that OpenBSD attaches") {
    VmmciGuest g;
    CHECK(g.config<std::uint32_t>(0) == 0x07770b5d);
    CHECK(g.config<std::uint8_t>(8) == 0);
    CHECK(g.config<std::uint16_t>(10) == 0x0780);
    CHECK(g.config<std::uint32_t>(0x2c) == 0xffff0b5d);
    CHECK((g.config<std::uint32_t>(0x10) & 1) == 1);
    CHECK(g.config<std::uint8_t>(0x3d) == 1);
    CHECK(g.read<std::uint32_t>(0) == 7);
    CHECK(g.read<std::uint16_t>(12) == 0); // no queues
}

TEST_CASE("vmmci: without a driver nobody can be asked") {
    VmmciGuest g;
    for (auto status : {0, 1, 3, 0x83}) {
        g.write<std::uint8_t>(18, static_cast<std::uint8_t>(status));
        for (auto command : {Command::shutdown, Command::reboot, Command::sync_clock})
            CHECK_FALSE(g.vmmci->send(command));
        CHECK_FALSE(g.vmmci->listens());
    }
    CHECK(g.clock.inner.pending() == 0);
    CHECK_FALSE(g.wires.levels[5]);
    g.attach();
    CHECK(g.vmmci->listens());
    CHECK_FALSE(g.vmmci->send(Command::none));
    CHECK(g.vmmci->send(Command::shutdown));
}

TEST_CASE("vmmci: a guest that does not answer is given up after three seconds") {
    VmmciGuest g;
    g.attach();
    REQUIRE(g.vmmci->send(Command::shutdown));
    CHECK(g.command() == Command::shutdown);
    g.pass(2 * second);
    REQUIRE(g.vmmci->send(Command::shutdown)); // asking again gains no time
    g.pass(second - 1);
    CHECK(g.gave_up.empty());
    g.pass(1);
    CHECK(g.gave_up == std::vector<bool>{false});
    CHECK(g.powered_off == 0);
    g.pass(1000 * second);
    CHECK(g.gave_up.size() == 1);
}

TEST_CASE("vmmci: a guest that acknowledges has two minutes") {
    VmmciGuest g;
    g.attach();
    auto command = GENERATE(Command::shutdown, Command::reboot);
    REQUIRE(g.vmmci->send(command));
    g.pass(second);
    CHECK_FALSE(g.vmmci->acknowledged());
    CHECK(g.handle_interrupt() == command);
    CHECK(g.vmmci->acknowledged());
    g.pass(60 * second);
    // Its powerdown hook, or a second acknowledgement: neither changes anything.
    g.write_command(Command::shutdown);
    g.write_command(command);
    g.pass(60 * second - 1);
    CHECK(g.gave_up.empty());
    g.pass(1);
    CHECK(g.gave_up == std::vector<bool>{true});
    CHECK(g.powered_off == 0);
}

TEST_CASE("vmmci: another answer than the one asked for is none") {
    VmmciGuest g;
    g.attach();
    REQUIRE(g.vmmci->send(Command::reboot));
    g.write_command(Command::shutdown);
    g.write_command(Command::sync_clock);
    g.write_command(Command::none);
    g.write<std::uint32_t>(20, 0xffffffff);
    CHECK_FALSE(g.vmmci->acknowledged());
    g.pass(3 * second);
    CHECK(g.gave_up == std::vector<bool>{false});
}

TEST_CASE("vmmci: a guest that powers itself down is off three seconds later") {
    VmmciGuest g;
    g.attach();
    g.write_command(Command::shutdown);
    g.pass(2 * second);
    g.write_command(Command::shutdown);    // again: the first one counts
    CHECK(g.vmmci->send(Command::reboot)); // it is on its way already
    CHECK_FALSE(g.vmmci->send(Command::sync_clock));
    CHECK_FALSE(g.wires.levels[5]);
    g.pass(second - 1);
    CHECK(g.powered_off == 0);
    g.pass(1);
    CHECK(g.powered_off == 1);
    CHECK(g.gave_up.empty());
}

TEST_CASE("vmmci: a guest that reboots itself takes the timer with it") {
    VmmciGuest g;
    g.attach();
    g.write_command(Command::shutdown);
    g.pass(second);
    g.host.reset(); // the machine is built anew
    CHECK(g.clock.inner.pending() == 0);
    g.pass(10 * second);
    CHECK(g.powered_off == 0);
}

TEST_CASE("vmmci: a reset of the device does not take a request back") {
    VmmciGuest g;
    g.attach();
    REQUIRE(g.vmmci->send(Command::reboot));
    g.attach();
    CHECK_FALSE(g.wires.levels[5]);
    CHECK(g.command() == Command::reboot);
    g.pass(3 * second);
    CHECK(g.gave_up == std::vector<bool>{false});
}

TEST_CASE("vmmci: the clock is synchronised when the guest understands that") {
    VmmciGuest g;
    g.attach(3);
    CHECK_FALSE(g.vmmci->send(Command::sync_clock));
    g.attach(7);
    REQUIRE(g.vmmci->send(Command::sync_clock));
    CHECK(g.handle_interrupt() == Command::sync_clock);
    CHECK(g.command() == Command::none);
    CHECK(g.clock.inner.pending() == 0);
    // It can be asked again, and overtaken by a request to stop.
    REQUIRE(g.vmmci->send(Command::sync_clock));
    REQUIRE(g.vmmci->send(Command::shutdown));
    CHECK_FALSE(g.vmmci->send(Command::sync_clock));
    CHECK(g.handle_interrupt() == Command::shutdown);
    CHECK(g.vmmci->acknowledged());
}

TEST_CASE("vmmci: the four words of the time belong together") {
    VmmciGuest g;
    g.attach();
    constexpr std::int64_t million = 1'000'000;
    auto halves = [&](unsigned low) {
        std::uint64_t high = g.read<std::uint32_t>(low + 4);
        g.clock.us += 700'000; // time goes on between any two reads
        auto value = high << 32 | g.read<std::uint32_t>(low);
        g.clock.us += 700'000;
        return value;
    };
    g.clock.us = 1'700'000'000 * million + 999'999;
    CHECK(halves(24) == 1'700'000'000);
    CHECK(halves(32) == 999'999);
    // The high word is right, also where the low one runs over.
    g.clock.us = 0xffffffffLL * million + 500'000;
    CHECK(halves(24) == 0xffffffff);
    CHECK(halves(32) == 500'000);
    CHECK(halves(24) == 0x100000002);
    // Without the high word the low one latches.
    g.clock.us = 5 * million + 7;
    CHECK(g.read<std::uint32_t>(24) == 5);
    g.clock.us = 6 * million + 8;
    CHECK(g.read<std::uint32_t>(32) == 7);
    CHECK(g.read<std::uint32_t>(24) == 6);
    CHECK(g.read<std::uint32_t>(32) == 8);
}

TEST_CASE("vmmci: every register in every width") {
    VmmciGuest g;
    const std::map<unsigned, unsigned> natural = {{0, 4},  {4, 4},  {8, 4},  {12, 2}, {14, 2},
                                                  {16, 2}, {18, 1}, {19, 1}, {20, 4}, {24, 4},
                                                  {28, 4}, {32, 4}, {36, 4}};
    g.clock.us = 1'700'000'000'123'456;
    for (std::uint8_t fill : {0x00, 0xff, 0x5a})
        for (unsigned size : {1, 2, 4})
            for (unsigned offset = 0; offset + size <= Vmmci::bar_bytes; ++offset) {
                std::array<std::uint8_t, 4> raw;
                raw.fill(fill);
                g.bus.write(Space::port, g.base + offset, Bytes(raw).first(size));
                raw.fill(0);
                g.bus.read(Space::port, g.base + offset, MutableBytes(raw).first(size));
                auto found = natural.find(offset);
                bool known = found != natural.end() && found->second == size;
                if (!known && load_le<std::uint32_t>(Bytes(raw)) != 0)
                    FAIL("offset " << offset << " size " << size << " reads something");
            }
    CHECK(g.read<std::uint32_t>(4) == 2); // 0x5a, as far as it was offered
    g.attach();
    CHECK(g.vmmci->send(Command::shutdown));
}
