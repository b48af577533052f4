#include <catch2/catch.hpp>

#include "fakes.h"
#include "machine/device/acpi_pm.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

constexpr std::uint64_t status = 0, enable = 2, control = 4, timer = 8;
constexpr unsigned timer_bit = 0x0001, button_bit = 0x0100;
// The top bit of a 32-bit timer changes this often.
constexpr std::uint64_t half_turn_ns = (1ULL << 31) * second_ns / 3'579'545;

struct Board {
    SteppedClock clock;
    RecordingInterrupts wires;
    unsigned power_offs = 0;
    AcpiPm pm{clock, wires, [this] { power_offs++; }};

    bool sci() { return wires.lines[9].level; }
    unsigned word(std::uint64_t offset) { return in<std::uint16_t>(pm, offset); }
    void word(std::uint64_t offset, unsigned value) {
        out(pm, offset, static_cast<std::uint16_t>(value));
    }
};

} // namespace

TEST_CASE("acpi pm: after reset nothing is pending and the machine is in ACPI mode") {
    Board board;
    CHECK(board.word(status) == 0);
    CHECK(board.word(enable) == 0);
    CHECK(board.word(control) == 1);
    CHECK(board.word(6) == 0);
    CHECK_FALSE(board.sci());
    board.word(control, 0); // cannot be left
    CHECK(board.word(control) == 1);
}

TEST_CASE("acpi pm: a button that nobody listens to does nothing") {
    Board board;
    CHECK_FALSE(board.pm.power_button_enabled());
    CHECK_FALSE(board.pm.press_power_button());
    CHECK(board.word(status) == 0);
    CHECK_FALSE(board.pm.power_button_pending());
    board.word(enable, button_bit);
    CHECK_FALSE(board.sci());
}

TEST_CASE("acpi pm: the button raises the SCI until its status is cleared by writing 1") {
    Board board;
    board.word(enable, button_bit);
    CHECK(board.pm.power_button_enabled());
    CHECK(board.pm.press_power_button());
    CHECK(board.sci());
    CHECK(board.pm.power_button_pending());
    CHECK(board.word(status) == button_bit);
    board.word(status, 0);           // zeros change nothing
    board.word(status, ~button_bit); // nor do other bits
    CHECK(board.sci());
    board.word(status, button_bit);
    CHECK_FALSE(board.sci());
    CHECK_FALSE(board.pm.power_button_pending());
    CHECK(board.word(status) == 0);
    CHECK(board.wires.lines[9].rises == 1);
    SECTION("again") {
        CHECK(board.pm.press_power_button());
        outb(board.pm, status + 1, 0x01); // in bytes
        CHECK_FALSE(board.sci());
    }
    SECTION("disabled while pending") {
        CHECK(board.pm.press_power_button());
        board.word(enable, 0);
        CHECK_FALSE(board.sci());
        CHECK(board.word(status) == button_bit);
        board.word(enable, button_bit);
        CHECK(board.sci());
    }
    SECTION("status and enable in one access") {
        CHECK(board.pm.press_power_button());
        CHECK(in<std::uint32_t>(board.pm, status) == (button_bit << 16 | button_bit));
        out(board.pm, status, std::uint32_t{button_bit << 16 | button_bit});
        CHECK(in<std::uint32_t>(board.pm, status) == button_bit << 16);
    }
}

TEST_CASE("acpi pm: enable bits that exist are kept, for guests that read them back") {
    Board board;
    board.word(enable, 0xffff);
    CHECK(board.word(enable) == 0x0721);
}

TEST_CASE("acpi pm: S5 powers off, other sleep states do not") {
    Board board;
    for (unsigned type = 0; type < 8; type++) {
        board.word(control, type << 10);
        CHECK(board.word(control) == (type << 10 | 1));
        CHECK(board.power_offs == 0);
    }
    for (unsigned type = 0; type < 8; type++)
        if (type != 5)
            board.word(control, type << 10 | 0x2000);
    CHECK(board.power_offs == 0);
    CHECK((board.word(control) & 0x2000) == 0); // SLP_EN is never stored
    SECTION("as a word") {
        board.word(control, 0x3400);
    }
    SECTION("as the upper byte") {
        outb(board.pm, control + 1, 0x34);
    }
    SECTION("as a dword") {
        out(board.pm, control, std::uint32_t{0x3401});
    }
    CHECK(board.power_offs == 1);
}

TEST_CASE("acpi pm: the timer counts 3.579545 MHz with 32 bits") {
    Board board;
    CHECK(in<std::uint32_t>(board.pm, timer) == 0);
    board.clock.advance(second_ns);
    CHECK(in<std::uint32_t>(board.pm, timer) == 3'579'545);
    board.clock.advance(second_ns / 2);
    CHECK(in<std::uint32_t>(board.pm, timer) == 3'579'545 * 3 / 2);
    out(board.pm, timer, std::uint32_t{0});
    CHECK(in<std::uint32_t>(board.pm, timer) == 3'579'545 * 3 / 2);
    CHECK(inb(board.pm, timer + 1) == (3'579'545 * 3 / 2 >> 8 & 0xff));
    board.clock.advance(1000ULL * 86'400 * second_ns);
    CHECK(in<std::uint32_t>(board.pm, timer) ==
          static_cast<std::uint32_t>(3'579'545ULL * 3 / 2 + 1000ULL * 86'400 * 3'579'545));
}

TEST_CASE("acpi pm: the timer's event comes with every change of its top bit") {
    Board board;
    board.clock.advance(half_turn_ns + 1000);
    CHECK(board.word(status) == timer_bit); // also when nobody has asked for it
    CHECK(board.clock.pending() == 0);
    board.word(status, timer_bit);
    CHECK(board.word(status) == 0);
    board.word(enable, timer_bit);
    CHECK(board.clock.pending() == 1);
    board.clock.advance(half_turn_ns - 10'000);
    CHECK_FALSE(board.sci());
    board.clock.advance(20'000);
    CHECK(board.sci());
    CHECK(board.clock.pending() == 0); // one that is not answered costs nothing
    board.clock.advance(5 * half_turn_ns);
    CHECK(board.clock.ran == 1);
    board.word(status, timer_bit);
    CHECK_FALSE(board.sci());
    CHECK(board.clock.pending() == 1);
    board.word(enable, 0);
    CHECK(board.clock.pending() == 0);
}

TEST_CASE("acpi pm: no access hurts") {
    Board board;
    abuse(board.pm, AcpiPm::port_count);
    CHECK(board.power_offs == 0); // no value of abuse() spells S5
    outb(board.pm, control + 1, 0x34);
    CHECK(board.power_offs == 1);
}
