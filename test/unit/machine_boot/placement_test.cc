#include <catch2/catch.hpp>

#include "images.h"
#include "machine/boot/placement.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace vmhost::machine::boot;
using namespace vmhost::machine::boot::test;

TEST_CASE("the map joins what touches and keeps holes") {
    GuestMemory memory;
    REQUIRE(memory.add(0, 0xa0000, true));
    REQUIRE(memory.add(0xa0000, 0x20000, false));
    REQUIRE(memory.add(0xc0000, 0x40000, false));
    REQUIRE(memory.add(MiB, 15 * MiB, true));
    REQUIRE(memory.add(4 * GiB - 64 * KiB, 64 * KiB, false));
    REQUIRE(memory.add(4 * GiB, 16 * MiB, true));
    auto map = memory_map(memory);
    REQUIRE(map.size() == 5);
    auto row = [&](std::size_t i) { return std::tuple(map[i].start, map[i].size, map[i].type); };
    CHECK(row(0) == std::tuple(0, 0xa0000, 1));
    CHECK(row(1) == std::tuple(0xa0000, 0x60000, 2));
    CHECK(row(2) == std::tuple(MiB, 15 * MiB, 1));
    CHECK(row(3) == std::tuple(4 * GiB - 64 * KiB, 64 * KiB, 2));
    CHECK(row(4) == std::tuple(4 * GiB, 16 * MiB, 1));
}

TEST_CASE("claims around every edge of RAM") {
    auto memory = guest(16 * MiB);
    auto fits = [&](Gpa start, std::uint64_t size) {
        Placement placement(*memory);
        return placement.claim("it", start, size).has_value();
    };
    CHECK(fits(0, 1));
    CHECK(fits(0x9ffff, 1));
    CHECK_FALSE(fits(0x9ffff, 2));
    CHECK_FALSE(fits(0xa0000, 1));
    CHECK_FALSE(fits(0xfffff, 1));
    CHECK(fits(MiB, 15 * MiB));
    CHECK_FALSE(fits(MiB, 15 * MiB + 1));
    CHECK_FALSE(fits(MiB - 1, 2));
    CHECK_FALSE(fits(16 * MiB, 1));
    CHECK_FALSE(fits(MiB, ~0ULL));
    CHECK_FALSE(fits(~0ULL, 1));
    CHECK_FALSE(fits(~0ULL, ~0ULL));
    CHECK(fits(~0ULL, 0));
}

TEST_CASE("claims do not overlap") {
    auto memory = guest(16 * MiB);
    Placement placement(*memory);
    REQUIRE(placement.claim("first", 0x200000, 0x1000));
    CHECK(error_of(placement.claim("second", 0x1fffff, 2)) ==
          "second at 0x1fffff to 0x200000 overlaps first at 0x200000 to 0x200fff");
    CHECK_FALSE(placement.claim("second", 0x200fff, 1));
    CHECK_FALSE(placement.claim("second", 0x100000, 0x800000));
    CHECK(placement.claim("second", 0x1fffff, 1));
    CHECK(placement.claim("third", 0x201000, 1));
}

TEST_CASE("the highest free place avoids claims, limits and other ranges' holes") {
    GuestMemory memory;
    REQUIRE(memory.add(0, 0xa0000, true));
    REQUIRE(memory.add(0xa0000, 0x60000, false));
    REQUIRE(memory.add(MiB, 15 * MiB, true));
    REQUIRE(memory.add(4 * GiB, 16 * MiB, true));
    Placement placement(memory);
    CHECK(placement.highest_free(4096, ~0ULL) == 4 * GiB + 16 * MiB - 4096);
    CHECK(placement.highest_free(4096, 4 * GiB) == 16 * MiB - 4096);
    CHECK(placement.highest_free(1, 4 * GiB) == 16 * MiB - 4096);
    REQUIRE(placement.claim("top", 16 * MiB - 1, 1));
    REQUIRE(placement.claim("next", 16 * MiB - 8192, 1));
    CHECK(placement.highest_free(4095, 4 * GiB) == 16 * MiB - 4096);
    CHECK(placement.highest_free(4096, 4 * GiB) == 16 * MiB - 3 * 4096);
    CHECK(placement.highest_free(15 * MiB - 8192, 4 * GiB) == MiB);
    CHECK_FALSE(placement.highest_free(15 * MiB - 8191, 4 * GiB));
    CHECK(placement.highest_free(0x1000, MiB) == 0x9f000);
    CHECK_FALSE(placement.highest_free(0x1000, 0xfff));
    CHECK(placement.guest_mib() == 32);
}
