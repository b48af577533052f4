// Boot images → guest memory and the first CPU state. Images are hostile: every
// offset and length is checked against the file and against guest RAM.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "machine/cpu/cpu.h"
#include "machine/memory.h"

namespace vmhost::machine::boot {

enum class ImageKind : std::uint8_t { openbsd_elf64, openbsd_elf32, linux_bzimage, pvh_elf, firmware };

struct Request {
    Bytes image;  // the whole file
    Bytes initrd; // empty = none
    std::string name; // of the image, for errors
    std::string command_line;
    std::optional<Mac> boot_mac;
    std::optional<std::array<std::uint8_t, 8>> boot_duid;
    std::uint32_t howto = 0;
    std::uint64_t acpi_rsdp = 0; // for kernels that are told where it is; 0 = they search
};

// One row of the map given to kernels and firmware, in address order.
struct MapEntry {
    std::uint64_t start = 0, size = 0;
    std::uint32_t type = 1; // 1 RAM, 2 reserved, 3 ACPI, 4 NVS
};
// RAM below 640 KiB, reserved up to 1 MiB, RAM, the firmware's range at the end of 4 GiB, RAM above.
std::vector<MapEntry> memory_map(const GuestMemory& memory);

struct Loaded {
    ImageKind kind = ImageKind::firmware;
    CpuState cpu;
};

// Recognizes the image by its content, unpacks gzip'd OpenBSD kernels, loads it. "no kernel",
// "truncated" and "does not fit" are errors that name the image and the offending part. A file
// that is neither ELF nor bzImage is firmware only if its size and its reset vector allow it.
Result<Loaded> load(GuestMemory& memory, const Request& request);

} // namespace vmhost::machine::boot
