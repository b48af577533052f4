// A whole machine into a stream, and a stream into a machine that was just built.
//
// Saving has two halves. take() runs on the loop thread while the machine is paused and turns
// everything but the memory into sections: a few hundred kilobytes. write_state() then puts them
// and the memory into the stream; it takes as long as the reader of a pipe pleases and runs on a
// thread of its own, with one more for each processor that compresses. The memory must not change
// meanwhile: the machine stays paused.
//
// Loading runs on the loop thread of a process that does nothing else yet. The header comes
// first and is compared with what the machine here is made of, so what cannot be honoured is
// refused by its name before anything is touched.
//
// Order of the sections: "machine" (the header), one per part in the order of Parts, "vcpu" for
// each, "backend", then "memory" as often as needed, "end".
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "machine/cpu/cpu.h"
#include "machine/snapshot/state_archive.h"
#include "machine/snapshot/stream.h"

namespace vmhost::machine {

// What a machine is made of, as far as a guest can tell or the host must provide it.
struct MachineIdentity {
    struct Range {
        Gpa start = 0;
        std::uint64_t size_bytes = 0;
        bool ram = true;
        void state(StateArchive& archive) { archive(start, size_bytes, ram); }
    };
    struct Disk {
        std::uint64_t size_bytes = 0;
        bool read_only = false;
        std::string serial;
        void state(StateArchive& archive);
    };
    struct Nic {
        Mac mac;
        std::uint16_t mtu = 1500;
        void state(StateArchive& archive) { archive(mac, mtu); }
    };
    struct Function {            // of the PCI bus
        std::uint16_t place = 0; // slot * 8 + function
        std::uint32_t vendor_and_device = 0;
        std::string name; // without the machine's: "nic0"
        void state(StateArchive& archive);
    };
    struct Cpu {
        CpuModel model;
        void state(StateArchive& archive);
    };

    std::string build; // version of the program that saved
    std::string name;  // of the machine; it may be another one when loading
    std::uint64_t memory_bytes = 0;
    std::vector<Cpu> cpus;
    std::uint64_t tsc_khz = 0; // 0 = unknown
    bool debug_exit = false;
    std::vector<Range> ranges;
    std::vector<Disk> disks;
    std::vector<Nic> nics;
    std::vector<Function> functions;
    std::uint64_t clock_ns = 0; // Clock::now_ns()
    std::int64_t wall_us = 0;   // the host's time when it was saved

    void state(StateArchive& archive);
};

// What a machine here lacks or has otherwise than the saved one; names the field. Memory ranges
// are compared by whoever lays them out.
Result<void> check_compatible(const MachineIdentity& saved, const MachineIdentity& here);

// Adds what the saved machine had beside the memory that was laid out here: firmware's. Any
// other difference is refused.
Result<void> add_saved_ranges(GuestMemory& memory,
                              const std::vector<MachineIdentity::Range>& saved);

struct Part {
    SectionName name;
    std::function<void(StateArchive&)> state;
};

Result<Section> save_part(const Part& part);
Result<void> load_part(const Part& part, const Section& section);
// The next section of the stream, which must be that of this part.
Result<void> load_part(const Part& part, StreamReader& reader);

// Done and all bytes of guest memory; from any of the writing threads.
using SaveProgress = std::function<void(std::uint64_t done, std::uint64_t all)>;

// Writes the whole stream: prelude, these sections, the memory, the end. Blocks.
Result<void> write_state(const std::vector<Section>& sections,
                         const std::vector<GuestMemory::Range>& memory, StreamWriter& writer,
                         const std::atomic<bool>& cancelled, const SaveProgress& progress);

// Everything from the first "memory" section to the end. The memory is all zero before.
Result<void> read_memory(StreamReader& reader, GuestMemory& memory);

} // namespace vmhost::machine
