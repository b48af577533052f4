#include "machine/cpu/saved.h"

namespace vmhost::machine {

namespace {

constexpr std::size_t max_xsave_bytes = 16 << 10; // with AMX's tiles it is 11 KiB
constexpr std::size_t max_msrs = 256;

} // namespace

Result<SavedVcpu> Vcpu::save() {
    return fail(ErrorKind::unsupported, "this backend cannot save a vcpu");
}
Result<void> Vcpu::load(const SavedVcpu&) {
    return fail(ErrorKind::unsupported, "this backend cannot load a vcpu");
}
Result<SavedBackend> Backend::save() {
    return fail(ErrorKind::unsupported, "this backend cannot be saved");
}
Result<void> Backend::load(const SavedBackend&) {
    return fail(ErrorKind::unsupported, "this backend cannot be loaded");
}
Result<unsigned> Backend::bind_message(int, std::uint64_t, std::uint32_t) {
    return fail(ErrorKind::unsupported, "this backend binds no messages");
}
void Backend::unbind_message(unsigned, int) {}

void Segment::state(StateArchive& archive) {
    archive(base, limit, selector, access);
}

void TableRegister::state(StateArchive& archive) {
    archive(base, limit);
}

void CpuState::state(StateArchive& archive) {
    archive(rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15);
    archive(rip, rflags, cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, cr0, cr2, cr3, cr4, efer);
}

void CpuidLeaf::state(StateArchive& archive) {
    archive(leaf, subleaf, has_subleaf, eax, ebx, ecx, edx);
}

void SavedEvents::state(StateArchive& archive) {
    archive(exception_injected, exception_has_error, exception_vector, exception_error);
    archive(interrupt_injected, interrupt_soft, interrupt_vector);
    archive.at_most(interrupt_shadow, std::uint8_t{3}, "interrupt shadow");
    archive(nmi_injected, nmi_pending, nmi_masked, sipi_vector);
}

void SavedVcpu::state(StateArchive& archive) {
    archive.version(1);
    archive(registers, cr8, apic_base, pending_vectors, debug_addresses, dr6, dr7, xcr0);
    archive.bytes(xsave, max_xsave_bytes, "xsave area");
    archive(local_apic, events);
    archive.at_most(activity, Activity::sipi_received, "activity");
    archive(tsc);
    archive.list(msrs, max_msrs, "MSRs");
}

void SavedPic::state(StateArchive& archive) {
    archive(last_levels, requests, mask, in_service, lowest_priority, vector_base, reads_in_service,
            polled, special_mask, init_step, auto_end, rotates_on_auto_end, fully_nested,
            init_four_words, level_triggered, level_triggered_allowed);
}

void SavedIoApic::state(StateArchive& archive) {
    archive(base, selected, id, requests, redirections);
}

void SavedTimerChannel::state(StateArchive& archive) {
    archive(count, latched_count, count_latched, status_latched, status, read_state, write_state,
            write_latch, access, mode, bcd, gate);
}

void SavedBackend::state(StateArchive& archive) {
    archive.version(1);
    archive(pics, io_apic, timer, speaker_on, pvclock_ns);
}

} // namespace vmhost::machine
