// One vCPU: the KVM_RUN loop.
//
// kick(): the flag first, then immediate_exit, then a signal when the thread is
// inside run(). KVM looks at immediate_exit after it has completed the port or
// memory access of the last exit, so a kicked vCPU stands between instructions. If
// the flag is lost on the way to KVM_RUN the signal interrupts it; if the signal
// comes too early, immediate_exit is seen. A left-over immediate_exit costs one
// turn of the loop.
#include "machine/cpu/kvm/kvm.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

namespace vmhost::machine::kvm {

namespace {

constexpr std::uint64_t mtrr_default_write_back = 0x806; // enabled, type 6
constexpr std::uint64_t misc_enable_fast_strings = 1;
constexpr std::uint32_t msr_misc_enable = 0x1a0;
constexpr std::uint32_t msr_mtrr_default_type = 0x2ff;

kvm_segment to_kvm(const Segment& segment) {
    kvm_segment out{};
    out.base = segment.base;
    out.limit = segment.limit;
    out.selector = segment.selector;
    out.type = segment.access & 0xf;
    out.s = segment.access >> 4 & 1;
    out.dpl = segment.access >> 5 & 3;
    out.present = segment.access >> 7 & 1;
    out.avl = segment.access >> 12 & 1;
    out.l = segment.access >> 13 & 1;
    out.db = segment.access >> 14 & 1;
    out.g = segment.access >> 15 & 1;
    out.unusable = !out.present;
    return out;
}

Segment from_kvm(const kvm_segment& segment) {
    Segment out{.base = segment.base, .limit = segment.limit, .selector = segment.selector};
    unsigned access = (segment.type & 0xfU) | (segment.s & 1U) << 4 | (segment.dpl & 3U) << 5 |
                      (segment.present & 1U) << 7 | (segment.avl & 1U) << 12 |
                      (segment.l & 1U) << 13 | (segment.db & 1U) << 14 | (segment.g & 1U) << 15;
    out.access = segment.unusable ? 0 : static_cast<std::uint16_t>(access);
    return out;
}

kvm_dtable to_kvm(const TableRegister& table) {
    kvm_dtable out{};
    out.base = table.base;
    out.limit = table.limit;
    return out;
}

// General registers under their names here and in KVM.
#define VMHOST_EACH_REGISTER(X)                                                                    \
    X(rax)                                                                                         \
    X(rbx)                                                                                         \
    X(rcx) X(rdx) X(rsi) X(rdi) X(rbp) X(rsp) X(r8) X(r9) X(r10) X(r11) X(r12) X(r13) X(r14)       \
        X(r15) X(rip) X(rflags)
#define VMHOST_EACH_SYSTEM_REGISTER(X) X(cr0) X(cr2) X(cr3) X(cr4) X(efer)
#define VMHOST_EACH_SEGMENT(X) X(cs) X(ds) X(es) X(fs) X(gs) X(ss) X(tr) X(ldt)

const char* name_of_suberror(std::uint32_t suberror) {
    switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        return "instruction not emulated";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
        return "simultaneous exceptions";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        return "exit while an event was delivered";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
        return "unexpected hardware exit";
    default:
        return "unknown";
    }
}

} // namespace

int kick_signal() {
    return SIGRTMIN + 1;
}

void prepare_kick_signal() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action {};
        action.sa_handler = [](int) {};
        ::sigemptyset(&action.sa_mask); // no SA_RESTART: KVM_RUN must come back
        ::sigaction(kick_signal(), &action, nullptr);
    });
}

Result<std::unique_ptr<KvmVcpu>> KvmVcpu::create(Fd vcpu, std::size_t run_bytes,
                                                 const CpuModel& model, Bus& bus) {
    void* shared = ::mmap(nullptr, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.get(), 0);
    if (shared == MAP_FAILED)
        return fail_errno(errno, "map the area shared with the kernel");
    std::unique_ptr<KvmVcpu> made(
        new KvmVcpu(std::move(vcpu), static_cast<kvm_run*>(shared), run_bytes, bus));
    TRY(made->set_cpuid(model));
    made->set_default_msrs();
    return made;
}

KvmVcpu::~KvmVcpu() {
    if (auto unknown = unknown_msrs_.load(); unknown != 0)
        log::debug("machine", "kvm: {} accesses to unknown MSRs", unknown);
    ::munmap(shared_, run_bytes_);
}

Result<void> KvmVcpu::set_cpuid(const CpuModel& model) {
    if (model.leaves.size() > CpuidTable::max_entries)
        return fail(ErrorKind::limit, "a processor model of {} leaves", model.leaves.size());
    auto table = std::make_unique<CpuidTable>();
    for (const auto& leaf : model.leaves) {
        auto& entry = table->entries[table->count++];
        entry.function = leaf.leaf;
        entry.index = leaf.subleaf;
        entry.flags = leaf.has_subleaf ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
        entry.eax = leaf.eax;
        entry.ebx = leaf.ebx;
        entry.ecx = leaf.ecx;
        entry.edx = leaf.edx;
    }
    if (::ioctl(vcpu_.get(), set_cpuid2, table.get()) < 0)
        return fail_errno(errno, "KVM_SET_CPUID2 with {} leaves", model.leaves.size());
    return {};
}

// KVM resets the FPU and most MSRs well. Firmware would turn memory caching on and fast
// strings; kernels that are entered directly find them so. A KVM without one of these MSRs
// does not need it set.
void KvmVcpu::set_default_msrs() {
    auto set = [&](std::uint32_t index, std::uint64_t value) {
        OneMsr one{.entry = {.index = index, .data = value}};
        if (::ioctl(vcpu_.get(), set_msrs, &one) != 1)
            log::debug("machine", "kvm: MSR {:#x} not set", index);
    };
    auto get = [&](std::uint32_t index) -> std::uint64_t {
        OneMsr one{.entry = {.index = index}};
        return ::ioctl(vcpu_.get(), get_msrs, &one) == 1 ? one.entry.data + 0 : 0;
    };
    set(msr_mtrr_default_type, mtrr_default_write_back);
    set(msr_misc_enable, get(msr_misc_enable) | misc_enable_fast_strings);
}

Result<void> KvmVcpu::set_state(const CpuState& state) {
    kvm_sregs system{};
    if (::ioctl(vcpu_.get(), KVM_GET_SREGS, &system) < 0)
        return fail_errno(errno, "kvm: KVM_GET_SREGS");
#define VMHOST_COPY(name) system.name = state.name;
    VMHOST_EACH_SYSTEM_REGISTER(VMHOST_COPY)
#undef VMHOST_COPY
#define VMHOST_COPY(name) system.name = to_kvm(state.name);
    VMHOST_EACH_SEGMENT(VMHOST_COPY)
    VMHOST_COPY(gdt)
    VMHOST_COPY(idt)
#undef VMHOST_COPY
    if (::ioctl(vcpu_.get(), KVM_SET_SREGS, &system) < 0)
        return fail_errno(errno, "kvm: KVM_SET_SREGS");
    kvm_regs general{};
#define VMHOST_COPY(name) general.name = state.name;
    VMHOST_EACH_REGISTER(VMHOST_COPY)
#undef VMHOST_COPY
    if (::ioctl(vcpu_.get(), KVM_SET_REGS, &general) < 0)
        return fail_errno(errno, "kvm: KVM_SET_REGS");
    return {};
}

Result<CpuState> KvmVcpu::state() {
    kvm_sregs system{};
    if (::ioctl(vcpu_.get(), KVM_GET_SREGS, &system) < 0)
        return fail_errno(errno, "kvm: KVM_GET_SREGS");
    kvm_regs general{};
    if (::ioctl(vcpu_.get(), KVM_GET_REGS, &general) < 0)
        return fail_errno(errno, "kvm: KVM_GET_REGS");
    CpuState state;
#define VMHOST_COPY(name) state.name = general.name;
    VMHOST_EACH_REGISTER(VMHOST_COPY)
#undef VMHOST_COPY
#define VMHOST_COPY(name) state.name = system.name;
    VMHOST_EACH_SYSTEM_REGISTER(VMHOST_COPY)
#undef VMHOST_COPY
#define VMHOST_COPY(name) state.name = from_kvm(system.name);
    VMHOST_EACH_SEGMENT(VMHOST_COPY)
#undef VMHOST_COPY
    state.gdt = {system.gdt.base, system.gdt.limit};
    state.idt = {system.idt.base, system.idt.limit};
    return state;
}

// Sets the flag in the guest's kvmclock page by which Linux forgives its soft lockups. A guest
// that does not use that clock has no such page.
void KvmVcpu::stood_still() {
    (void)::ioctl(vcpu_.get(), KVM_KVMCLOCK_CTRL, 0);
}

ExitCounters KvmVcpu::exits() const {
    return {.ports = ports_.load(std::memory_order_relaxed),
            .memory = memory_.load(std::memory_order_relaxed),
            .unknown_msrs = unknown_msrs_.load(std::memory_order_relaxed),
            .kicks = kicks_.load(std::memory_order_relaxed),
            .others = others_.load(std::memory_order_relaxed)};
}

void KvmVcpu::kick() {
    kicked_.store(true);
    std::atomic_ref(shared_->immediate_exit).store(1);
    pid_t thread = running_thread_.load();
    if (thread != 0)
        ::syscall(SYS_tgkill, ::getpid(), thread, kick_signal());
}

Exit KvmVcpu::run() {
    sigset_t kick_only;
    ::sigemptyset(&kick_only);
    ::sigaddset(&kick_only, kick_signal());
    ::pthread_sigmask(SIG_UNBLOCK, &kick_only, nullptr);
    running_thread_.store(static_cast<pid_t>(::syscall(SYS_gettid)));
    std::optional<Exit> exit;
    while (!exit) {
        if (::ioctl(vcpu_.get(), KVM_RUN, 0) == 0) {
            exit = handle_exit();
        } else if (errno == EINTR) {
            count(kicks_);
            std::atomic_ref(shared_->immediate_exit).store(0);
            if (kicked_.exchange(false))
                exit = Exit{Exit::Reason::kicked, {}};
        } else if (errno != EAGAIN) { // EAGAIN: another vCPU woke this one up
            exit = failed(Error::system(errno, "KVM_RUN").text());
        }
    }
    running_thread_.store(0);
    return *std::move(exit);
}

std::optional<Exit> KvmVcpu::handle_exit() {
    switch (shared_->exit_reason) {
    case KVM_EXIT_IO:
        count(ports_);
        do_port();
        return std::nullopt;
    case KVM_EXIT_MMIO:
        count(memory_);
        do_memory();
        return std::nullopt;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        count(others_);
        return std::nullopt;
    case KVM_EXIT_X86_RDMSR:
        shared_->msr.data = 0;
        [[fallthrough]];
    case KVM_EXIT_X86_WRMSR:
        shared_->msr.error = 0;
        count(unknown_msrs_);
        return std::nullopt;
    case KVM_EXIT_SHUTDOWN:
        return Exit{Exit::Reason::shutdown, {}};
    case KVM_EXIT_INTERNAL_ERROR:
        return failed(describe_internal_error());
    case KVM_EXIT_FAIL_ENTRY:
        return failed(
            fmt::format("the processor refused the guest's state, hardware reason {:#x}",
                        std::uint64_t{shared_->fail_entry.hardware_entry_failure_reason}));
    default:
        return failed(fmt::format("unknown exit {}", shared_->exit_reason + 0));
    }
}

// String instructions may come with several items at once.
void KvmVcpu::do_port() {
    const auto& io = shared_->io;
    const std::size_t size = io.size;
    auto* item = reinterpret_cast<std::uint8_t*>(shared_) + io.data_offset;
    for (std::uint32_t left = io.count; left > 0; --left, item += size) {
        if (io.direction == KVM_EXIT_IO_IN)
            bus_.read(Space::port, io.port, MutableBytes(item, size));
        else
            bus_.write(Space::port, io.port, Bytes(item, size));
    }
}

void KvmVcpu::do_memory() {
    auto& access = shared_->mmio;
    const std::size_t size = std::min<std::size_t>(access.len, sizeof access.data);
    if (access.is_write)
        bus_.write(Space::memory, access.phys_addr, Bytes(access.data, size));
    else
        bus_.read(Space::memory, access.phys_addr, MutableBytes(access.data, size));
}

std::string KvmVcpu::describe_internal_error() const {
    const auto& internal = shared_->emulation_failure;
    auto text = fmt::format("internal error {} ({})", internal.suberror + 0,
                            name_of_suberror(internal.suberror));
    if (internal.suberror == KVM_INTERNAL_ERROR_EMULATION && internal.ndata > 2 &&
        (internal.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0) {
        text += ", instruction";
        for (unsigned i = 0; i < internal.insn_size && i < sizeof internal.insn_bytes; ++i)
            text += fmt::format(" {:02x}", internal.insn_bytes[i]);
    }
    return text;
}

// Adds where the guest was.
Exit KvmVcpu::failed(std::string text) {
    kvm_regs general{};
    kvm_sregs system{};
    if (::ioctl(vcpu_.get(), KVM_GET_REGS, &general) == 0 &&
        ::ioctl(vcpu_.get(), KVM_GET_SREGS, &system) == 0)
        text += fmt::format(" at rip {:#x}, cs base {:#x}, cr0 {:#x}", general.rip + 0,
                            system.cs.base + 0, system.cr0 + 0);
    return {Exit::Reason::failed, "kvm: " + text};
}

} // namespace vmhost::machine::kvm
