// What the machine tells a guest about itself in tables: ACPI (ACPI Specification
// 6.5, FADT as of 5.0) and, for guests without ACPI, Intel's MultiProcessor
// Specification 1.4.
//
// Both say the same: the processors, one I/O APIC, which line each PCI slot has; ACPI
// adds power button, S5, reset register, PM timer, COM1 and the clock.
//
//  - A guest that is entered directly finds the RSDP at rsdp_address, the tables and
//    the MP table behind it: the BIOS area, which its memory map has as reserved.
//  - Firmware gets the ACPI tables through fw_cfg and places them itself; SeaBIOS
//    builds the MP table on its own, from the PCI interrupt line registers.
//
// Interrupts. Line n is pin n of the I/O APIC, for the timer too, as KVM routes by
// default: there is no override that moves line 0 to pin 2. PCI lines and the SCI
// are level-triggered and active high, which overrides say. Polarity: a guest that
// takes PCI's own (active low) for _PRT entries is served as well, because KVM's I/O
// APIC ignores that bit, and any other must.
//
// Called while the machine is built.
#pragma once

#include <vector>

#include "machine/device/fw_cfg.h"
#include "machine/memory.h"

namespace vmhost::machine::acpi {

inline constexpr Gpa rsdp_address = 0xf0000;

// Tables that know their places only relative to their own start.
struct Tables {
    struct Pointer { // little-endian; holds an offset, the start's address is to be added
        std::size_t at = 0, size_bytes = 0;
    };
    struct Checksum { // the byte `at` makes the sum of all bytes of the table 0
        std::size_t at = 0, start = 0, length = 0;
    };
    static constexpr std::size_t alignment = 64; // the FACS wants it
    std::vector<std::uint8_t> bytes;
    std::vector<Pointer> pointers;
    std::vector<Checksum> checksums;
    std::size_t rsdt = 0, xsdt = 0;
};
Tables build_tables(unsigned vcpus);
// The same tables at home: pointers and checksums are final.
std::vector<std::uint8_t> placed(Tables tables, Gpa start);

std::vector<std::uint8_t> rsdp(Gpa rsdt, Gpa xsdt);
std::vector<std::uint8_t> dsdt(unsigned vcpus); // header included, checksum final

// Floating pointer structure and configuration table, for this address.
std::vector<std::uint8_t> mp_table(unsigned vcpus, Gpa start);

// For a guest that is entered directly. Returns where the BIOS area is free from then on.
Result<Gpa> install(GuestMemory& memory, unsigned vcpus);
// For firmware: etc/acpi/tables, etc/acpi/rsdp, and etc/table-loader, the commands that say how
// to place them.
void add_firmware_files(FwCfg& fw_cfg, unsigned vcpus);

} // namespace vmhost::machine::acpi
