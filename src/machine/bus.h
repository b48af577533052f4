// Port and memory ranges of a machine, each served by one Device.
//
// A device sees offsets relative to its range and accesses of 1, 2, 4 or 8 bytes
// that lie inside it; an access that crosses the end of a range is split by byte.
// Nobody home: reads are all-ones, writes are dropped, both are counted (by access,
// or by byte where part of an access was claimed).
//
// Threads: vCPU threads call read and write, the loop thread inserts and removes
// (PCI BAR moves come from vCPU threads too). The bus holds the machine's one
// device lock around every device call; the loop thread takes the same lock
// (DeviceLock) before it touches device state. So devices need no locks of their
// own and may call the interrupt controller and memory freely, but must not block.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string_view>

#include "base/base.h"

namespace vmhost::machine {

class Device {
public:
    virtual ~Device() = default;
    virtual std::string_view name() const = 0;
    // data.size() is 1, 2, 4 or 8; offset + size lies inside the range it was inserted with.
    virtual void read(std::uint64_t offset, MutableBytes data) = 0;
    virtual void write(std::uint64_t offset, Bytes data) = 0;
};

enum class Space : std::uint8_t { port, memory };

class Bus {
public:
    // Recursive, because a register write may move a BAR.
    using Lock = std::recursive_mutex;
    Lock& lock() const { return lock_; }

    // Refuses an overlap with another range of the same space.
    Result<void> insert(Space space, std::uint64_t base, std::uint64_t size, Device& device);
    void remove(Space space, std::uint64_t base);

    void read(Space space, std::uint64_t address, MutableBytes data);
    void write(Space space, std::uint64_t address, Bytes data);

    struct Counters {
        std::uint64_t unclaimed_reads = 0;
        std::uint64_t unclaimed_writes = 0;
    };
    Counters counters() const;

private:
    struct Slot {
        std::uint64_t size = 0;
        Device* device = nullptr;
    };
    using Ranges = std::map<std::uint64_t, Slot>;
    Ranges& ranges(Space space) { return space == Space::port ? ports_ : memory_; }
    Slot* find(Space space, std::uint64_t address, std::uint64_t& base);
    static bool whole(const Slot* slot, std::uint64_t offset, std::size_t size);
    bool touches(Space space, std::uint64_t address, std::size_t size);

    mutable Lock lock_;
    Ranges ports_, memory_;
    Counters counters_;
};

} // namespace vmhost::machine
