// What a machine and its devices have counted since they were built. Plain sums; the
// directions of an interface are as the guest sees them.
#pragma once

#include <cstdint>
#include <vector>

namespace vmhost::machine {

struct DiskCounters {
    std::uint64_t reads = 0, read_bytes = 0, writes = 0, written_bytes = 0, flushes = 0,
                  discarded_bytes = 0, zeroed_bytes = 0;
    std::uint64_t failed = 0; // answered with an I/O error
    std::uint64_t malformed = 0;
    DiskCounters& operator+=(const DiskCounters& other);
};

struct NicCounters {
    std::uint64_t received_frames = 0, received_bytes = 0, receive_dropped = 0;
    std::uint64_t sent_frames = 0, sent_bytes = 0, send_dropped = 0;
    std::uint64_t malformed = 0;
    bool lent = false; // vhost-net moves frames, which only the tap's counters know of
    NicCounters& operator+=(const NicCounters& other);
};

struct MachineCounters {
    std::uint64_t port_exits = 0, memory_exits = 0, other_exits = 0; // of all vCPUs
    std::uint64_t unknown_msrs = 0; // accesses: reads gave 0, writes were ignored
    std::uint64_t unclaimed_accesses = 0;
    std::uint64_t malformed_requests = 0; // bad virtqueue chains of all devices
    std::vector<DiskCounters> disks;      // in the order of the spec, as are
    std::vector<NicCounters> nics;
    // Of a machine with the same devices, or more of them.
    MachineCounters& operator+=(const MachineCounters& other);
};

} // namespace vmhost::machine
