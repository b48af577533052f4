// The parts of the KVM backend: a VM with in-kernel interrupt controllers, and its
// vCPUs. Only cpu/kvm includes this.
//
// Threads: KvmVm belongs to the loop thread, but for Interrupts and doorbells (any
// thread; the kernel does the locking). KvmVcpu: run() on the vCPU's thread, kick()
// anywhere, the rest while it does not run.
#pragma once

#include <atomic>
#include <cstddef>
#include <linux/kvm.h>
#include <map>
#include <sys/ioctl.h>
#include <sys/types.h>

#include "machine/cpu/cpu.h"

namespace vmhost::machine::kvm {

// The two structures of variable length, with their calls. The kernel's own declarations have
// the wrong size and offsets in C++ in some versions of the header (an empty struct inside).
struct CpuidTable {
    static constexpr std::uint32_t max_entries = 256; // KVM_MAX_CPUID_ENTRIES
    std::uint32_t count = 0, padding = 0;
    kvm_cpuid_entry2 entries[max_entries];
};
static_assert(offsetof(CpuidTable, entries) == 8 && sizeof(kvm_cpuid_entry2) == 40);
struct OneMsr {
    std::uint32_t count = 1, padding = 0;
    kvm_msr_entry entry;
};
static_assert(offsetof(OneMsr, entry) == 8 && sizeof(kvm_msr_entry) == 16);
inline constexpr unsigned long get_supported_cpuid = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8);
inline constexpr unsigned long get_msrs = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x88, 8);
inline constexpr unsigned long set_msrs = _IOC(_IOC_WRITE, KVMIO, 0x89, 8);
// struct kvm_xsave has such a tail since Linux 5.17.
inline constexpr std::size_t xsave_area_bytes = 4096;
inline constexpr unsigned long get_xsave = _IOC(_IOC_READ, KVMIO, 0xa4, xsave_area_bytes);
inline constexpr unsigned long set_xsave = _IOC(_IOC_WRITE, KVMIO, 0xa5, xsave_area_bytes);
inline constexpr unsigned long get_xsave2 = _IOC(_IOC_READ, KVMIO, 0xcf, xsave_area_bytes);
// struct kvm_irq_routing: its head.
inline constexpr unsigned long set_gsi_routing = _IOC(_IOC_WRITE, KVMIO, 0x6a, 8);
inline constexpr unsigned long set_cpuid2 = _IOC(_IOC_WRITE, KVMIO, 0x90, 8);

// What optional pieces this host's KVM has.
struct Features {
    bool user_space_msr = false;
    bool doorbells = false;
    bool bound_messages = false; // irqfd, and routes to say what it sends
    bool read_only_memory = false;
    std::size_t xsave_bytes = 0; // of a vCPU's XSAVE area; 0 = KVM_GET_XSAVE's fixed size
};

class KvmVm final : public Backend, public Interrupts {
public:
    static Result<std::unique_ptr<KvmVm>> create(Fd kvm);

    const Capabilities& capabilities() const override { return capabilities_; }
    Result<void> map(const GuestMemory::Range& range, bool read_only) override;
    void unmap(Gpa start) override;
    void ram_written(Gpa, std::uint64_t) override {} // the processor snoops
    Interrupts* interrupts() override { return this; }
    void hold_timers() override;
    void release_timers() override;
    Result<SavedBackend> save() override;
    Result<void> load(const SavedBackend& saved) override;
    Result<std::unique_ptr<Vcpu>> create_vcpu(unsigned index, const CpuModel& model,
                                              Bus& bus) override;
    Result<void> bind_doorbell(Space space, std::uint64_t address, unsigned size,
                               int eventfd) override;
    void unbind_doorbell(Space space, std::uint64_t address, unsigned size, int eventfd) override;

    Result<unsigned> bind_message(int eventfd, std::uint64_t address, std::uint32_t data) override;
    void unbind_message(unsigned binding, int eventfd) override;

    void set_level(unsigned gsi, bool level) override;
    bool send_msi(std::uint64_t address, std::uint32_t data) override;

private:
    KvmVm(Fd kvm, Fd vm, Features features, std::size_t run_bytes)
        : kvm_(std::move(kvm)), vm_(std::move(vm)), features_(features), run_bytes_(run_bytes) {}
    Result<void> create_interrupt_controllers();
    Result<void> set_trigger_modes();
    Result<void> read_capabilities();
    std::uint64_t read_tsc_khz();
    Result<void> set_routes();
    Result<void> set_message_source(unsigned input, int eventfd, bool on);

    Fd kvm_, vm_;
    Features features_;
    std::size_t run_bytes_; // of the area shared with each vCPU
    Capabilities capabilities_;
    Fd first_vcpu_;                      // made before it is asked for, to read the TSC's frequency
    std::map<Gpa, std::uint32_t> slots_; // by start of range
    struct Message {
        std::uint64_t address = 0;
        std::uint32_t data = 0;
    };
    std::map<unsigned, Message> messages_;     // bound ones, by the input that sends them
    std::optional<kvm_pit_state2> held_timer_; // while the 8254 is stopped: what it goes on with
};

class KvmVcpu final : public Vcpu {
public:
    static Result<std::unique_ptr<KvmVcpu>> create(Fd vcpu, std::size_t run_bytes,
                                                   std::size_t xsave_bytes, const CpuModel& model,
                                                   Bus& bus);
    ~KvmVcpu() override;

    Exit run() override;
    void kick() override;
    Result<void> set_state(const CpuState& state) override;
    Result<CpuState> state() override;
    void stood_still() override;
    ExitCounters exits() const override;
    Result<SavedVcpu> save() override;
    Result<void> load(const SavedVcpu& saved) override;

private:
    KvmVcpu(Fd vcpu, kvm_run* shared, std::size_t run_bytes, std::size_t xsave_bytes, Bus& bus)
        : vcpu_(std::move(vcpu)), shared_(shared), run_bytes_(run_bytes), xsave_bytes_(xsave_bytes),
          bus_(bus) {}
    Result<void> set_cpuid(const CpuModel& model);
    void set_default_msrs();
    std::optional<std::uint64_t> read_msr(std::uint32_t index) const;
    bool write_msr(std::uint32_t index, std::uint64_t value) const;
    Result<void> save_xsave(SavedVcpu& saved) const;
    Result<void> load_xsave(const SavedVcpu& saved) const;
    Result<void> save_msrs(SavedVcpu& saved) const;
    Result<void> load_msrs(const SavedVcpu& saved) const;
    std::optional<Exit> handle_exit(); // nothing: go on
    void do_port();
    void do_memory();
    Exit failed(std::string text);
    std::string describe_internal_error() const;

    Fd vcpu_;
    kvm_run* shared_;
    std::size_t run_bytes_;
    std::size_t xsave_bytes_;
    Bus& bus_;
    std::atomic<bool> kicked_{false};
    std::atomic<pid_t> running_thread_{0}; // inside run(), or 0
    // Written by the vCPU's thread alone.
    using Counter = std::atomic<std::uint64_t>;
    static void count(Counter& counter) {
        counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    Counter ports_{0}, memory_{0}, unknown_msrs_{0}, kicks_{0}, others_{0};
};

// The local APICs' window, Intel SDM vol. 3, 11.11.1.
constexpr bool is_message_address(std::uint64_t address) {
    return address >> 20 == 0xfee;
}

// The real-time signal that pulls a vCPU thread out of the kernel; its handler does nothing.
int kick_signal();
// Installs that handler, once per process.
void prepare_kick_signal();

} // namespace vmhost::machine::kvm
