#include "machine/boot/placement.h"

#include <algorithm>

namespace vmhost::machine::boot {

namespace {

bool overlap(Gpa a, std::uint64_t a_size, Gpa b, std::uint64_t b_size) {
    // Claims lie inside RAM, so their ends do not wrap.
    return a < b + b_size && b < a + a_size;
}

} // namespace

bool Placement::is_ram(Gpa start, std::uint64_t size_bytes) const {
    return std::ranges::any_of(memory_.ranges(), [&](const GuestMemory::Range& range) {
        return range.ram && start >= range.start &&
               range_fits(start - range.start, size_bytes, range.size_bytes);
    });
}

std::uint64_t Placement::guest_mib() const {
    std::uint64_t bytes = 0;
    for (const auto& range : memory_.ranges())
        if (range.ram)
            bytes += range.size_bytes;
    return (bytes + MiB - 1) / MiB; // the hole below 1 MiB is part of what was configured
}

const Placement::Claim* Placement::collision(Gpa start, std::uint64_t size_bytes) const {
    for (const auto& claim : claims_)
        if (overlap(start, size_bytes, claim.start, claim.size_bytes))
            return &claim;
    return nullptr;
}

Result<void> Placement::claim(std::string part, Gpa start, std::uint64_t size_bytes) {
    if (size_bytes == 0)
        return {};
    if (!is_ram(start, size_bytes))
        return fail(ErrorKind::limit, "{} needs {} bytes at address {:#x}, but the guest has {}M",
                    part, size_bytes, start, guest_mib());
    if (const Claim* other = collision(start, size_bytes))
        return fail(ErrorKind::invalid, "{} at {:#x} to {:#x} overlaps {} at {:#x} to {:#x}", part,
                    start, start + size_bytes - 1, other->part, other->start,
                    other->start + other->size_bytes - 1);
    claims_.push_back({std::move(part), start, size_bytes});
    return {};
}

Result<void> Placement::put(std::string part, Gpa start, Bytes bytes) {
    TRY(claim(std::move(part), start, bytes.size()));
    return write(start, bytes);
}

Result<void> Placement::write(Gpa start, Bytes bytes) {
    if (!memory_.write(start, bytes))
        return fail(ErrorKind::internal, "guest memory at {:#x} refused {} bytes", start,
                    bytes.size());
    return {};
}

Result<void> Placement::zero(Gpa start, std::uint64_t size_bytes) {
    if (!memory_.fill(start, 0, size_bytes))
        return fail(ErrorKind::internal, "guest memory at {:#x} refused {} zeros", start,
                    size_bytes);
    return {};
}

Result<void> Placement::randomize(Gpa start, std::uint64_t size_bytes) {
    auto span = memory_.slice(start, size_bytes);
    if (!span)
        return fail(ErrorKind::internal, "guest memory at {:#x} refused {} random bytes", start,
                    size_bytes);
    fill_random(*span);
    memory_.written(start, size_bytes);
    return {};
}

std::optional<Gpa> Placement::highest_free(std::uint64_t size_bytes, Gpa end) const {
    std::optional<Gpa> best;
    for (const auto& range : memory_.ranges()) {
        if (!range.ram)
            continue;
        Gpa below = std::min(range.start + range.size_bytes, end);
        while (below >= range.start && size_bytes <= below - range.start) {
            Gpa start = (below - size_bytes) & ~(page_bytes - 1);
            if (start < range.start)
                break;
            const Claim* other = collision(start, size_bytes);
            if (!other) {
                best = std::max(best.value_or(0), start);
                break;
            }
            below = other->start; // strictly lower, so this ends
        }
    }
    return best;
}

} // namespace vmhost::machine::boot
