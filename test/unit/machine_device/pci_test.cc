#include <catch2/catch.hpp>

#include "fakes.h"
#include "machine/pci.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

constexpr unsigned command = 0x04, status = 0x06, bar0 = 0x10, bar1 = 0x14;
constexpr unsigned io_on = 1, memory_on = 2, interrupt_off = 0x400;

// Answers every read with its mark.
class Marked final : public Device {
public:
    explicit Marked(std::uint8_t mark) : mark_(mark) {}
    std::string_view name() const override { return "marked"; }
    void read(std::uint64_t, MutableBytes data) override { std::ranges::fill(data, mark_); }
    void write(std::uint64_t, Bytes) override { writes++; }
    unsigned writes = 0;

private:
    std::uint8_t mark_;
};

class Card final : public PciFunction {
public:
    explicit Card(std::string name)
        : PciFunction(std::move(name), {.vendor = 0x1af4,
                                        .device = 0x1041,
                                        .subsystem_vendor = 0x1af4,
                                        .subsystem = 1,
                                        .revision = 1,
                                        .base_class = 2}) {}
    using PciFunction::allow_writes;
};

struct Board {
    Bus bus;
    RecordingInterrupts wires;
    unsigned resets = 0;
    Marked io_a{0xa1}, memory_a{0xa2}, io_b{0xb1}, memory_b{0xb2}, fixed{0xf1};
    PciHost host{bus, wires};
    Card *a = nullptr, *b = nullptr;

    Board() {
        REQUIRE(bus.insert(Space::port, 0xcf8, 8, host));
        REQUIRE(bus.insert(Space::port, 0x2000, 0x100, fixed));
        host.set_reset_handler([this] { resets++; });
        a = plug("a", 64, io_a, 4096, memory_a, 10);
        b = plug("b", 256, io_b, 1 << 20, memory_b, 11);
    }
    Card* plug(const char* name, std::uint32_t io_size, Device& io, std::uint32_t memory_size,
               Device& memory, std::uint8_t line) {
        auto card = std::make_unique<Card>(name);
        auto* plain = card.get();
        plain->add_bar(0, Space::port, io_size, io);
        plain->add_bar(1, Space::memory, memory_size, memory);
        plain->set_interrupt(line);
        REQUIRE(host.add(std::move(card)));
        return plain;
    }
    template <WireInteger T = std::uint8_t>
    T port(std::uint64_t address) {
        std::uint8_t raw[sizeof(T)];
        bus.read(Space::port, address, raw);
        return load_le<T>(raw);
    }
    template <WireInteger T>
    void set_port(std::uint64_t address, T value) {
        std::uint8_t raw[sizeof(T)];
        store_le<T>(raw, value);
        bus.write(Space::port, address, raw);
    }
    void point(unsigned slot, unsigned offset) {
        set_port<std::uint32_t>(0xcf8, 1U << 31 | slot << 11 | (offset & 0xfc));
    }
    template <WireInteger T = std::uint32_t>
    T get(unsigned slot, unsigned offset) {
        point(slot, offset);
        return port<T>(0xcfc + offset % 4);
    }
    template <WireInteger T = std::uint32_t>
    void set(unsigned slot, unsigned offset, T value) {
        point(slot, offset);
        set_port<T>(0xcfc + offset % 4, value);
    }
    std::uint8_t memory(std::uint64_t address) {
        std::uint8_t value = 0;
        bus.read(Space::memory, address, {&value, 1});
        return value;
    }
};

} // namespace

TEST_CASE("pci: the host bridge is the one SeaBIOS looks for") {
    Board board;
    CHECK(board.get(0, 0) == 0x12378086);
    CHECK(board.get(0, 0x08) == 0x06000002);
    CHECK(board.get(0, 0x2c) == 0x11001af4);
    CHECK(board.get(0, 0x0c) >> 16 == 0); // header type 0, one function
    board.set<std::uint8_t>(0, 0x59, 0x30);
    board.set<std::uint32_t>(0, 0x5c, 0x33333333);
    CHECK(board.get<std::uint8_t>(0, 0x59) == 0x30);
    CHECK(board.get(0, 0x5c) == 0x33333333);
}

TEST_CASE("pci: the address latch") {
    Board board;
    board.set_port<std::uint32_t>(0xcf8, 0x80000000);
    CHECK(board.port<std::uint32_t>(0xcf8) == 0x80000000);
    board.set_port<std::uint8_t>(0xcfb, 0x01); // Linux's probe of mechanism 2
    board.set_port<std::uint16_t>(0xcfa, 0x1234);
    CHECK(board.port<std::uint32_t>(0xcf8) == 0x80000000);
    CHECK(board.port<std::uint8_t>(0xcfb) == 0xff);
}

TEST_CASE("pci: nobody home reads all-ones") {
    Board board;
    auto reads = [&](std::uint32_t address) {
        board.set_port(0xcf8, address);
        CHECK(board.port<std::uint32_t>(0xcfc) == UINT32_MAX);
        CHECK(board.port<std::uint16_t>(0xcfe) == UINT16_MAX);
        board.set_port<std::uint32_t>(0xcfc, 0);
    };
    reads(0x00000800);           // enable bit clear
    reads(0x80000800 | 1 << 8);  // function 1
    reads(0x80000800 | 1 << 16); // bus 1
    reads(0x80000000 | 3 << 11); // empty slot
    reads(0x80000000 | 31 << 11 | 0xfc);
    reads(0x81000800); // extended registers do not exist
    CHECK(board.get(1, 0) == 0x10411af4);
}

TEST_CASE("pci: accesses of 1, 2 and 4 bytes honour the byte offset") {
    Board board;
    auto whole = board.get(1, 0x08);
    for (unsigned i = 0; i < 4; i++)
        CHECK(board.get<std::uint8_t>(1, 0x08 + i) == (whole >> 8 * i & 0xff));
    CHECK(board.get<std::uint16_t>(1, 0x0a) == whole >> 16);
    board.point(1, 0x08);
    CHECK(board.port<std::uint16_t>(0xcfd) == (whole >> 8 & 0xffff));  // unaligned, inside
    CHECK(board.port<std::uint16_t>(0xcff) == (0xff00 | whole >> 24)); // over the end
    CHECK(board.port<std::uint32_t>(0xcfa) == ((whole & 0xffff) << 16 | 0xffff));

    board.set<std::uint8_t>(1, 0x0d, 0x40);
    board.set<std::uint8_t>(1, 0x0c, 0x10);
    CHECK(board.get<std::uint16_t>(1, 0x0c) == 0x4010);
    board.set<std::uint16_t>(1, bar1 + 2, 0xe123);
    CHECK(board.get(1, bar1) == 0xe1230000);
    board.set<std::uint8_t>(1, bar1 + 1, 0xff);
    CHECK(board.get(1, bar1) == 0xe123f000);
}

TEST_CASE("pci: what is read-only stays") {
    Board board;
    std::vector<std::uint32_t> before, after;
    auto writable = [](unsigned offset) {
        return offset == 4 || offset == 0xc || offset == bar0 || offset == bar1;
    };
    for (unsigned offset = 0; offset < 256; offset += 4) {
        before.push_back(board.get(1, offset));
        board.set<std::uint32_t>(1, offset, ~before.back());
        after.push_back(board.get(1, offset));
        if (!writable(offset))
            CHECK(after.back() == before.back());
    }
    CHECK(after[0x30 / 4] == 0);      // expansion ROM
    CHECK(after[0x3c / 4] == 0x010a); // the wiring is fixed
    CHECK(after[1] == 0x0547);        // command bits that exist; status untouched
    CHECK((after[3] & 0xffff0000) == 0);
}

TEST_CASE("pci: sizing") {
    Board board;
    board.set(1, bar0, UINT32_MAX);
    CHECK(board.get(1, bar0) == 0xffffffc1);
    board.set(1, bar1, UINT32_MAX);
    CHECK(board.get(1, bar1) == 0xfffff000);
    board.set(1, 0x18, UINT32_MAX);
    CHECK(board.get(1, 0x18) == 0);
    board.set(2, bar1, UINT32_MAX);
    CHECK(board.get(2, bar1) == 0xfff00000);
    SECTION("while decoding is on: nothing is decoded, nothing is refused") {
        board.set<std::uint16_t>(1, command, io_on | memory_on);
        board.set<std::uint16_t>(2, command, io_on | memory_on);
        CHECK(board.memory(0xfffff000) == 0xff);
        CHECK(board.port(0xffc0) == 0xff);
        CHECK(board.host.refused_placements() == 0);
    }
}

TEST_CASE("pci: decoding follows the command register and the address") {
    Board board;
    board.set(1, bar0, 0x1000U);
    board.set(1, bar1, 0xe0000000U);
    CHECK(board.port(0x1000) == 0xff);
    board.set<std::uint16_t>(1, command, io_on);
    CHECK(board.port(0x1000) == 0xa1);
    CHECK(board.port(0x103f) == 0xa1);
    CHECK(board.port(0x1040) == 0xff);
    CHECK(board.memory(0xe0000000) == 0xff);
    board.set<std::uint16_t>(1, command, memory_on);
    CHECK(board.port(0x1000) == 0xff);
    CHECK(board.memory(0xe0000fff) == 0xa2);
    SECTION("a BAR moves while it is decoded") {
        board.set(1, bar1, 0xd0000000U);
        CHECK(board.memory(0xe0000000) == 0xff);
        CHECK(board.memory(0xd0000000) == 0xa2);
    }
    SECTION("address 0 is not an address") {
        board.set(1, bar1, 0U);
        CHECK(board.memory(0) == 0xff);
    }
    SECTION("ports end at 64 KiB") {
        board.set<std::uint16_t>(1, command, io_on);
        board.set(1, bar0, 0x11000U);
        CHECK(board.port(0x1000) == 0xff);
        board.set(1, bar0, 0xffc0U);
        CHECK(board.port(0xffff) == 0xa1);
    }
}

TEST_CASE("pci: a BAR on top of another device waits") {
    Board board;
    board.host.place_bars();
    auto home = board.get(1, bar0);
    SECTION("a fixed device keeps its ports") {
        board.set(1, bar0, 0x20c0U);
        CHECK(board.port(0x20c0) == 0xf1);
        CHECK(board.host.refused_placements() == 1);
        board.set(1, bar0, 0x0cc0U); // over the configuration ports
        CHECK(board.get(1, bar0) == 0x0cc1);
        CHECK(board.host.refused_placements() == 2);
        board.set(1, bar0, home);
        CHECK(board.port(home & ~1U) == 0xa1);
    }
    SECTION("two BARs change places, each in its turn") {
        auto first = board.get(1, bar1), second = board.get(2, bar1);
        board.set(1, bar1, second);
        CHECK(board.memory(second) == 0xb2); // still the other's
        board.set(2, bar1, first & 0xfff00000U);
        CHECK(board.memory(second) == 0xa2);
        CHECK(board.memory(first) == 0xb2);
    }
    SECTION("what the other's command register gives up, is taken") {
        auto other = board.get(2, bar1);
        board.set(1, bar1, other);
        board.set<std::uint16_t>(2, command, 0);
        CHECK(board.memory(other) == 0xa2);
    }
    SECTION("BARs of one function on each other") {
        auto card = std::make_unique<Card>("c");
        Marked one{0xc1}, two{0xc2};
        card->add_bar(0, Space::memory, 4096, one);
        card->add_bar(5, Space::memory, 4096, two);
        auto slot = *board.host.add(std::move(card));
        board.set(slot, bar0, 0xc0000000U);
        board.set(slot, 0x24, 0xc0000000U);
        board.set<std::uint16_t>(slot, command, memory_on);
        CHECK(board.memory(0xc0000000) == 0xc1);
        board.set(slot, bar0, 0xc0001000U);
        CHECK(board.memory(0xc0000000) == 0xc2);
        CHECK(board.memory(0xc0001000) == 0xc1);
        board.set<std::uint16_t>(slot, command, 0); // the marks go out of scope
    }
}

TEST_CASE("pci: place_bars does what firmware would") {
    Board board;
    board.host.place_bars();
    CHECK(board.get(1, bar0) == 0x1001);
    CHECK(board.get(2, bar0) == 0x1101); // aligned to its size
    CHECK(board.get(1, bar1) == 0xe0000000);
    CHECK(board.get(2, bar1) == 0xe0100000);
    CHECK(board.port(0x1000) == 0xa1);
    CHECK(board.port(0x11ff) == 0xb1);
    CHECK(board.memory(0xe01fffff) == 0xb2);
    CHECK(board.a->bus_master());
}

TEST_CASE("pci: the bus has 32 slots") {
    Board board;
    for (unsigned slot = 3; slot < 32; slot++)
        CHECK(board.host.add(std::make_unique<Card>("more")) == slot);
    auto refused = board.host.add(std::make_unique<Card>("too many"));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind() == ErrorKind::limit);
    CHECK(board.host.at(31) != nullptr);
    CHECK(board.host.at(32) == nullptr);
    CHECK(board.get(31, 0) == 0x10411af4);
}

TEST_CASE("pci: a slot has up to eight functions, and says so") {
    Board board;
    CHECK((board.get(1, 0x0c) >> 16 & 0xff) == 0);
    Marked more[7] = {Marked{1}, Marked{2}, Marked{3}, Marked{4}, Marked{5}, Marked{6}, Marked{7}};
    for (unsigned i = 0; i < 7; i++) {
        auto card = std::make_unique<Card>("beside");
        card->add_bar(0, Space::memory, 4096, more[i]);
        CHECK(board.host.add_beside(1, std::move(card)) == 1);
    }
    auto refused = board.host.add_beside(1, std::make_unique<Card>("ninth"));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind() == ErrorKind::limit);
    CHECK_FALSE(board.host.add_beside(0, std::make_unique<Card>("beside the bridge")));
    CHECK_FALSE(board.host.add_beside(9, std::make_unique<Card>("beside nobody")));
    CHECK(board.get(1, 0x0c) >> 16 == 0x80);
    CHECK(board.get(2, 0x0c) >> 16 == 0);
    CHECK(board.host.at(1, 7) != nullptr);
    CHECK(board.host.at(1, 8) == nullptr);
    CHECK(board.host.at(2, 1) == nullptr);
    board.host.place_bars();
    auto bar_of = [&](unsigned function) {
        board.set_port<std::uint32_t>(0xcf8, 0x80000000 | 1 << 11 | function << 8 | 0x10);
        return board.port<std::uint32_t>(0xcfc);
    };
    for (unsigned function = 1; function < 8; function++)
        CHECK(board.memory(bar_of(function)) == function);
    board.set_port<std::uint32_t>(0xcf8, 0x80000000 | 2 << 11 | 1 << 8);
    CHECK(board.port<std::uint32_t>(0xcfc) == UINT32_MAX);
}

TEST_CASE("pci: place_bars leaves out what does not fit") {
    Board board;
    Marked large{0xd1};
    auto card = std::make_unique<Card>("large");
    card->add_bar(0, Space::memory, 1U << 29, large);
    card->add_bar(1, Space::port, 4, large);
    auto slot = *board.host.add(std::move(card));
    board.host.place_bars();
    CHECK(board.get(slot, bar0) == 0);
    CHECK(board.get(slot, bar1) == 0x1201);
    CHECK(board.get<std::uint16_t>(slot, command) == (io_on | 4));
    board.set<std::uint16_t>(slot, command, 0);
}

TEST_CASE("pci: capabilities") {
    auto card = std::make_unique<Card>("c");
    const std::uint8_t body[] = {1, 2, 3, 4, 5};
    auto first = card->add_capability(0x09, body), second = card->add_capability(0x11, body);
    CHECK(first == 0x40);
    CHECK(second == 0x48);
    const std::uint8_t mask[] = {0xf0};
    card->allow_writes(second + 3, mask);
    std::vector<std::uint8_t> rest(256 - 0x50 - 2 + 1);
    CHECK(card->add_capability(0x09, rest) == 0);
    rest.pop_back();
    CHECK(card->add_capability(0x09, rest) == 0x50);
    CHECK(card->add_capability(0x09, {}) == 0);
    Board board;
    auto slot = *board.host.add(std::move(card));
    CHECK((board.get<std::uint8_t>(slot, status) & 0x10) != 0);
    CHECK(board.get<std::uint8_t>(slot, 0x34) == 0x40);
    CHECK(board.get(slot, 0x40) == 0x02014809);
    CHECK(board.get(slot, 0x48) == 0x02015011);
    CHECK(board.get<std::uint16_t>(slot, 0x50) == 0x0009);
    board.set<std::uint32_t>(slot, 0x48, UINT32_MAX);
    CHECK(board.get(slot, 0x48) == 0xf2015011);
    CHECK(board.get<std::uint8_t>(1, 0x34) == 0);
    CHECK((board.get<std::uint8_t>(1, status) & 0x10) == 0);
}

TEST_CASE("pci: INTA") {
    Board board;
    auto& line = board.wires.lines[10];
    board.a->raise_interrupt(true);
    board.a->raise_interrupt(true);
    CHECK(line.level);
    CHECK(line.rises == 1);
    CHECK((board.get<std::uint8_t>(1, status) & 8) != 0);
    SECTION("is masked by the command register") {
        board.set<std::uint16_t>(1, command, interrupt_off);
        CHECK_FALSE(line.level);
        CHECK((board.get<std::uint8_t>(1, status) & 8) != 0);
        board.set<std::uint16_t>(1, command, 0);
        CHECK(line.level);
    }
    SECTION("is shared: low only when nobody asks any more") {
        auto card = std::make_unique<Card>("c");
        auto* other = card.get();
        other->set_interrupt(10);
        REQUIRE(board.host.add(std::move(card)));
        other->raise_interrupt(true);
        board.a->raise_interrupt(false);
        CHECK(line.level);
        other->raise_interrupt(false);
        CHECK_FALSE(line.level);
        CHECK(line.rises == 1);
    }
    board.a->raise_interrupt(false);
    CHECK_FALSE(line.level);
    CHECK((board.get<std::uint8_t>(1, status) & 8) == 0);
    CHECK(board.a->interrupt_line() == 10);
}

TEST_CASE("pci: the reset control register") {
    Board board;
    board.set_port<std::uint8_t>(0xcf9, 0x02);
    CHECK(board.resets == 0);
    CHECK(board.port<std::uint8_t>(0xcf9) == 0x02);
    board.set_port<std::uint8_t>(0xcf9, 0x06);
    CHECK(board.resets == 1);
    board.set_port<std::uint32_t>(0xcf8, 0x80000400); // the same bits in the address latch
    CHECK(board.resets == 1);
    CHECK(board.port<std::uint8_t>(0xcf9) == 0x06);
}

TEST_CASE("pci: a host that goes takes its BARs from the bus") {
    Bus bus;
    RecordingInterrupts wires;
    Marked io{0xa1};
    {
        PciHost host(bus, wires);
        auto card = std::make_unique<Card>("c");
        card->add_bar(0, Space::port, 64, io);
        REQUIRE(host.add(std::move(card)));
        host.place_bars();
        std::uint8_t value = 0;
        bus.read(Space::port, 0x1000, {&value, 1});
        CHECK(value == 0xa1);
    }
    std::uint8_t value = 0;
    bus.read(Space::port, 0x1000, {&value, 1});
    CHECK(value == 0xff);
}

TEST_CASE("pci: every offset in every size, aligned or not, in every slot") {
    Board board;
    for (unsigned slot = 0; slot < 5; slot++)
        for (unsigned offset = 0; offset < 256; offset += 4) {
            board.point(slot, offset);
            for (std::size_t size : {1U, 2U, 4U, 8U})
                for (unsigned byte = 0; byte < 4; byte++)
                    for (std::uint8_t value : {0x00, 0xff, 0x5a}) {
                        std::vector<std::uint8_t> data(size, value);
                        board.bus.write(Space::port, 0xcfc + byte, data);
                        board.bus.read(Space::port, 0xcfc + byte, data);
                    }
        }
    // And past what the bus would pass on: the functions guard themselves.
    for (unsigned offset : {253U, 254U, 255U, 256U, 4096U, UINT32_MAX}) {
        std::vector<std::uint8_t> data(4, 0);
        board.a->write_config(offset, data);
        board.a->read_config(offset, data);
        CHECK(data == std::vector<std::uint8_t>(4, 0xff));
    }
    abuse(board.host, 8);
}

TEST_CASE("pci: an expansion ROM is sized, enabled and read") {
    constexpr unsigned rom = 0x30;
    Board board;
    auto card = std::make_unique<Card>("c");
    card->add_rom({0x55, 0xaa, 0x07});
    auto large = std::make_unique<Card>("d");
    large->add_rom(std::vector<std::uint8_t>(75776, 0x5a));
    REQUIRE(board.host.add(std::move(card)));
    REQUIRE(board.host.add(std::move(large)));
    CHECK(board.get(1, rom) == 0); // who has none
    board.set(1, rom, ~0U);
    CHECK(board.get(1, rom) == 0);

    board.set(3, rom, ~0U);
    CHECK(board.get(3, rom) == 0xfffff801);
    board.set(4, rom, 0xfffff800);
    CHECK(board.get(4, rom) == 0xfffe0000);
    // Decoded only with both enable bits.
    board.set(3, rom, 0xe0200000);
    board.set<std::uint16_t>(3, command, memory_on);
    CHECK(board.memory(0xe0200000) == 0xff);
    board.set(3, rom, 0xe0200001);
    CHECK(board.memory(0xe0200000) == 0x55);
    CHECK(board.memory(0xe0200002) == 0x07);
    CHECK(board.memory(0xe02007ff) == 0xff); // padding
    std::uint8_t zero = 0;
    board.bus.write(Space::memory, 0xe0200000, {&zero, 1});
    CHECK(board.memory(0xe0200000) == 0x55);
    // On top of another one it waits.
    board.set(4, rom, 0xe0200001);
    board.set<std::uint16_t>(4, command, memory_on);
    CHECK(board.memory(0xe0200000) == 0x55);
    CHECK(board.host.refused_placements() == 1);
    board.set<std::uint16_t>(3, command, 0);
    CHECK(board.memory(0xe0200000) == 0x5a);
    board.host.place_bars(); // is for guests without firmware: they have no use for it
    CHECK(board.get(3, rom) == 0xe0200001);
}
