// What a processor and its backend's controllers are made of, in full: the part of a saved
// machine that does not belong to any device of ours. Plain values without a kernel's types, so
// that a state saved by one backend can be loaded by another; each field is architectural
// (Intel SDM, AMD APM, the 8259A, 82093AA and 8254 data sheets) or says what it is.
//
// Threads: none; filled and read while the machine is paused.
#pragma once

#include <array>
#include <vector>

#include "machine/cpu/cpu.h"
#include "machine/snapshot/state_archive.h"

namespace vmhost::machine {

struct SavedMsr {
    std::uint32_t index = 0;
    std::uint64_t value = 0;
    void state(StateArchive& archive) { archive(index, value); }
};

// Exceptions and interrupts on their way into the guest.
struct SavedEvents {
    bool exception_injected = false, exception_has_error = false;
    std::uint8_t exception_vector = 0;
    std::uint32_t exception_error = 0;
    bool interrupt_injected = false, interrupt_soft = false;
    std::uint8_t interrupt_vector = 0;
    std::uint8_t interrupt_shadow = 0; // bit 0: by MOV SS, bit 1: by STI
    bool nmi_injected = false, nmi_pending = false, nmi_masked = false;
    std::uint8_t sipi_vector = 0;
    void state(StateArchive& archive);
};

enum class Activity : std::uint8_t { runs, uninitialized, init_received, halted, sipi_received };

struct SavedVcpu {
    CpuState registers;
    std::uint64_t cr8 = 0, apic_base = 0;
    std::array<std::uint64_t, 4> pending_vectors{}; // acknowledged, not yet injected: a bit each
    std::array<std::uint64_t, 4> debug_addresses{}; // DR0..DR3
    std::uint64_t dr6 = 0, dr7 = 0;
    std::uint64_t xcr0 = 0;
    std::vector<std::uint8_t> xsave;             // standard format (SDM vol. 1, 13.4)
    std::array<std::uint8_t, 1024> local_apic{}; // registers as in its page (SDM vol. 3, 11.4.1)
    SavedEvents events;
    Activity activity = Activity::runs;
    std::uint64_t tsc = 0;
    std::vector<SavedMsr> msrs; // the TSC is not among them
    void state(StateArchive& archive);
};

// One 8259A, with the bytes that its initialization leaves behind.
struct SavedPic {
    std::uint8_t last_levels = 0, requests = 0, mask = 0, in_service = 0, lowest_priority = 0,
                 vector_base = 0, reads_in_service = 0, polled = 0, special_mask = 0, init_step = 0,
                 auto_end = 0, rotates_on_auto_end = 0, fully_nested = 0, init_four_words = 0,
                 level_triggered = 0, level_triggered_allowed = 0;
    void state(StateArchive& archive);
};

struct SavedIoApic {
    std::uint64_t base = 0;
    std::uint32_t selected = 0, id = 0, requests = 0;
    std::array<std::uint64_t, 24> redirections{};
    void state(StateArchive& archive);
};

struct SavedTimerChannel {
    std::uint32_t count = 0;
    std::uint16_t latched_count = 0;
    std::uint8_t count_latched = 0, status_latched = 0, status = 0, read_state = 0, write_state = 0,
                 write_latch = 0, access = 0, mode = 0, bcd = 0, gate = 0;
    void state(StateArchive& archive);
};

struct SavedBackend {
    std::array<SavedPic, 2> pics; // master, slave
    SavedIoApic io_apic;
    std::array<SavedTimerChannel, 3> timer; // 8254; counts begin anew when loaded
    bool speaker_on = false;                // port 0x61's gate data
    std::uint64_t pvclock_ns = 0;           // of the paravirtual clock
    void state(StateArchive& archive);
};

} // namespace vmhost::machine
