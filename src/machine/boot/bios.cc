// Firmware: the image ends at 4 GiB, where the processor fetches its first
// instruction, and its last part stands below 1 MiB too, as a PC's chipset shows it.
//
// The low copy covers as much as 256 KiB: SeaBIOS's 256 KiB image has code from
// 0xd2000 on that a PC would first have to copy there, and does so only for host
// bridges that it knows.
#include <algorithm>

#include "machine/boot/loaders.h"

namespace vmhost::machine::boot {

namespace {

constexpr Gpa high_end = 4 * GiB;
constexpr Gpa low_end = 1 * MiB;
constexpr std::uint64_t low_copy_bytes = 256 * KiB;
constexpr std::size_t reset_vector_bytes = 16;
// vmd's: below this no reset vector is complete.
constexpr std::size_t min_firmware_bytes = 15;

} // namespace

// Sixteen bytes hold little more than a jump; before it real firmware has only instructions
// that prepare nothing: nop, cli, cld, wbinvd, prefixes.
bool is_firmware(Bytes image) {
    if (image.size() < min_firmware_bytes || image.size() > limits::max_bios_bytes)
        return false;
    auto vector = image.last(std::min(image.size(), reset_vector_bytes));
    for (std::size_t i = 0; i < vector.size(); ++i) {
        switch (vector[i]) {
        case 0x90: // nop
        case 0xfa: // cli
        case 0xfc: // cld
        case 0x2e: // segment, operand and address size prefixes
        case 0x66:
        case 0x67:
            continue;
        case 0x0f: // wbinvd
            if (i + 1 < vector.size() && vector[i + 1] == 0x09) {
                ++i;
                continue;
            }
            return false;
        case 0xe9: // jmp near, short, far
        case 0xeb:
        case 0xea:
            return true;
        case 0xff: // jmp indirect: /4 near, /5 far
            return i + 1 < vector.size() &&
                   ((vector[i + 1] >> 3 & 7) == 4 || (vector[i + 1] >> 3 & 7) == 5) &&
                   vector[i + 1] != 0xff;
        default:
            return false;
        }
    }
    return false;
}

Result<Loaded> load_firmware(GuestMemory& memory, const Request& request) {
    if (!request.initrd.empty())
        return fail(ErrorKind::invalid, "firmware takes no initrd");
    if (!request.command_line.empty())
        return fail(ErrorKind::invalid, "firmware takes no command line");
    const auto& image = request.image;
    std::uint64_t size = (image.size() + page_bytes - 1) / page_bytes * page_bytes;
    TRY(memory.add(high_end - size, size, false));
    auto low = image.last(std::min<std::uint64_t>(image.size(), low_copy_bytes));
    if (!memory.write(high_end - image.size(), image))
        return fail(ErrorKind::internal, "guest memory below 4G refused {} bytes", image.size());
    if (!memory.write(low_end - low.size(), low))
        return fail(ErrorKind::internal,
                    "the guest has no memory at {:#x} to {:#x} for the copy below 1M",
                    low_end - low.size(), low_end - 1);
    return Loaded{ImageKind::firmware, CpuState::reset()};
}

} // namespace vmhost::machine::boot
