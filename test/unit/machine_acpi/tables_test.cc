#include "tables.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "machine/irq.h"
#include "machine/layout.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace vmhost::machine::acpi;
using namespace vmhost::machine::acpi::test;

namespace {

Found tables_of(unsigned vcpus) {
    GuestMemory memory;
    REQUIRE(lay_out_memory(memory, 8 * MiB));
    REQUIRE(install(memory, vcpus));
    return walk(memory, rsdp_address);
}

std::string hex(Bytes bytes) {
    std::string text;
    for (auto byte : bytes)
        text += fmt::format("{:02x}", byte);
    return text;
}

} // namespace

TEST_CASE("acpi: every number of processors has its tables below 1 MiB") {
    for (unsigned vcpus = 1; vcpus <= limits::max_vcpus; ++vcpus) {
        auto found = tables_of(vcpus);
        CHECK(found.madt.size() == 44 + 8 * vcpus + 12 + 10 * 10 + 6);
    }
}

TEST_CASE("acpi: tables that do not fit into the guest's memory are an error") {
    GuestMemory memory;
    REQUIRE(memory.add(0, 0xf1000, true));
    CHECK(install(memory, 64).error().text().starts_with("acpi: the guest has no memory"));
}

TEST_CASE("acpi: the FADT byte by byte") {
    auto fadt = tables_of(1).fadt;
    REQUIRE(fadt.size() == 268);
    CHECK(fadt[8] == 5);
    CHECK(hex(Bytes(fadt).subspan(10, 26)) == "564d484f5354"     // VMHOST
                                              "564d484f53545043" // VMHOSTPC
                                              "01000000564d484f01000000");
    CHECK(hex(Bytes(fadt).subspan(44, 96)) == "0000"                     // no profile
                                              "0900"                     // SCI
                                              "0000000000000000"         // no SMI command
                                              "0006000000000000"         // PM1 events
                                              "0406000000000000"         // PM1 control
                                              "00000000"                 // no PM2
                                              "08060000"                 // timer
                                              "0000000000000000"         // no GPE
                                              "0402000400000000"         // lengths
                                              "ff0fffff"                 // no C2, C3
                                              "0000000000000000"         // caches, duty, alarms
                                              "32"                       // century
                                              "0700"                     // boot architecture
                                              "00"                       //
                                              "65050000"                 // flags
                                              "01080001f90c000000000000" // reset register
                                              "06"                       // its value
                                              "000000"                   //
                                              "0000000000000000");       // FACS: the 32-bit field
    CHECK(hex(Bytes(fadt).subspan(148, 120)) == "012000020006000000000000"
                                                "000000000000000000000000"
                                                "011000020406000000000000"
                                                "000000000000000000000000"
                                                "000000000000000000000000"
                                                "012000030806000000000000"
                                                "000000000000000000000000"
                                                "000000000000000000000000"
                                                "000000000000000000000000"
                                                "000000000000000000000000");
}

TEST_CASE("acpi: the MADT byte by byte") {
    auto madt = tables_of(2).madt;
    CHECK(hex(Bytes(madt).subspan(36)) == "0000e0fe01000000"         // local APICs, 8259s
                                          "0008000001000000"         // processors
                                          "0008010101000000"         //
                                          "010c00000000c0fe00000000" // I/O APIC
                                          "020a0003030000000d00"     // level, active high
                                          "020a0005050000000d00"     //
                                          "020a0006060000000d00"     //
                                          "020a0007070000000d00"     //
                                          "020a0009090000000d00"     // SCI
                                          "020a000a0a0000000d00"     //
                                          "020a000b0b0000000d00"     //
                                          "020a000c0c0000000d00"     //
                                          "020a000e0e0000000d00"     //
                                          "020a000f0f0000000d00"     //
                                          "0406ff000001");           // NMI at LINT1
}

TEST_CASE("acpi: the FACS") {
    auto facs = tables_of(1).facs;
    Buffer expected(64);
    std::ranges::copy(as_bytes("FACS\x40"), expected.begin());
    expected[32] = 2;
    CHECK(facs == expected);
}

// The rest of the DSDT is built from terms that aml_test.cc compares.
TEST_CASE("acpi: the DSDT begins with S5") {
    auto table = dsdt(1);
    CHECK(sums_to_zero(table));
    CHECK(table[8] == 2);
    CHECK(hex(Bytes(table).subspan(36, 13)) == "085c5f53355f"
                                               "1207040a050000");
}

TEST_CASE("acpi: PCI lines are never the SCI's or an ISA device's") {
    for (unsigned slot = 1; slot < pci_slots; ++slot) {
        auto line = pci_line_of_slot(slot);
        CHECK(is_level_line(line));
        for (unsigned taken : {0U, 1U, 2U, 4U, 8U, 9U, 13U})
            CHECK(line != taken);
    }
    CHECK(pci_line_of_slot(1) == 5);
    CHECK(pci_line_of_slot(9) == 15);
    CHECK(pci_line_of_slot(10) == 5);
}

// A second opinion on the AML, where ACPICA's tools are installed.
TEST_CASE("acpi: iasl takes the tables apart") {
    if (std::system("command -v iasl > /dev/null 2>&1") != 0) {
        WARN("skipped: no iasl");
        return;
    }
    std::string directory = std::filesystem::temp_directory_path() / "vmhost-acpi-XXXXXX";
    REQUIRE(::mkdtemp(directory.data()) != nullptr);
    auto found = tables_of(3);
    auto disassemble = [&](const char* name, Bytes table) {
        auto path = fmt::format("{}/{}", directory, name);
        std::ofstream(path + ".aml", std::ios::binary) << as_text(table);
        CHECK(std::system(fmt::format("iasl -vs -d {}.aml > {}.log 2>&1", path, path).c_str()) ==
              0);
        std::ifstream file(path + ".dsl");
        return std::string(std::istreambuf_iterator<char>(file), {});
    };
    auto source = disassemble("dsdt", found.dsdt);
    auto fadt = disassemble("facp", found.fadt);
    auto madt = disassemble("apic", found.madt);
    // And back: the compiler finds nothing to complain about.
    CHECK(
        std::system(fmt::format("iasl -vs -we -vw 3168 {0}/dsdt.dsl > {0}/back.log 2>&1", directory)
                        .c_str()) == 0);
    std::filesystem::remove_all(directory);
    using Catch::Contains;
    CHECK_THAT(source, Contains("EisaId (\"PNP0A03\")") && Contains("EisaId (\"PNP0501\")") &&
                           Contains("EisaId (\"PNP0B00\")") && Contains("Processor (C002, 0x02") &&
                           Contains("Name (\\_S5") && Contains("0x001FFFFF"));
    CHECK_THAT(source, !Contains("Unknown") && !Contains("rror"));
    CHECK_THAT(fadt, Contains("Reset Register Supported (V2) : 1") &&
                         Contains("Control Method Power Button (V1) : 0") &&
                         Contains("SCI Interrupt : 0009"));
    CHECK_THAT(madt, Contains("Interrupt Source Override"));
    for (const auto& text : {fadt, madt})
        CHECK_THAT(text, !Contains("nvalid") && !Contains("ncorrect"));
}
