// Each device into bytes, and the bytes into a fresh one that then behaves the same.
#include <catch2/catch.hpp>

#include <memory>

#include "fakes.h"
#include "machine/device/acpi_pm.h"
#include "machine/device/cmos.h"
#include "machine/device/fw_cfg.h"
#include "machine/device/reset.h"
#include "machine/device/serial.h"
#include "state.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

struct SerialHolder {
    SteppedClock clock;
    RecordingInterrupts wires;
    std::string sent;
    unsigned offers = 0;
    Serial serial{wires, 4, clock, [this](Bytes data) { sent += as_text(data); }};
    SerialHolder() {
        serial.on_receive_space([this] { ++offers; });
    }
    Serial& part() { return serial; }
};

struct CmosHolder {
    SteppedClock clock;
    RecordingInterrupts wires;
    GuestMemory memory;
    std::unique_ptr<Cmos> cmos;
    explicit CmosHolder(std::uint64_t now_ns = 0, std::int64_t wall = 1'700'000'000) {
        clock.wall_at_start = wall - static_cast<std::int64_t>(now_ns / 1'000'000'000);
        clock.advance(now_ns);
        cmos = std::make_unique<Cmos>(clock, wires, memory, 1);
    }
    Cmos& part() { return *cmos; }
    std::uint8_t get(unsigned index) {
        outb(*cmos, 0, index);
        return inb(*cmos, 1);
    }
    void set(unsigned index, unsigned value) {
        outb(*cmos, 0, index);
        outb(*cmos, 1, value);
    }
};

struct PmHolder {
    SteppedClock clock;
    RecordingInterrupts wires;
    std::unique_ptr<AcpiPm> pm;
    explicit PmHolder(std::uint64_t now_ns = 0) {
        clock.advance(now_ns);
        pm = std::make_unique<AcpiPm>(clock, wires, [] {});
    }
    AcpiPm& part() { return *pm; }
};


} // namespace

TEST_CASE("state: a serial port goes on where it was") {
    SerialHolder before;
    auto& serial = before.serial;
    outb(serial, 3, 0x83); // divisor
    outb(serial, 0, 0x23);
    outb(serial, 1, 0x01);
    outb(serial, 3, 0x03);
    outb(serial, 2, 0x81); // FIFO, trigger 8
    outb(serial, 4, 0x0b);
    outb(serial, 1, 0x05);
    outb(serial, 7, 0x5a);
    CHECK(serial.receive(as_bytes("0123456789abcdefghi")) == 16);
    CHECK(inb(serial, 0) == '0'); // the ring does not begin at its start
    serial.receive_break();
    REQUIRE(before.wires.lines[4].level);

    auto saved = save(serial);
    SerialHolder after;
    REQUIRE(load(after.serial, saved).has_value());
    CHECK(after.wires.lines[4].level);
    CHECK(save(after.serial).payload == saved.payload);
    for (unsigned at : {1U, 2U, 3U, 4U, 7U})
        CHECK(inb(after.serial, at) == inb(serial, at));
    std::string text;
    for (int i = 0; i < 15; ++i)
        text += static_cast<char>(inb(after.serial, 0));
    CHECK(text == "123456789abcdef");
    CHECK((inb(after.serial, 5) & 0x11) == 0x11); // the break
    CHECK(inb(after.serial, 0) == 0);
    CHECK_FALSE(after.wires.lines[4].level);
    outb(after.serial, 0, 'x');
    CHECK(after.sent == "x");
    outb(after.serial, 3, 0x83);
    CHECK(inb(after.serial, 0) == 0x23);
    CHECK(inb(after.serial, 1) == 0x01);
}

TEST_CASE("state: a serial port in loop-back with an overrun") {
    SerialHolder before;
    outb(before.serial, 4, 0x1f);
    outb(before.serial, 1, 0x0f);
    outb(before.serial, 0, 'a');
    outb(before.serial, 0, 'b'); // overruns
    auto saved = save(before.serial);
    SerialHolder after;
    REQUIRE(load(after.serial, saved).has_value());
    CHECK(after.wires.lines[4].level == before.wires.lines[4].level);
    CHECK(inb(after.serial, 5) == inb(before.serial, 5));
    CHECK(inb(after.serial, 0) == inb(before.serial, 0));
    CHECK(inb(after.serial, 6) == inb(before.serial, 6));
}

TEST_CASE("state: damaged serial state") {
    SerialHolder before;
    before.serial.receive(as_bytes("x"));
    auto saved = save(before.serial);
    auto make = [] { return std::make_unique<SerialHolder>(); };
    check_refusals(saved, make);
    flip_every_byte(saved, make, [](SerialHolder& holder) { abuse(holder.serial, 8); });
}

TEST_CASE("state: the CMOS clock keeps the guest's offset and shows the host's time") {
    CmosHolder before(77 * second_ns);
    before.set(0x0b, 0x06);                        // 24 hours, binary
    before.set(0x40, 0x99);                        // memory
    before.set(0x04, (before.get(0x04) + 3) % 24); // the guest is three hours ahead
    auto hour = before.get(0x04);
    auto saved = save(*before.cmos);

    // Two minutes later on the host, at the same guest time.
    CmosHolder after(77 * second_ns, 1'700'000'000 + 120);
    REQUIRE(load(*after.cmos, saved).has_value());
    CHECK(after.get(0x40) == 0x99);
    CHECK(after.get(0x0b) == 0x06);
    CHECK(after.get(0x04) == hour);
    auto minute = before.get(0x02);
    after.clock.advance(second_ns);
    CHECK(after.get(0x02) == (minute + 2) % 60);
    CHECK(after.get(0x04) == hour);
}

TEST_CASE("state: the CMOS clock's interrupts come when they were due") {
    CmosHolder before(5 * second_ns + 100'000'000);
    before.set(0x0b, 0x12); // update-ended interrupt
    CHECK(before.clock.pending() == 1);
    before.clock.advance(400'000'000); // half a second before the next
    auto saved = save(*before.cmos);

    CmosHolder after(5 * second_ns + 500'000'000);
    REQUIRE(load(*after.cmos, saved).has_value());
    CHECK_FALSE(after.wires.lines[8].level);
    for (int ms = 0; ms < 700 && !after.wires.lines[8].level; ++ms)
        after.clock.advance_ms(1);
    CHECK(after.wires.lines[8].level);
    CHECK(save(*after.cmos).payload != saved.payload);
    // A pending one is pending again.
    CmosHolder third(after.clock.now_ns());
    REQUIRE(load(*third.cmos, save(*after.cmos)).has_value());
    CHECK(third.wires.lines[8].level);
    CHECK((third.get(0x0c) & 0x90) == 0x90);
    CHECK_FALSE(third.wires.lines[8].level);
}

TEST_CASE("state: damaged CMOS state") {
    CmosHolder before(10 * second_ns);
    before.set(0x0b, 0x72);
    auto saved = save(*before.cmos);
    auto make = [] { return std::make_unique<CmosHolder>(10 * second_ns); };
    check_refusals(saved, make);
    flip_every_byte(saved, make, [](CmosHolder& holder) {
        for (unsigned index = 0; index < 128; ++index)
            holder.set(index, holder.get(index));
        holder.clock.advance_ms(2100);
    });
    // A machine whose time has not come that far.
    CmosHolder early(second_ns);
    CHECK(refusal(*early.cmos, saved) == "its clock was started in the future");
}

TEST_CASE("state: the ACPI registers, button and timer") {
    PmHolder before(700 * second_ns); // the timer has passed its top bit
    out<std::uint16_t>(*before.pm, 2, 0x0101);
    REQUIRE(before.pm->press_power_button());
    out<std::uint16_t>(*before.pm, 4, 0x0402);
    auto saved = save(*before.pm);

    PmHolder after(700 * second_ns);
    REQUIRE(load(*after.pm, saved).has_value());
    CHECK(after.wires.lines[sci_line].level);
    CHECK(after.pm->power_button_pending());
    for (std::uint64_t at : {0U, 2U, 4U})
        CHECK(in<std::uint16_t>(*after.pm, at) == in<std::uint16_t>(*before.pm, at));
    CHECK(in<std::uint32_t>(*after.pm, 8) == in<std::uint32_t>(*before.pm, 8));
    out<std::uint16_t>(*after.pm, 0, 0xffff);
    CHECK_FALSE(after.wires.lines[sci_line].level);
    CHECK(after.clock.pending() == 1); // the timer's next half turn
    after.clock.advance(700 * second_ns);
    CHECK(after.wires.lines[sci_line].level);
}

TEST_CASE("state: damaged ACPI state") {
    PmHolder before(700 * second_ns);
    out<std::uint16_t>(*before.pm, 2, 0x0001);
    auto saved = save(*before.pm);
    auto make = [] { return std::make_unique<PmHolder>(700 * second_ns); };
    check_refusals(saved, make);
    flip_every_byte(saved, make, [](PmHolder& holder) { abuse(*holder.pm, 12); });
}

TEST_CASE("state: the keyboard controller between a command and its parameter") {
    KeyboardController before([] {});
    outb(before.command_port(), 0, 0x60); // write the command byte
    outb(before.data_port(), 0, 0x45);
    outb(before.command_port(), 0, 0x20); // read it: waits in the output buffer
    outb(before.command_port(), 0, 0xd2); // the parameter is outstanding
    auto saved = save(before);
    KeyboardController after([] {});
    REQUIRE(load(after, saved).has_value());
    CHECK(inb(after.command_port(), 0) == inb(before.command_port(), 0));
    outb(after.data_port(), 0, 0x99);
    CHECK(inb(after.data_port(), 0) == 0x99);
    for (std::size_t size = 0; size < saved.payload.size(); ++size) {
        auto cut = saved;
        cut.payload.resize(size);
        CHECK_FALSE(load(after, cut).has_value());
    }
}

namespace {

struct FwCfgHolder {
    GuestMemory memory;
    FwCfg fw_cfg{memory};
    FwCfg& part() { return fw_cfg; }
};

} // namespace

TEST_CASE("state: fw_cfg in the middle of a file, with the items it had") {
    FwCfgHolder before;
    before.fw_cfg.add_file("etc/one", {1, 2, 3, 4, 5});
    before.fw_cfg.add_item(0x05, {2, 0});
    out<std::uint16_t>(before.fw_cfg, 0, FwCfg::first_file);
    CHECK(inb(before.fw_cfg, 1) == 1);
    out<std::uint32_t>(before.fw_cfg, 4, 0x01000000); // half of a DMA address
    auto saved = save(before.fw_cfg);

    FwCfgHolder after;
    after.fw_cfg.add_file("etc/other", {9});
    after.fw_cfg.add_item(0x06, {7});
    REQUIRE(load(after.fw_cfg, saved).has_value());
    CHECK(save(after.fw_cfg).payload == saved.payload);
    for (unsigned value : {2U, 3U, 4U, 5U, 0U, 0U})
        CHECK(inb(after.fw_cfg, 1) == value);
    out<std::uint16_t>(after.fw_cfg, 0, 0x06);
    CHECK(inb(after.fw_cfg, 1) == 0);
    out<std::uint16_t>(after.fw_cfg, 0, 0x05);
    CHECK(inb(after.fw_cfg, 1) == 2);
    auto make = [] { return std::make_unique<FwCfgHolder>(); };
    check_refusals(saved, make);
    flip_every_byte(saved, make, [](FwCfgHolder& holder) { abuse(holder.fw_cfg, 12); });
}
