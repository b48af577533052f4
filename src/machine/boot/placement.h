// Puts the parts of a boot image into guest RAM, and lets no two of them collide.
//
// Every loader claims the place of a part before it writes there. A claim outside
// RAM or on top of another claim is an error that names the part, so a hostile or
// oversized image never reaches reserved memory, and the sum of all copying is
// bounded by the guest's memory, whatever the image's tables say.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "machine/memory.h"

namespace vmhost::machine::boot {

class Placement {
public:
    explicit Placement(GuestMemory& memory) : memory_(memory) {}

    // A claim of 0 bytes fits anywhere.
    Result<void> claim(std::string part, Gpa start, std::uint64_t size_bytes);
    // Claims and writes.
    Result<void> put(std::string part, Gpa start, Bytes bytes);

    // Inside RAM; the caller has claimed the place.
    Result<void> write(Gpa start, Bytes bytes);
    Result<void> zero(Gpa start, std::uint64_t size_bytes);
    Result<void> randomize(Gpa start, std::uint64_t size_bytes);

    // The highest page-aligned address in RAM where size_bytes end at or below `end` and no
    // claim is touched.
    std::optional<Gpa> highest_free(std::uint64_t size_bytes, Gpa end) const;

    bool is_ram(Gpa start, std::uint64_t size_bytes) const;
    // The guest's memory as its owner configured it, in whole MiB.
    std::uint64_t guest_mib() const;

private:
    struct Claim {
        std::string part;
        Gpa start;
        std::uint64_t size_bytes;
    };
    const Claim* collision(Gpa start, std::uint64_t size_bytes) const;

    GuestMemory& memory_;
    std::vector<Claim> claims_;
};

// Descriptors of flat segments (Intel SDM vol. 3, 3.4.5), accessed bit set: base 0, limit 4 GiB.
inline constexpr std::uint64_t gdt_code32 = 0x00cf9b000000ffff;
inline constexpr std::uint64_t gdt_code64 = 0x00af9b000000ffff;
inline constexpr std::uint64_t gdt_data = 0x00cf93000000ffff;

// Where Linux and PVH kernels get what a boot loader passes: low pages that neither firmware
// nor a kernel's image occupies. OpenBSD's have places of their own.
inline constexpr Gpa gdt_page = 0x6000;
inline constexpr Gpa info_page = 0x7000; // boot_params or hvm_start_info
inline constexpr Gpa command_line_start = 0x20000;
inline constexpr std::uint64_t page_bytes = 4096;

} // namespace vmhost::machine::boot
