// Guest physical memory: the only way to touch it.
//
// RAM is one anonymous private mapping per range. Every access is checked against
// the ranges without overflow; there is no raw pointer that outlives a call,
// except the span of slice(), which lives as long as the GuestMemory and must be
// used at once. Whoever writes through a slice reports it with written(); the
// other writers report for themselves. The report reaches the CPU backend
// (translated code, dirty pages) as Backend::ram_written.
//
// Any thread. Guest memory is shared with running vCPUs: what is read may change
// at any time, so read once into a local and use the copy.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "base/base.h"

namespace vmhost::machine {

// A guest physical address. Guest-controlled wherever it comes from a descriptor or a register.
using Gpa = std::uint64_t;

class GuestMemory {
public:
    struct Range {
        Gpa start = 0;
        std::uint64_t size_bytes = 0;
        std::uint8_t* host = nullptr;
        bool ram = true; // false: backed but reserved (firmware); not given to the guest as RAM
    };

    GuestMemory() = default;
    ~GuestMemory();
    GuestMemory(const GuestMemory&) = delete;
    GuestMemory& operator=(const GuestMemory&) = delete;

    // Page-aligned, not overlapping. Zero pages, populated on first touch.
    Result<void> add(Gpa start, std::uint64_t size_bytes, bool ram);
    const std::vector<Range>& ranges() const { return ranges_; }

    // The bytes [gpa, gpa + length), when all of them lie in one range. length 0 gives an
    // empty span for any address.
    std::optional<MutableBytes> slice(Gpa gpa, std::uint64_t length) const;

    bool read(Gpa gpa, MutableBytes into) const;
    bool write(Gpa gpa, Bytes from);
    bool fill(Gpa gpa, std::uint8_t value, std::uint64_t length);
    // Gives the whole pages of RAM inside [gpa, gpa + length) back to the host; they read as zeros
    // from now on and take memory again when they are touched. The number of bytes.
    std::uint64_t give_back(Gpa gpa, std::uint64_t length);

    template <WireInteger T>
    std::optional<T> read_le(Gpa gpa) const {
        std::uint8_t raw[sizeof(T)];
        if (!read(gpa, raw))
            return std::nullopt;
        return load_le<T>(raw);
    }
    template <WireInteger T>
    bool write_le(Gpa gpa, T value) {
        std::uint8_t raw[sizeof(T)];
        store_le<T>(raw, value);
        return write(gpa, raw);
    }

    // Must be called after writing through slice().
    void written(Gpa gpa, std::uint64_t length) {
        if (on_written_ && length != 0)
            on_written_(gpa, length);
    }
    // Set once by the machine before the first vCPU runs.
    void on_written(std::function<void(Gpa, std::uint64_t)> report) {
        on_written_ = std::move(report);
    }

private:
    std::vector<Range> ranges_; // sorted by start
    std::function<void(Gpa, std::uint64_t)> on_written_;
};

} // namespace vmhost::machine
