#include "machine/boot/elf.h"

#include <algorithm>

namespace vmhost::machine::boot {

namespace {

constexpr std::uint8_t magic[] = {0x7f, 'E', 'L', 'F'};
constexpr std::size_t ident_bytes = 16;

std::string machine_name(std::uint16_t machine) {
    struct Name {
        std::uint16_t machine;
        std::string_view name;
    };
    static constexpr Name names[] = {
        {2, "SPARC"},     {4, "m68k"},       {8, "MIPS"},        {15, "PA-RISC"},
        {20, "PowerPC"},  {21, "PowerPC64"}, {22, "S/390"},      {40, "Arm"},
        {42, "SuperH"},   {43, "SPARC64"},   {50, "IA-64"},      {88, "m88k"},
        {183, "AArch64"}, {243, "RISC-V"},   {258, "LoongArch"}, {0x9026, "Alpha"},
    };
    for (const auto& entry : names)
        if (entry.machine == machine)
            return std::string(entry.name);
    return fmt::format("processor type {}", machine);
}

// An address-sized field: 8 bytes in ELF64, 4 in ELF32.
std::uint64_t word(ByteReader& reader, bool is_64) {
    return is_64 ? reader.le<std::uint64_t>() : reader.le<std::uint32_t>();
}

ProgramHeader parse_segment(Bytes raw, bool is_64) {
    ByteReader reader(raw);
    ProgramHeader segment;
    segment.type = reader.le<std::uint32_t>();
    if (is_64)
        segment.flags = reader.le<std::uint32_t>();
    segment.offset = word(reader, is_64);
    segment.vaddr = word(reader, is_64);
    segment.paddr = word(reader, is_64);
    segment.filesz = word(reader, is_64);
    segment.memsz = word(reader, is_64);
    if (!is_64)
        segment.flags = reader.le<std::uint32_t>();
    segment.align = word(reader, is_64);
    return segment;
}

Result<void> parse_segments(ElfFile& elf, std::uint64_t table, std::size_t entry_bytes,
                            std::size_t count) {
    const std::size_t expected = elf.is_64 ? 56 : 32;
    if (count == 0)
        return fail(ErrorKind::invalid, "the ELF file has no program headers: it is no kernel");
    if (count > limits::max_elf_segments)
        return fail(ErrorKind::limit, "the ELF file has {} program headers, at most {} are read",
                    count, limits::max_elf_segments);
    if (entry_bytes != expected)
        return fail(ErrorKind::invalid, "program headers have {} bytes instead of {}", entry_bytes,
                    expected);
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t distance = i * expected;
        if (!range_fits(table, distance + expected, elf.bytes.size()))
            return fail(ErrorKind::corrupt,
                        "program header {} lies beyond the end of the file (truncated?)", i);
        elf.segments.push_back(
            parse_segment(elf.bytes.subspan(table + distance, expected), elf.is_64));
        if (elf.segments.back().type == ProgramHeader::interp)
            return fail(ErrorKind::invalid, "is a program that needs a dynamic linker, no kernel");
    }
    return {};
}

// Notes of one PT_NOTE segment (System V ABI, "Note Section"); stops at the first broken one.
std::optional<std::uint64_t> find_pvh_note(Bytes notes, std::size_t align) {
    constexpr std::uint32_t phys32_entry = 18;
    ByteReader reader(notes);
    auto align_position = [&] {
        std::size_t past = (notes.size() - reader.remaining()) % align;
        reader.skip(past == 0 ? 0 : std::min(align - past, reader.remaining()));
    };
    while (reader.remaining() >= 12) {
        auto name_bytes = reader.le<std::uint32_t>();
        auto desc_bytes = reader.le<std::uint32_t>();
        auto type = reader.le<std::uint32_t>();
        auto name = reader.bytes(name_bytes);
        align_position();
        auto desc = reader.bytes(desc_bytes);
        if (!reader.ok())
            return std::nullopt;
        align_position();
        if (type == phys32_entry && as_text(name) == std::string_view("Xen", 4)) {
            if (desc.size() >= 8)
                return load_le<std::uint64_t>(desc);
            if (desc.size() >= 4)
                return load_le<std::uint32_t>(desc);
        }
    }
    return std::nullopt;
}

} // namespace

bool is_elf(Bytes image) {
    return image.size() >= sizeof(magic) && std::memcmp(image.data(), magic, sizeof(magic)) == 0;
}

Result<ElfFile> parse_elf(Bytes image) {
    ElfFile elf;
    elf.bytes = image;
    if (image.size() < ident_bytes)
        return fail(ErrorKind::corrupt, "the ELF header is truncated");
    if (image[5] == 2)
        return fail(ErrorKind::invalid, "is a big-endian ELF file, not one for x86");
    if ((image[4] != 1 && image[4] != 2) || image[5] != 1)
        return fail(ErrorKind::corrupt, "the ELF header has class {} and data encoding {}",
                    image[4], image[5]);
    elf.is_64 = image[4] == 2;
    if (image.size() < elf.header_bytes())
        return fail(ErrorKind::corrupt, "the ELF header is truncated");

    ByteReader reader(image.subspan(ident_bytes));
    auto type = reader.le<std::uint16_t>();
    auto machine = reader.le<std::uint16_t>();
    reader.skip(4); // version
    elf.entry = word(reader, elf.is_64);
    auto segment_table = word(reader, elf.is_64);
    elf.section_table = word(reader, elf.is_64);
    reader.skip(6); // flags, header size
    auto segment_bytes = reader.le<std::uint16_t>();
    auto segment_count = reader.le<std::uint16_t>();
    elf.section_entry_bytes = reader.le<std::uint16_t>();
    elf.section_count = reader.le<std::uint16_t>();
    elf.section_names = reader.le<std::uint16_t>();

    if (machine != 3 && machine != 62)
        return fail(ErrorKind::invalid, "is an ELF file for {}, not for x86",
                    machine_name(machine));
    if (type == 1)
        return fail(ErrorKind::invalid, "is an ELF object file, no kernel");
    if (type == 4)
        return fail(ErrorKind::invalid, "is an ELF core dump, no kernel");
    TRY(parse_segments(elf, segment_table, segment_bytes, segment_count));
    return elf;
}

Result<Bytes> section_table(const ElfFile& elf) {
    if (elf.section_table == 0 || elf.section_count == 0)
        return Bytes{};
    if (elf.section_count > limits::max_elf_sections)
        return fail(ErrorKind::limit, "the ELF file has {} sections, at most {} are read",
                    elf.section_count, limits::max_elf_sections);
    const std::size_t entry = elf.section_header_bytes();
    if (elf.section_entry_bytes != entry)
        return fail(ErrorKind::invalid, "section headers have {} bytes instead of {}",
                    elf.section_entry_bytes, entry);
    for (std::size_t i = 0; i < elf.section_count; ++i)
        if (!range_fits(elf.section_table, (i + 1) * entry, elf.bytes.size()))
            return fail(ErrorKind::corrupt,
                        "section header {} lies beyond the end of the file (truncated?)", i);
    return elf.bytes.subspan(elf.section_table, elf.section_count * entry);
}

std::vector<SectionHeader> parse_sections(const ElfFile& elf, Bytes table) {
    std::vector<SectionHeader> sections;
    const std::size_t entry = elf.section_header_bytes();
    for (; table.size() >= entry; table = table.subspan(entry)) {
        ByteReader reader(table);
        SectionHeader section;
        section.name = reader.le<std::uint32_t>();
        section.type = reader.le<std::uint32_t>();
        section.flags = word(reader, elf.is_64);
        word(reader, elf.is_64); // address
        section.offset = word(reader, elf.is_64);
        section.size = word(reader, elf.is_64);
        sections.push_back(section);
    }
    return sections;
}

Result<Bytes> section_bytes(const ElfFile& elf, const SectionHeader& section, std::size_t index) {
    if (!range_fits(section.offset, section.size, elf.bytes.size()))
        return fail(ErrorKind::corrupt, "section {} lies beyond the end of the file (truncated?)",
                    index);
    return elf.bytes.subspan(section.offset, section.size);
}

std::string_view section_name(const ElfFile& elf, const std::vector<SectionHeader>& sections,
                              const SectionHeader& section) {
    if (elf.section_names >= sections.size())
        return {};
    auto names = section_bytes(elf, sections[elf.section_names], elf.section_names);
    if (!names || section.name >= names->size())
        return {};
    auto rest = as_text(*names).substr(section.name);
    return rest.substr(0, rest.find('\0'));
}

Result<Bytes> segment_bytes(const ElfFile& elf, std::size_t index) {
    const auto& segment = elf.segments[index];
    if (!range_fits(segment.offset, segment.filesz, elf.bytes.size()))
        return fail(ErrorKind::corrupt, "segment {} lies beyond the end of the file (truncated?)",
                    index);
    if (segment.filesz > segment.memsz)
        return fail(ErrorKind::corrupt, "segment {} has {} bytes in the file but {} in memory",
                    index, segment.filesz, segment.memsz);
    return elf.bytes.subspan(segment.offset, segment.filesz);
}

std::optional<std::uint64_t> pvh_entry(const ElfFile& elf) {
    for (const auto& segment : elf.segments) {
        if (segment.type != ProgramHeader::note ||
            !range_fits(segment.offset, segment.filesz, elf.bytes.size()))
            continue;
        auto notes = elf.bytes.subspan(segment.offset, segment.filesz);
        if (auto entry = find_pvh_note(notes, segment.align == 8 ? 8 : 4))
            return entry;
    }
    return std::nullopt;
}

} // namespace vmhost::machine::boot
