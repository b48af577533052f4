// Linux bzImage, entered by the 32-bit boot protocol (Documentation/arch/x86/boot.rst
// and zero-page.rst of the Linux sources; numbers below are offsets into the image's
// first sectors, which are the same as those into boot_params).
//
// Guest memory afterwards: GDT at 0x6000, boot_params at 0x7000, the command line at
// 0x20000, the protected-mode kernel at 1 MiB, the initrd as high as the kernel lets
// it. The kernel unpacks itself to its preferred address and needs init_size bytes
// there; both the packed and the unpacked place are kept free.
#include <algorithm>

#include "machine/boot/loaders.h"

namespace vmhost::machine::boot {

namespace {

constexpr Gpa load_start = 1 * MiB;
constexpr std::uint32_t header_magic = 0x53726448; // "HdrS"
constexpr std::size_t header_start = 0x1f1;
// The setup header's space in boot_params ends where the EDD signatures begin.
constexpr std::size_t header_space_end = 0x290;
constexpr std::size_t e820_table = 0x2d0;
constexpr std::size_t max_e820_entries = 128;

struct SetupHeader {
    std::uint64_t setup_bytes = 0; // boot sector and setup code: the kernel follows
    std::uint64_t kernel_bytes = 0;
    std::size_t header_end = 0;
    std::uint16_t version = 0;
    std::uint8_t load_flags = 0;
    std::uint32_t initrd_last = 0; // highest address an initrd may occupy
    std::uint32_t alignment = 0;
    bool relocatable = false;
    std::uint32_t command_line_bytes = 0; // without the terminating zero
    std::uint64_t preferred = 0;
    std::uint32_t init_bytes = 0;
};

template <WireInteger T>
T field(Bytes image, std::size_t offset) {
    return image.size() > offset ? load_le<T>(image.subspan(offset)) : T{};
}

Result<SetupHeader> parse_header(Bytes image) {
    SetupHeader header;
    header.version = field<std::uint16_t>(image, 0x206);
    if (header.version < 0x206)
        return fail(ErrorKind::unsupported,
                    "speaks boot protocol {}.{:02}, at least 2.06 is needed", header.version >> 8,
                    header.version & 0xff);
    // The jump at 0x200 leads behind the header.
    header.header_end = 0x202 + std::size_t{field<std::uint8_t>(image, 0x201)};
    const std::size_t needed = header.version >= 0x20a ? 0x264 : 0x23c;
    if (header.header_end < needed)
        return fail(ErrorKind::corrupt,
                    "the setup header ends at {:#x}, protocol {}.{:02} has more", header.header_end,
                    header.version >> 8, header.version & 0xff);
    header.header_end = std::min(header.header_end, header_space_end);

    auto sectors = field<std::uint8_t>(image, 0x1f1);
    header.setup_bytes = (std::uint64_t{sectors == 0 ? 4U : sectors} + 1) * 512;
    std::uint64_t code_bytes = std::uint64_t{field<std::uint32_t>(image, 0x1f4)} * 16;
    if (image.size() <= header.setup_bytes || image.size() < header.header_end ||
        image.size() - header.setup_bytes < code_bytes)
        return fail(ErrorKind::corrupt, "is truncated: it has {} of {} bytes", image.size(),
                    header.setup_bytes + std::max<std::uint64_t>(code_bytes, 1));
    header.kernel_bytes = image.size() - header.setup_bytes;

    header.load_flags = field<std::uint8_t>(image, 0x211);
    if (!(header.load_flags & 1))
        return fail(ErrorKind::unsupported, "is a zImage for low memory, not a bzImage");
    header.initrd_last = field<std::uint32_t>(image, 0x22c);
    header.alignment = field<std::uint32_t>(image, 0x230);
    header.relocatable = field<std::uint8_t>(image, 0x234) != 0;
    header.command_line_bytes = field<std::uint32_t>(image, 0x238);
    if (header.version >= 0x20a) {
        header.preferred = field<std::uint64_t>(image, 0x258);
        header.init_bytes = field<std::uint32_t>(image, 0x260);
    }
    return header;
}

// Where the kernel's memory ends once it has unpacked itself (boot.rst, "init_size").
Result<Gpa> kernel_end(const SetupHeader& header) {
    Gpa packed_end = load_start + header.kernel_bytes;
    if (header.init_bytes == 0)
        return packed_end;
    Gpa start = header.preferred;
    if (header.relocatable) {
        start = std::max(start, load_start);
        if (std::has_single_bit(header.alignment) && start <= 4 * GiB)
            start = (start + header.alignment - 1) & ~(Gpa{header.alignment} - 1);
    }
    if (start < load_start || !range_fits(start, header.init_bytes, 4 * GiB))
        return fail(ErrorKind::invalid, "wants to run at {:#x} with {} bytes of memory", start,
                    header.init_bytes);
    return std::max(packed_end, start + header.init_bytes);
}

std::vector<std::uint8_t> zero_page(const Request& request, const SetupHeader& header, Gpa initrd,
                                    const std::vector<MapEntry>& map) {
    std::vector<std::uint8_t> page(page_bytes);
    std::ranges::copy(request.image.subspan(header_start, header.header_end - header_start),
                      page.begin() + header_start);
    auto set = [&]<WireInteger T>(std::size_t offset, T value) {
        store_le<T>(MutableBytes(page).subspan(offset), value);
    };
    constexpr std::uint8_t keep_segments = 0x40;
    set(0x070, request.acpi_rsdp);     // since protocol 2.14; unused space before
    set(0x1fa, std::uint16_t{0xffff}); // video mode: normal
    set(0x210, std::uint8_t{0xff});    // loader: one without a number
    set(0x211, static_cast<std::uint8_t>(header.load_flags & ~keep_segments));
    set(0x214, static_cast<std::uint32_t>(load_start));
    set(0x218, static_cast<std::uint32_t>(initrd));
    set(0x21c, static_cast<std::uint32_t>(request.initrd.size()));
    set(0x228, static_cast<std::uint32_t>(command_line_start));
    std::size_t count = std::min(map.size(), max_e820_entries);
    set(0x1e8, static_cast<std::uint8_t>(count));
    for (std::size_t i = 0; i < count; ++i) {
        set(e820_table + i * 20, map[i].start);
        set(e820_table + i * 20 + 8, map[i].size);
        set(e820_table + i * 20 + 16, map[i].type);
    }
    return page;
}

Result<void> put_command_line(Placement& placement, const std::string& text, std::size_t most) {
    most = std::min(most, limits::max_command_line_bytes);
    if (text.size() > most)
        return fail(ErrorKind::limit, "the command line has {} bytes, the kernel takes {}",
                    text.size(), most);
    return placement.put("the command line", command_line_start,
                         as_bytes({text.c_str(), text.size() + 1}));
}

} // namespace

bool is_linux(Bytes image) {
    return field<std::uint16_t>(image, 0x1fe) == 0xaa55 &&
           field<std::uint32_t>(image, 0x202) == header_magic;
}

Result<Loaded> load_linux(GuestMemory& memory, const Request& request) {
    auto header = TRY(parse_header(request.image));
    Gpa end = TRY(kernel_end(header));

    Placement placement(memory);
    if (!placement.is_ram(load_start, end - load_start))
        return fail(ErrorKind::limit, "needs {}M of memory, the guest has {}M",
                    (end + MiB - 1) / MiB, placement.guest_mib());
    TRY(placement.claim("the kernel", load_start, end - load_start));
    TRY(placement.write(load_start, request.image.subspan(header.setup_bytes)));
    TRY(put_command_line(placement, request.command_line, header.command_line_bytes));

    Gpa initrd_end = std::min<Gpa>(std::uint64_t{header.initrd_last} + 1, 4 * GiB);
    Gpa initrd = TRY(load_initrd(placement, request.initrd, initrd_end));
    TRY(placement.put("the boot parameters", info_page,
                      zero_page(request, header, initrd, memory_map(memory))));

    // __BOOT_CS is 0x10, __BOOT_DS 0x18.
    ByteWriter gdt;
    for (std::uint64_t descriptor : {std::uint64_t{0}, std::uint64_t{0}, gdt_code32, gdt_data})
        gdt.le(descriptor);
    TRY(placement.put("the GDT", gdt_page, gdt.buffer()));

    CpuState cpu = CpuState::flat_protected();
    cpu.cs.selector = 0x10;
    for (Segment* segment : {&cpu.ds, &cpu.es, &cpu.fs, &cpu.gs, &cpu.ss})
        segment->selector = 0x18;
    cpu.gdt = {gdt_page, static_cast<std::uint16_t>(gdt.size() - 1)};
    cpu.rip = load_start;
    cpu.rsi = info_page;
    return Loaded{ImageKind::linux_bzimage, cpu};
}

} // namespace vmhost::machine::boot
