#include <catch2/catch.hpp>

#include <cstring>

#include "machine/cpu/cpu.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

const CpuidLeaf* find(const CpuModel& model, std::uint32_t number, std::uint32_t subleaf = 0) {
    for (const auto& leaf : model.leaves)
        if (leaf.leaf == number && (!leaf.has_subleaf || leaf.subleaf == subleaf))
            return &leaf;
    return nullptr;
}

std::string signature(const CpuidLeaf& leaf, bool vendor_order = false) {
    std::uint32_t words[3] = {leaf.ebx, leaf.ecx, leaf.edx};
    if (vendor_order)
        std::swap(words[1], words[2]);
    std::string text(12, 0);
    std::memcpy(text.data(), words, 12);
    return text;
}

CpuidLeaf vendor(const char* name, std::uint32_t max) {
    CpuidLeaf leaf{.leaf = 0, .eax = max};
    std::memcpy(&leaf.ebx, name, 4);
    std::memcpy(&leaf.edx, name + 4, 4);
    std::memcpy(&leaf.ecx, name + 8, 4);
    return leaf;
}

constexpr std::uint32_t all = ~0U;

// A host that claims everything.
Capabilities generous(const char* name) {
    Capabilities offered;
    offered.kernel_interrupts = true;
    offered.tsc_khz = 2'999'998;
    offered.cpuid = {vendor(name, 0xd)};
    for (std::uint32_t leaf :
         {1U, 2U, 5U, 6U, 9U, 0xaU, 0x14U, 0x40000000U, 0x40000001U, 0x80000000U, 0x80000001U,
          0x80000007U, 0x80000008U, 0x8000000aU, 0x8000001eU, 0x8000001fU})
        offered.cpuid.push_back({.leaf = leaf, .eax = all, .ebx = all, .ecx = all, .edx = all});
    for (std::uint32_t leaf : {4U, 7U, 0xbU, 0xdU, 0x8000001dU})
        for (std::uint32_t sub = 0; sub < 3; ++sub)
            offered.cpuid.push_back({.leaf = leaf,
                                     .subleaf = sub,
                                     .has_subleaf = true,
                                     .eax = (leaf & 0xff) == 4 || leaf == 0x8000001d
                                                ? 0xffffc000U | (sub + 1) << 5 | 1
                                                : all,
                                     .ebx = all,
                                     .ecx = all,
                                     .edx = all});
    return offered;
}

} // namespace

TEST_CASE("hypervisor leaves: OpenBSD first, KVM next, then zero") {
    auto model = make_cpu_model(generous("GenuineIntel"), 0, 1);
    CHECK(signature(*find(model, 0x40000000)) == "OpenBSDVMM58");
    CHECK(find(model, 0x40000000)->eax == 0x40000001);
    CHECK(find(model, 0x40000001)->eax == ((1U << 3) | (1U << 24)));
    CHECK(signature(*find(model, 0x40000100)) == std::string("KVMKVMKVM\0\0\0", 12));
    CHECK(find(model, 0x40000100)->eax == 0x40000101);
    CHECK(find(model, 0x40000101)->eax == ((1U << 1) | (1U << 3) | (1U << 24)));
    const auto* last = find(model, 0x40000200);
    REQUIRE(last);
    CHECK((last->eax | last->ebx | last->ecx | last->edx) == 0);
    CHECK((find(model, 1)->ecx >> 31) == 1);
    std::size_t first_bases = 0;
    for (const auto& leaf : model.leaves)
        first_bases += leaf.leaf == 0x40000000;
    CHECK(first_bases == 1);
}

TEST_CASE("the clock features follow the backend") {
    auto offered = generous("GenuineIntel");
    for (auto& leaf : offered.cpuid)
        if (leaf.leaf == 0x40000001)
            leaf.eax = 1U << 3 | 1U << 5; // not stable
    auto model = make_cpu_model(offered, 0, 1);
    CHECK(find(model, 0x40000001)->eax == 1U << 3);
    CHECK(find(model, 0x40000101)->eax == 1U << 3);
    CHECK(find(make_cpu_model({}, 0, 1), 0x40000101)->eax == 0);
}

TEST_CASE("features whose registers a guest would miss are hidden") {
    auto model = make_cpu_model(generous("GenuineIntel"), 0, 1);
    const auto* one = find(model, 1);
    for (unsigned hidden : {3U, 5U, 6U, 15U, 27U})
        CHECK((one->ecx >> hidden & 1) == 0);
    CHECK((one->ecx >> 21 & 1) == 1); // x2APIC with kernel interrupts
    const auto* seven = find(model, 7);
    for (unsigned hidden : {2U, 4U, 11U, 25U})
        CHECK((seven->ebx >> hidden & 1) == 0);
    CHECK((seven->edx >> 29 & 1) == 0);
    CHECK((seven->ebx >> 23 & 1) == 1); // CLFLUSHOPT stays
    CHECK((find(model, 0x80000001)->ecx >> 2 & 1) == 0);
    CHECK(find(model, 0x80000007)->edx == 1U << 8);
    CHECK(find(model, 6)->eax == 1U << 2);
    for (std::uint32_t gone : {5U, 9U, 0xaU, 0x14U, 0x8000000aU, 0x8000001fU})
        CHECK(find(model, gone) == nullptr);

    auto soft = generous("GenuineIntel");
    soft.kernel_interrupts = false;
    CHECK((find(make_cpu_model(soft, 0, 1), 1)->ecx >> 21 & 9) == 0); // nor TSC deadline
}

TEST_CASE("leaf 0x15 makes the crystal the clock of the local APIC") {
    auto model = make_cpu_model(generous("GenuineIntel"), 0, 1);
    const auto* leaf = find(model, 0x15);
    REQUIRE(leaf);
    CHECK(leaf->ecx == 1'000'000'000);
    CHECK(std::uint64_t{leaf->ecx} * leaf->ebx / leaf->eax == 2'999'998'000);
    CHECK(find(model, 0)->eax == 0x15);

    CHECK(find(make_cpu_model(generous("AuthenticAMD"), 0, 1), 0x15) == nullptr);
    auto unknown = generous("GenuineIntel");
    unknown.tsc_khz = 0;
    CHECK(find(make_cpu_model(unknown, 0, 1), 0x15) == nullptr);
    auto drifting = generous("GenuineIntel");
    for (auto& one : drifting.cpuid)
        if (one.leaf == 0x80000007)
            one.edx = 0;
    CHECK(find(make_cpu_model(drifting, 0, 1), 0x15) == nullptr);
}

TEST_CASE("each vCPU is a core of its own in one package") {
    for (unsigned count : {1U, 2U, 3U, 4U, 64U})
        for (unsigned index : {0U, count - 1}) {
            auto model = make_cpu_model(generous("GenuineIntel"), index, count);
            unsigned ids = 1;
            while (ids < count)
                ids *= 2;
            const auto* one = find(model, 1);
            CHECK(one->ebx >> 24 == index);
            CHECK((one->ebx >> 16 & 0xff) == ids);
            CHECK((one->edx >> 28 & 1) == (count > 1 ? 1U : 0U));
            CHECK(find(model, 4, 0)->eax >> 26 == ids - 1);
            CHECK((find(model, 4, 0)->eax >> 14 & 0xfff) == 0);       // L1: one core
            CHECK((find(model, 4, 2)->eax >> 14 & 0xfff) == ids - 1); // L3: all
            CHECK(find(model, 0xb, 0)->ebx == 1);
            CHECK(find(model, 0xb, 0)->eax == 0);
            CHECK(find(model, 0xb, 1)->ebx == count);
            CHECK(1U << find(model, 0xb, 1)->eax == ids);
            CHECK(find(model, 0xb, 2)->ecx == 2);
            CHECK(find(model, 0xb, 1)->edx == index);

            auto amd = make_cpu_model(generous("AuthenticAMD"), index, count);
            CHECK(find(amd, 0x8000001e)->eax == index);
            CHECK(find(amd, 0x8000001e)->ebx == index);
            CHECK((find(amd, 0x80000008)->ecx & 0xff) == count - 1);
            CHECK((find(amd, 0x80000001)->ecx >> 1 & 1) == (count > 1 ? 1U : 0U));
            CHECK((find(amd, 0x8000001d, 2)->eax >> 14 & 0xfff) == ids - 1);
        }
}

TEST_CASE("a backend that offers nothing still gets a processor") {
    auto model = make_cpu_model({}, 0, 1);
    REQUIRE(find(model, 0));
    CHECK(find(model, 0)->eax >= 1);
    CHECK(find(model, 1)->ecx == 1U << 31);
}

namespace {
// The state components of a processor with AVX-512 and AMX, as leaf 0xd has them.
Capabilities with_states(std::uint64_t components) {
    auto offered = generous("GenuineIntel");
    std::erase_if(offered.cpuid, [](const CpuidLeaf& leaf) { return leaf.leaf == 0xd; });
    auto add = [&](std::uint32_t sub, std::uint32_t size, std::uint32_t offset) {
        offered.cpuid.push_back(
            {.leaf = 0xd, .subleaf = sub, .has_subleaf = true, .eax = size, .ebx = offset});
    };
    offered.cpuid.push_back({.leaf = 0xd,
                             .has_subleaf = true,
                             .eax = static_cast<std::uint32_t>(components),
                             .ebx = 11008,
                             .ecx = 11008});
    add(1, all, 0);
    add(2, 256, 576);
    add(5, 64, 1088);
    add(6, 512, 1152);
    add(7, 1024, 1664);
    add(9, 8, 2688);
    add(17, 64, 2752);
    add(18, 8192, 2816);
    for (std::uint32_t leaf : {0x1dU, 0x1eU})
        offered.cpuid.push_back({.leaf = leaf, .eax = all, .ebx = all, .ecx = all, .edx = all});
    return offered;
}
} // namespace

TEST_CASE("what XSAVE has no room for is not announced, and its sizes fit") {
    auto whole = make_cpu_model(with_states(0x602e7), 0, 1);
    CHECK(find(whole, 0xd)->ecx == 2816 + 8192);
    CHECK((find(whole, 7)->edx >> 24 & 1) == 1);
    CHECK(find(whole, 0x1d) != nullptr);

    // As KVM has it for a process that may not use the tiles.
    auto no_tiles = make_cpu_model(with_states(0x2e7), 0, 1);
    CHECK(find(no_tiles, 0xd)->ecx == 2688 + 8);
    for (unsigned amx : {22U, 24U, 25U})
        CHECK((find(no_tiles, 7)->edx >> amx & 1) == 0);
    CHECK((find(no_tiles, 7)->ebx >> 16 & 1) == 1); // AVX-512 stays
    CHECK((find(no_tiles, 0xd, 1)->eax >> 4 & 1) == 0);
    CHECK(find(no_tiles, 0x1d) == nullptr);
    CHECK(find(no_tiles, 0x1e) == nullptr);
    CHECK(find(no_tiles, 0xd, 18) == nullptr);

    auto only_avx = make_cpu_model(with_states(7), 0, 1);
    CHECK(find(only_avx, 0xd)->ecx == 832);
    CHECK((find(only_avx, 7)->ebx >> 16 & 1) == 0);
    CHECK((find(only_avx, 7)->ecx >> 3 & 1) == 0); // PKU
    CHECK((find(only_avx, 7)->ebx >> 5 & 1) == 1);

    auto legacy = make_cpu_model(with_states(3), 0, 1);
    CHECK(find(legacy, 0xd)->ecx == 576);
    CHECK((find(legacy, 1)->ecx >> 28 & 1) == 0);
    CHECK((find(legacy, 7)->ebx >> 5 & 1) == 0);
}

TEST_CASE("levels have what the psABI names and nothing that the next one adds") {
    auto offered = with_states(0x602e7);
    auto baseline = make_cpu_model(offered, 0, 2, CpuKind::baseline);
    CHECK((find(baseline, 1)->edx >> 26 & 1) == 1); // SSE2
    CHECK((find(baseline, 1)->ecx & 1) == 0);       // SSE3
    CHECK((find(baseline, 1)->ecx >> 31) == 1);     // a hypervisor all the same
    CHECK((find(baseline, 1)->ecx >> 21 & 1) == 1); // x2APIC
    CHECK((find(baseline, 1)->ecx >> 26 & 1) == 0); // XSAVE
    CHECK((find(baseline, 7)->ebx >> 20 & 1) == 1); // SMAP protects
    CHECK((find(baseline, 7)->ebx >> 5 & 1) == 0);  // AVX2
    CHECK((find(baseline, 0x80000001)->edx >> 20 & 1) == 1);
    CHECK((find(baseline, 0x80000001)->edx >> 31 & 1) == 0); // 3DNow!
    CHECK(find(baseline, 0xd) == nullptr);
    CHECK(find(baseline, 0xb, 1)->ebx == 2);
    CHECK(find(baseline, 0x40000100) != nullptr);

    auto v2 = make_cpu_model(offered, 0, 1, CpuKind::v2);
    CHECK((find(v2, 1)->ecx >> 20 & 1) == 1); // SSE4.2
    CHECK((find(v2, 1)->ecx >> 25 & 1) == 0); // AES is of no level
    CHECK((find(v2, 1)->ecx >> 28 & 1) == 0); // AVX
    CHECK((find(v2, 0x80000001)->ecx & 1) == 1);
    CHECK(find(v2, 0xd) == nullptr);

    auto v3 = make_cpu_model(offered, 0, 1, CpuKind::v3);
    CHECK((find(v3, 7)->ebx >> 5 & 1) == 1);
    CHECK((find(v3, 7)->ebx >> 16 & 1) == 0);
    CHECK(find(v3, 7)->eax == 0);
    CHECK(find(v3, 7, 1) == nullptr);
    CHECK(find(v3, 0xd)->eax == 7);
    CHECK(find(v3, 0xd)->ecx == 832);
    CHECK(find(v3, 0xd, 9) == nullptr);
    CHECK(find(v3, 0x1d) == nullptr);
}

TEST_CASE("a host that lacks a level says what it lacks") {
    auto offered = with_states(0x602e7);
    for (auto kind : {CpuKind::host, CpuKind::baseline, CpuKind::v2, CpuKind::v3})
        CHECK(check_cpu_kind(offered, kind));
    for (auto& leaf : offered.cpuid) {
        if (leaf.leaf == 7)
            leaf.ebx &= ~(1U << 5);
        if (leaf.leaf == 1)
            leaf.ecx &= ~(1U << 28);
    }
    CHECK(check_cpu_kind(offered, CpuKind::v2));
    auto refused = check_cpu_kind(offered, CpuKind::v3);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind() == ErrorKind::unsupported);
    CHECK(refused.error().text().find("lacks avx, avx2") != std::string::npos);
    CHECK_FALSE(check_cpu_kind({}, CpuKind::baseline));
}
