// A VM of /dev/kvm with the kernel's 8259 pair, I/O APIC, local APICs and 8254.
//
// Interrupt routing is the kernel's default: line n reaches pin n of the 8259 pair
// and pin n of the I/O APIC (the 8254 included, so tables for guests carry no
// override for line 0).
//
// 8259 trigger modes: PCI lines are level-triggered, and without firmware nobody
// says so to the 8259s. They and the SCI (is_level_line() in machine/irq.h) are preset
// to level here; the guest may still change them through the ELCR ports.
#include "machine/cpu/kvm/kvm.h"

#include <algorithm>
#include <cerrno>

namespace vmhost::machine::kvm {

namespace {

// Three pages for a TSS and one for an identity map, where Intel processors without
// unrestricted guest mode want them: below the firmware's window at the end of 4 GiB,
// above the I/O APIC's registers, inside the local APIC's megabyte.
constexpr std::uint64_t identity_map_address = 0xfeffc000;
constexpr std::uint64_t tss_address = 0xfeffd000;

struct Requirement {
    int capability;
    const char* what;
};
constexpr Requirement required[] = {
    {KVM_CAP_USER_MEMORY, "user memory"},
    {KVM_CAP_IRQCHIP, "in-kernel interrupt controllers"},
    {KVM_CAP_PIT2, "an in-kernel timer"},
    {KVM_CAP_SET_TSS_ADDR, "a task state segment address"},
    {KVM_CAP_EXT_CPUID, "CPUID tables"},
    {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
    {KVM_CAP_SIGNAL_MSI, "message-signalled interrupts"},
};

int has(int fd, int capability) {
    return ::ioctl(fd, KVM_CHECK_EXTENSION, capability);
}

} // namespace

Result<std::unique_ptr<KvmVm>> KvmVm::create(Fd kvm) {
    int version = ::ioctl(kvm.get(), KVM_GET_API_VERSION, 0);
    if (version < 0)
        return fail_errno(errno, "/dev/kvm: KVM_GET_API_VERSION");
    if (version != KVM_API_VERSION)
        return fail(ErrorKind::unsupported, "/dev/kvm: API version {}, not {}", version,
                    KVM_API_VERSION);
    for (const auto& requirement : required)
        if (has(kvm.get(), requirement.capability) <= 0)
            return fail(ErrorKind::unsupported, "/dev/kvm: this kernel does not offer {}",
                        requirement.what);
    int run_bytes = ::ioctl(kvm.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_bytes < static_cast<int>(sizeof(kvm_run)))
        return fail(ErrorKind::unsupported, "/dev/kvm: the vCPU area has only {} bytes", run_bytes);

    int vm_number = -1;
    do
        vm_number = ::ioctl(kvm.get(), KVM_CREATE_VM, 0);
    while (vm_number < 0 && errno == EINTR);
    if (vm_number < 0)
        return fail_errno(errno, "/dev/kvm: KVM_CREATE_VM");
    Fd vm(vm_number);

    Features features;
    features.doorbells = has(kvm.get(), KVM_CAP_IOEVENTFD) > 0;
    features.bound_messages =
        has(kvm.get(), KVM_CAP_IRQFD) > 0 && has(kvm.get(), KVM_CAP_IRQ_ROUTING) > 0;
    features.read_only_memory = has(kvm.get(), KVM_CAP_READONLY_MEM) > 0;
    features.xsave_bytes = static_cast<std::size_t>(std::max(has(vm.get(), KVM_CAP_XSAVE2), 0));
    if (has(vm.get(), KVM_CAP_X86_USER_SPACE_MSR) > 0) {
        kvm_enable_cap enable{};
        enable.cap = KVM_CAP_X86_USER_SPACE_MSR;
        enable.args[0] = KVM_MSR_EXIT_REASON_UNKNOWN;
        features.user_space_msr = ::ioctl(vm.get(), KVM_ENABLE_CAP, &enable) == 0;
    }
    std::unique_ptr<KvmVm> made(
        new KvmVm(std::move(kvm), std::move(vm), features, static_cast<std::size_t>(run_bytes)));
    TRY(made->create_interrupt_controllers());
    TRY(made->read_capabilities());
    prepare_kick_signal();
    return made;
}

Result<void> KvmVm::create_interrupt_controllers() {
    std::uint64_t identity = identity_map_address;
    // Only some Intel processors use it; a KVM without the call does not need it.
    if (has(kvm_.get(), KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0 &&
        ::ioctl(vm_.get(), KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
        return fail_errno(errno, "kvm: KVM_SET_IDENTITY_MAP_ADDR");
    if (::ioctl(vm_.get(), KVM_SET_TSS_ADDR, tss_address) < 0)
        return fail_errno(errno, "kvm: KVM_SET_TSS_ADDR");
    if (::ioctl(vm_.get(), KVM_CREATE_IRQCHIP, 0) < 0)
        return fail_errno(errno, "kvm: KVM_CREATE_IRQCHIP");
    kvm_pit_config timer{};
    timer.flags = KVM_PIT_SPEAKER_DUMMY; // port 0x61, which is part of calibrating a TSC
    if (::ioctl(vm_.get(), KVM_CREATE_PIT2, &timer) < 0)
        return fail_errno(errno, "kvm: KVM_CREATE_PIT2");
    return set_trigger_modes();
}

Result<void> KvmVm::set_trigger_modes() {
    std::uint16_t level_lines = 0;
    for (unsigned line = 0; line < isa_lines; ++line)
        if (is_level_line(line))
            level_lines |= static_cast<std::uint16_t>(1U << line);
    for (std::uint32_t chip : {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE}) {
        kvm_irqchip state{};
        state.chip_id = chip;
        if (::ioctl(vm_.get(), KVM_GET_IRQCHIP, &state) < 0)
            return fail_errno(errno, "kvm: KVM_GET_IRQCHIP {}", chip);
        state.chip.pic.elcr =
            static_cast<std::uint8_t>(level_lines >> (chip == KVM_IRQCHIP_PIC_SLAVE ? 8 : 0));
        if (::ioctl(vm_.get(), KVM_SET_IRQCHIP, &state) < 0)
            return fail_errno(errno, "kvm: KVM_SET_IRQCHIP {}", chip);
    }
    return {};
}

Result<void> KvmVm::read_capabilities() {
    auto table = std::make_unique<CpuidTable>();
    table->count = CpuidTable::max_entries;
    if (::ioctl(kvm_.get(), get_supported_cpuid, table.get()) < 0)
        return fail_errno(errno, "/dev/kvm: KVM_GET_SUPPORTED_CPUID");
    bool tsc_deadline = has(kvm_.get(), KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    for (std::uint32_t i = 0; i < std::min(table->count, CpuidTable::max_entries); ++i) {
        const auto& entry = table->entries[i];
        CpuidLeaf leaf{.leaf = entry.function,
                       .subleaf = entry.index,
                       .has_subleaf = (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
                       .eax = entry.eax,
                       .ebx = entry.ebx,
                       .ecx = entry.ecx,
                       .edx = entry.edx};
        // Not in the table of older kernels because it depends on the in-kernel local APIC.
        if (leaf.leaf == 1 && tsc_deadline)
            leaf.ecx |= 1U << 24;
        capabilities_.cpuid.push_back(leaf);
    }
    capabilities_.kernel_interrupts = true;
    capabilities_.tsc_khz = read_tsc_khz();
    return {};
}

// Of the VM since Linux 5.18; before, a vCPU must be asked, and there is one sooner or later.
std::uint64_t KvmVm::read_tsc_khz() {
    int khz = ::ioctl(vm_.get(), KVM_GET_TSC_KHZ, 0);
    if (khz <= 0) {
        first_vcpu_ = Fd(::ioctl(vm_.get(), KVM_CREATE_VCPU, 0UL));
        khz = first_vcpu_ ? ::ioctl(first_vcpu_.get(), KVM_GET_TSC_KHZ, 0) : 0;
    }
    return khz > 0 ? static_cast<std::uint64_t>(khz) : 0;
}

// The 8254 alone runs by itself: KVM would save up its ticks and deliver them all at once.
// A channel 0 in no known mode has no timer; the mode's return starts a full period. The local
// APICs' timers are one-shots that come late, as they do after a sleep.
void KvmVm::hold_timers() {
    kvm_pit_state2 state{};
    if (held_timer_ || ::ioctl(vm_.get(), KVM_GET_PIT2, &state) < 0)
        return;
    held_timer_ = state;
    state.channels[0].mode = 0xff;
    if (::ioctl(vm_.get(), KVM_SET_PIT2, &state) < 0)
        log::warning("machine", "kvm: hold the timer: {}",
                     Error::system(errno, "KVM_SET_PIT2").text());
}

void KvmVm::release_timers() {
    if (!held_timer_)
        return;
    if (::ioctl(vm_.get(), KVM_SET_PIT2, &*held_timer_) < 0)
        log::warning("machine", "kvm: release the timer: {}",
                     Error::system(errno, "KVM_SET_PIT2").text());
    held_timer_.reset();
}

Result<void> KvmVm::map(const GuestMemory::Range& range, bool read_only) {
    if (read_only && !features_.read_only_memory)
        return fail(ErrorKind::unsupported, "kvm: no read-only memory on this host");
    if (slots_.contains(range.start))
        return fail(ErrorKind::exists, "kvm: memory at {:#x} is mapped already", range.start);
    std::uint32_t slot = 0;
    while (std::ranges::any_of(slots_, [slot](const auto& used) { return used.second == slot; }))
        ++slot;
    kvm_userspace_memory_region region{};
    region.slot = slot;
    region.flags = read_only ? KVM_MEM_READONLY : 0;
    region.guest_phys_addr = range.start;
    region.memory_size = range.size_bytes;
    region.userspace_addr = reinterpret_cast<std::uintptr_t>(range.host);
    if (::ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return fail_errno(errno, "kvm: map {} of memory at {:#x}", format_size(range.size_bytes),
                          range.start);
    slots_.emplace(range.start, slot);
    return {};
}

void KvmVm::unmap(Gpa start) {
    auto found = slots_.find(start);
    if (found == slots_.end())
        return;
    kvm_userspace_memory_region region{};
    region.slot = found->second; // size 0 removes it
    region.guest_phys_addr = start;
    if (::ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &region) < 0)
        log::warning("machine", "kvm: unmap memory at {:#x}: {}", start,
                     Error::system(errno, "KVM_SET_USER_MEMORY_REGION").text());
    slots_.erase(found);
}

Result<std::unique_ptr<Vcpu>> KvmVm::create_vcpu(unsigned index, const CpuModel& model, Bus& bus) {
    int number = index == 0 && first_vcpu_
                     ? first_vcpu_.release()
                     : ::ioctl(vm_.get(), KVM_CREATE_VCPU, static_cast<unsigned long>(index));
    if (number < 0)
        return fail_errno(errno, "kvm: KVM_CREATE_VCPU {}", index);
    auto made = KvmVcpu::create(Fd(number), run_bytes_, features_.xsave_bytes, model, bus);
    if (!made)
        return std::unexpected(std::move(made).error().in(fmt::format("kvm: vcpu {}", index)));
    return std::unique_ptr<Vcpu>(*std::move(made));
}

Result<void> KvmVm::bind_doorbell(Space space, std::uint64_t address, unsigned size, int eventfd) {
    if (!features_.doorbells)
        return fail(ErrorKind::unsupported, "kvm: no ioeventfd on this host");
    kvm_ioeventfd bell{};
    bell.addr = address;
    bell.len = size;
    bell.fd = eventfd;
    bell.flags = space == Space::port ? KVM_IOEVENTFD_FLAG_PIO : 0;
    if (::ioctl(vm_.get(), KVM_IOEVENTFD, &bell) < 0)
        return fail_errno(errno, "kvm: doorbell at {:#x}", address);
    return {};
}

void KvmVm::unbind_doorbell(Space space, std::uint64_t address, unsigned size, int eventfd) {
    kvm_ioeventfd bell{};
    bell.addr = address;
    bell.len = size;
    bell.fd = eventfd;
    bell.flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
    if (space == Space::port)
        bell.flags |= KVM_IOEVENTFD_FLAG_PIO;
    // Fails only when it was not bound; the caller need not remember whether binding worked.
    (void)::ioctl(vm_.get(), KVM_IOEVENTFD, &bell);
}

void KvmVm::set_level(unsigned gsi, bool level) {
    kvm_irq_level line{};
    line.irq = gsi;
    line.level = level ? 1 : 0;
    if (::ioctl(vm_.get(), KVM_IRQ_LINE, &line) < 0)
        log::warning("machine", "kvm: interrupt line {}: {}", gsi,
                     Error::system(errno, "KVM_IRQ_LINE").text());
}

bool KvmVm::send_msi(std::uint64_t address, std::uint32_t data) {
    if (!is_message_address(address))
        return false;
    kvm_msi message{};
    message.address_lo = static_cast<std::uint32_t>(address);
    message.data = data;
    return ::ioctl(vm_.get(), KVM_SIGNAL_MSI, &message) >= 0;
}

} // namespace vmhost::machine::kvm

namespace vmhost::machine {

Result<std::unique_ptr<Backend>> create_kvm_backend(Fd kvm) {
    return std::unique_ptr<Backend>(TRY(kvm::KvmVm::create(std::move(kvm))));
}

} // namespace vmhost::machine
