// What a guest does with tables: finds, checks and walks them.
#pragma once

#include <catch2/catch.hpp>

#include <numeric>

#include "machine/acpi/acpi.h"

namespace vmhost::machine::acpi::test {

using Buffer = std::vector<std::uint8_t>;

inline bool sums_to_zero(Bytes bytes) {
    return static_cast<std::uint8_t>(std::accumulate(bytes.begin(), bytes.end(), 0U)) == 0;
}

inline Buffer bytes_at(const GuestMemory& memory, Gpa at, std::size_t count) {
    Buffer bytes(count);
    REQUIRE(memory.read(at, bytes));
    return bytes;
}

// A table of ACPI with a good signature and checksum.
inline Buffer table_at(const GuestMemory& memory, Gpa at, std::string_view signature) {
    auto length = memory.read_le<std::uint32_t>(at + 4);
    REQUIRE(length);
    REQUIRE(*length < 64 * KiB);
    auto table = bytes_at(memory, at, *length);
    CHECK(as_text(Bytes(table).first(4)) == signature);
    if (signature != "FACS")
        CHECK(sums_to_zero(table));
    return table;
}

template <WireInteger T>
T field(Bytes table, std::size_t offset) {
    REQUIRE(range_fits(offset, sizeof(T), table.size()));
    return load_le<T>(table.subspan(offset));
}

// All tables, from the RSDP on; both roots must lead to the same ones.
struct Found {
    Buffer fadt, madt, facs, dsdt;
};
inline Found walk(const GuestMemory& memory, Gpa rsdp_at) {
    auto root = bytes_at(memory, rsdp_at, 36);
    CHECK(rsdp_at % 16 == 0);
    CHECK(as_text(Bytes(root).first(8)) == "RSD PTR ");
    CHECK(sums_to_zero(Bytes(root).first(20)));
    CHECK(sums_to_zero(root));
    CHECK(root[15] == 2);
    CHECK(field<std::uint32_t>(root, 20) == 36);
    auto rsdt = table_at(memory, field<std::uint32_t>(root, 16), "RSDT");
    auto xsdt = table_at(memory, field<std::uint64_t>(root, 24), "XSDT");
    REQUIRE(rsdt.size() == 36 + 2 * 4);
    REQUIRE(xsdt.size() == 36 + 2 * 8);
    for (unsigned i = 0; i < 2; ++i)
        CHECK(field<std::uint32_t>(rsdt, 36 + 4 * i) == field<std::uint64_t>(xsdt, 36 + 8 * i));
    Found found;
    found.fadt = table_at(memory, field<std::uint64_t>(xsdt, 36), "FACP");
    found.madt = table_at(memory, field<std::uint64_t>(xsdt, 44), "APIC");
    auto facs_at = field<std::uint32_t>(found.fadt, 36);
    CHECK(facs_at % 64 == 0);
    found.facs = table_at(memory, facs_at, "FACS");
    CHECK(found.facs.size() == 64);
    CHECK(field<std::uint32_t>(found.fadt, 40) == field<std::uint64_t>(found.fadt, 140));
    found.dsdt = table_at(memory, field<std::uint32_t>(found.fadt, 40), "DSDT");
    return found;
}

} // namespace vmhost::machine::acpi::test
