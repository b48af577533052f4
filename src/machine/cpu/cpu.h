// The seam between a machine and what executes its guest's instructions. Two
// implementations: cpu/kvm and (later) a software translator. Nothing above this
// header knows which one runs; nothing here assumes in-kernel interrupt
// controllers, memory maps of a kernel, or a thread that vCPUs share.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <variant>

#include "base/base.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/memory.h"

namespace vmhost::machine {

class StateArchive; // machine/snapshot/state_archive.h
struct SavedVcpu;   // machine/cpu/saved.h
struct SavedBackend;

// Segment register with its hidden part (Intel SDM vol. 3, 3.4.5).
struct Segment {
    std::uint64_t base = 0;
    std::uint32_t limit = 0xffff;
    std::uint16_t selector = 0;
    // As in a VMCS access-rights field: type 0..3, S 4, DPL 5..6, P 7, AVL 12, L 13, D/B 14, G 15.
    std::uint16_t access = 0;
    void state(StateArchive& archive);
};
struct TableRegister {
    std::uint64_t base = 0;
    std::uint16_t limit = 0xffff;
    void state(StateArchive& archive);
};

// What a boot path sets before the first instruction. The rest is as after RESET.
struct CpuState {
    std::uint64_t rax = 0, rbx = 0, rcx = 0, rdx = 0, rsi = 0, rdi = 0, rbp = 0, rsp = 0;
    std::uint64_t r8 = 0, r9 = 0, r10 = 0, r11 = 0, r12 = 0, r13 = 0, r14 = 0, r15 = 0;
    std::uint64_t rip = 0xfff0;
    std::uint64_t rflags = 2;
    Segment cs, ds, es, fs, gs, ss, tr, ldt;
    TableRegister gdt, idt;
    std::uint64_t cr0 = 0x60000010, cr2 = 0, cr3 = 0, cr4 = 0, efer = 0;

    static CpuState reset();          // the reset vector at f000:fff0, base 0xffff0000
    static CpuState flat_protected(); // 32-bit, paging off, flat segments 0x08 and 0x10
    void state(StateArchive& archive);
};

struct CpuidLeaf {
    std::uint32_t leaf = 0, subleaf = 0;
    bool has_subleaf = false;
    std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    void state(StateArchive& archive);
};

// Which processor a guest is shown: the host's, or one that many hosts can offer: the levels of
// the x86-64 psABI, and what protects a kernel (SMEP, SMAP, UMIP, speculation controls) where
// the host has it. baseline is the first level.
enum class CpuKind : std::uint8_t { host, baseline, v2, v3 };

// What the guest is told about its processor: CPUID leaves, already intersected with
// what the backend can do.
struct CpuModel {
    std::vector<CpuidLeaf> leaves;
};

struct Capabilities {
    bool kernel_interrupts = false; // interrupt controllers and i8254 live in the backend
    std::vector<CpuidLeaf> cpuid;   // all the backend can offer
    std::uint64_t tsc_khz = 0;      // 0 = unknown
};

// Why run() came back. Port and memory accesses have been served by the Bus already.
struct Exit {
    enum class Reason : std::uint8_t {
        halted,   // HLT with nothing to wait for but an interrupt (only without kernel_interrupts)
        shutdown, // triple fault
        kicked,   // kick() was called
        failed,   // the backend cannot go on; text says why
    };
    Reason reason = Reason::kicked;
    std::string text;
};

// How often a vCPU came out of the guest, and for what.
struct ExitCounters {
    std::uint64_t ports = 0, memory = 0, unknown_msrs = 0, kicks = 0, others = 0;
};

class Vcpu {
public:
    virtual ~Vcpu() = default;
    // Runs the guest until something happens. Only on the vCPU's own thread.
    virtual Exit run() = 0;
    // Makes run() return soon; sticky until it did. Any thread, cheap.
    virtual void kick() = 0;
    // Only while not running.
    virtual Result<void> set_state(const CpuState& state) = 0;
    virtual Result<CpuState> state() = 0;
    // The guest stood still for a while: its watchdogs are told, where the backend has a way to.
    virtual void stood_still() {}
    // Any thread.
    virtual ExitCounters exits() const { return {}; }
    // Everything, for saving a machine and loading it into a fresh vCPU of the same model. The
    // backend's own state is loaded after that of every vCPU. A backend without this: unsupported.
    virtual Result<SavedVcpu> save();
    virtual Result<void> load(const SavedVcpu& saved);
};

class Backend {
public:
    virtual ~Backend() = default;
    virtual const Capabilities& capabilities() const = 0;
    // Makes a range of guest memory visible to the guest. read_only: writes go to the bus.
    virtual Result<void> map(const GuestMemory::Range& range, bool read_only) = 0;
    virtual void unmap(Gpa start) = 0;
    // Every write to guest RAM by anybody but a vCPU. Any thread.
    virtual void ram_written(Gpa start, std::uint64_t length) = 0;
    // In-kernel controllers; null without Capabilities::kernel_interrupts.
    virtual Interrupts* interrupts() = 0;
    // Holds the backend's own timers and lets them go on; no vCPU runs meanwhile. Loop thread.
    virtual void hold_timers() {}
    virtual void release_timers() {}
    // Interrupt controllers, timer and clock that live in the backend. No vCPU runs meanwhile;
    // when loading, devices have raised their lines already. Loop thread.
    virtual Result<SavedBackend> save();
    virtual Result<void> load(const SavedBackend& saved);
    virtual Result<std::unique_ptr<Vcpu>> create_vcpu(unsigned index, const CpuModel& model,
                                                      Bus& bus) = 0;
    // A doorbell that needs no exit to user space: a write of `size` bytes to the address
    // signals the eventfd. unsupported when the backend has none: the bus delivers then.
    virtual Result<void> bind_doorbell(Space space, std::uint64_t address, unsigned size,
                                       int eventfd) = 0;
    virtual void unbind_doorbell(Space space, std::uint64_t address, unsigned size,
                                 int eventfd) = 0;
    // The other way round: a signal of the eventfd sends this message, with no thread of ours in
    // between. Its name for unbind_message(), after which no signal is on its way. unsupported when
    // the backend has no such thing. Under the device lock.
    virtual Result<unsigned> bind_message(int eventfd, std::uint64_t address, std::uint32_t data);
    virtual void unbind_message(unsigned binding, int eventfd);
};

// kvm is an open /dev/kvm.
Result<std::unique_ptr<Backend>> create_kvm_backend(Fd kvm);

// The first thing that a guest of the model `wanted` would miss on a processor that offers
// `offered`, by its leaf and register; nothing when it can run. Only what software detects
// counts, not names, numbers and caches.
std::optional<std::string> missing_feature(const CpuModel& wanted, const CpuModel& offered);

// The policy of CPUID (cpu/model.cc): the backend's leaves with the OpenBSD VMM signature at
// 0x40000000 and KVM's at 0x40000100, APIC ids, invariant TSC, leaf 0x15.
CpuModel make_cpu_model(const Capabilities& capabilities, unsigned index, unsigned count,
                        CpuKind kind = CpuKind::host);
// unsupported, with the names of the features, when the backend lacks some of a level.
Result<void> check_cpu_kind(const Capabilities& capabilities, CpuKind kind);

} // namespace vmhost::machine
