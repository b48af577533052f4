#include <catch2/catch.hpp>

#include "fakes.h"
#include "machine/device/cmos.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

constexpr unsigned reg_a = 10, reg_b = 11, reg_c = 12, reg_d = 13;
constexpr unsigned b_set = 0x80, b_binary = 0x04, b_24 = 0x02;
constexpr std::uint64_t mib = 1 << 20, gib = 1 << 30;
// 2023-11-14 22:13:20 UTC, a Tuesday
constexpr std::int64_t some_tuesday = 1'700'000'000;

struct Chip {
    explicit Chip(unsigned vcpus = 1) : vcpus_(vcpus) { clock.wall_at_start = some_tuesday; }
    SteppedClock clock;
    RecordingInterrupts wires;
    GuestMemory memory;
    std::optional<Cmos> cmos;

    Cmos& device() {
        if (!cmos)
            cmos.emplace(clock, wires, memory, vcpus_);
        return *cmos;
    }
    unsigned get(unsigned index) {
        outb(device(), 0, index);
        return inb(device(), 1);
    }
    void set(unsigned index, unsigned value) {
        outb(device(), 0, index);
        outb(device(), 1, value);
    }
    unsigned wide(unsigned index, unsigned bytes) {
        unsigned value = 0;
        for (unsigned i = 0; i < bytes; i++)
            value |= get(index + i) << 8 * i;
        return value;
    }
    // century year month day hour minute second, as the registers have them
    std::vector<unsigned> time() {
        return {get(0x32), get(9), get(8), get(7), get(4), get(2), get(0)};
    }
    void set_time(std::vector<unsigned> fields) {
        auto b = get(reg_b);
        set(reg_b, b | b_set);
        unsigned i = 0;
        for (unsigned index : {0x32, 9, 8, 7, 4, 2, 0})
            set(index, fields[i++]);
        set(reg_b, b);
    }
    bool level() const { return wires.lines[8].level; }
    unsigned rises() const { return wires.lines[8].rises; }

private:
    unsigned vcpus_;
};

} // namespace

TEST_CASE("cmos: the time in every format") {
    Chip chip;
    CHECK(chip.time() == std::vector<unsigned>{0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20});
    CHECK(chip.get(6) == 3); // Tuesday, Sunday is 1
    chip.set(reg_b, b_24 | b_binary);
    CHECK(chip.time() == std::vector<unsigned>{0x20, 23, 11, 14, 22, 13, 20});
    chip.set(reg_b, 0);
    CHECK(chip.get(4) == 0x90); // 10 in the afternoon
    chip.set(reg_b, b_binary);
    CHECK(chip.get(4) == 0x8a);
    CHECK(chip.get(reg_d) == 0x80);
}

TEST_CASE("cmos: noon and midnight in twelve-hour mode") {
    struct {
        unsigned plain, twelve;
    } hours[] = {{0x00, 0x12}, {0x01, 0x01}, {0x11, 0x11},
                 {0x12, 0x92}, {0x13, 0x81}, {0x23, 0x91}};
    for (auto hour : hours) {
        Chip chip;
        chip.set_time({0x20, 0x24, 0x02, 0x29, hour.plain, 0x59, 0x59});
        CHECK(chip.get(4) == hour.plain);
        chip.set(reg_b, 0);
        CHECK(chip.get(4) == hour.twelve);
        chip.set_time({0x20, 0x24, 0x02, 0x29, hour.twelve, 0x00, 0x00});
        chip.set(reg_b, b_24);
        CHECK(chip.get(4) == hour.plain);
    }
}

TEST_CASE("cmos: the guest sets the time and it goes on from there") {
    Chip chip;
    chip.set_time({0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x59});
    CHECK(chip.time() == std::vector<unsigned>{0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x59});
    chip.clock.advance_ms(1000);
    CHECK(chip.time() == std::vector<unsigned>{0x20, 0x24, 0x02, 0x29, 0x00, 0x00, 0x00});
    CHECK(chip.get(6) == 5); // a Thursday
    SECTION("one register alone, without SET") {
        chip.set(9, 0x31);
        CHECK(chip.time()[1] == 0x31);
        chip.clock.advance_ms(2000);
        CHECK(chip.time()[6] == 0x02);
    }
    SECTION("and the registers stand still while SET is on") {
        chip.set(reg_b, b_24 | b_set);
        chip.clock.advance_ms(5000);
        CHECK(chip.get(0) == 0x00);
        CHECK((chip.get(reg_a) & 0x80) == 0);
        chip.set(reg_b, b_24);
        CHECK(chip.get(0) == 0x00);
    }
}

TEST_CASE("cmos: nonsense in the time registers becomes some time") {
    Chip chip;
    for (unsigned mode : {0U, b_24, b_binary, b_24 | b_binary})
        for (unsigned value : {0x00U, 0x7fU, 0x80U, 0xaaU, 0xffU}) {
            chip.set(reg_b, mode | b_set);
            for (unsigned index : {0, 2, 4, 6, 7, 8, 9, 0x32})
                chip.set(index, value);
            chip.set(reg_b, mode);
            chip.clock.advance_ms(1000);
            CHECK(chip.get(8) >= 1);
            chip.set(reg_b, b_24 | b_binary);
            CHECK(chip.get(8) <= 12);
            CHECK(chip.get(4) <= 23);
            CHECK(chip.get(0) <= 59);
        }
}

TEST_CASE("cmos: registers read after UIP clears belong together") {
    Chip chip;
    auto first = chip.get(0);
    chip.clock.advance_ms(997);
    CHECK((chip.get(reg_a) & 0x80) == 0);
    chip.clock.advance(1'000'000); // 2 ms before the update
    CHECK((chip.get(reg_a) & 0x80) != 0);
    CHECK(chip.get(0) == first);
    chip.clock.advance(2'000'000);
    CHECK((chip.get(reg_a) & 0x80) == 0);
    CHECK(chip.get(0) == first + 1);
    // A host clock that steps in mid-second is not seen before the next update.
    chip.clock.wall_at_start += 3600;
    CHECK(chip.get(4) == 0x22);
    chip.clock.advance_ms(1000);
    CHECK(chip.get(4) == 0x23);
}

TEST_CASE("cmos: a restarted divider makes its first update after half a second") {
    Chip chip;
    (void)chip.get(reg_c);
    chip.clock.advance_ms(300);
    chip.set(reg_a, 0x76);
    chip.clock.advance_ms(10'000);
    CHECK((chip.get(reg_a) & 0x80) == 0);
    CHECK(chip.get(0) == 0x20); // stopped
    chip.set(0, 0x30);
    chip.set(reg_a, 0x26);
    chip.clock.advance_ms(499);
    CHECK(chip.get(0) == 0x30);
    chip.clock.advance_ms(1);
    CHECK(chip.get(reg_c) & 0x10);
}

TEST_CASE("cmos: the periodic interrupt") {
    Chip chip;
    SECTION("at every rate") {
        for (unsigned rate = 1; rate < 16; rate++) {
            Chip one;
            one.set(reg_a, 0x20 | rate);
            one.set(reg_b, b_24 | 0x40);
            unsigned hz = 32768U >> ((rate <= 2 ? rate + 7 : rate) - 1), count = 0;
            for (unsigned us = 0; us < 1'000'000; us += 30) {
                one.clock.advance(30'000);
                if (one.level()) {
                    count++;
                    CHECK((one.get(reg_c) & 0xc0) == 0xc0);
                    CHECK_FALSE(one.level());
                }
            }
            CHECK(count >= hz - 1);
            CHECK(count <= hz + 1);
        }
    }
    SECTION("comes once until register C is read, and costs nothing meanwhile") {
        chip.set(reg_a, 0x23); // 8192 Hz
        chip.set(reg_b, b_24 | 0x40);
        chip.clock.advance_ms(1000);
        CHECK(chip.rises() == 1);
        CHECK(chip.clock.ran == 1);
        CHECK((chip.get(reg_c) & 0xc0) == 0xc0);
        CHECK_FALSE(chip.level());
        chip.clock.advance_ms(1);
        CHECK(chip.rises() == 2);
    }
    SECTION("the flag comes without the interrupt, for those who poll") {
        chip.set(reg_a, 0x26);
        (void)chip.get(reg_c);
        CHECK(chip.get(reg_c) == 0);
        chip.clock.advance_ms(2);
        CHECK(chip.get(reg_c) == 0x40);
        CHECK(chip.rises() == 0);
        CHECK(chip.clock.pending() == 0);
    }
    SECTION("a rate of zero, or none enabled, is silent") {
        chip.set(reg_a, 0x20);
        chip.set(reg_b, b_24 | 0x40);
        chip.clock.advance_ms(3000);
        CHECK(chip.rises() == 0);
        CHECK((chip.get(reg_c) & 0x40) == 0);
    }
    SECTION("a change of rate counts at once") {
        chip.set(reg_b, b_24 | 0x40);
        chip.set(reg_a, 0x2f); // 2 Hz
        (void)chip.get(reg_c);
        chip.clock.advance_ms(400);
        CHECK_FALSE(chip.level());
        chip.clock.advance_ms(101);
        CHECK(chip.level());
    }
}

TEST_CASE("cmos: the update-ended interrupt") {
    Chip chip;
    chip.set(reg_b, b_24 | 0x10);
    chip.clock.advance_ms(999);
    CHECK_FALSE(chip.level());
    chip.clock.advance_ms(1);
    CHECK(chip.level());
    CHECK((chip.get(reg_c) & 0x90) == 0x90);
    CHECK_FALSE(chip.level());
    chip.clock.advance_ms(1000);
    CHECK(chip.rises() == 2);
    chip.set(reg_b, b_24 | 0x10 | b_set);
    CHECK((chip.get(reg_b) & 0x10) == 0); // SET clears its enable bit
}

TEST_CASE("cmos: the alarm") {
    Chip chip;
    SECTION("at a time of day") {
        chip.set(1, 0x25), chip.set(3, 0x13), chip.set(5, 0x22);
        chip.set(reg_b, b_24 | 0x20);
        (void)chip.get(reg_c);
        chip.clock.advance_ms(4999);
        CHECK_FALSE(chip.level());
        chip.clock.advance_ms(1);
        CHECK(chip.level());
        CHECK((chip.get(reg_c) & 0xa0) == 0xa0);
    }
    SECTION("every second, with don't-care codes") {
        chip.set(1, 0xff), chip.set(3, 0xc0), chip.set(5, 0xff);
        chip.set(reg_b, b_24 | 0x20);
        for (unsigned i = 0; i < 5; i++) {
            chip.clock.advance_ms(1000);
            CHECK(chip.level());
            (void)chip.get(reg_c);
        }
    }
    SECTION("also when nobody looked at that second") {
        chip.set(1, 0x25), chip.set(3, 0xff), chip.set(5, 0xff);
        (void)chip.get(reg_c);
        chip.clock.advance_ms(3'600'000);
        CHECK(chip.get(reg_c) & 0x20);
    }
    SECTION("not at any other time") {
        chip.set(1, 0x19), chip.set(3, 0x13), chip.set(5, 0x22);
        (void)chip.get(reg_c);
        chip.clock.advance_ms(60'000);
        CHECK_FALSE(chip.get(reg_c) & 0x20);
    }
    SECTION("in the afternoon of the twelve-hour clock") {
        chip.set(reg_b, 0);
        chip.set(1, 0xff), chip.set(3, 0xff), chip.set(5, 0x10);
        (void)chip.get(reg_c);
        chip.clock.advance_ms(2000);
        CHECK_FALSE(chip.get(reg_c) & 0x20); // it is 10 in the evening
        chip.set(5, 0x90);
        chip.clock.advance_ms(2000);
        CHECK(chip.get(reg_c) & 0x20);
    }
}

TEST_CASE("cmos: an interrupt that is enabled after its flag was set comes at once") {
    Chip chip;
    (void)chip.get(reg_c);
    chip.clock.advance_ms(1500);
    chip.set(reg_b, b_24 | 0x10);
    CHECK(chip.level());
    chip.set(reg_b, b_24);
    CHECK_FALSE(chip.level());
}

TEST_CASE("cmos: what SeaBIOS and old boot programs read about the machine") {
    SECTION("a small machine") {
        Chip chip(2);
        REQUIRE(chip.memory.add(0, 640 * 1024, true));
        REQUIRE(chip.memory.add(mib, 7 * mib, true));
        REQUIRE(chip.memory.add(4 * gib - mib, mib, false));
        CHECK(chip.wide(0x15, 2) == 640);
        CHECK(chip.wide(0x17, 2) == 7 * 1024);
        CHECK(chip.wide(0x30, 2) == 7 * 1024);
        CHECK(chip.wide(0x34, 2) == 0);
        CHECK(chip.wide(0x5b, 3) == 0);
        CHECK(chip.get(0x5f) == 1);
    }
    SECTION("a large one") {
        Chip chip;
        REQUIRE(chip.memory.add(0, 3 * gib, true));
        REQUIRE(chip.memory.add(4 * gib, 5 * gib, true));
        CHECK(chip.wide(0x17, 2) == 0xffff);
        CHECK(chip.wide(0x34, 2) == (3 * gib - 16 * mib) / 65536);
        CHECK(chip.wide(0x5b, 3) == 5 * gib / 65536);
    }
}

TEST_CASE("cmos: memory, the NMI bit and the read-only registers") {
    Chip chip;
    chip.set(0x80 | 0x70, 0x42);
    CHECK(chip.get(0x70) == 0x42);
    chip.set(reg_d, 0);
    CHECK(chip.get(reg_d) == 0x80);
    chip.set(reg_c, 0xff);
    CHECK(chip.rises() == 0);
    CHECK(inb(chip.device(), 0) == 0xff);
}

TEST_CASE("cmos: a destroyed clock leaves no deadline behind") {
    Chip chip;
    chip.set(reg_b, b_24 | 0x70);
    CHECK(chip.clock.pending() == 1);
    chip.cmos.reset();
    CHECK(chip.clock.pending() == 0);
}

TEST_CASE("cmos: every access of every size, every index") {
    Chip chip;
    for (unsigned index = 0; index < 256; index++) {
        outb(chip.device(), 0, index);
        abuse(chip.device(), Cmos::port_count);
        for (unsigned value : {0x00U, 0xffU, 0x26U})
            chip.set(index, value);
        chip.clock.advance_ms(1700);
    }
}
