// ELF kernels with a PVH note: Xen's "x86/HVM direct boot ABI" (docs/misc/pvh of the
// Xen sources), start_info version 1. Uncompressed Linux kernels and small test
// guests come this way.
//
// Guest memory afterwards: GDT at 0x6000; at 0x7000 hvm_start_info, the module list
// and the memory map; the command line at 0x20000; the initrd as high as possible.
#include "machine/boot/loaders.h"

namespace vmhost::machine::boot {

namespace {

constexpr std::uint32_t start_magic = 0x336ec578;
constexpr Gpa modules_start = info_page + 0x40; // behind hvm_start_info's 56 bytes
constexpr Gpa map_start = info_page + 0x80;

std::vector<std::uint8_t> start_info(const Request& request, Gpa initrd,
                                     const std::vector<MapEntry>& map) {
    const bool module = !request.initrd.empty();
    ByteWriter out;
    out.le(start_magic);
    out.le(std::uint32_t{1}); // version
    out.le(std::uint32_t{0}); // flags
    out.le(std::uint32_t{module ? 1U : 0U});
    out.le(std::uint64_t{module ? modules_start : 0});
    out.le(std::uint64_t{request.command_line.empty() ? 0 : command_line_start});
    out.le(request.acpi_rsdp);
    out.le(std::uint64_t{map_start});
    out.le(static_cast<std::uint32_t>(map.size()));
    out.le(std::uint32_t{0});

    out.pad_to(modules_start - info_page);
    if (module) {
        out.le(std::uint64_t{initrd});
        out.le(std::uint64_t{request.initrd.size()});
        out.le(std::uint64_t{0}); // no command line of its own
        out.le(std::uint64_t{0});
    }
    out.pad_to(map_start - info_page);
    for (const auto& entry : map) {
        out.le(entry.start);
        out.le(entry.size);
        out.le(entry.type);
        out.le(std::uint32_t{0});
    }
    return out.take();
}

} // namespace

Result<Loaded> load_pvh(GuestMemory& memory, const Request& request, const ElfFile& elf,
                        std::uint64_t entry) {
    auto map = memory_map(memory);
    Placement placement(memory);
    TRY(placement.claim("the start information", info_page, page_bytes));
    if ((map_start - info_page) + map.size() * 24 > page_bytes)
        return fail(ErrorKind::limit, "a memory map of {} ranges does not fit into one page",
                    map.size());
    if (!request.command_line.empty()) {
        if (request.command_line.size() > limits::max_command_line_bytes)
            return fail(ErrorKind::limit, "the command line has {} bytes, the kernel takes {}",
                        request.command_line.size(), limits::max_command_line_bytes);
        TRY(placement.put(
            "the command line", command_line_start,
            as_bytes({request.command_line.c_str(), request.command_line.size() + 1})));
    }
    ByteWriter gdt;
    for (std::uint64_t descriptor : {std::uint64_t{0}, gdt_code32, gdt_data})
        gdt.le(descriptor);
    TRY(placement.put("the GDT", gdt_page, gdt.buffer()));

    if (entry >= 4 * GiB)
        return fail(ErrorKind::invalid, "the PVH entry {:#x} lies above 4G", entry);
    TRY(load_segments(placement, elf, entry));
    Gpa initrd = TRY(load_initrd(placement, request.initrd, 4 * GiB));
    TRY(placement.write(info_page, start_info(request, initrd, map)));

    CpuState cpu = CpuState::flat_protected();
    cpu.gdt = {gdt_page, static_cast<std::uint16_t>(gdt.size() - 1)};
    cpu.rip = entry;
    cpu.rbx = info_page;
    return Loaded{ImageKind::pvh_elf, cpu};
}

} // namespace vmhost::machine::boot
