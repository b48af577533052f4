// RAM as anonymous private mappings, one per range.
//
// A large range is placed so that host and guest addresses agree modulo 2 MiB
// and asks for huge pages: the kernel can then use them for the second-level page
// tables too. A small one is left alone: a tiny guest starts faster when each
// touched page costs 4 KiB to clear and not 2 MiB.
#include "machine/memory.h"

#include <algorithm>
#include <cerrno>
#include <sys/mman.h>

namespace vmhost::machine {

namespace {

constexpr std::uint64_t page_bytes = 4 * KiB;
constexpr std::uint64_t huge_page_bytes = 2 * MiB;
constexpr std::uint64_t huge_pages_from_bytes = 64 * MiB;

std::uint8_t* map_anonymous(std::uint64_t size_bytes) {
    void* where = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return where == MAP_FAILED ? nullptr : static_cast<std::uint8_t*>(where);
}

// Maps two megabytes more than needed and gives back what lies outside.
std::uint8_t* map_for_huge_pages(Gpa start, std::uint64_t size_bytes) {
    auto* wide = map_anonymous(size_bytes + huge_page_bytes);
    if (wide == nullptr)
        return nullptr;
    auto address = reinterpret_cast<std::uintptr_t>(wide);
    auto before = (start - address) % huge_page_bytes;
    auto after = huge_page_bytes - before;
    if (before != 0)
        ::munmap(wide, before);
    if (after != 0)
        ::munmap(wide + before + size_bytes, after);
    // Only advice: without huge pages the guest is slower, not wrong.
    (void)::madvise(wide + before, size_bytes, MADV_HUGEPAGE);
    return wide + before;
}

} // namespace

GuestMemory::~GuestMemory() {
    for (const auto& range : ranges_)
        ::munmap(range.host, range.size_bytes);
}

Result<void> GuestMemory::add(Gpa start, std::uint64_t size_bytes, bool ram) {
    if (size_bytes == 0 || start % page_bytes != 0 || size_bytes % page_bytes != 0)
        return fail(ErrorKind::invalid, "guest memory at {:#x}: {:#x} bytes are not whole pages",
                    start, size_bytes);
    if (!range_fits(start, size_bytes, ~Gpa{0}))
        return fail(ErrorKind::invalid,
                    "guest memory at {:#x}: {:#x} bytes reach past the end of the address space",
                    start, size_bytes);
    auto next = std::ranges::upper_bound(ranges_, start, {}, &Range::start);
    bool hits_next = next != ranges_.end() && next->start - start < size_bytes;
    bool hits_previous =
        next != ranges_.begin() && start - (next - 1)->start < (next - 1)->size_bytes;
    if (hits_next || hits_previous)
        return fail(ErrorKind::exists, "guest memory at {:#x}: {:#x} bytes overlap another range",
                    start, size_bytes);
    bool huge = size_bytes >= huge_pages_from_bytes;
    if (huge && size_bytes > ~std::uint64_t{0} - huge_page_bytes)
        return fail(ErrorKind::limit, "guest memory at {:#x}: {:#x} bytes are too many", start,
                    size_bytes);
    auto* host = huge ? map_for_huge_pages(start, size_bytes) : map_anonymous(size_bytes);
    if (host == nullptr)
        return fail_errno(errno, "guest memory at {:#x}: map {}", start, format_size(size_bytes));
    ranges_.insert(next, Range{start, size_bytes, host, ram});
    return {};
}

std::optional<MutableBytes> GuestMemory::slice(Gpa gpa, std::uint64_t length) const {
    if (length == 0)
        return MutableBytes{};
    auto next = std::ranges::upper_bound(ranges_, gpa, {}, &Range::start);
    if (next == ranges_.begin())
        return std::nullopt;
    const Range& range = *(next - 1);
    std::uint64_t offset = gpa - range.start;
    if (!range_fits(offset, length, range.size_bytes))
        return std::nullopt;
    return MutableBytes(range.host + offset, length);
}

bool GuestMemory::read(Gpa gpa, MutableBytes into) const {
    auto from = slice(gpa, into.size());
    if (!from)
        return false;
    if (!into.empty())
        std::memcpy(into.data(), from->data(), into.size());
    return true;
}

bool GuestMemory::write(Gpa gpa, Bytes from) {
    auto into = slice(gpa, from.size());
    if (!into)
        return false;
    if (!from.empty())
        std::memcpy(into->data(), from.data(), from.size());
    written(gpa, from.size());
    return true;
}

bool GuestMemory::fill(Gpa gpa, std::uint8_t value, std::uint64_t length) {
    auto into = slice(gpa, length);
    if (!into)
        return false;
    if (length != 0)
        std::memset(into->data(), value, length);
    written(gpa, length);
    return true;
}

std::uint64_t GuestMemory::give_back(Gpa gpa, std::uint64_t length) {
    constexpr std::uint64_t page = 4 * KiB;
    const auto most = ~std::uint64_t{0} - page;
    const auto end = range_fits(gpa, length, most) ? gpa + length : most;
    std::uint64_t given = 0;
    for (const auto& range : ranges_) {
        auto from = (std::max(gpa, range.start) + page - 1) / page * page;
        auto to = std::min(end, range.start + range.size_bytes) / page * page;
        if (!range.ram || gpa >= end || from >= to)
            continue;
        if (::madvise(range.host + (from - range.start), to - from, MADV_DONTNEED) != 0)
            continue;
        written(from, to - from);
        given += to - from;
    }
    return given;
}

} // namespace vmhost::machine
