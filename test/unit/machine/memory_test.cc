#include <catch2/catch.hpp>

#include <vector>

#include "machine/memory.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

constexpr std::uint64_t page = 4 * KiB;

// Two adjacent ranges, a hole, one range above 4 GiB.
void fill_layout(GuestMemory& memory) {
    REQUIRE(memory.add(0, 2 * page, true));
    REQUIRE(memory.add(4 * GiB, page, true));
    REQUIRE(memory.add(2 * page, page, false));
}

bool inside_one_range(const GuestMemory& memory, Gpa gpa, std::uint64_t length) {
    for (const auto& range : memory.ranges()) {
        unsigned __int128 end = static_cast<unsigned __int128>(gpa) + length;
        if (gpa >= range.start && end <= range.start + range.size_bytes)
            return true;
    }
    return false;
}

} // namespace

TEST_CASE("CVE-2019-18960 class: every address and length around each edge of RAM") {
    GuestMemory memory;
    fill_layout(memory);
    std::vector<Gpa> edges{0, ~Gpa{0}, Gpa{1} << 63};
    for (const auto& range : memory.ranges()) {
        edges.push_back(range.start);
        edges.push_back(range.start + range.size_bytes);
    }
    const std::uint64_t lengths[] = {1,
                                     2,
                                     3,
                                     4,
                                     7,
                                     8,
                                     page - 1,
                                     page,
                                     page + 1,
                                     2 * page - 1,
                                     2 * page,
                                     2 * page + 1,
                                     3 * page,
                                     4 * GiB,
                                     4 * GiB + page,
                                     std::uint64_t{1} << 63,
                                     ~std::uint64_t{0} - page,
                                     ~std::uint64_t{0} - 1,
                                     ~std::uint64_t{0}};
    std::size_t accepted = 0, refused = 0;
    for (Gpa edge : edges)
        for (std::int64_t delta = -9; delta <= 9; ++delta)
            for (std::uint64_t length : lengths) {
                Gpa gpa = edge + static_cast<std::uint64_t>(delta);
                auto slice = memory.slice(gpa, length);
                bool expected = inside_one_range(memory, gpa, length);
                if (slice.has_value() != expected)
                    FAIL(fmt::format("slice({:#x}, {:#x})", gpa, length));
                if (slice) {
                    REQUIRE(slice->size() == length);
                    slice->front() = slice->back() = 0x5a; // in bounds, or the sanitizer says so
                    ++accepted;
                } else {
                    ++refused;
                }
            }
    CHECK(accepted > 100);
    CHECK(refused > 1000);
    CHECK(memory.slice(~Gpa{0}, 0)->empty()); // length 0 is fine anywhere
}

TEST_CASE("reads, writes and fills are all or nothing and are reported") {
    GuestMemory memory;
    fill_layout(memory);
    std::vector<std::pair<Gpa, std::uint64_t>> reports;
    memory.on_written([&](Gpa gpa, std::uint64_t length) { reports.emplace_back(gpa, length); });

    CHECK(memory.write_le<std::uint32_t>(2 * page - 4, 0x11223344));
    CHECK(memory.read_le<std::uint32_t>(2 * page - 4) == 0x11223344U);
    CHECK(memory.read_le<std::uint8_t>(2 * page - 1) == 0x11);
    CHECK_FALSE(memory.write_le<std::uint32_t>(2 * page - 3, 0)); // crosses into another range
    CHECK_FALSE(memory.read_le<std::uint64_t>(3 * page - 7));
    CHECK_FALSE(memory.write_le<std::uint16_t>(~Gpa{0}, 1));
    CHECK(memory.read_le<std::uint32_t>(2 * page - 4) == 0x11223344U); // nothing was half written
    CHECK(memory.fill(4 * GiB, 0xaa, page));
    CHECK_FALSE(memory.fill(4 * GiB, 0xbb, page + 1));
    CHECK(memory.read_le<std::uint8_t>(4 * GiB + page - 1) == 0xaa);
    CHECK(memory.fill(123 * GiB, 1, 0));
    CHECK(reports ==
          std::vector<std::pair<Gpa, std::uint64_t>>{{2 * page - 4, 4}, {4 * GiB, page}});
}

TEST_CASE("ranges are whole pages, do not wrap and do not overlap") {
    GuestMemory memory;
    CHECK_FALSE(memory.add(0, 0, true));
    CHECK_FALSE(memory.add(1, page, true));
    CHECK_FALSE(memory.add(0, page + 1, true));
    CHECK(memory.add(0 - 2 * page, 3 * page, true).error().kind() == ErrorKind::invalid);
    CHECK_FALSE(memory.add(page, 0 - page, true));
    REQUIRE(memory.add(4 * page, 4 * page, true));
    for (auto [start, pages] : {std::pair<Gpa, unsigned>{3, 2}, {4, 4}, {5, 1}, {7, 2}, {0, 20}})
        CHECK(memory.add(start * page, pages * page, true).error().kind() == ErrorKind::exists);
    CHECK(memory.add(3 * page, page, true));
    CHECK(memory.add(8 * page, page, true));
    CHECK(memory.ranges().size() == 3);
    CHECK(memory.ranges().front().start == 3 * page);
}

TEST_CASE("a large range is placed so that huge pages fit the guest's addresses") {
    GuestMemory memory;
    REQUIRE(memory.add(1 * MiB, 64 * MiB, true));
    const auto& range = memory.ranges().front();
    CHECK(reinterpret_cast<std::uintptr_t>(range.host) % (2 * MiB) == range.start % (2 * MiB));
    CHECK(memory.write_le<std::uint8_t>(65 * MiB - 1, 7));
    CHECK(memory.read_le<std::uint8_t>(1 * MiB) == 0);
}
