#include <catch2/catch.hpp>

#include "images.h"
#include "machine/boot/elf.h"

using namespace vmhost;
using namespace vmhost::machine::boot;
using namespace vmhost::machine::boot::test;
using Catch::Matchers::Contains;

namespace {
ElfBuilder small() {
    return ElfBuilder(true).segment(pt_load, 0x1000000, pattern(16, 1));
}
} // namespace

TEST_CASE("ELF files of other processors are refused by name") {
    CHECK(error_of(parse_elf(small().machine(183).build())) ==
          "is an ELF file for AArch64, not for x86");
    CHECK(error_of(parse_elf(small().machine(243).build())) ==
          "is an ELF file for RISC-V, not for x86");
    CHECK(error_of(parse_elf(small().machine(4242).build())) ==
          "is an ELF file for processor type 4242, not for x86");
    auto big = small().build();
    big[5] = 2;
    CHECK(error_of(parse_elf(big)) == "is a big-endian ELF file, not one for x86");
}

TEST_CASE("ELF files that are no kernels are refused") {
    CHECK_THAT(error_of(parse_elf(small().type(1).build())), Contains("object file"));
    CHECK_THAT(error_of(parse_elf(small().type(4).build())), Contains("core dump"));
    CHECK_THAT(error_of(parse_elf(small().segment(3, 0, text("/lib/ld.so")).build())),
               Contains("dynamic linker"));
    CHECK_THAT(error_of(parse_elf(ElfBuilder(true).build())), Contains("no program headers"));
    auto bad_class = small().build();
    bad_class[4] = 3;
    CHECK_THAT(error_of(parse_elf(bad_class)), Contains("class 3"));
}

TEST_CASE("ELF tables are bounded") {
    auto many = ElfBuilder(true);
    for (std::size_t i = 0; i <= limits::max_elf_segments; ++i)
        many.segment(pt_load, 0x1000000 + i * 4096, pattern(1, 1));
    CHECK_THAT(error_of(parse_elf(many.build())), Contains("257 program headers, at most 256"));

    auto sections = small();
    for (std::size_t i = 0; i < limits::max_elf_sections - 1; ++i)
        sections.section(sht_progbits, "x", {});
    auto image = sections.build();
    auto elf = parse_elf(image);
    REQUIRE(elf);
    CHECK_THAT(error_of(section_table(*elf)), Contains("4097 sections, at most 4096"));

    auto odd = small().section(sht_progbits, "x", {}).build();
    store_le<std::uint16_t>(MutableBytes(odd).subspan(54), 57);
    CHECK_THAT(error_of(parse_elf(odd)), Contains("57 bytes instead of 56"));
    store_le<std::uint16_t>(MutableBytes(odd).subspan(54), 56);
    store_le<std::uint16_t>(MutableBytes(odd).subspan(58), 63);
    elf = parse_elf(odd);
    REQUIRE(elf);
    CHECK_THAT(error_of(section_table(*elf)), Contains("63 bytes instead of 64"));
}

TEST_CASE("ELF tables must lie inside the file") {
    auto image = small().section(sht_progbits, "x", {}).build();
    auto with = [&](std::size_t offset, std::uint64_t value) {
        auto copy = image;
        store_le<std::uint64_t>(MutableBytes(copy).subspan(offset), value);
        return copy;
    };
    CHECK(error_of(parse_elf(with(32, ~0ULL))) ==
          "program header 0 lies beyond the end of the file (truncated?)");
    CHECK(error_of(parse_elf(with(32, image.size() - 55))) ==
          "program header 0 lies beyond the end of the file (truncated?)");
    auto far = with(40, ~0ULL - 63);
    auto elf = parse_elf(far);
    REQUIRE(elf);
    CHECK(error_of(section_table(*elf)) ==
          "section header 0 lies beyond the end of the file (truncated?)");
    auto near = with(40, image.size() - 128);
    elf = parse_elf(near);
    REQUIRE(elf);
    CHECK(error_of(section_table(*elf)) ==
          "section header 2 lies beyond the end of the file (truncated?)");
}

TEST_CASE("section names end at the end of their table") {
    auto image = small().section(sht_progbits, ".debug_line", {}).build();
    auto elf = parse_elf(image);
    REQUIRE(elf);
    auto sections = parse_sections(*elf, section_table(*elf).value());
    REQUIRE(sections.size() == 3);
    CHECK(section_name(*elf, sections, sections[1]) == ".debug_line");
    SectionHeader odd = sections[1];
    odd.name = 0xffffffff;
    CHECK(section_name(*elf, sections, odd).empty());
    sections[2].size = odd.name = 5; // the table cut inside the name
    odd.name = 1;
    CHECK(section_name(*elf, sections, odd) == ".deb");
    elf->section_names = 99;
    CHECK(section_name(*elf, sections, odd).empty());
}

TEST_CASE("the PVH note is found among others") {
    std::string_view xen("Xen\0", 4);
    auto entry_of = [](const ElfBuilder& builder) {
        auto image = builder.build();
        return pvh_entry(parse_elf(image).value());
    };
    auto other = note(std::string_view("GNU\0", 4), 18, le_bytes(1, 5));
    auto wrong_type = note(xen, 17, le_bytes(2, 4));
    auto right = note(xen, 18, le_bytes(0x1000040, 4));
    Buffer all = other;
    all.insert(all.end(), wrong_type.begin(), wrong_type.end());
    all.insert(all.end(), right.begin(), right.end());
    CHECK(entry_of(small().segment(pt_note, 0, all)) == 0x1000040);
    CHECK(entry_of(small().segment(pt_note, 0, note(xen, 18, le_bytes(0x1000040, 8)))) ==
          0x1000040);
    CHECK(
        entry_of(small().segment(pt_note, 0, note(xen, 18, le_bytes(0x1000040, 4), 8)).align(8)) ==
        0x1000040);
    CHECK_FALSE(entry_of(small().segment(pt_note, 0, note(xen, 18, le_bytes(1, 2)))));
    CHECK_FALSE(entry_of(small().segment(pt_note, 0, wrong_type)));
    CHECK_FALSE(entry_of(small()));
    // Sizes that leave the segment end the search.
    for (std::size_t field : {0, 4}) {
        auto broken = other;
        store_le<std::uint32_t>(MutableBytes(broken).subspan(field), 0xfffffffd);
        broken.insert(broken.end(), right.begin(), right.end());
        CHECK_FALSE(entry_of(small().segment(pt_note, 0, broken)));
    }
    CHECK_FALSE(entry_of(small().segment(pt_note, 0, right).filesz(~0ULL)));
}
