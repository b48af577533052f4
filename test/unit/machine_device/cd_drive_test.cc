// The drive by its commands alone, as the drivers of guests send them.
#include <catch2/catch.hpp>

#include "machine/device/cd_drive.h"

using namespace vmhost;
using machine::CdDrive;

namespace {

using Cdb = std::vector<std::uint8_t>;
using Sense = CdDrive::Sense;

const Cdb test_unit_ready{0x00, 0, 0, 0, 0, 0};
constexpr Sense powered_on{6, 0x29, 0}, medium_changed{6, 0x28, 0}, tray_open{2, 0x3a, 2},
    empty{2, 0x3a, 1}, invalid_field{5, 0x24, 0}, out_of_range{5, 0x21, 0};

// Powered on, the attention told.
struct Ready : CdDrive {
    explicit Ready(std::uint64_t blocks = 1000) : CdDrive("vm-cd") {
        if (blocks != 0)
            change_medium(blocks);
        REQUIRE(execute(test_unit_ready).sense == powered_on);
    }
    std::vector<std::uint8_t> data(const Cdb& cdb) {
        auto outcome = execute(cdb);
        REQUIRE(!outcome.sense);
        return outcome.data;
    }
};

std::string text(const std::vector<std::uint8_t>& data, std::size_t at, std::size_t length) {
    REQUIRE(data.size() >= at + length);
    return {data.begin() + static_cast<std::ptrdiff_t>(at),
            data.begin() + static_cast<std::ptrdiff_t>(at + length)};
}

} // namespace

TEST_CASE("the drive names itself as vmd's does") {
    Ready drive;
    auto data = drive.data({0x12, 0, 0, 0, 96, 0});
    REQUIRE(data.size() == 36);
    CHECK(data[0] == 5);
    CHECK((data[1] & 0x80) != 0);
    CHECK(data[4] == 31);
    CHECK(text(data, 8, 28) == "OpenBSD VMM CD-ROM      001 ");
    CHECK(drive.data({0x12, 0, 0, 0, 5, 0}).size() == 5);

    auto pages = drive.data({0x12, 1, 0x00, 0, 255, 0});
    CHECK(pages == std::vector<std::uint8_t>{5, 0, 0, 3, 0x00, 0x80, 0x83});
    auto serial = drive.data({0x12, 1, 0x80, 0, 255, 0});
    CHECK(text(serial, 4, 5) == "vm-cd");
    CHECK(serial[3] == 5);
    auto name = drive.data({0x12, 1, 0x83, 0, 255, 0});
    CHECK(name[3] == 4 + 13);
    CHECK(name[7] == 13);
    CHECK(text(name, 8, 13) == "OpenBSD vm-cd");
    CHECK(drive.execute({{0x12, 1, 0xb0, 0, 255, 0}}).sense == invalid_field);
    CHECK(drive.execute({{0x12, 0, 0x80, 0, 255, 0}}).sense == invalid_field);
}

TEST_CASE("power-on is told once, and not to those that must not hear of it") {
    CdDrive drive("cd");
    drive.change_medium(10);
    CHECK(!drive.execute({{0x12, 0, 0, 0, 36, 0}}).sense);
    CHECK(!drive.execute({{0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0}}).sense);
    CHECK(!drive.execute({{0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0}}).sense);
    CHECK(!drive.execute({{0x46, 2, 0, 0, 0, 0, 0, 0, 8, 0}}).sense);
    CHECK(drive.execute(test_unit_ready).sense == powered_on);
    CHECK(!drive.execute(test_unit_ready).sense);
    drive.reset();
    // REQUEST SENSE takes it away.
    auto sense = drive.execute({{0x03, 0, 0, 0, 18, 0}});
    CHECK(!sense.sense);
    CHECK(sense.data[2] == 6);
    CHECK(sense.data[12] == 0x29);
    CHECK(!drive.execute(test_unit_ready).sense);
}

TEST_CASE("the sense of a failed command stays for REQUEST SENSE") {
    Ready drive(0);
    CHECK(drive.execute(test_unit_ready).sense == empty);
    auto data = drive.data({0x03, 0, 0, 0, 18, 0});
    REQUIRE(data.size() == 18);
    CHECK(data[0] == 0x70);
    CHECK(data[2] == 2);
    CHECK(data[7] == 10);
    CHECK(data[12] == 0x3a);
    CHECK(data[13] == 1);
    CHECK(drive.data({0x03, 0, 0, 0, 18, 0})[2] == 0);
    CHECK(drive.execute({{0x03, 1, 0, 0, 18, 0}}).sense == invalid_field);
}

TEST_CASE("capacity in both forms") {
    Ready drive(0x12345);
    CHECK(drive.data({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}) ==
          std::vector<std::uint8_t>{0, 1, 0x23, 0x44, 0, 0, 8, 0});
    auto data = drive.data({0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0});
    REQUIRE(data.size() == 32);
    CHECK(load_be<std::uint64_t>(data) == 0x12344);
    CHECK(load_be<std::uint32_t>(Bytes(data).subspan(8)) == 2048);
    CHECK(drive.execute({{0x9e, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0}}).sense ==
          invalid_field);
    Ready none(0);
    CHECK(none.execute({{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}}).sense == empty);
}

TEST_CASE("reads of every form say which blocks") {
    Ready drive(1000);
    auto blocks = [&](const Cdb& cdb) {
        auto outcome = drive.execute(cdb);
        REQUIRE(!outcome.sense);
        return std::pair(outcome.first_block, outcome.block_count);
    };
    using Run = std::pair<std::uint64_t, std::uint32_t>;
    CHECK(blocks({0x08, 0, 1, 2, 3, 0}) == Run(258, 3));
    CHECK(blocks({0x08, 0, 0, 2, 0, 0}) == Run(2, 256));
    CHECK(blocks({0x28, 0, 0, 0, 1, 2, 0, 0, 7, 0}) == Run(258, 7));
    CHECK(blocks({0x28, 0, 0, 0, 1, 2, 0, 0, 0, 0}) == Run(258, 0));
    CHECK(blocks({0xa8, 0, 0, 0, 1, 2, 0, 0, 0, 9, 0, 0}) == Run(258, 9));
    CHECK(blocks({0x88, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 5, 0, 0}) == Run(258, 5));
    CHECK(blocks({0xbe, 0, 0, 0, 1, 2, 0, 0, 4, 0x10, 0, 0}) == Run(258, 4));
    CHECK(blocks({0xbe, 0, 0, 0, 1, 2, 0, 0, 4, 0, 0, 0}).second == 0);
    CHECK(blocks({0x2b, 0, 0, 0, 1, 2, 0, 0, 0, 0}).second == 0);
    CHECK(drive.execute({{0xbe, 0, 0, 0, 1, 2, 0, 0, 4, 0xf8, 0, 0}}).sense == invalid_field);
}

TEST_CASE("reads past the end are refused, whatever overflows") {
    Ready drive(1000);
    CHECK(!drive.execute({{0x28, 0, 0, 0, 3, 0xe7, 0, 0, 1, 0}}).sense); // block 999
    CHECK(drive.execute({{0x28, 0, 0, 0, 3, 0xe7, 0, 0, 2, 0}}).sense == out_of_range);
    CHECK(drive.execute({{0x28, 0, 0, 0, 3, 0xe8, 0, 0, 1, 0}}).sense == out_of_range);
    CHECK(drive.execute({{0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0}}).sense ==
          out_of_range);
    CHECK(drive
              .execute({{0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                         0xff, 0, 0}})
              .sense == out_of_range);
    // More than a request may ask for.
    Ready large(UINT64_C(1) << 33);
    CHECK(large.execute({{0xa8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0}}).block_count == 32768);
    CHECK(large.execute({{0xa8, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0}}).sense == invalid_field);
}

TEST_CASE("the guest moves the tray, unless it locked it") {
    Ready drive;
    const Cdb eject{0x1b, 0, 0, 0, 2, 0}, load{0x1b, 0, 0, 0, 3, 0}, lock{0x1e, 0, 0, 0, 1, 0},
        unlock{0x1e, 0, 0, 0, 0, 0};
    CHECK(!drive.execute(lock).sense);
    CHECK(drive.execute(eject).sense == Sense{5, 0x53, 2});
    CHECK(!drive.execute(unlock).sense);
    CHECK(!drive.execute(eject).sense);
    CHECK(drive.tray_open());
    CHECK(drive.execute(test_unit_ready).sense == tray_open);
    CHECK(drive.execute({{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}}).sense == tray_open);
    CHECK(drive.data({0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0})[1] == 0x10);
    CHECK(!drive.execute(load).sense);
    CHECK(drive.execute(test_unit_ready).sense == medium_changed);
    CHECK(!drive.execute(test_unit_ready).sense);
    // Spinning up and power conditions move nothing.
    CHECK(!drive.execute({{0x1b, 0, 0, 0, 0, 0}}).sense);
    CHECK(!drive.execute({{0x1b, 0, 0, 0, 0x32, 0}}).sense);
    CHECK(drive.ready());
}

TEST_CASE("the host's changes are told as attention and as events") {
    Ready drive;
    const Cdb events{0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0};
    auto event = [&] {
        auto data = drive.data(events);
        REQUIRE(data.size() == 8);
        CHECK(data[2] == 4);
        return std::pair<int, int>(data[4], data[5]);
    };
    CHECK(event() == std::pair(2, 2)); // the first medium is one too
    CHECK(event() == std::pair(0, 2));
    drive.change_medium(0);
    CHECK(event() == std::pair(3, 1));
    CHECK(drive.execute(test_unit_ready).sense == tray_open);
    drive.change_medium(77);
    CHECK(drive.execute(test_unit_ready).sense == medium_changed);
    CHECK(drive.data({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0})[3] == 76);
    CHECK(event() == std::pair(2, 2));
    drive.ask_to_eject();
    CHECK(event() == std::pair(1, 2));
    // Not polled: this drive has no other way. Other classes: there is none.
    CHECK(drive.execute({{0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8, 0}}).sense == invalid_field);
    CHECK(drive.data({0x4a, 1, 0, 0, 0x02, 0, 0, 0, 8, 0}) ==
          std::vector<std::uint8_t>{0, 2, 0x80, 0x10});
}

TEST_CASE("a forced change breaks the lock") {
    Ready drive;
    drive.execute({{0x1e, 0, 0, 0, 1, 0}});
    CHECK(drive.locked());
    drive.change_medium(0);
    CHECK(!drive.locked());
}

TEST_CASE("one data track and its lead-out") {
    Ready drive(1000);
    CHECK(drive.data({0x43, 0, 0, 0, 0, 0, 0, 0, 255, 0}) ==
          std::vector<std::uint8_t>{0, 18, 1, 1,    0,    0x14, 1, 0, 0, 0,
                                    0, 0,  0, 0x14, 0xaa, 0,    0, 0, 3, 0xe8});
    // As minutes, seconds, frames: 1150 frames are 15 s 25.
    auto lead_out = drive.data({0x43, 2, 0, 0, 0, 0, 0xaa, 0, 255, 0});
    CHECK(lead_out == std::vector<std::uint8_t>{0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 15, 25});
    // The last session, also asked for in the old way.
    const std::vector<std::uint8_t> session{0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0};
    CHECK(drive.data({0x43, 0, 1, 0, 0, 0, 0, 0, 255, 0}) == session);
    CHECK(drive.data({0x43, 0, 0, 0, 0, 0, 0, 0, 255, 0x40}) == session);
    CHECK(drive.execute({{0x43, 0, 0, 0, 0, 0, 2, 0, 255, 0}}).sense == invalid_field);
    CHECK(drive.execute({{0x43, 0, 2, 0, 0, 0, 0, 0, 255, 0}}).sense == invalid_field);
}

TEST_CASE("mode pages, what can be changed of them: nothing") {
    Ready drive;
    auto six = drive.data({0x1a, 0, 0x2a, 0, 255, 0});
    REQUIRE(six.size() == 4 + 22);
    CHECK(six[0] == 25);
    CHECK(six[4] == 0x2a);
    CHECK((six[4 + 6] & 2) == 0);
    drive.execute({{0x1e, 0, 0, 0, 1, 0}});
    auto ten = drive.data({0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0, 0});
    REQUIRE(ten.size() == 8 + 12 + 22);
    CHECK(load_be<std::uint16_t>(ten) == ten.size() - 2);
    CHECK((ten[8 + 12 + 6] & 2) != 0); // locked
    auto mask = drive.data({0x1a, 0, 0x6a, 0, 255, 0});
    CHECK(std::all_of(mask.begin() + 6, mask.end(), [](auto byte) { return byte == 0; }));
    CHECK(drive.execute({{0x1a, 0, 0xea, 0, 255, 0}}).sense == Sense{5, 0x39, 0});
    CHECK(drive.execute({{0x1a, 0, 0x0e, 0, 255, 0}}).sense == invalid_field);
}

TEST_CASE("the profile follows the size of the medium") {
    auto profile = [](CdDrive& drive) {
        auto data = drive.execute({{0x46, 0, 0, 0, 0, 0, 0, 1, 0, 0}}).data;
        REQUIRE(data.size() >= 8);
        CHECK(load_be<std::uint32_t>(data) == data.size() - 4);
        return load_be<std::uint16_t>(Bytes(data).subspan(6));
    };
    Ready none(0), cd(360'000), dvd(360'001);
    CHECK(profile(none) == 0);
    CHECK(profile(cd) == 0x08);
    CHECK(profile(dvd) == 0x10);
    // One feature; those that are current; those from a number on.
    auto one = cd.data({0x46, 2, 0, 3, 0, 0, 0, 1, 0, 0});
    REQUIRE(one.size() == 8 + 8);
    CHECK(one[9] == 3);
    CHECK(cd.data({0x46, 1, 0, 0x1e, 0, 0, 0, 1, 0, 0}).size() == 8 + 8);
    CHECK(cd.data({0x46, 0, 0, 0x1e, 0, 0, 0, 1, 0, 0}).size() == 8 + 8 + 4);
    CHECK(cd.execute({{0x46, 3, 0, 0, 0, 0, 0, 1, 0, 0}}).sense == invalid_field);
}

TEST_CASE("disc information, units, speed, and what is not known") {
    Ready drive;
    auto disc = drive.data({0x51, 0, 0, 0, 0, 0, 0, 0, 34, 0});
    REQUIRE(disc.size() == 34);
    CHECK(disc[2] == 0x0e);
    CHECK(drive.data({0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0}) ==
          std::vector<std::uint8_t>{0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
    CHECK(!drive.execute({{0xbb, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0}}).sense);
    CHECK(drive.execute({{0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}}).sense == Sense{5, 0x20, 0});
}

TEST_CASE("every opcode and any length of command is answered") {
    Ready drive;
    for (unsigned opcode = 0; opcode < 256; ++opcode)
        for (std::size_t length : {0, 1, 6, 10, 32})
            for (std::uint8_t fill : {0x00, 0x5a, 0xff}) {
                Cdb cdb(length, fill);
                if (length != 0)
                    cdb[0] = static_cast<std::uint8_t>(opcode);
                auto outcome = drive.execute(cdb);
                CHECK((outcome.block_count == 0 ||
                       outcome.first_block + outcome.block_count <= 1000));
            }
}
