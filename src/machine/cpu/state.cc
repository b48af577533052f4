// The two CPU states every boot path starts from.
#include "machine/cpu/cpu.h"

namespace vmhost::machine {

namespace {

// Access rights as in a VMCS: present, code or data segment (S), accessed.
constexpr std::uint16_t real_mode_code = 0x009b;
constexpr std::uint16_t real_mode_data = 0x0093;
constexpr std::uint16_t flat_code = 0xc09b; // 4 GiB, 32 bits
constexpr std::uint16_t flat_data = 0xc093;
constexpr std::uint16_t empty_ldt = 0x0082;
constexpr std::uint16_t busy_tss = 0x008b;

} // namespace

// Intel SDM vol. 3, table 10-1 (9.1.1 in older editions).
CpuState CpuState::reset() {
    CpuState state;
    state.cs = {.base = 0xffff0000, .limit = 0xffff, .selector = 0xf000, .access = real_mode_code};
    for (Segment* data : {&state.ds, &state.es, &state.fs, &state.gs, &state.ss})
        *data = {.base = 0, .limit = 0xffff, .selector = 0, .access = real_mode_data};
    state.ldt = {.base = 0, .limit = 0xffff, .selector = 0, .access = empty_ldt};
    state.tr = {.base = 0, .limit = 0xffff, .selector = 0, .access = busy_tss};
    return state;
}

CpuState CpuState::flat_protected() {
    CpuState state = reset();
    state.rip = 0;
    state.cs = {.base = 0, .limit = 0xffffffff, .selector = 0x08, .access = flat_code};
    for (Segment* data : {&state.ds, &state.es, &state.fs, &state.gs, &state.ss})
        *data = {.base = 0, .limit = 0xffffffff, .selector = 0x10, .access = flat_data};
    state.cr0 = 0x11; // PE, ET: caches on, paging off
    return state;
}

} // namespace vmhost::machine
