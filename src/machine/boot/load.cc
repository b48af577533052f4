// What kind of image is it, and what is common to several kinds.
#include <algorithm>

#include "machine/boot/gunzip.h"
#include "machine/boot/loaders.h"

namespace vmhost::machine::boot {

std::vector<MapEntry> memory_map(const GuestMemory& memory) {
    std::vector<MapEntry> map;
    for (const auto& range : memory.ranges()) {
        std::uint32_t type = range.ram ? 1 : 2;
        if (!map.empty() && map.back().type == type &&
            map.back().start + map.back().size == range.start)
            map.back().size += range.size_bytes;
        else
            map.push_back({range.start, range.size_bytes, type});
    }
    return map;
}

Result<Gpa> load_segments(Placement& placement, const ElfFile& elf, Gpa entry) {
    constexpr std::uint32_t any_access = 7; // PF_R | PF_W | PF_X
    Gpa end = 0;
    bool entry_found = false, loaded = false;
    for (std::size_t i = 0; i < elf.segments.size(); ++i) {
        const auto& segment = elf.segments[i];
        if (segment.type != ProgramHeader::load || !(segment.flags & any_access) ||
            segment.memsz == 0)
            continue;
        auto bytes = TRY(segment_bytes(elf, i));
        TRY(placement.claim(fmt::format("segment {}", i), segment.paddr, segment.memsz));
        TRY(placement.write(segment.paddr, bytes));
        TRY(placement.zero(segment.paddr + segment.filesz, segment.memsz - segment.filesz));
        end = std::max(end, segment.paddr + segment.memsz);
        entry_found |= entry >= segment.paddr && entry - segment.paddr < segment.memsz;
        loaded = true;
    }
    if (!loaded)
        return fail(ErrorKind::invalid, "the ELF file has nothing to load: it is no kernel");
    if (!entry_found)
        return fail(ErrorKind::invalid, "the entry point {:#x} lies in no segment", entry);
    return end;
}

Result<Gpa> load_initrd(Placement& placement, Bytes initrd, Gpa end) {
    if (initrd.empty())
        return Gpa{0};
    if (initrd.size() > limits::max_initrd_bytes)
        return fail(ErrorKind::limit, "the initrd has {} bytes, at most {} are loaded",
                    initrd.size(), limits::max_initrd_bytes);
    auto start = placement.highest_free(initrd.size(), end);
    // Below 1 MiB kernels put what they need to start.
    if (!start || *start < 1 * MiB)
        return fail(ErrorKind::limit,
                    "the initrd of {} bytes does not fit beside it below {:#x}, the guest has {}M",
                    initrd.size(), end, placement.guest_mib());
    TRY(placement.put("the initrd", *start, initrd));
    return *start;
}

namespace {

Result<Loaded> load_elf(GuestMemory& memory, const Request& request, Bytes image) {
    auto elf = TRY(parse_elf(image));
    if (auto entry = pvh_entry(elf))
        return load_pvh(memory, request, elf, *entry);
    return load_openbsd(memory, request, elf);
}

Result<Loaded> load_gzip(GuestMemory& memory, const Request& request) {
    auto unpacked = TRY(gunzip(request.image, limits::max_kernel_bytes));
    if (!is_elf(unpacked))
        return fail(ErrorKind::invalid, "is gzip'd, but holds no ELF kernel");
    return load_elf(memory, request, unpacked);
}

Result<Loaded> load_kernel(GuestMemory& memory, const Request& request) {
    if (request.image.size() > limits::max_kernel_bytes)
        return fail(ErrorKind::limit, "has {}M, at most {}M are loaded", request.image.size() / MiB,
                    limits::max_kernel_bytes / MiB);
    if (is_gzip(request.image))
        return load_gzip(memory, request);
    if (is_elf(request.image))
        return load_elf(memory, request, request.image);
    return load_linux(memory, request);
}

} // namespace

Result<Loaded> load(GuestMemory& memory, const Request& request) {
    const auto& image = request.image;
    const std::string name = printable(request.name);
    if (image.empty())
        return fail(ErrorKind::invalid, "kernel {}: the file is empty", name);
    if (is_gzip(image) || is_elf(image) || is_linux(image)) {
        auto loaded = load_kernel(memory, request);
        if (!loaded)
            return std::unexpected(std::move(loaded).error().in("kernel " + name));
        return loaded;
    }
    if (!is_firmware(image))
        return fail(ErrorKind::invalid,
                    "{} is no kernel (neither ELF nor Linux bzImage) and no firmware image", name);
    auto loaded = load_firmware(memory, request);
    if (!loaded)
        return std::unexpected(std::move(loaded).error().in("firmware " + name));
    return loaded;
}

} // namespace vmhost::machine::boot
