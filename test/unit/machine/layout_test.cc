#include <catch2/catch.hpp>

#include "machine/layout.h"

using namespace vmhost;
using namespace vmhost::machine;

TEST_CASE("memory is laid out around the reserved 384 KiB and the device hole") {
    struct Row {
        Gpa start;
        std::uint64_t size_bytes;
        bool ram;
        bool operator==(const Row&) const = default;
    };
    const Row base{0, 640 * KiB, true}, reserved{640 * KiB, 384 * KiB, false};
    const std::pair<std::uint64_t, std::vector<Row>> cases[] = {
        {1 * MiB, {base, reserved}},
        {1 * MiB + 4 * KiB, {base, reserved, {MiB, 4 * KiB, true}}},
        {512 * MiB + 5, {base, reserved, {MiB, 511 * MiB, true}}}, // whole pages
        {3 * GiB, {base, reserved, {MiB, 3 * GiB - MiB, true}}},
        {3 * GiB + MiB, {base, reserved, {MiB, 3 * GiB - MiB, true}, {4 * GiB, MiB, true}}},
        {16 * GiB, {base, reserved, {MiB, 3 * GiB - MiB, true}, {4 * GiB, 13 * GiB, true}}},
    };
    for (const auto& [size, expected] : cases) {
        GuestMemory memory;
        REQUIRE(lay_out_memory(memory, size));
        std::vector<Row> rows;
        for (const auto& range : memory.ranges())
            rows.push_back({range.start, range.size_bytes, range.ram});
        CHECK(rows == expected);
    }
}

TEST_CASE("memory has limits") {
    for (auto size :
         {std::uint64_t{0}, limits::min_memory_bytes - 1, limits::max_memory_bytes + 1}) {
        GuestMemory memory;
        CHECK(lay_out_memory(memory, size).error().kind() == ErrorKind::limit);
    }
}
