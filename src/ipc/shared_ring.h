// The newest bytes of a stream in memory that two processes share: one writes, the
// other reads and trusts nothing of it. What was written outlives the writer.
//
// Layout: a page with the number of bytes ever written (u64, of this machine's order) at
// 0 and the reader's kept position at 8, then the ring, whose size both sides know. Byte n of the
// stream is at n modulo the size.
//
// The memory is sealed against shrinking and growing, and the reader uses pread(2): neither
// side can be made to fault by the other.
//
// Threads: the caller's lock, on each side.
#pragma once

#include <vector>

#include "base/base.h"

namespace vmhost::ipc {

// The writer's view.
class SharedRing {
public:
    static Result<SharedRing> map(const Fd& memory, std::size_t capacity_bytes);
    SharedRing(SharedRing&& other) noexcept;
    SharedRing& operator=(SharedRing&&) = delete;
    ~SharedRing();

    MutableBytes bytes() const;
    // For the reader: all up to here has been written.
    void publish(std::uint64_t end);

private:
    SharedRing(std::uint8_t* start, std::size_t capacity_bytes)
        : start_(start), capacity_bytes_(capacity_bytes) {}
    std::uint8_t* start_;
    std::size_t capacity_bytes_;
};

// The reader's; it makes the memory.
class SharedRingReader {
public:
    static Result<SharedRingReader> create(std::size_t capacity_bytes);
    // Memory that an earlier reader made, back from the writer.
    static Result<SharedRingReader> adopt(Fd memory, std::size_t capacity_bytes);

    const Fd& memory() const { return memory_; }
    // Where the next reader is to go on; the writer may spoil it, for itself.
    void keep_position(std::uint64_t position) const;
    std::uint64_t kept_position() const;
    // Copies what the stream has from position on, at most `most` bytes, and moves position;
    // what was overwritten before it could be read is skipped, and its length returned.
    std::uint64_t read(std::uint64_t& position, std::size_t most,
                       std::vector<std::uint8_t>& into) const;
    // The last bytes, at most `most`.
    std::vector<std::uint8_t> tail(std::size_t most) const;

private:
    SharedRingReader(Fd memory, std::size_t capacity_bytes)
        : memory_(std::move(memory)), capacity_bytes_(capacity_bytes) {}
    std::uint64_t end() const;
    std::uint64_t number_at(off_t offset) const;

    Fd memory_;
    std::size_t capacity_bytes_;
};

} // namespace vmhost::ipc
