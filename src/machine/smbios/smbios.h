// What the machine tells a guest about itself in SMBIOS structures (DMTF DSP0134, System
// Management BIOS Reference Specification 3.6): who made it, which machine it is, how many
// processors and how much memory it has. Guests show it (hw.vendor, /sys/class/dmi/id), and
// cloud-init takes the place of its seed from the serial number.
//
//  - A guest that is entered directly finds both entry points in the BIOS area, as _SM_ (2.8,
//    older guests) and _SM3_ (3.0), and the structures behind them.
//  - Firmware gets the structures and a 2.8 entry point through fw_cfg, as QEMU gives them, and
//    places them itself.
//
// Both say the same. One processor structure stands for all cores, as the CPU model says it.
//
// Called while the machine is built, so a reset has them anew.
#pragma once

#include <string>
#include <vector>

#include "machine/device/fw_cfg.h"
#include "machine/memory.h"

namespace vmhost::machine::smbios {

struct Description {
    std::string serial; // of the system; at most max_serial_bytes, printable ASCII
    std::uint64_t uuid_high = 0, uuid_low = 0; // as it is read from left to right
    unsigned vcpus = 1;
    std::uint64_t memory_bytes = 0;
};
inline constexpr std::size_t max_serial_bytes = 255;

inline constexpr std::size_t entry21_bytes = 31, entry30_bytes = 24;

// The structures, the end-of-table one included. invalid: the serial number is none.
Result<std::vector<std::uint8_t>> structures(const Description& description);

// For a guest that is entered directly, at the first place from `from` on, which lies in the BIOS
// area.
Result<void> install(GuestMemory& memory, Gpa from, const Description& description);
// For firmware: etc/smbios/smbios-tables and etc/smbios/smbios-anchor.
Result<void> add_firmware_files(FwCfg& fw_cfg, const Description& description);

} // namespace vmhost::machine::smbios
