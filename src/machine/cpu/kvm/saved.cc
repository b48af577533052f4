// Saving and loading what KVM keeps to itself: vCPUs, interrupt controllers, 8254 and clock.
//
// Order of loading a vCPU: the local APIC is addressed and enabled by a system register, XSAVE's
// components by XCR0, the deadline timer by the local APIC; events and activity last, because
// other calls change them.
//
// MSRs: a list of our own, of what a guest can set and then rely on. KVM's own list also has
// what describes the host (VMX capabilities, microcode, performance counters' shape), which
// belongs to the processor model and not to its state. What this KVM does not know reads as
// missing and is left out; when loading, a value that is zero need not be set.
#include "machine/cpu/kvm/kvm.h"

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "machine/cpu/saved.h"

namespace vmhost::machine::kvm {

namespace {

struct MsrRange {
    std::uint32_t first, last;
};
constexpr std::uint32_t msr_tsc = 0x10, msr_tsc_deadline = 0x6e0;
constexpr MsrRange saved_msrs[] = {
    {0x3b, 0x3b},   // TSC_ADJUST
    {0x48, 0x48},   // SPEC_CTRL
    {0x174, 0x176}, // SYSENTER
    {0x17a, 0x17b}, // MCG_STATUS, MCG_CTL
    {0x1a0, 0x1a0}, // MISC_ENABLE
    {0x1d9, 0x1d9}, // DEBUGCTL
    {0x200, 0x20f}, // MTRRs of variable ranges
    {0x250, 0x250}, // and of fixed ones
    {0x258, 0x259},
    {0x268, 0x26f},
    {0x277, 0x277},           // PAT
    {0x2ff, 0x2ff},           // MTRRs' default type
    {0x400, 0x427},           // machine check banks
    {0xda0, 0xda0},           // XSS
    {0x4b564d00, 0x4b564d01}, // kvmclock: wall clock, system time; also under its old numbers
    {0xc0000081, 0xc0000084}, // STAR, LSTAR, CSTAR, FMASK
    {0xc0000102, 0xc0000103}, // KERNEL_GS_BASE, TSC_AUX
    {0xc001011f, 0xc001011f}, // VIRT_SPEC_CTRL
};
constexpr std::uint32_t speaker_data_on = 2; // KVM_PIT_FLAGS_SPEAKER_DATA_ON

std::uint8_t byte(unsigned value) {
    return static_cast<std::uint8_t>(value);
}

// Calls with(saved field, KVM's field) for each byte of an 8259A.
template <class Saved, class Pic, class With>
void each_pic_field(Saved& saved, Pic& pic, With with) {
    with(saved.last_levels, pic.last_irr);
    with(saved.requests, pic.irr);
    with(saved.mask, pic.imr);
    with(saved.in_service, pic.isr);
    with(saved.lowest_priority, pic.priority_add);
    with(saved.vector_base, pic.irq_base);
    with(saved.reads_in_service, pic.read_reg_select);
    with(saved.polled, pic.poll);
    with(saved.special_mask, pic.special_mask);
    with(saved.init_step, pic.init_state);
    with(saved.auto_end, pic.auto_eoi);
    with(saved.rotates_on_auto_end, pic.rotate_on_auto_eoi);
    with(saved.fully_nested, pic.special_fully_nested_mode);
    with(saved.init_four_words, pic.init4);
    with(saved.level_triggered, pic.elcr);
    with(saved.level_triggered_allowed, pic.elcr_mask);
}

template <class Saved, class Channel, class With>
void each_timer_field(Saved& saved, Channel& channel, With with) {
    with(saved.count, channel.count);
    with(saved.latched_count, channel.latched_count);
    with(saved.count_latched, channel.count_latched);
    with(saved.status_latched, channel.status_latched);
    with(saved.status, channel.status);
    with(saved.read_state, channel.read_state);
    with(saved.write_state, channel.write_state);
    with(saved.write_latch, channel.write_latch);
    with(saved.access, channel.rw_mode);
    with(saved.mode, channel.mode);
    with(saved.bcd, channel.bcd);
    with(saved.gate, channel.gate);
}

constexpr auto take = [](auto& saved, const auto& theirs) { saved = theirs; };
constexpr auto give = [](const auto& saved, auto& theirs) { theirs = saved; };

struct ActivityName {
    Activity ours;
    std::uint32_t theirs;
};
constexpr ActivityName activities[] = {
    {Activity::runs, KVM_MP_STATE_RUNNABLE},
    {Activity::uninitialized, KVM_MP_STATE_UNINITIALIZED},
    {Activity::init_received, KVM_MP_STATE_INIT_RECEIVED},
    {Activity::halted, KVM_MP_STATE_HALTED},
    {Activity::sipi_received, KVM_MP_STATE_SIPI_RECEIVED},
};

} // namespace

// ---- backend ----------------------------------------------------------------

Result<SavedBackend> KvmVm::save() {
    SavedBackend saved;
    for (std::uint32_t chip : {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC}) {
        kvm_irqchip state{};
        state.chip_id = chip;
        if (::ioctl(vm_.get(), KVM_GET_IRQCHIP, &state) < 0)
            return fail_errno(errno, "kvm: KVM_GET_IRQCHIP {}", chip);
        if (chip != KVM_IRQCHIP_IOAPIC) {
            each_pic_field(saved.pics[chip], state.chip.pic, take);
            continue;
        }
        const auto& io_apic = state.chip.ioapic;
        saved.io_apic.base = io_apic.base_address;
        saved.io_apic.selected = io_apic.ioregsel;
        saved.io_apic.id = io_apic.id;
        saved.io_apic.requests = io_apic.irr;
        for (std::size_t pin = 0; pin < saved.io_apic.redirections.size(); ++pin)
            saved.io_apic.redirections[pin] = io_apic.redirtbl[pin].bits;
    }
    kvm_pit_state2 timer{};
    if (held_timer_)
        timer = *held_timer_;
    else if (::ioctl(vm_.get(), KVM_GET_PIT2, &timer) < 0)
        return fail_errno(errno, "kvm: KVM_GET_PIT2");
    for (std::size_t i = 0; i < saved.timer.size(); ++i)
        each_timer_field(saved.timer[i], timer.channels[i], take);
    saved.speaker_on = (timer.flags & speaker_data_on) != 0;
    kvm_clock_data clock{};
    if (::ioctl(vm_.get(), KVM_GET_CLOCK, &clock) < 0)
        return fail_errno(errno, "kvm: KVM_GET_CLOCK");
    saved.pvclock_ns = clock.clock;
    return saved;
}

Result<void> KvmVm::load(const SavedBackend& saved) {
    for (std::uint32_t chip : {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC}) {
        kvm_irqchip state{};
        state.chip_id = chip;
        if (chip != KVM_IRQCHIP_IOAPIC) {
            each_pic_field(saved.pics[chip], state.chip.pic, give);
        } else {
            auto& io_apic = state.chip.ioapic;
            io_apic.base_address = saved.io_apic.base;
            io_apic.ioregsel = saved.io_apic.selected;
            io_apic.id = saved.io_apic.id;
            io_apic.irr = saved.io_apic.requests;
            for (std::size_t pin = 0; pin < saved.io_apic.redirections.size(); ++pin)
                io_apic.redirtbl[pin].bits = saved.io_apic.redirections[pin];
        }
        if (::ioctl(vm_.get(), KVM_SET_IRQCHIP, &state) < 0)
            return fail_errno(errno, "kvm: KVM_SET_IRQCHIP {}", chip);
    }
    kvm_pit_state2 timer{};
    for (std::size_t i = 0; i < saved.timer.size(); ++i)
        each_timer_field(saved.timer[i], timer.channels[i], give);
    timer.flags = saved.speaker_on ? speaker_data_on : 0;
    if (::ioctl(vm_.get(), KVM_SET_PIT2, &timer) < 0)
        return fail_errno(errno, "kvm: KVM_SET_PIT2");
    kvm_clock_data clock{};
    clock.clock = saved.pvclock_ns;
    if (::ioctl(vm_.get(), KVM_SET_CLOCK, &clock) < 0)
        return fail_errno(errno, "kvm: KVM_SET_CLOCK");
    return {};
}

// ---- vCPU -------------------------------------------------------------------

std::optional<std::uint64_t> KvmVcpu::read_msr(std::uint32_t index) const {
    OneMsr one{.entry = {.index = index}};
    if (::ioctl(vcpu_.get(), get_msrs, &one) != 1)
        return std::nullopt;
    return one.entry.data + 0;
}

bool KvmVcpu::write_msr(std::uint32_t index, std::uint64_t value) const {
    OneMsr one{.entry = {.index = index, .data = value}};
    return ::ioctl(vcpu_.get(), set_msrs, &one) == 1;
}

// The area is as long as the largest set of components that this kernel may let a guest have; a
// processor with AMX makes it longer than the structure of the first call.
Result<void> KvmVcpu::save_xsave(SavedVcpu& saved) const {
    saved.xsave.resize(std::max(xsave_bytes_, xsave_area_bytes));
    auto request = xsave_bytes_ > xsave_area_bytes ? get_xsave2 : get_xsave;
    if (::ioctl(vcpu_.get(), request, saved.xsave.data()) < 0)
        return fail_errno(errno, "kvm: KVM_GET_XSAVE");
    // What no component fills is not worth keeping, and the length is the host's affair.
    while (saved.xsave.size() > xsave_area_bytes && saved.xsave.back() == 0)
        saved.xsave.pop_back();
    return {};
}

Result<void> KvmVcpu::load_xsave(const SavedVcpu& saved) const {
    auto area = saved.xsave;
    auto room = std::max(xsave_bytes_, xsave_area_bytes);
    if (area.size() > room)
        return fail(ErrorKind::unsupported, "an xsave area of {} bytes, more than {}", area.size(),
                    room);
    area.resize(room);
    if (::ioctl(vcpu_.get(), set_xsave, area.data()) < 0)
        return fail_errno(errno, "kvm: KVM_SET_XSAVE");
    return {};
}

Result<void> KvmVcpu::save_msrs(SavedVcpu& saved) const {
    auto tsc = read_msr(msr_tsc);
    if (!tsc)
        return fail(ErrorKind::unsupported, "kvm: the time stamp counter cannot be read");
    saved.tsc = *tsc;
    for (const auto& range : saved_msrs)
        for (auto index = range.first; index <= range.last; ++index)
            if (auto value = read_msr(index))
                saved.msrs.push_back({index, *value});
    if (auto deadline = read_msr(msr_tsc_deadline); deadline && *deadline != 0)
        saved.msrs.push_back({msr_tsc_deadline, *deadline});
    return {};
}

// Of the stream's MSRs only those that are saved here are believed to be harmless.
Result<void> KvmVcpu::load_msrs(const SavedVcpu& saved) const {
    if (!write_msr(msr_tsc, saved.tsc))
        return fail(ErrorKind::unsupported, "kvm: the time stamp counter cannot be set");
    for (const auto& msr : saved.msrs) {
        if (msr.index == msr_tsc_deadline)
            continue; // needs the local APIC
        bool known = std::ranges::any_of(saved_msrs, [&](const MsrRange& range) {
            return msr.index >= range.first && msr.index <= range.last;
        });
        if (!known)
            return fail(ErrorKind::unsupported, "MSR {:#x} is not part of a machine's state",
                        msr.index);
        auto now = read_msr(msr.index);
        if (now == msr.value || (!now && msr.value == 0))
            continue;
        if (!write_msr(msr.index, msr.value))
            return fail(ErrorKind::unsupported, "MSR {:#x} cannot be {:#x} on this host", msr.index,
                        msr.value);
    }
    return {};
}

Result<SavedVcpu> KvmVcpu::save() {
    SavedVcpu saved;
    saved.registers = TRY(state());
    auto get = [this](unsigned long request, auto& into, const char* name) -> Result<void> {
        if (::ioctl(vcpu_.get(), request, &into) < 0)
            return fail_errno(errno, "kvm: {}", name);
        return {};
    };
    // First of all: it lets INIT and SIPI that are under way arrive.
    kvm_mp_state activity{};
    TRY(get(KVM_GET_MP_STATE, activity, "KVM_GET_MP_STATE"));
    for (const auto& name : activities)
        if (name.theirs == activity.mp_state)
            saved.activity = name.ours;
    kvm_sregs system{};
    TRY(get(KVM_GET_SREGS, system, "KVM_GET_SREGS"));
    saved.cr8 = system.cr8;
    saved.apic_base = system.apic_base;
    std::ranges::copy(system.interrupt_bitmap, saved.pending_vectors.begin());
    kvm_debugregs debug{};
    TRY(get(KVM_GET_DEBUGREGS, debug, "KVM_GET_DEBUGREGS"));
    std::ranges::copy(debug.db, saved.debug_addresses.begin());
    saved.dr6 = debug.dr6;
    saved.dr7 = debug.dr7;
    kvm_xcrs extended{};
    if (::ioctl(vcpu_.get(), KVM_GET_XCRS, &extended) == 0 && extended.nr_xcrs > 0)
        saved.xcr0 = extended.xcrs[0].value;
    TRY(save_xsave(saved));
    TRY(save_msrs(saved));
    kvm_lapic_state local{};
    TRY(get(KVM_GET_LAPIC, local, "KVM_GET_LAPIC"));
    std::memcpy(saved.local_apic.data(), local.regs, saved.local_apic.size());
    kvm_vcpu_events events{};
    TRY(get(KVM_GET_VCPU_EVENTS, events, "KVM_GET_VCPU_EVENTS"));
    auto& to = saved.events;
    to.exception_injected = events.exception.injected;
    to.exception_vector = events.exception.nr;
    to.exception_has_error = events.exception.has_error_code;
    to.exception_error = events.exception.error_code;
    to.interrupt_injected = events.interrupt.injected;
    to.interrupt_soft = events.interrupt.soft;
    to.interrupt_vector = events.interrupt.nr;
    to.interrupt_shadow = events.interrupt.shadow & 3;
    to.nmi_injected = events.nmi.injected;
    to.nmi_pending = events.nmi.pending;
    to.nmi_masked = events.nmi.masked;
    to.sipi_vector = byte(events.sipi_vector);
    return saved;
}

Result<void> KvmVcpu::load(const SavedVcpu& saved) {
    auto set = [this](unsigned long request, auto& from, const char* name) -> Result<void> {
        if (::ioctl(vcpu_.get(), request, &from) < 0)
            return fail_errno(errno, "kvm: {}", name);
        return {};
    };
    TRY(set_state(saved.registers));
    kvm_sregs system{};
    TRY(set(KVM_GET_SREGS, system, "KVM_GET_SREGS"));
    system.cr8 = saved.cr8;
    system.apic_base = saved.apic_base;
    std::ranges::copy(saved.pending_vectors, system.interrupt_bitmap);
    TRY(set(KVM_SET_SREGS, system, "KVM_SET_SREGS"));
    if (saved.xcr0 != 0) {
        kvm_xcrs extended{};
        extended.nr_xcrs = 1;
        extended.xcrs[0].value = saved.xcr0;
        TRY(set(KVM_SET_XCRS, extended, "KVM_SET_XCRS"));
    }
    TRY(load_xsave(saved));
    kvm_debugregs debug{};
    std::ranges::copy(saved.debug_addresses, debug.db);
    debug.dr6 = saved.dr6;
    debug.dr7 = saved.dr7;
    TRY(set(KVM_SET_DEBUGREGS, debug, "KVM_SET_DEBUGREGS"));
    TRY(load_msrs(saved));
    kvm_lapic_state local{};
    std::memcpy(local.regs, saved.local_apic.data(), saved.local_apic.size());
    TRY(set(KVM_SET_LAPIC, local, "KVM_SET_LAPIC"));
    for (const auto& msr : saved.msrs)
        if (msr.index == msr_tsc_deadline && !write_msr(msr.index, msr.value))
            return fail(ErrorKind::unsupported, "this host has no deadline timer");
    kvm_mp_state activity{};
    for (const auto& name : activities)
        if (name.ours == saved.activity)
            activity.mp_state = name.theirs;
    TRY(set(KVM_SET_MP_STATE, activity, "KVM_SET_MP_STATE"));
    kvm_vcpu_events events{};
    const auto& from = saved.events;
    events.exception.injected = from.exception_injected;
    events.exception.nr = from.exception_vector;
    events.exception.has_error_code = from.exception_has_error;
    events.exception.error_code = from.exception_error;
    events.interrupt.injected = from.interrupt_injected;
    events.interrupt.soft = from.interrupt_soft;
    events.interrupt.nr = from.interrupt_vector;
    events.interrupt.shadow = from.interrupt_shadow;
    events.nmi.injected = from.nmi_injected;
    events.nmi.pending = from.nmi_pending;
    events.nmi.masked = from.nmi_masked;
    events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    if (saved.activity == Activity::sipi_received) {
        events.flags |= KVM_VCPUEVENT_VALID_SIPI_VECTOR;
        events.sipi_vector = from.sipi_vector;
    }
    return set(KVM_SET_VCPU_EVENTS, events, "KVM_SET_VCPU_EVENTS");
}

} // namespace vmhost::machine::kvm
