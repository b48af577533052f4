// OpenBSD kernels, amd64 (ELF64) and i386 (ELF32), entered the way boot(8) does: in
// 32-bit protected mode without paging, arguments on the stack.
//
// Guest memory afterwards: boot arguments at 0x2000, the stack page at 0xf000, the GDT
// at 0x10000, segments at their physical addresses, symbols behind the highest of
// them. Segments of type PT_OPENBSD_RANDOMIZE overlap loaded ones and are filled with
// random data when everything else is in place.
#include <algorithm>

#include "machine/boot/loaders.h"

namespace vmhost::machine::boot {

namespace {

constexpr Gpa arguments_page = 0x2000;
constexpr Gpa stack_page = 0xf000;
constexpr Gpa gdt_start = 0x10000;
// Kernels are linked to run at high virtual addresses; the low 28 bits are physical.
constexpr std::uint64_t address_mask = 0x0fffffff;

constexpr std::uint32_t howto_good_random = 0x10000;
constexpr std::uint32_t boot_device_sd0a = 0xa0000004;
constexpr std::uint32_t api_version = 2 | 4 | 8; // argument vector, environment, BIOS memory map

// i386 kernels of old releases have virtual addresses where physical ones belong (5.1:
// 0xd0200120); boot(8) masks them, too.
ElfFile with_physical_addresses(ElfFile elf) {
    for (auto& segment : elf.segments)
        if (!elf.is_64 && segment.paddr == segment.vaddr)
            segment.paddr &= address_mask;
    return elf;
}

bool is_loaded(const ElfFile& elf, Gpa start, std::uint64_t size_bytes) {
    return std::ranges::any_of(elf.segments, [&](const ProgramHeader& segment) {
        return segment.type == ProgramHeader::load && start >= segment.paddr &&
               range_fits(start - segment.paddr, size_bytes, segment.memsz);
    });
}

// True when there was something to fill.
Result<bool> fill_random_segments(Placement& placement, const ElfFile& elf) {
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < elf.segments.size(); ++i) {
        const auto& segment = elf.segments[i];
        if (segment.type != ProgramHeader::openbsd_randomize || segment.filesz == 0)
            continue;
        if (segment.filesz > limits::max_openbsd_random_bytes - total)
            return fail(ErrorKind::limit,
                        "segment {} asks for {} random bytes, at most {} are given", i,
                        segment.filesz, limits::max_openbsd_random_bytes);
        total += segment.filesz;
        if (!is_loaded(elf, segment.paddr, segment.filesz))
            return fail(ErrorKind::invalid, "random segment {} at {:#x} lies in no loaded segment",
                        i, segment.paddr);
        TRY(placement.randomize(segment.paddr, segment.filesz));
    }
    return total != 0;
}

Result<void> put_stack(Placement& placement, std::uint32_t howto, Gpa symbols_end,
                       std::size_t argument_bytes, Gpa top) {
    ByteWriter words;
    for (std::uint64_t word :
         {std::uint64_t{0}, // return address
          std::uint64_t{howto}, std::uint64_t{boot_device_sd0a}, std::uint64_t{api_version},
          symbols_end & address_mask, std::uint64_t{0}, // extended memory: unused
          std::uint64_t{0},                             // base memory: use the map
          std::uint64_t{argument_bytes}, std::uint64_t{arguments_page}})
        words.le(static_cast<std::uint32_t>(word));
    return placement.write(top - words.size(), words.buffer());
}

Result<void> put_gdt(Placement& placement) {
    ByteWriter gdt;
    for (std::uint64_t descriptor : {std::uint64_t{0}, gdt_code32, gdt_data, gdt_code64})
        gdt.le(descriptor);
    return placement.write(gdt_start, gdt.buffer());
}

} // namespace

Result<Loaded> load_openbsd(GuestMemory& memory, const Request& request, const ElfFile& file) {
    if (!request.initrd.empty())
        return fail(ErrorKind::invalid, "an OpenBSD kernel takes no initrd");
    if (!request.command_line.empty())
        return fail(ErrorKind::invalid, "an OpenBSD kernel takes no command line");

    Placement placement(memory);
    TRY(placement.claim("the boot arguments", arguments_page, page_bytes));
    TRY(placement.claim("the stack", stack_page, page_bytes));
    TRY(placement.claim("the GDT", gdt_start, page_bytes));

    const ElfFile elf = with_physical_addresses(file);
    const Gpa entry = elf.entry & address_mask;
    Gpa end = TRY(load_segments(placement, elf, entry));
    Gpa symbols_end = TRY(load_openbsd_symbols(placement, elf, end));
    std::uint32_t howto = request.howto & ~howto_good_random;
    if (TRY(fill_random_segments(placement, elf)))
        howto |= howto_good_random;

    auto arguments = TRY(openbsd_arguments(memory_map(memory), request));
    TRY(placement.write(arguments_page, arguments));
    TRY(put_stack(placement, howto, symbols_end, arguments.size(), stack_page + page_bytes));
    TRY(put_gdt(placement));

    constexpr std::uint64_t stack_words = 9;
    CpuState cpu = CpuState::flat_protected();
    cpu.gdt = {gdt_start, 4 * 8 - 1};
    cpu.rip = entry;
    cpu.rsp = stack_page + page_bytes - stack_words * 4;
    return Loaded{elf.is_64 ? ImageKind::openbsd_elf64 : ImageKind::openbsd_elf32, cpu};
}

} // namespace vmhost::machine::boot
