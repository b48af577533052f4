#include "tables.h"

#include "machine/layout.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace vmhost::machine::acpi;
using namespace vmhost::machine::acpi::test;

TEST_CASE("mp table: structure, checksums, entries in order") {
    const unsigned vcpus = GENERATE(1U, 2U, 64U);
    auto bytes = mp_table(vcpus, 0xf1230);
    Bytes all = bytes;
    auto pointer = all.first(16);
    CHECK(as_text(pointer.first(4)) == "_MP_");
    CHECK(field<std::uint32_t>(pointer, 4) == 0xf1240);
    CHECK(pointer[8] == 1);
    CHECK(pointer[9] == 4);
    CHECK(pointer[11] == 0);
    CHECK(pointer[12] == 0); // virtual wire: no IMCR
    CHECK(sums_to_zero(pointer));

    auto table = all.subspan(16);
    CHECK(as_text(table.first(4)) == "PCMP");
    CHECK(field<std::uint16_t>(table, 4) == table.size());
    CHECK(table[6] == 4);
    CHECK(sums_to_zero(table));
    CHECK(as_text(table.subspan(8, 20)) == "VMHOST  VIRTUAL PC  ");
    CHECK(field<std::uint32_t>(table, 36) == 0xfee00000);

    unsigned count = 0, last_type = 0;
    std::array<unsigned, 5> of_type{};
    std::map<unsigned, unsigned> pci_pins, isa_pins;
    ByteReader reader(table.subspan(44));
    while (reader.remaining() != 0) {
        auto type = reader.le<std::uint8_t>();
        REQUIRE(type < 5);
        auto entry = reader.bytes(type == 0 ? 19 : 7);
        REQUIRE(reader.ok());
        CHECK(type >= last_type);
        last_type = type;
        of_type[type]++;
        if (type == 0) {
            CHECK(entry[0] == count);
            CHECK(entry[2] == (count == 0 ? 3 : 1));
        }
        if (type == 3) {
            CHECK(entry[0] == 0);
            CHECK(entry[5] == 0);
            auto& pins = entry[3] == 0 ? pci_pins : isa_pins;
            CHECK(pins.emplace(entry[4], entry[6]).second);
            CHECK(field<std::uint16_t>(entry, 1) == (entry[3] == 0 ? 0x0d : 0));
        }
        ++count;
    }
    CHECK(field<std::uint16_t>(table, 34) == count);
    CHECK(of_type[0] == vcpus);
    CHECK(of_type[1] == 2);
    CHECK(of_type[2] == 1);
    CHECK(of_type[4] == 2);
    CHECK(isa_pins == std::map<unsigned, unsigned>{{0, 0}, {1, 1}, {4, 4}, {8, 8}, {13, 13}});
    CHECK(pci_pins.size() == 31);
    CHECK(pci_pins[1 << 2] == 5);
    CHECK(pci_pins[2 << 2] == 10);
    CHECK(pci_pins[10 << 2] == 5);
}

TEST_CASE("mp table: a guest finds it in the BIOS area") {
    GuestMemory memory;
    REQUIRE(lay_out_memory(memory, 8 * MiB));
    REQUIRE(install(memory, 64));
    unsigned found = 0;
    for (Gpa at = 0xf0000; at < 0x100000; at += 16) {
        if (bytes_at(memory, at, 4) != Buffer{'_', 'M', 'P', '_'})
            continue;
        ++found;
        CHECK(memory.read_le<std::uint32_t>(at + 4) == at + 16);
        CHECK(bytes_at(memory, at + 16, 4) == Buffer{'P', 'C', 'M', 'P'});
        auto length = memory.read_le<std::uint16_t>(at + 20).value();
        CHECK(bytes_at(memory, at, 16 + length) == mp_table(64, at));
    }
    CHECK(found == 1);
}
