// ELF files of both classes, little-endian, as boot images (System V ABI, chapters
// 4 and 5). The table of segments is read at once and checked against the file;
// sections are read only by those who want symbols.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/base.h"

namespace vmhost::machine::boot {

struct ProgramHeader {
    static constexpr std::uint32_t load = 1, interp = 3, note = 4;
    static constexpr std::uint32_t openbsd_randomize = 0x65a3dbe6;
    std::uint32_t type = 0, flags = 0;
    std::uint64_t offset = 0, vaddr = 0, paddr = 0, filesz = 0, memsz = 0, align = 0;
};

struct SectionHeader {
    static constexpr std::uint32_t symtab = 2, strtab = 3;
    static constexpr std::uint64_t flag_alloc = 2;
    std::uint32_t name = 0, type = 0;
    std::uint64_t flags = 0, offset = 0, size = 0;
};

struct ElfFile {
    Bytes bytes;
    bool is_64 = false;
    std::uint64_t entry = 0;
    std::vector<ProgramHeader> segments;
    std::uint64_t section_table = 0;
    std::uint16_t section_entry_bytes = 0, section_count = 0, section_names = 0;

    std::size_t header_bytes() const { return is_64 ? 64 : 52; }
    std::size_t section_header_bytes() const { return is_64 ? 64 : 40; }
    std::size_t word_bytes() const { return is_64 ? 8 : 4; }
};

bool is_elf(Bytes image);

// Refuses other processors than x86, big-endian files, objects, programs that need a dynamic
// linker, and tables that lie outside the file.
Result<ElfFile> parse_elf(Bytes image);

// The raw table (empty when there is none) and its entries.
Result<Bytes> section_table(const ElfFile& elf);
std::vector<SectionHeader> parse_sections(const ElfFile& elf, Bytes table);
// The bytes of a section; `index` is for the error.
Result<Bytes> section_bytes(const ElfFile& elf, const SectionHeader& section, std::size_t index);
// Empty when the file has no usable name for it.
std::string_view section_name(const ElfFile& elf, const std::vector<SectionHeader>& sections,
                              const SectionHeader& section);

// The bytes of a segment in the file; refuses one that is larger in the file than in memory.
Result<Bytes> segment_bytes(const ElfFile& elf, std::size_t index);

// The entry of the Xen PVH protocol: note "Xen", type XEN_ELFNOTE_PHYS32_ENTRY.
std::optional<std::uint64_t> pvh_entry(const ElfFile& elf);

} // namespace vmhost::machine::boot
