// Whether a guest that began on one processor can go on on another.
#include "machine/cpu/cpu.h"

#include <algorithm>

namespace vmhost::machine {

namespace {

using Part = std::uint32_t CpuidLeaf::*;

// Words of feature bits: one that was there must still be.
struct FeatureWord {
    std::uint32_t leaf, subleaf;
    Part part;
    const char* name;
};
constexpr FeatureWord feature_words[] = {
    {1, 0, &CpuidLeaf::ecx, "ecx"},          {1, 0, &CpuidLeaf::edx, "edx"},
    {6, 0, &CpuidLeaf::eax, "eax"},          {7, 0, &CpuidLeaf::ebx, "ebx"},
    {7, 0, &CpuidLeaf::ecx, "ecx"},          {7, 0, &CpuidLeaf::edx, "edx"},
    {7, 1, &CpuidLeaf::eax, "eax"},          {7, 1, &CpuidLeaf::edx, "edx"},
    {7, 2, &CpuidLeaf::edx, "edx"},          {0xd, 0, &CpuidLeaf::eax, "eax"},
    {0xd, 0, &CpuidLeaf::edx, "edx"},        {0xd, 1, &CpuidLeaf::eax, "eax"},
    {0x80000001, 0, &CpuidLeaf::ecx, "ecx"}, {0x80000001, 0, &CpuidLeaf::edx, "edx"},
    {0x80000007, 0, &CpuidLeaf::edx, "edx"}, {0x80000008, 0, &CpuidLeaf::ebx, "ebx"},
    {0x80000021, 0, &CpuidLeaf::eax, "eax"}, {0x40000001, 0, &CpuidLeaf::eax, "eax"},
    {0x40000101, 0, &CpuidLeaf::eax, "eax"},
};

// Those that people know by name; SDM vol. 2, CPUID.
struct FeatureName {
    std::uint32_t leaf, subleaf;
    Part part;
    unsigned bit;
    const char* name;
};
constexpr FeatureName feature_names[] = {
    {1, 0, &CpuidLeaf::ecx, 0, "SSE3"},
    {1, 0, &CpuidLeaf::ecx, 9, "SSSE3"},
    {1, 0, &CpuidLeaf::ecx, 12, "FMA"},
    {1, 0, &CpuidLeaf::ecx, 19, "SSE4.1"},
    {1, 0, &CpuidLeaf::ecx, 20, "SSE4.2"},
    {1, 0, &CpuidLeaf::ecx, 21, "x2APIC"},
    {1, 0, &CpuidLeaf::ecx, 23, "POPCNT"},
    {1, 0, &CpuidLeaf::ecx, 24, "TSC deadline"},
    {1, 0, &CpuidLeaf::ecx, 25, "AES"},
    {1, 0, &CpuidLeaf::ecx, 26, "XSAVE"},
    {1, 0, &CpuidLeaf::ecx, 28, "AVX"},
    {1, 0, &CpuidLeaf::ecx, 30, "RDRAND"},
    {7, 0, &CpuidLeaf::ebx, 0, "FSGSBASE"},
    {7, 0, &CpuidLeaf::ebx, 3, "BMI1"},
    {7, 0, &CpuidLeaf::ebx, 5, "AVX2"},
    {7, 0, &CpuidLeaf::ebx, 7, "SMEP"},
    {7, 0, &CpuidLeaf::ebx, 8, "BMI2"},
    {7, 0, &CpuidLeaf::ebx, 16, "AVX512F"},
    {7, 0, &CpuidLeaf::ebx, 20, "SMAP"},
    {0x80000001, 0, &CpuidLeaf::edx, 20, "NX"},
    {0x80000001, 0, &CpuidLeaf::edx, 29, "64-bit mode"},
    {0x80000007, 0, &CpuidLeaf::edx, 8, "invariant TSC"},
};

// OSXSAVE and the like follow the guest's registers.
constexpr std::uint32_t osxsave = 1U << 27;

std::uint32_t word(const CpuModel& model, const FeatureWord& which) {
    auto found = std::ranges::find_if(model.leaves, [&](const CpuidLeaf& leaf) {
        return leaf.leaf == which.leaf &&
               (leaf.has_subleaf ? leaf.subleaf == which.subleaf : which.subleaf == 0);
    });
    return found == model.leaves.end() ? 0 : (*found).*which.part;
}

std::string name_of(const FeatureWord& in, unsigned bit) {
    auto text = fmt::format("leaf {:#x}", in.leaf);
    if (in.subleaf != 0)
        text += fmt::format(".{}", in.subleaf);
    text += fmt::format(" {} bit {}", in.name, bit);
    for (const auto& known : feature_names)
        if (known.leaf == in.leaf && known.subleaf == in.subleaf && known.part == in.part &&
            known.bit == bit)
            text += fmt::format(" ({})", known.name);
    return text;
}

} // namespace

std::optional<std::string> missing_feature(const CpuModel& wanted, const CpuModel& offered) {
    for (const auto& which : feature_words) {
        auto missing = word(wanted, which) & ~word(offered, which);
        if (which.leaf == 1 && which.part == &CpuidLeaf::ecx)
            missing &= ~osxsave;
        for (unsigned bit = 0; bit < 32; ++bit)
            if (missing >> bit & 1)
                return name_of(which, bit);
    }
    return std::nullopt;
}

} // namespace vmhost::machine
