#include <catch2/catch.hpp>

#include "images.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace vmhost::machine::boot;
using namespace vmhost::machine::boot::test;
using Catch::Matchers::Contains;

TEST_CASE("an amd64 kernel's segments stand at their physical addresses") {
    auto image = openbsd_amd64().build();
    auto memory = guest(64 * MiB);
    REQUIRE(memory->fill(0x1001000, 0xee, 0x3000)); // bss must be cleared, not assumed clear
    auto loaded = load(*memory, request(image));
    REQUIRE(error_of(loaded) == "no error");
    CHECK(loaded->kind == ImageKind::openbsd_elf64);

    auto text_segment = pattern(0x300, 1);
    CHECK(bytes_at(*memory, 0x1001000, 0x80) ==
          Buffer(text_segment.begin(), text_segment.begin() + 0x80));
    CHECK(bytes_at(*memory, 0x10010c0, 0x240) ==
          Buffer(text_segment.begin() + 0xc0, text_segment.end()));
    CHECK(bytes_at(*memory, 0x1002000, 0x105) == pattern(0x105, 2));
    CHECK(bytes_at(*memory, 0x1002105, 0xfe) == Buffer(0xfe));
    // The random segment lies inside the first one and is filled after it.
    Buffer covered(text_segment.begin() + 0x80, text_segment.begin() + 0xc0);
    auto random = bytes_at(*memory, 0x1001080, 64);
    CHECK(random != covered);
    CHECK(random != Buffer(64));
}

TEST_CASE("random data differs from start to start") {
    auto image = openbsd_amd64().build();
    auto first = guest(64 * MiB), second = guest(64 * MiB);
    REQUIRE(load(*first, request(image)));
    REQUIRE(load(*second, request(image)));
    CHECK(bytes_at(*first, 0x1001080, 64) != bytes_at(*second, 0x1001080, 64));
}

TEST_CASE("an OpenBSD kernel is entered in protected mode with its arguments on the stack") {
    auto image = openbsd_amd64().build();
    auto memory = guest(64 * MiB);
    auto wanted = request(image);
    wanted.howto = 0x402; // RB_CONFIG | RB_SINGLE
    auto loaded = load(*memory, wanted);
    REQUIRE(error_of(loaded) == "no error");
    const auto& cpu = loaded->cpu;
    CHECK(cpu.rip == 0x1001000);
    CHECK(cpu.rsp == 0xffdc);
    CHECK(cpu.rflags == 2);
    CHECK(cpu.cr0 == 0x11);
    CHECK(cpu.cr4 == 0);
    CHECK(cpu.efer == 0);
    CHECK(cpu.cs.selector == 0x08);
    CHECK(cpu.ss.selector == 0x10);
    CHECK(cpu.gdt.base == 0x10000);
    CHECK(cpu.gdt.limit == 31);
    CHECK(long_at(*memory, 0x10000) == 0);
    CHECK(long_at(*memory, 0x10008) == 0x00cf9b000000ffff);
    CHECK(long_at(*memory, 0x10010) == 0x00cf93000000ffff);
    CHECK(long_at(*memory, 0x10018) == 0x00af9b000000ffff);

    CHECK(word_at(*memory, 0xffdc) == 0);              // return address
    CHECK(word_at(*memory, 0xffe0) == 0x10402);        // howto with the good seed
    CHECK(word_at(*memory, 0xffe4) == 0xa0000004);     // sd0a
    CHECK(word_at(*memory, 0xffe8) == 14);             // API version
    CHECK(word_at(*memory, 0xffec) == 0x1002208 + 64); // end of the header-only symbol block
    CHECK(word_at(*memory, 0xfff0) == 0);
    CHECK(word_at(*memory, 0xfff4) == 0);
    CHECK(word_at(*memory, 0xfff8) == 12 + 4 * 20 + 12 + 32 + 12);
    CHECK(word_at(*memory, 0xfffc) == 0x2000);
}

TEST_CASE("without a random segment there is no good seed, whatever the caller says") {
    auto image =
        ElfBuilder(true).entry(0x1001000).segment(pt_load, 0x1001000, pattern(16, 1)).build();
    auto memory = guest(64 * MiB);
    auto wanted = request(image);
    wanted.howto = 0x10001;
    REQUIRE(load(*memory, wanted));
    CHECK(word_at(*memory, 0xffe0) == 1);
}

TEST_CASE("boot arguments are the map, the console, the interface, the disk, the end") {
    auto image = openbsd_amd64().build();
    auto memory = guest(64 * MiB);
    auto wanted = request(image);
    wanted.boot_mac = Mac{{0xfe, 0xe1, 0xbb, 0xd1, 0x00, 0x01}};
    wanted.boot_duid = std::array<std::uint8_t, 8>{1, 2, 3, 4, 5, 6, 7, 8};
    REQUIRE(load(*memory, wanted));

    ByteWriter expected;
    auto head = [&](std::int32_t type, std::int32_t size) {
        expected.le(type);
        expected.le(size);
        expected.le(size);
    };
    head(0, 12 + 4 * 20);
    auto row = [&](std::uint64_t start, std::uint64_t size, std::uint32_t type) {
        expected.le(start);
        expected.le(size);
        expected.le(type);
    };
    row(0, 0xa0000, 1);
    row(0xa0000, 0x60000, 2);
    row(0x100000, 63 * MiB, 1);
    row(0, 0, 0);
    head(5, 44);
    expected.le(std::uint32_t{0x800});
    expected.le(std::int32_t{115200});
    expected.le(std::uint64_t{0x3f8});
    expected.zeros(16);
    head(7, 20);
    expected.bytes(Buffer{0xfe, 0xe1, 0xbb, 0xd1, 0x00, 0x01, 0, 0});
    head(9, 20);
    expected.bytes(Buffer{1, 2, 3, 4, 5, 6, 7, 8});
    head(-1, 12);
    CHECK(word_at(*memory, 0xfff8) == expected.size());
    CHECK(bytes_at(*memory, 0x2000, expected.size()) == expected.buffer());
}

TEST_CASE("boot arguments beyond OpenBSD's buffer are refused") {
    auto image = openbsd_amd64().build();
    GuestMemory memory;
    REQUIRE(memory.add(0, 0xa0000, true));
    REQUIRE(memory.add(MiB, 63 * MiB, true));
    for (Gpa i = 0; i < 200; ++i)
        REQUIRE(memory.add(4 * GiB + i * 8192, 4096, true));
    auto loaded = load(memory, request(image));
    REQUIRE_FALSE(loaded);
    CHECK(loaded.error().kind() == ErrorKind::limit);
    CHECK_THAT(loaded.error().text(), Contains("OpenBSD takes 4095"));
}

namespace {

// The symbol block that must follow the kernel, made from the builder's own layout.
Buffer expected_block(const Buffer& image, const ElfBuilder::Layout& layout, bool is_64,
                      const std::vector<std::size_t>& copied, bool contents) {
    const std::size_t header = is_64 ? 64 : 52, entry = is_64 ? 64 : 40, word = is_64 ? 8 : 4;
    Buffer block(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(header));
    auto set = [&](std::size_t at, std::uint64_t value, std::size_t size) {
        auto raw = le_bytes(value, size);
        std::copy(raw.begin(), raw.end(), block.begin() + static_cast<std::ptrdiff_t>(at));
    };
    set(is_64 ? 32 : 28, 0, word);
    set(is_64 ? 40 : 32, header, word);
    set(is_64 ? 54 : 42, 0, 4);
    auto table = image.begin() + static_cast<std::ptrdiff_t>(layout.section_table);
    block.insert(block.end(), table,
                 table + static_cast<std::ptrdiff_t>(entry * layout.section_count));
    block.resize((block.size() + word - 1) / word * word);
    for (std::size_t index : copied) {
        std::size_t at = header + index * entry;
        std::size_t size = load_le<std::uint32_t>(Bytes(block).subspan(at + (is_64 ? 32 : 20)));
        std::size_t from = load_le<std::uint32_t>(Bytes(block).subspan(at + (is_64 ? 24 : 16)));
        set(at + 8, 2, word);
        set(at + (is_64 ? 24 : 16), block.size(), word);
        Buffer data(size);
        if (contents)
            std::copy_n(image.begin() + static_cast<std::ptrdiff_t>(from), size, data.begin());
        block.insert(block.end(), data.begin(), data.end());
        block.resize((block.size() + word - 1) / word * word);
    }
    return block;
}

} // namespace

TEST_CASE("symbols follow the kernel as an ELF file of their own") {
    bool is_64 = GENERATE(true, false);
    auto builder = ElfBuilder(is_64)
                       .entry(is_64 ? 0xffffffff81001000 : 0xd0200120)
                       .segment(pt_load, is_64 ? 0x1001000 : 0x200120, pattern(0x101, 1), 0x203)
                       .section(sht_progbits, ".text", pattern(0x21, 3))
                       .section(sht_symtab, ".symtab", pattern(0x31, 4))
                       .section(sht_strtab, ".strtab", pattern(0x13, 5))
                       .section(sht_progbits, ".debug_line", pattern(0x25, 6))
                       .section(sht_progbits, ".SUNW_ctf", pattern(0x17, 7));
    ElfBuilder::Layout layout;
    auto image = builder.build(&layout);
    auto memory = guest(64 * MiB);
    Gpa start = is_64 ? 0x1001208 : 0x200324; // the end rounded up to 8 or 4
    REQUIRE(memory->fill(start, 0xee, 0x1000));
    auto loaded = load(*memory, request(image));
    REQUIRE(error_of(loaded) == "no error");
    CHECK(loaded->kind == (is_64 ? ImageKind::openbsd_elf64 : ImageKind::openbsd_elf32));

    std::vector<std::size_t> copied =
        is_64 ? std::vector<std::size_t>{2, 3, 4, 5, 6} : std::vector<std::size_t>{2, 3, 4, 6};
    auto expected = expected_block(image, layout, is_64, copied, true);
    CHECK(bytes_at(*memory, start, expected.size()) == expected);
    CHECK(word_at(*memory, 0xffec) == start + expected.size());
    CHECK(bytes_at(*memory, start + expected.size(), 8) == Buffer(8, 0xee));
}

TEST_CASE("a stripped kernel gets rewritten headers without contents") {
    auto builder = ElfBuilder(true)
                       .entry(0x1001000)
                       .segment(pt_load, 0x1001000, pattern(0x100, 1))
                       .section(sht_progbits, ".text", pattern(0x21, 3));
    ElfBuilder::Layout layout;
    auto image = builder.build(&layout);
    auto memory = guest(64 * MiB);
    REQUIRE(load(*memory, request(image)));
    auto expected = expected_block(image, layout, true, {2}, false);
    CHECK(bytes_at(*memory, 0x1001100, expected.size()) == expected);
    CHECK(word_at(*memory, 0xffec) == 0x1001100 + expected.size());
}

TEST_CASE("an old i386 kernel's virtual addresses become physical") {
    auto image = ElfBuilder(false)
                     .entry(0xd0200120)
                     .segment(pt_load, 0xd0200120, pattern(0x100, 1), 0x180, 0xd0200120)
                     .build();
    auto memory = guest(32 * MiB);
    auto loaded = load(*memory, request(image));
    REQUIRE(error_of(loaded) == "no error");
    CHECK(loaded->cpu.rip == 0x200120);
    CHECK(bytes_at(*memory, 0x200120, 0x100) == pattern(0x100, 1));
}

TEST_CASE("a gzip'd kernel loads like a plain one, trailing garbage included") {
    auto image = openbsd_amd64().build();
    auto packed = gzip(image);
    packed.insert(packed.end(), 100, 0xaa);
    auto memory = guest(64 * MiB);
    auto loaded = load(*memory, request(packed));
    REQUIRE(error_of(loaded) == "no error");
    CHECK(loaded->kind == ImageKind::openbsd_elf64);
    CHECK(bytes_at(*memory, 0x1002000, 0x105) == pattern(0x105, 2));
}

TEST_CASE("the error names the kernel and the part") {
    auto fails = [](const ElfBuilder& builder, std::uint64_t size = 64 * MiB) {
        auto image = builder.build();
        auto memory = guest(size);
        return error_of(load(*memory, request(image)));
    };
    CHECK(fails(openbsd_amd64(), 16 * MiB) ==
          "kernel /bsd: segment 0 needs 768 bytes at address 0x1001000, but the guest has 16M");
    CHECK(fails(openbsd_amd64().segment(pt_load, 0xffffffffffffff00, pattern(0x200, 1))) ==
          "kernel /bsd: segment 3 needs 512 bytes at address 0xffffffffffffff00, but the guest has "
          "64M");
    CHECK(fails(openbsd_amd64().segment(pt_load, 0x1000000, {}, ~0ULL)) ==
          "kernel /bsd: segment 3 needs 18446744073709551615 bytes at address 0x1000000, but the "
          "guest has 64M");
    CHECK(fails(openbsd_amd64().segment(pt_load, 0xa0000, pattern(16, 1))) ==
          "kernel /bsd: segment 3 needs 16 bytes at address 0xa0000, but the guest has 64M");
    CHECK(fails(openbsd_amd64().segment(pt_load, 0x1ff8, pattern(16, 1))) ==
          "kernel /bsd: segment 3 at 0x1ff8 to 0x2007 overlaps the boot arguments at 0x2000 to "
          "0x2fff");
    CHECK_THAT(fails(openbsd_amd64().segment(pt_load, 0xfffc, pattern(2, 1))),
               Contains("overlaps the stack"));
    CHECK_THAT(fails(openbsd_amd64().segment(pt_load, 0x10ffc, pattern(16, 1))),
               Contains("overlaps the GDT"));
    CHECK(fails(openbsd_amd64().segment(pt_load, 0x1002202, pattern(16, 1))) ==
          "kernel /bsd: segment 3 at 0x1002202 to 0x1002211 overlaps segment 1 at 0x1002000 to "
          "0x1002202");
    CHECK(fails(openbsd_amd64().segment(pt_load, 0x1003000, pattern(16, 1)).filesz(0x10000)) ==
          "kernel /bsd: segment 3 lies beyond the end of the file (truncated?)");
    CHECK(fails(openbsd_amd64().segment(pt_load, 0x1003000, pattern(16, 1), 8)) ==
          "kernel /bsd: segment 3 has 16 bytes in the file but 8 in memory");
    CHECK(fails(openbsd_amd64().entry(0x1001300)) ==
          "kernel /bsd: the entry point 0x1001300 lies in no segment");
    CHECK(fails(ElfBuilder(true).segment(pt_load, 0x1001000, pattern(16, 1)).flags(0)) ==
          "kernel /bsd: the ELF file has nothing to load: it is no kernel");
    CHECK(fails(openbsd_amd64().segment(pt_randomize, 0x1002200, Buffer(8))) ==
          "kernel /bsd: random segment 3 at 0x1002200 lies in no loaded segment");
    CHECK(
        fails(
            openbsd_amd64().section(sht_symtab, ".symtab", pattern(8, 1)).section_size(1 << 20)) ==
        "kernel /bsd: section 1 lies beyond the end of the file (truncated?)");
    CHECK(
        fails(openbsd_amd64().segment(pt_load, 0x3fffff0, Buffer(16))) ==
        "kernel /bsd: the symbol table needs 64 bytes at address 0x4000000, but the guest has 64M");
}

TEST_CASE("random segments are bounded") {
    auto memory = guest(64 * MiB);
    auto image = ElfBuilder(true)
                     .entry(0x1000000)
                     .segment(pt_load, 0x1000000, pattern(16, 1), 20 * MiB)
                     .segment(pt_randomize, 0x1000000, {}, 1)
                     .filesz(limits::max_openbsd_random_bytes)
                     .segment(pt_randomize, 0x1000000, {}, 1)
                     .filesz(1)
                     .build();
    auto loaded = load(*memory, request(image));
    REQUIRE_FALSE(loaded);
    CHECK_THAT(loaded.error().text(),
               Contains("segment 2 asks for 1 random bytes, at most 16777216"));
}

TEST_CASE("symbols beyond the 28 bits of the kernel's argument are refused") {
    auto memory = guest(300 * MiB);
    auto image =
        ElfBuilder(true).entry(0xffffff0).segment(pt_load, 0xffffff0, pattern(16, 1)).build();
    CHECK_THAT(error_of(load(*memory, request(image))), Contains("OpenBSD kernels see only 256M"));
}

TEST_CASE("OpenBSD kernels take neither initrd nor command line") {
    auto image = openbsd_amd64().build();
    auto memory = guest(64 * MiB);
    auto wanted = request(image);
    wanted.command_line = "-s";
    CHECK(error_of(load(*memory, wanted)) ==
          "kernel /bsd: an OpenBSD kernel takes no command line");
    wanted.command_line.clear();
    wanted.initrd = image;
    CHECK(error_of(load(*memory, wanted)) == "kernel /bsd: an OpenBSD kernel takes no initrd");
}

TEST_CASE("a kernel cut at any length is an error, never a crash") {
    bool is_64 = GENERATE(true, false);
    auto image = ElfBuilder(is_64)
                     .entry(0x1001000)
                     .segment(pt_load, 0x1001000, pattern(0x40, 1), 0x50)
                     .segment(pt_randomize, 0x1001008, Buffer(8))
                     .section(sht_symtab, ".symtab", pattern(0x20, 4))
                     .section(sht_strtab, ".strtab", pattern(0x13, 5))
                     .build();
    auto memory = guest(18 * MiB);
    REQUIRE(load(*memory, request(image)));
    for (std::size_t length = 0; length < image.size(); ++length) {
        // A copy of its own, so that a read past the end is seen.
        Buffer cut(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(length));
        INFO(length);
        CHECK_FALSE(load(*memory, request(cut)));
    }
}
