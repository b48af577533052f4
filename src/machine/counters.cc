#include "machine/counters.h"

#include <algorithm>

namespace vmhost::machine {

DiskCounters& DiskCounters::operator+=(const DiskCounters& other) {
    reads += other.reads;
    read_bytes += other.read_bytes;
    writes += other.writes;
    written_bytes += other.written_bytes;
    flushes += other.flushes;
    discarded_bytes += other.discarded_bytes;
    zeroed_bytes += other.zeroed_bytes;
    failed += other.failed;
    malformed += other.malformed;
    return *this;
}

NicCounters& NicCounters::operator+=(const NicCounters& other) {
    received_frames += other.received_frames;
    received_bytes += other.received_bytes;
    receive_dropped += other.receive_dropped;
    sent_frames += other.sent_frames;
    sent_bytes += other.sent_bytes;
    send_dropped += other.send_dropped;
    malformed += other.malformed;
    lent = lent || other.lent;
    return *this;
}

MachineCounters& MachineCounters::operator+=(const MachineCounters& other) {
    port_exits += other.port_exits;
    memory_exits += other.memory_exits;
    other_exits += other.other_exits;
    unknown_msrs += other.unknown_msrs;
    unclaimed_accesses += other.unclaimed_accesses;
    malformed_requests += other.malformed_requests;
    disks.resize(std::max(disks.size(), other.disks.size()));
    for (std::size_t i = 0; i < other.disks.size(); ++i)
        disks[i] += other.disks[i];
    nics.resize(std::max(nics.size(), other.nics.size()));
    for (std::size_t i = 0; i < other.nics.size(); ++i)
        nics[i] += other.nics[i];
    return *this;
}

} // namespace vmhost::machine
