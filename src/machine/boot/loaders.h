// Inside boot/: one function per kind of image. Their errors name the part; load() puts the
// image's name in front.
#pragma once

#include "machine/boot/boot.h"
#include "machine/boot/elf.h"
#include "machine/boot/placement.h"

namespace vmhost::machine::boot {

// The magic of a Linux image with a setup header.
bool is_linux(Bytes image);
Result<Loaded> load_linux(GuestMemory& memory, const Request& request);

Result<Loaded> load_pvh(GuestMemory& memory, const Request& request, const ElfFile& elf,
                        std::uint64_t entry);

Result<Loaded> load_openbsd(GuestMemory& memory, const Request& request, const ElfFile& elf);
// The boot argument list (openbsd_arguments.cc).
Result<std::vector<std::uint8_t>> openbsd_arguments(const std::vector<MapEntry>& map,
                                                    const Request& request);
// Header, section headers and symbols behind the kernel (openbsd_symbols.cc); returns their end.
Result<Gpa> load_openbsd_symbols(Placement& placement, const ElfFile& elf, Gpa after);

// True when the file can be firmware: its size, and a jump at its reset vector.
bool is_firmware(Bytes image);
Result<Loaded> load_firmware(GuestMemory& memory, const Request& request);

// Segments of type PT_LOAD: claimed, copied to their physical addresses, their tails zeroed.
// Returns the highest address behind one of them. The entry must lie in one.
Result<Gpa> load_segments(Placement& placement, const ElfFile& elf, Gpa entry);

// Copies the initrd as high as possible below `end`; its address, 0 when there is none.
Result<Gpa> load_initrd(Placement& placement, Bytes initrd, Gpa end);

} // namespace vmhost::machine::boot
