#include <catch2/catch.hpp>

#include <vector>

#include "machine/bus.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

// Notes every access; a read gives the offset of each byte.
class Probe : public Device {
public:
    struct Access {
        char kind;
        std::uint64_t offset;
        std::size_t size;
        bool operator==(const Access&) const = default;
    };
    std::string_view name() const override { return "probe"; }
    void read(std::uint64_t offset, MutableBytes data) override {
        for (std::size_t i = 0; i < data.size(); ++i)
            data[i] = static_cast<std::uint8_t>(offset + i);
        seen.push_back({'r', offset, data.size()});
    }
    void write(std::uint64_t offset, Bytes data) override {
        seen.push_back({'w', offset, data.size()});
        if (on_write)
            on_write();
    }
    std::vector<Access> seen;
    std::function<void()> on_write;
};

using Accesses = std::vector<Probe::Access>;

template <class T>
T read(Bus& bus, Space space, std::uint64_t address) {
    std::uint8_t raw[sizeof(T)]{};
    bus.read(space, address, raw);
    return load_le<T>(raw);
}

} // namespace

TEST_CASE("ranges of one space do not overlap and lie inside it") {
    Bus bus;
    Probe a, b;
    REQUIRE(bus.insert(Space::port, 0x100, 8, a));
    for (auto [base, size] :
         {std::pair{0x100, 8}, {0xff, 2}, {0x107, 1}, {0x0, 0x1000}, {0x102, 2}})
        CHECK(bus.insert(Space::port, base, size, b).error().kind() == ErrorKind::exists);
    CHECK(bus.insert(Space::port, 0xf8, 8, b));
    CHECK(bus.insert(Space::port, 0x108, 1, b));
    CHECK(bus.insert(Space::memory, 0x100, 8, b)); // another space
    CHECK_FALSE(bus.insert(Space::port, 0xffff, 2, b));
    CHECK_FALSE(bus.insert(Space::port, 0x10000, 1, b));
    CHECK_FALSE(bus.insert(Space::port, 0x200, 0, b));
    CHECK_FALSE(bus.insert(Space::memory, ~std::uint64_t{0} - 3, 8, b));
    CHECK(bus.insert(Space::port, 0xffff, 1, b));
    CHECK(bus.insert(Space::port, 0x100, 8, b).error().text() ==
          "port range 0x100+0x8 of probe: overlaps probe");
}

TEST_CASE("an access reaches its device with a relative offset") {
    Bus bus;
    Probe device;
    REQUIRE(bus.insert(Space::memory, 0xe0000000, 0x1000, device));
    CHECK(read<std::uint64_t>(bus, Space::memory, 0xe0000008) == 0x0f0e0d0c0b0a0908ULL);
    std::uint8_t two[2]{};
    bus.write(Space::memory, 0xe0000ffe, two);
    CHECK(device.seen == Accesses{{'r', 8, 8}, {'w', 0xffe, 2}});
    CHECK(bus.counters().unclaimed_reads == 0);
}

TEST_CASE("an access across an edge is split by byte, the rest is all-ones") {
    Bus bus;
    Probe first, second;
    REQUIRE(bus.insert(Space::port, 0x10, 4, first));
    REQUIRE(bus.insert(Space::port, 0x14, 2, second));
    CHECK(read<std::uint32_t>(bus, Space::port, 0x13) == 0xff010003U);
    CHECK(first.seen == Accesses{{'r', 3, 1}});
    CHECK(second.seen == Accesses{{'r', 0, 1}, {'r', 1, 1}});
    CHECK(bus.counters().unclaimed_reads == 1);
    // Begins in nobody's land.
    CHECK(read<std::uint16_t>(bus, Space::port, 0x0f) == 0x00ffU);
    // An odd size inside one range.
    std::uint8_t three[3]{};
    bus.write(Space::port, 0x10, three);
    CHECK(first.seen.size() == 5);
}

TEST_CASE("nobody home: all-ones, dropped, counted once") {
    Bus bus;
    CHECK(read<std::uint32_t>(bus, Space::port, 0x80) == 0xffffffffU);
    CHECK(read<std::uint64_t>(bus, Space::memory, ~std::uint64_t{0} - 2) == ~std::uint64_t{0});
    std::uint8_t four[4]{};
    bus.write(Space::memory, 0xf0000000, four);
    bus.write(Space::port, 0xffff, four); // past the end of the ports
    CHECK(bus.counters().unclaimed_reads == 2);
    CHECK(bus.counters().unclaimed_writes == 2);
}

TEST_CASE("a device may move its own range while it is written") {
    Bus bus;
    Probe device;
    REQUIRE(bus.insert(Space::port, 0x1000, 4, device));
    device.on_write = [&] {
        bus.remove(Space::port, 0x1000);
        REQUIRE(bus.insert(Space::port, 0x2000, 4, device));
    };
    std::uint8_t one[1]{};
    bus.write(Space::port, 0x1000, one);
    CHECK(read<std::uint8_t>(bus, Space::port, 0x1000) == 0xff);
    CHECK(read<std::uint8_t>(bus, Space::port, 0x2003) == 3);
}
