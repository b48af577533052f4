// Where a guest's memory lies:
//
//   0          .. 640 KiB    RAM
//   640 KiB    .. 1 MiB      reserved but backed: text buffers; low copy of the firmware, or
//                            ACPI, MP and SMBIOS tables when a kernel is entered directly
//   1 MiB      .. 3 GiB      RAM, as far as the size goes
//   3 GiB      .. 4 GiB      devices: PCI windows from 0xe0000000, I/O APIC, local APICs;
//                            firmware brings its own memory to the end
//   4 GiB      ..            the rest of the RAM
//
// The size that was configured counts the reserved 384 KiB.
#pragma once

#include "machine/memory.h"

namespace vmhost::machine {

// What guests are told in tables. The PCI window is the one that PciHost::place_bars() uses.
inline constexpr Gpa pci_memory_start = 0xe0000000, pci_memory_end = 0xfec00000;
inline constexpr Gpa io_apic_address = 0xfec00000, local_apic_address = 0xfee00000;

Result<void> lay_out_memory(GuestMemory& memory, std::uint64_t size_bytes);

} // namespace vmhost::machine
