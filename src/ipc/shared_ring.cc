#include "ipc/shared_ring.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vmhost::ipc {

namespace {
constexpr std::size_t head_bytes = 4096;
constexpr off_t position_offset = 8;
} // namespace

Result<SharedRing> SharedRing::map(const Fd& memory, std::size_t capacity_bytes) {
    struct stat about {};
    if (::fstat(memory.get(), &about) < 0)
        return fail_errno(errno, "shared ring");
    if (static_cast<std::uint64_t>(about.st_size) != head_bytes + capacity_bytes)
        return fail(ErrorKind::invalid, "shared ring: {} bytes, expected {}", about.st_size,
                    head_bytes + capacity_bytes);
    void* start = ::mmap(nullptr, head_bytes + capacity_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                         memory.get(), 0);
    if (start == MAP_FAILED)
        return fail_errno(errno, "shared ring: mmap");
    return SharedRing(static_cast<std::uint8_t*>(start), capacity_bytes);
}

SharedRing::SharedRing(SharedRing&& other) noexcept
    : start_(std::exchange(other.start_, nullptr)), capacity_bytes_(other.capacity_bytes_) {}

SharedRing::~SharedRing() {
    if (start_ != nullptr)
        ::munmap(start_, head_bytes + capacity_bytes_);
}

MutableBytes SharedRing::bytes() const {
    return {start_ + head_bytes, capacity_bytes_};
}

void SharedRing::publish(std::uint64_t end) {
    auto& shared = *reinterpret_cast<std::uint64_t*>(start_);
    std::atomic_ref(shared).store(end, std::memory_order_release);
}

Result<SharedRingReader> SharedRingReader::create(std::size_t capacity_bytes) {
    Fd memory(::memfd_create("vmhost-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memory)
        return fail_errno(errno, "shared ring: memfd_create");
    if (::ftruncate(memory.get(), static_cast<off_t>(head_bytes + capacity_bytes)) < 0 ||
        ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return fail_errno(errno, "shared ring of {} bytes", capacity_bytes);
    return SharedRingReader(std::move(memory), capacity_bytes);
}

Result<SharedRingReader> SharedRingReader::adopt(Fd memory, std::size_t capacity_bytes) {
    constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    struct stat about {};
    if (::fstat(memory.get(), &about) < 0)
        return fail_errno(errno, "shared ring");
    const int sealed = ::fcntl(memory.get(), F_GET_SEALS);
    if (sealed < 0 || (sealed & seals) != seals ||
        static_cast<std::uint64_t>(about.st_size) != head_bytes + capacity_bytes)
        return fail(ErrorKind::invalid, "shared ring: not one of {} bytes", capacity_bytes);
    return SharedRingReader(std::move(memory), capacity_bytes);
}

std::uint64_t SharedRingReader::number_at(off_t offset) const {
    std::uint64_t value = 0;
    if (::pread(memory_.get(), &value, sizeof value, offset) != sizeof value)
        return 0;
    return value;
}

std::uint64_t SharedRingReader::end() const {
    return number_at(0);
}

void SharedRingReader::keep_position(std::uint64_t position) const {
    (void)!::pwrite(memory_.get(), &position, sizeof position, position_offset);
}

std::uint64_t SharedRingReader::kept_position() const {
    return std::min(number_at(position_offset), end());
}

std::uint64_t SharedRingReader::read(std::uint64_t& position, std::size_t most,
                                     std::vector<std::uint8_t>& into) const {
    into.clear();
    const std::uint64_t before = end();
    if (before < position) { // the writer went back: it lies, and starts anew for us
        position = before;
        return 0;
    }
    const std::uint64_t from = position;
    position = std::max(position, before - std::min<std::uint64_t>(before, capacity_bytes_));
    into.resize(std::min<std::uint64_t>(most, before - position));
    std::size_t done = 0;
    while (done < into.size()) {
        auto at = (position + done) % capacity_bytes_;
        auto count = ::pread(memory_.get(), into.data() + done,
                             std::min<std::uint64_t>(into.size() - done, capacity_bytes_ - at),
                             static_cast<off_t>(head_bytes + at));
        if (count <= 0)
            break;
        done += static_cast<std::size_t>(count);
    }
    into.resize(done);
    // What the writer ran over meanwhile is newer than its place in the stream.
    const std::uint64_t after = end();
    const std::uint64_t first = after - std::min<std::uint64_t>(after, capacity_bytes_);
    if (first > position) {
        auto torn = std::min<std::uint64_t>(first - position, into.size());
        into.erase(into.begin(), into.begin() + static_cast<std::ptrdiff_t>(torn));
        position += torn;
    }
    const std::uint64_t lost = position - from;
    position += into.size();
    return lost;
}

std::vector<std::uint8_t> SharedRingReader::tail(std::size_t most) const {
    const std::uint64_t now = end();
    most = std::min(most, capacity_bytes_);
    std::uint64_t position = now - std::min<std::uint64_t>(now, most);
    std::vector<std::uint8_t> bytes;
    read(position, most, bytes);
    return bytes;
}

} // namespace vmhost::ipc
