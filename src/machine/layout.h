// Where a guest's memory lies:
//
//   0          .. 640 KiB    RAM
//   640 KiB    .. 1 MiB      reserved but backed: text buffers, low copy of the firmware
//   1 MiB      .. 3 GiB      RAM, as far as the size goes
//   3 GiB      .. 4 GiB      devices: PCI windows from 0xe0000000, I/O APIC, local APICs;
//                            firmware brings its own memory to the end
//   4 GiB      ..            the rest of the RAM
//
// The size that was configured counts the reserved 384 KiB.
#pragma once

#include "machine/memory.h"

namespace vmhost::machine {

Result<void> lay_out_memory(GuestMemory& memory, std::uint64_t size_bytes);

} // namespace vmhost::machine
