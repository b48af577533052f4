#include <catch2/catch.hpp>

#include <map>

#include "machine/boot/disklabel.h"

using namespace vmhost;
using namespace vmhost::machine::boot;

namespace {

using Sector = std::array<std::uint8_t, sector_bytes>;

// A disk of a few sectors, labelled as disklabel(8) does it.
struct Disk {
    std::map<std::uint64_t, Sector> sectors;

    static Sector label(const Duid& duid, std::uint16_t partitions = 16) {
        Sector sector{};
        MutableBytes bytes(sector);
        store_le<std::uint32_t>(bytes, 0x82564557);
        store_le<std::uint32_t>(bytes.subspan(132), 0x82564557);
        std::copy(duid.begin(), duid.end(), sector.begin() + 64);
        store_le<std::uint16_t>(bytes.subspan(138), partitions);
        store_le<std::uint32_t>(bytes.subspan(148), 0x12345678); // size of partition a
        std::uint16_t sum = 0;
        for (std::size_t at = 0; at < 148u + partitions * 16u && at < sector_bytes; at += 2)
            sum ^= load_le<std::uint16_t>(Bytes(sector).subspan(at));
        store_le<std::uint16_t>(bytes.subspan(136), sum);
        return sector;
    }
    static Sector mbr(std::uint8_t type, std::uint32_t start) {
        Sector sector{};
        sector[446 + 2 * 16 + 4] = type;
        store_le<std::uint32_t>(MutableBytes(sector).subspan(446 + 2 * 16 + 8), start);
        sector[510] = 0x55;
        sector[511] = 0xaa;
        return sector;
    }
    std::optional<Duid> find() const {
        return find_duid([this](std::uint64_t number) -> std::optional<Sector> {
            auto found = sectors.find(number);
            return found == sectors.end() ? std::nullopt : std::optional(found->second);
        });
    }
};

const Duid duid{0xde, 0xad, 0xbe, 0xef, 0x01, 0x02, 0x03, 0x04};

} // namespace

TEST_CASE("the label of an MBR's OpenBSD area") {
    CHECK(Disk{{{0, Disk::mbr(0xa6, 64)}, {65, Disk::label(duid)}}}.find() == duid);
}

TEST_CASE("the label of a disk without MBR, or without an OpenBSD area") {
    CHECK(Disk{{{0, Sector{}}, {1, Disk::label(duid)}}}.find() == duid);
    CHECK(Disk{{{0, Disk::mbr(0x83, 64)}, {1, Disk::label(duid)}}}.find() == duid);
}

TEST_CASE("no identifier where the label is missing, damaged or without one") {
    CHECK_FALSE(Disk{}.find());
    CHECK_FALSE(Disk{{{0, Sector{}}}}.find());
    CHECK_FALSE(Disk{{{0, Sector{}}, {1, Sector{}}}}.find());
    CHECK_FALSE(Disk{{{0, Sector{}}, {1, Disk::label(Duid{})}}}.find());
    auto damaged = Disk::label(duid);
    damaged[66] ^= 1;
    CHECK_FALSE(Disk{{{0, Sector{}}, {1, damaged}}}.find());
    // More partitions than a sector holds: the checksum would run out of it.
    CHECK_FALSE(Disk{{{0, Sector{}}, {1, Disk::label(duid, 0xffff)}}}.find());
    CHECK_FALSE(Disk{{{0, Disk::mbr(0xa6, 0xffffffff)}}}.find());
}
