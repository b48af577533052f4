// The symbol block behind an OpenBSD kernel: a small ELF file of its own that ddb(4)
// and ksyms(4) read.
//
//   ELF header         without program headers; section headers follow at once
//   section headers    all of them, padded to a word
//   section contents   symbol and string tables, .debug_line, on amd64 .SUNW_ctf, in
//                      order, each padded to a word; left zero when there is no symbol table
//
// Offsets in the copied headers count from the start of the block, and the copied
// sections carry SHF_ALLOC.
#include <algorithm>

#include "machine/boot/loaders.h"

namespace vmhost::machine::boot {

namespace {

// The kernel gets the block's end with only these address bits.
constexpr Gpa visible_end = 0x10000000;

std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

// A field of a raw header: the address-sized words differ between the classes.
void set_word(MutableBytes header, const ElfFile& elf, std::size_t offset_64, std::size_t offset_32,
              std::uint64_t value) {
    if (elf.is_64)
        store_le<std::uint64_t>(header.subspan(offset_64), value);
    else
        store_le<std::uint32_t>(header.subspan(offset_32), static_cast<std::uint32_t>(value));
}

std::vector<std::uint8_t> block_header(const ElfFile& elf) {
    auto raw = elf.bytes.first(elf.header_bytes());
    std::vector<std::uint8_t> header(raw.begin(), raw.end());
    set_word(header, elf, 32, 28, 0);                  // e_phoff
    set_word(header, elf, 40, 32, elf.header_bytes()); // e_shoff
    std::size_t segments = elf.is_64 ? 54 : 42;        // e_phentsize, e_phnum
    store_le<std::uint32_t>(MutableBytes(header).subspan(segments), 0);
    return header;
}

bool is_wanted(const ElfFile& elf, const std::vector<SectionHeader>& sections,
               const SectionHeader& section) {
    if (section.type == SectionHeader::symtab || section.type == SectionHeader::strtab)
        return true;
    auto name = section_name(elf, sections, section);
    return name == ".debug_line" || (elf.is_64 && name == ".SUNW_ctf");
}

} // namespace

Result<Gpa> load_openbsd_symbols(Placement& placement, const ElfFile& elf, Gpa after) {
    const auto table = TRY(section_table(elf));
    const auto sections = parse_sections(elf, table);
    const std::size_t word = elf.word_bytes();
    const Gpa start = round_up(after, word);

    auto head = block_header(elf);
    head.insert(head.end(), table.begin(), table.end());
    head.resize(round_up(head.size(), word));

    // First the layout: nothing is written before the whole block is known to fit.
    struct Part {
        std::uint64_t offset;
        Bytes bytes;
    };
    std::vector<Part> parts;
    std::uint64_t size = head.size();
    for (std::size_t i = 0; i < sections.size(); ++i) {
        if (!is_wanted(elf, sections, sections[i]))
            continue;
        auto bytes = TRY(section_bytes(elf, sections[i], i));
        auto header = MutableBytes(head).subspan(
            elf.header_bytes() + i * elf.section_header_bytes(), elf.section_header_bytes());
        set_word(header, elf, 8, 8, sections[i].flags | SectionHeader::flag_alloc);
        set_word(header, elf, 24, 16, size);
        parts.push_back({size, bytes});
        size += round_up(bytes.size(), word);
    }
    TRY(placement.claim("the symbol table", start, size));
    if (start + size > visible_end)
        return fail(ErrorKind::limit,
                    "the symbol table ends at {:#x}, OpenBSD kernels see only 256M", start + size);
    TRY(placement.write(start, head));
    TRY(placement.zero(start + head.size(), size - head.size()));
    const bool has_symbols = std::ranges::any_of(
        sections, [](const SectionHeader& s) { return s.type == SectionHeader::symtab; });
    if (has_symbols)
        for (const auto& part : parts)
            TRY(placement.write(start + part.offset, part.bytes));
    return start + size;
}

} // namespace vmhost::machine::boot
