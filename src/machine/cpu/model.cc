// What the guest is told about its processor.
//
// The rules are a table of bits to clear and leaves to drop, applied to what the
// backend offers, so nothing is announced that it cannot do. On top come:
//  - the OpenBSD VMM signature at 0x40000000: OpenBSD's boot programs choose com0
//    by it; KVM's signature at 0x40000100, where Linux finds it by scanning; an
//    all-zero 0x40000200, where OpenBSD's scan ends;
//  - of KVM's features only the clock: nothing else survives a change of backend;
//  - one package with one core per vCPU, one thread per core: OpenBSD does not
//    schedule the second thread of a core by default;
//  - on Intel leaf 0x15 with a crystal of 1 GHz: OpenBSD takes the crystal for the
//    clock of the local APIC timer, and KVM's runs at 1 GHz.
// Features whose MSRs a guest then reads without a safety net are hidden.
//
// A level instead of the host's processor is a table of the bits that may stay; leaves
// that are not in it are dropped, but those that describe caches, names and sizes.
//
// What the state of XSAVE does not have room for is not announced: KVM lists AMX also
// where it does not let a process have the tiles, and the sizes in leaf 0xd are made
// anew from the components that remain (Intel SDM vol. 1, 13.2).
#include "machine/cpu/cpu.h"

#include <algorithm>
#include <bit>

namespace vmhost::machine {

namespace {

enum class Register : std::uint8_t { eax, ebx, ecx, edx };

constexpr std::uint32_t bit(unsigned number) {
    return std::uint32_t{1} << number;
}

constexpr std::uint32_t invariant_tsc = bit(8); // 0x80000007 EDX
constexpr std::uint32_t x2apic = bit(21);       // 1 ECX
constexpr std::uint32_t tsc_deadline = bit(24); // 1 ECX
constexpr std::uint32_t hypervisor = bit(31);   // 1 ECX
constexpr std::uint32_t many_threads = bit(28); // 1 EDX, HTT
// Leaf 0x40000001 EAX of KVM: no I/O delay needed, clock source 2, clock source stable.
constexpr std::uint32_t kvm_clock_features = bit(1) | bit(3) | bit(24);
constexpr std::uint32_t pvclock_features = bit(3) | bit(24);

struct Clear {
    std::uint32_t leaf, subleaf;
    Register in;
    std::uint32_t bits;
};
constexpr Clear cleared[] = {
    // DTES64 MONITOR DS-CPL VMX SMX EIST TM2 CNXT-ID SDBG xTPR PDCM DCA; OSXSAVE follows CR4
    {1, 0, Register::ecx,
     bit(2) | bit(3) | bit(4) | bit(5) | bit(6) | bit(7) | bit(8) | bit(10) | bit(11) | bit(14) |
         bit(15) | bit(18) | bit(27)},
    {1, 0, Register::edx, bit(18) | bit(21) | bit(22) | bit(29) | bit(31)}, // PSN DS ACPI TM PBE
    {6, 0, Register::eax, ~bit(2)},                                         // only ARAT
    {6, 0, Register::ebx, ~0U},
    {6, 0, Register::ecx, ~0U},
    {6, 0, Register::edx, ~0U},
    // SGX HLE RTM PQM PQE PT
    {7, 0, Register::ebx, bit(2) | bit(4) | bit(11) | bit(12) | bit(15) | bit(25)},
    {7, 0, Register::ecx, bit(30)},                     // SGX_LC
    {7, 0, Register::edx, bit(11) | bit(13) | bit(29)}, // RTM aborts, ARCH_CAPABILITIES
    // SVM IBS OSVW SKINIT WDT NODEID_MSR PERFCTR* MONITORX
    {0x80000001, 0, Register::ecx,
     bit(2) | bit(9) | bit(10) | bit(12) | bit(13) | bit(19) | bit(23) | bit(24) | bit(28) |
         bit(29)},
    {0x80000007, 0, Register::edx, ~invariant_tsc},
};

// MONITOR, DCA, PMU, SGX, PT, V2 topology; SVM, IBS, SEV, PMU V2, AMD's own topology V2.
constexpr std::uint32_t dropped[] = {
    5, 9, 0xa, 0x12, 0x14, 0x1f, 0x23, 0x8000000a, 0x8000001b, 0x8000001f, 0x80000022, 0x80000026};

// The levels of the x86-64 psABI (section 3.1.1): what each adds.
struct LevelBit {
    CpuKind from;
    std::uint32_t leaf;
    Register in;
    unsigned number;
    const char* name;
};
constexpr std::uint32_t extended = 0x80000001;
constexpr LevelBit level_bits[] = {
    {CpuKind::baseline, 1, Register::edx, 0, "fpu"},
    {CpuKind::baseline, 1, Register::edx, 8, "cx8"},
    {CpuKind::baseline, 1, Register::edx, 15, "cmov"},
    {CpuKind::baseline, 1, Register::edx, 23, "mmx"},
    {CpuKind::baseline, 1, Register::edx, 24, "fxsr"},
    {CpuKind::baseline, 1, Register::edx, 25, "sse"},
    {CpuKind::baseline, 1, Register::edx, 26, "sse2"},
    {CpuKind::baseline, extended, Register::edx, 11, "syscall"},
    {CpuKind::v2, 1, Register::ecx, 0, "sse3"},
    {CpuKind::v2, 1, Register::ecx, 9, "ssse3"},
    {CpuKind::v2, 1, Register::ecx, 13, "cx16"},
    {CpuKind::v2, 1, Register::ecx, 19, "sse4.1"},
    {CpuKind::v2, 1, Register::ecx, 20, "sse4.2"},
    {CpuKind::v2, 1, Register::ecx, 23, "popcnt"},
    {CpuKind::v2, extended, Register::ecx, 0, "lahf"},
    {CpuKind::v3, 1, Register::ecx, 12, "fma"},
    {CpuKind::v3, 1, Register::ecx, 22, "movbe"},
    {CpuKind::v3, 1, Register::ecx, 26, "xsave"},
    {CpuKind::v3, 1, Register::ecx, 28, "avx"},
    {CpuKind::v3, 1, Register::ecx, 29, "f16c"},
    {CpuKind::v3, 7, Register::ebx, 3, "bmi1"},
    {CpuKind::v3, 7, Register::ebx, 5, "avx2"},
    {CpuKind::v3, 7, Register::ebx, 8, "bmi2"},
    {CpuKind::v3, extended, Register::ecx, 5, "lzcnt"},
};

// Bits that no level names and that every level keeps where the host has them: the
// system's part of a processor, and what protects a kernel.
struct Kept {
    std::uint32_t leaf;
    Register in;
    std::uint32_t bits;
};
constexpr Kept kept[] = {
    // VME DE PSE TSC MSR PAE MCE APIC SEP MTRR PGE MCA PAT PSE36 CLFSH HTT
    {1, Register::edx,
     bit(1) | bit(2) | bit(3) | bit(4) | bit(5) | bit(6) | bit(7) | bit(9) | bit(11) | bit(12) |
         bit(13) | bit(14) | bit(16) | bit(17) | bit(19) | bit(28)},
    {1, Register::ecx, x2apic | tsc_deadline | hypervisor},
    {7, Register::ebx, bit(7) | bit(20)}, // SMEP SMAP
    {7, Register::ecx, bit(2)},           // UMIP
    // MD_CLEAR SPEC_CTRL STIBP L1D_FLUSH SSBD
    {7, Register::edx, bit(10) | bit(26) | bit(27) | bit(28) | bit(31)},
    // leaf 1's once more, NX RDTSCP LM
    {extended, Register::edx, 0x0183f3ff | bit(20) | bit(27) | bit(29)},
    {extended, Register::ecx, bit(1) | bit(4) | bit(22)}, // CmpLegacy, CR8, topology
};
// Leaves that say nothing of features.
constexpr std::uint32_t descriptive[] = {
    0, 2, 4, 6, 0xb, 0x80000000, 0x80000002, 0x80000003, 0x80000004, 0x80000005, 0x80000006,
    0x80000007, 0x80000008, 0x8000001d, 0x8000001e};

// XCR0's components.
constexpr std::uint32_t state_x87_sse = 3, state_avx = 4, state_avx512 = 0xe0, state_pkru = 0x200,
                        state_amx = 0x60000;

std::uint32_t& part(CpuidLeaf& leaf, Register in) {
    switch (in) {
    case Register::eax:
        return leaf.eax;
    case Register::ebx:
        return leaf.ebx;
    case Register::ecx:
        return leaf.ecx;
    case Register::edx:
        break;
    }
    return leaf.edx;
}

std::uint32_t four(std::string_view text) {
    return load_le<std::uint32_t>(as_bytes(text));
}

class Builder {
public:
    Builder(const Capabilities& capabilities, unsigned index, unsigned count)
        : index_(index), count_(std::max(count, 1U)),
          core_bits_(static_cast<unsigned>(std::bit_width(count_ - 1))) {
        for (const auto& leaf : capabilities.cpuid)
            if (leaf.leaf >> 28 != 4 && std::ranges::find(dropped, leaf.leaf) == std::end(dropped))
                leaves_.push_back(leaf);
    }

    CpuidLeaf* find(std::uint32_t number, std::uint32_t subleaf = 0) {
        auto found = std::ranges::find_if(leaves_, [&](const CpuidLeaf& leaf) {
            return leaf.leaf == number && (!leaf.has_subleaf || leaf.subleaf == subleaf);
        });
        return found == leaves_.end() ? nullptr : &*found;
    }
    CpuidLeaf& get(std::uint32_t number) {
        if (auto* found = find(number))
            return *found;
        return leaves_.emplace_back(CpuidLeaf{.leaf = number});
    }
    void remove(std::uint32_t number) {
        std::erase_if(leaves_, [number](const CpuidLeaf& leaf) { return leaf.leaf == number; });
    }

    void clear_features(bool kernel_interrupts) {
        for (const auto& rule : cleared)
            if (auto* leaf = find(rule.leaf, rule.subleaf))
                part(*leaf, rule.in) &= ~rule.bits;
        auto& features = get(1);
        if (!kernel_interrupts)
            features.ecx &= ~(x2apic | tsc_deadline);
        features.ecx |= hypervisor;
    }
    void keep_level(CpuKind kind);
    void fit_to_xsave();
    void set_topology();
    void set_hypervisor(std::uint32_t offered);
    void set_tsc_frequency(std::uint64_t tsc_khz);

    std::vector<CpuidLeaf> take() { return std::move(leaves_); }

private:
    bool vendor_is(std::string_view name) {
        auto& leaf = get(0);
        return leaf.ebx == four(name) && leaf.edx == four(name.substr(4)) &&
               leaf.ecx == four(name.substr(8));
    }
    bool is_intel() { return vendor_is("GenuineIntel"); }
    bool is_amd() { return vendor_is("AuthenticAMD") || vendor_is("HygonGenuine"); }
    void set_cache_sharing(std::uint32_t number, bool intel);
    void set_extended_topology();

    unsigned index_, count_;
    unsigned core_bits_; // bits of an APIC id that number the cores
    std::vector<CpuidLeaf> leaves_;
};

// Only what the level has; the leaves that are left out read as zero.
void Builder::keep_level(CpuKind kind) {
    if (kind == CpuKind::host)
        return;
    for (auto& leaf : leaves_) {
        std::uint32_t masks[4] = {};
        auto keep = [&](std::uint32_t number, Register in, std::uint32_t bits) {
            if (leaf.leaf == number && leaf.subleaf == 0)
                masks[static_cast<unsigned>(in)] |= bits;
        };
        for (const auto& one : level_bits)
            if (one.from <= kind)
                keep(one.leaf, one.in, bit(one.number));
        for (const auto& one : kept)
            keep(one.leaf, one.in, one.bits);
        // IBPB IBRS STIBP, their preferences, SSBD and its kin; the sizes stay.
        if (leaf.leaf == 0x80000008)
            leaf.ebx &= bit(12) | bit(14) | bit(15) | bit(16) | bit(17) | bit(18) | bit(19) |
                        bit(24) | bit(25) | bit(26);
        if (leaf.leaf == 1 || leaf.leaf == 7 || leaf.leaf == extended) {
            if (leaf.leaf == 7)
                leaf.eax = 0; // no further subleaf
            else
                masks[static_cast<unsigned>(Register::ebx)] = ~0U; // brand and APIC id
            leaf.ebx &= masks[static_cast<unsigned>(Register::ebx)];
            leaf.ecx &= masks[static_cast<unsigned>(Register::ecx)];
            leaf.edx &= masks[static_cast<unsigned>(Register::edx)];
        }
    }
    std::erase_if(leaves_, [kind](const CpuidLeaf& leaf) {
        if (leaf.leaf == 1 || leaf.leaf == extended)
            return false;
        if (leaf.leaf == 7)
            return leaf.subleaf != 0;
        if (leaf.leaf == 0xd)
            return kind < CpuKind::v3 || leaf.subleaf > 2;
        return std::ranges::find(descriptive, leaf.leaf) == std::end(descriptive);
    });
    if (auto* xsave = find(0xd)) {
        xsave->eax &= state_x87_sse | state_avx;
        xsave->edx = 0;
    }
    if (auto* xsave = find(0xd, 1); xsave != nullptr && xsave->subleaf == 1) {
        xsave->eax &= 7; // XSAVEOPT XSAVEC XGETBV1
        xsave->ebx = xsave->ecx = xsave->edx = 0;
    }
}

// Features whose registers XSAVE cannot hold here go, then the sizes are made anew.
void Builder::fit_to_xsave() {
    auto* whole = find(0xd);
    const std::uint32_t components = whole == nullptr ? 0 : whole->eax;
    auto& features = get(1);
    auto* more = find(7);
    if ((components & state_avx) == 0) {
        features.ecx &= ~(bit(12) | bit(28) | bit(29)); // FMA AVX F16C
        if (more != nullptr) {
            more->ebx &= ~bit(5);             // AVX2
            more->ecx &= ~(bit(9) | bit(10)); // VAES VPCLMULQDQ
        }
    }
    if (more != nullptr) {
        if ((components & state_avx512) != state_avx512) {
            // F DQ IFMA PF ER CD BW VL; VBMI VBMI2 VNNI BITALG VPOPCNTDQ; 4VNNIW 4FMAPS
            // VP2INTERSECT FP16
            more->ebx &= ~(bit(16) | bit(17) | bit(21) | bit(26) | bit(27) | bit(28) | bit(30) |
                           bit(31));
            more->ecx &= ~(bit(1) | bit(6) | bit(11) | bit(12) | bit(14));
            more->edx &= ~(bit(2) | bit(3) | bit(8) | bit(23));
        }
        if ((components & state_pkru) == 0)
            more->ecx &= ~(bit(3) | bit(4)); // PKU OSPKE
        if ((components & state_amx) != state_amx)
            more->edx &= ~(bit(22) | bit(24) | bit(25)); // AMX: BF16 TILE INT8
    }
    if ((components & state_amx) != state_amx) {
        remove(0x1d);
        remove(0x1e);
        if (auto* sub = find(7, 1); sub != nullptr && sub->subleaf == 1) {
            sub->eax &= ~bit(21); // AMX-FP16
            sub->edx &= ~bit(8);  // AMX-COMPLEX
        }
        if (auto* sub = find(0xd, 1); sub != nullptr && sub->subleaf == 1)
            sub->eax &= ~bit(4); // XFD
    }
    if (whole == nullptr)
        return;
    std::erase_if(leaves_, [components](const CpuidLeaf& leaf) {
        // Supervisor states (bit 0 of ECX) are not in XCR0.
        return leaf.leaf == 0xd && leaf.subleaf >= 2 && leaf.subleaf < 32 &&
               (leaf.ecx & 1) == 0 && (components >> leaf.subleaf & 1) == 0;
    });
    std::uint32_t size_bytes = 576; // legacy area and header
    for (const auto& leaf : leaves_)
        if (leaf.leaf == 0xd && leaf.subleaf >= 2 && (leaf.ecx & 1) == 0)
            size_bytes = std::max(size_bytes, leaf.ebx + leaf.eax);
    whole = find(0xd);
    whole->ebx = 576; // at reset XCR0 is x87 alone; KVM follows what the guest enables
    whole->ecx = size_bytes;
}

// Deterministic cache parameters: levels 1 and 2 belong to one core, the rest to the package.
void Builder::set_cache_sharing(std::uint32_t number, bool intel) {
    const std::uint32_t package = (1U << core_bits_) - 1;
    for (auto& leaf : leaves_) {
        if (leaf.leaf != number || (leaf.eax & 0x1f) == 0)
            continue;
        const std::uint32_t level = leaf.eax >> 5 & 7;
        leaf.eax &= 0x3fff;
        leaf.eax |= (level >= 3 ? package : 0) << 14;
        if (intel)
            leaf.eax |= std::min(package, 63U) << 26;
    }
}

// Leaf 0xb: level 0 threads (one), level 1 cores, level 2 ends the list.
void Builder::set_extended_topology() {
    if (find(0xb) == nullptr)
        return;
    remove(0xb);
    auto add = [this](std::uint32_t level, std::uint32_t shift, std::uint32_t number,
                      std::uint32_t type) {
        leaves_.push_back({.leaf = 0xb,
                           .subleaf = level,
                           .has_subleaf = true,
                           .eax = shift,
                           .ebx = number,
                           .ecx = level | type << 8,
                           .edx = index_});
    };
    add(0, 0, 1, 1);
    add(1, core_bits_, count_, 2);
    add(2, 0, 0, 0);
}

void Builder::set_topology() {
    auto& features = get(1);
    features.ebx = (features.ebx & 0xffff) | (1U << core_bits_) << 16 | index_ << 24;
    features.edx &= ~many_threads;
    if (count_ > 1)
        features.edx |= many_threads;
    set_cache_sharing(4, true);
    set_cache_sharing(0x8000001d, false);
    set_extended_topology();
    if (!is_amd())
        return;
    constexpr std::uint32_t cores_are_cores = bit(1); // CmpLegacy
    auto& more = get(extended);
    more.ecx &= ~cores_are_cores;
    if (count_ > 1)
        more.ecx |= cores_are_cores;
    if (auto* sizes = find(0x80000008))
        sizes->ecx = (count_ - 1) | core_bits_ << 12;
    if (auto* unit = find(0x8000001e)) {
        unit->eax = index_;
        unit->ebx = index_; // one thread per compute unit
        unit->ecx = 0;      // one node
        unit->edx = 0;
    }
}

void Builder::set_hypervisor(std::uint32_t offered) {
    auto add = [this](std::uint32_t number, std::uint32_t eax, std::string_view signature) {
        signature.size() == 12 ? leaves_.push_back({.leaf = number,
                                                    .eax = eax,
                                                    .ebx = four(signature),
                                                    .ecx = four(signature.substr(4)),
                                                    .edx = four(signature.substr(8))})
                               : leaves_.push_back({.leaf = number, .eax = eax});
    };
    using namespace std::string_view_literals;
    add(0x40000000, 0x40000001, "OpenBSDVMM58"sv);
    add(0x40000001, offered & pvclock_features, {});
    add(0x40000100, 0x40000101, "KVMKVMKVM\0\0\0"sv);
    add(0x40000101, offered & kvm_clock_features, {});
    add(0x40000200, 0, {});
}

// Only with an invariant TSC: a frequency that changes is worse than none.
void Builder::set_tsc_frequency(std::uint64_t tsc_khz) {
    remove(0x15);
    auto* power = find(0x80000007);
    bool invariant = power != nullptr && (power->edx & invariant_tsc) != 0;
    if (!is_intel() || !invariant || tsc_khz == 0 || tsc_khz > ~std::uint32_t{0})
        return;
    constexpr std::uint32_t crystal_hz = 1'000'000'000;
    leaves_.push_back({.leaf = 0x15,
                       .eax = crystal_hz / 1000,
                       .ebx = static_cast<std::uint32_t>(tsc_khz),
                       .ecx = crystal_hz});
    auto& basic = get(0);
    basic.eax = std::max(basic.eax, 0x15U);
}

} // namespace

Result<void> check_cpu_kind(const Capabilities& capabilities, CpuKind kind) {
    Builder builder(capabilities, 0, 1);
    std::string missing;
    for (const auto& wanted : level_bits) {
        if (kind == CpuKind::host || wanted.from > kind)
            continue;
        auto* leaf = builder.find(wanted.leaf);
        if (leaf == nullptr || (part(*leaf, wanted.in) & bit(wanted.number)) == 0)
            missing += fmt::format("{}{}", missing.empty() ? "" : ", ", wanted.name);
    }
    if (missing.empty())
        return {};
    return fail(ErrorKind::unsupported, "this host's processor, as its KVM offers it, lacks {}",
                missing);
}

CpuModel make_cpu_model(const Capabilities& capabilities, unsigned index, unsigned count,
                        CpuKind kind) {
    std::uint32_t offered = 0; // the backend's paravirtual features
    for (const auto& leaf : capabilities.cpuid)
        if (leaf.leaf == 0x40000001)
            offered = leaf.eax;

    Builder builder(capabilities, index, count);
    builder.clear_features(capabilities.kernel_interrupts);
    builder.keep_level(kind);
    builder.fit_to_xsave();
    builder.set_topology();
    builder.set_tsc_frequency(capabilities.tsc_khz);
    builder.set_hypervisor(offered);
    // A guest that never asks beyond the maximum must still find leaf 1.
    auto& basic = builder.get(0);
    basic.eax = std::max(basic.eax, 1U);
    return {builder.take()};
}

} // namespace vmhost::machine
