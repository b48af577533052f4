#include "machine/layout.h"

#include <algorithm>

namespace vmhost::machine {

Result<void> lay_out_memory(GuestMemory& memory, std::uint64_t size_bytes) {
    constexpr Gpa end_of_base = 640 * KiB;
    constexpr Gpa end_of_low = 3 * GiB;
    constexpr Gpa start_of_high = 4 * GiB;
    if (size_bytes < limits::min_memory_bytes || size_bytes > limits::max_memory_bytes)
        return fail(ErrorKind::limit, "guest memory of {}: at least {} and at most {} are possible",
                    format_size(size_bytes), format_size(limits::min_memory_bytes),
                    format_size(limits::max_memory_bytes));
    size_bytes -= size_bytes % (4 * KiB);
    TRY(memory.add(0, end_of_base, true));
    TRY(memory.add(end_of_base, MiB - end_of_base, false));
    const Gpa low = std::min(size_bytes, end_of_low);
    if (low > MiB)
        TRY(memory.add(MiB, low - MiB, true));
    if (size_bytes > low)
        TRY(memory.add(start_of_high, size_bytes - low, true));
    return {};
}

} // namespace vmhost::machine
