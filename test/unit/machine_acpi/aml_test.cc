#include <catch2/catch.hpp>

#include "machine/acpi/aml.h"

using namespace vmhost;
using namespace vmhost::machine::acpi::aml;

namespace {

Code of(std::initializer_list<int> bytes) {
    Code code;
    for (int byte : bytes)
        code.push_back(static_cast<std::uint8_t>(byte));
    return code;
}

} // namespace

TEST_CASE("aml: names") {
    CHECK(path("_HID") == of({'_', 'H', 'I', 'D'}));
    CHECK(path("\\") == of({'\\', 0}));
    CHECK(path("\\_S5") == of({'\\', '_', 'S', '5', '_'}));
    CHECK(path("\\_SB.PCI0") == of({'\\', 0x2e, '_', 'S', 'B', '_', 'P', 'C', 'I', '0'}));
    CHECK(path("A.B.C") ==
          of({0x2f, 3, 'A', '_', '_', '_', 'B', '_', '_', '_', 'C', '_', '_', '_'}));
}

TEST_CASE("aml: integers take the shortest form") {
    CHECK(integer(0) == of({0x00}));
    CHECK(integer(1) == of({0x01}));
    CHECK(integer(2) == of({0x0a, 2}));
    CHECK(integer(255) == of({0x0a, 0xff}));
    CHECK(integer(256) == of({0x0b, 0x00, 0x01}));
    CHECK(integer(0x1ffff) == of({0x0c, 0xff, 0xff, 0x01, 0x00}));
    CHECK(integer(1ULL << 32) == of({0x0e, 0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST_CASE("aml: EISA ids") {
    CHECK(eisa_id("PNP0A03") == of({0x0c, 0x41, 0xd0, 0x0a, 0x03}));
    CHECK(eisa_id("PNP0501") == of({0x0c, 0x41, 0xd0, 0x05, 0x01}));
    CHECK(eisa_id("PNP0B00") == of({0x0c, 0x41, 0xd0, 0x0b, 0x00}));
}

TEST_CASE("aml: packages, scopes and devices") {
    CHECK(name("\\_S5", package({integer(5), integer(0)})) ==
          of({0x08, '\\', '_', 'S', '5', '_', 0x12, 5, 2, 0x0a, 5, 0}));
    CHECK(scope("\\_SB", {}) == of({0x10, 6, '\\', '_', 'S', 'B', '_'}));
    CHECK(device("COM1", {name("_UID", integer(1))}) ==
          of({0x5b, 0x82, 11, 'C', 'O', 'M', '1', 0x08, '_', 'U', 'I', 'D', 0x01}));
    CHECK(processor("C001", 1) == of({0x5b, 0x83, 11, 'C', '0', '0', '1', 1, 0, 0, 0, 0, 0}));
}

// The length counts itself, so each form has an edge of its own.
TEST_CASE("aml: lengths of one to four bytes") {
    auto head = [](std::size_t content) {
        auto term = scope("\\_SB", {Code(content - 5)});
        return Code(term.begin() + 1, term.begin() + 5);
    };
    CHECK(head(62)[0] == 63);
    CHECK(Code(head(63)).front() == (1 << 6 | (65 & 15)));
    CHECK(head(63)[1] == 65 >> 4);
    CHECK(head(4093)[0] == (1 << 6 | 15));
    CHECK(head(4093)[1] == 0xff);
    CHECK(head(4094) == of({2 << 6 | (4097 & 15), 4097 >> 4 & 0xff, 4097 >> 12, '\\'}));
    CHECK(head((1 << 20) - 4) == of({2 << 6 | 15, 0xff, 0xff, '\\'}));
    CHECK(head((1 << 20) - 3) == of({3 << 6 | 1, 0, 0, 1}));
}

TEST_CASE("aml: resource descriptors") {
    CHECK(resources({fixed_ports(0x3f8, 8), isa_interrupt(4)}) ==
          of({0x11, 16, 0x0a, 13,                    // buffer
              0x47, 1, 0xf8, 0x03, 0xf8, 0x03, 1, 8, // ports
              0x22, 0x10, 0x00,                      // interrupt
              0x79, 0}));                            // end
    CHECK(bus_numbers(0, 0) == of({0x88, 13, 0, 2, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0}));
    CHECK(port_window(0xd00, 0xffff) ==
          of({0x88, 13, 0, 1, 0x0c, 3, 0, 0, 0, 0x0d, 0xff, 0xff, 0, 0, 0x00, 0xf3}));
    CHECK(memory_window(0xe0000000, 0xfebfffff) ==
          of({0x87, 23,   0,    0,    0x0c, 1, 0, 0, 0, 0, 0, 0,    0,
              0xe0, 0xff, 0xff, 0xbf, 0xfe, 0, 0, 0, 0, 0, 0, 0xc0, 0x1e}));
}
