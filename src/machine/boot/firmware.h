// The firmware inside the binary, embedded at build time by third_party/ from the
// distribution's packages: SeaBIOS for disk and CD boot, and iPXE for network boot, as the
// expansion ROM of a virtio network interface.
#pragma once

#include <vector>

#include "base/base.h"

namespace vmhost::machine::boot {

Bytes seabios();

// iPXE for the function with these PCI ids, which SeaBIOS compares with the ROM's.
Result<std::vector<std::uint8_t>> virtio_net_rom(std::uint16_t vendor, std::uint16_t device);
// A copy of an expansion ROM (PCI Firmware Specification 3.0, 5.1) with other ids in its first
// image and the checksum set right. Not of any ROM: byte 6 must be free for it, as in iPXE's.
Result<std::vector<std::uint8_t>> rom_for(Bytes image, std::uint16_t vendor, std::uint16_t device);

} // namespace vmhost::machine::boot
