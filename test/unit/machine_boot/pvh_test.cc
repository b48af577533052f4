#include <catch2/catch.hpp>

#include "images.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace vmhost::machine::boot;
using namespace vmhost::machine::boot::test;
using Catch::Matchers::Contains;

namespace {

ElfBuilder kernel(bool is_64, std::uint64_t entry = 0x100010) {
    return ElfBuilder(is_64)
        .entry(0x100000)
        .segment(pt_load, 0x100000, pattern(0x123, 1), 0x200)
        .segment(pt_note, 0,
                 note(std::string_view("Xen\0", 4), 18, le_bytes(entry, is_64 ? 8 : 4)));
}

} // namespace

TEST_CASE("a PVH kernel gets hvm_start_info in ebx") {
    bool is_64 = GENERATE(true, false);
    auto image = kernel(is_64).build();
    auto initrd = pattern(5000, 3);
    auto memory = guest(32 * MiB);
    REQUIRE(memory->fill(0x100000, 0xee, 0x200));
    auto wanted = request(image);
    wanted.initrd = initrd;
    wanted.command_line = "console=ttyS0";
    wanted.acpi_rsdp = 0xf0000;
    auto loaded = load(*memory, wanted);
    REQUIRE(error_of(loaded) == "no error");
    CHECK(loaded->kind == ImageKind::pvh_elf);
    const auto& cpu = loaded->cpu;
    CHECK(cpu.rip == 0x100010);
    CHECK(cpu.rbx == 0x7000);
    CHECK(cpu.rflags == 2);
    CHECK(cpu.cr0 == 0x11);
    CHECK(cpu.cr4 == 0);
    CHECK(cpu.gdt.base == 0x6000);
    CHECK(cpu.gdt.limit == 23);
    CHECK(long_at(*memory, 0x6000 + cpu.cs.selector) == 0x00cf9b000000ffff);
    CHECK(long_at(*memory, 0x6000 + cpu.ds.selector) == 0x00cf93000000ffff);
    CHECK(bytes_at(*memory, 0x100000, 0x123) == pattern(0x123, 1));
    CHECK(bytes_at(*memory, 0x100123, 0xdd) == Buffer(0xdd));

    ByteWriter info;
    info.le(std::uint32_t{0x336ec578});
    info.le(std::uint32_t{1});
    info.le(std::uint32_t{0});
    info.le(std::uint32_t{1});
    info.le(std::uint64_t{0x7040});
    info.le(std::uint64_t{0x20000});
    info.le(std::uint64_t{0xf0000});
    info.le(std::uint64_t{0x7080});
    info.le(std::uint32_t{3});
    info.le(std::uint32_t{0});
    CHECK(info.size() == 56);
    info.pad_to(0x40);
    const Gpa initrd_start = 32 * MiB - 8192;
    info.le(std::uint64_t{initrd_start});
    info.le(std::uint64_t{5000});
    info.zeros(16);
    info.pad_to(0x80);
    auto row = [&](std::uint64_t start, std::uint64_t size, std::uint32_t type) {
        info.le(start);
        info.le(size);
        info.le(type);
        info.le(std::uint32_t{0});
    };
    row(0, 0xa0000, 1);
    row(0xa0000, 0x60000, 2);
    row(0x100000, 31 * MiB, 1);
    CHECK(bytes_at(*memory, 0x7000, info.size()) == info.buffer());
    CHECK(bytes_at(*memory, initrd_start, 5000) == initrd);
    CHECK(bytes_at(*memory, 0x20000, 14) == text(std::string_view("console=ttyS0\0", 14)));
}

TEST_CASE("a PVH kernel without initrd and command line gets null addresses") {
    auto image = kernel(true).build();
    auto memory = guest(32 * MiB);
    REQUIRE(load(*memory, request(image)));
    CHECK(word_at(*memory, 0x700c) == 0);
    CHECK(long_at(*memory, 0x7010) == 0);
    CHECK(long_at(*memory, 0x7018) == 0);
}

TEST_CASE("a gzip'd PVH kernel loads") {
    auto image = gzip(kernel(true).build());
    auto memory = guest(32 * MiB);
    auto loaded = load(*memory, request(image));
    REQUIRE(error_of(loaded) == "no error");
    CHECK(loaded->kind == ImageKind::pvh_elf);
}

TEST_CASE("PVH errors name the kernel and the part") {
    auto memory = guest(32 * MiB);
    auto fails = [&](const ElfBuilder& builder) {
        auto image = builder.build();
        return error_of(load(*memory, request(image)));
    };
    CHECK(fails(kernel(true, 0x100200)) ==
          "kernel /bsd: the entry point 0x100200 lies in no segment");
    CHECK(fails(kernel(true, 4 * GiB)) == "kernel /bsd: the PVH entry 0x100000000 lies above 4G");
    CHECK_THAT(fails(kernel(true).segment(pt_load, 0x6ff0, pattern(64, 1))),
               Contains("segment 2 at 0x6ff0 to 0x702f overlaps the start information"));
    CHECK_THAT(fails(kernel(true).segment(pt_load, 32 * MiB - 8, pattern(64, 1))),
               Contains("segment 2 needs 64 bytes at address 0x1fffff8, but the guest has 32M"));

    auto image = kernel(true).build();
    auto wanted = request(image);
    wanted.command_line = std::string(limits::max_command_line_bytes + 1, 'x');
    CHECK_THAT(error_of(load(*memory, wanted)), Contains("65536 bytes, the kernel takes 65535"));
    wanted.command_line.pop_back();
    CHECK(error_of(load(*memory, wanted)) == "no error");
    Buffer initrd(31 * MiB);
    wanted.initrd = initrd;
    CHECK_THAT(error_of(load(*memory, wanted)),
               Contains("the initrd of 32505856 bytes does not fit"));
}

TEST_CASE("a PVH kernel cut at any length is an error, never a crash") {
    // Without its note (the end of the file) the rest would be an OpenBSD kernel.
    auto image = kernel(true).build();
    auto memory = guest(32 * MiB);
    for (std::size_t length = 0; length < image.size(); ++length) {
        Buffer cut(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(length));
        INFO(length);
        auto loaded = load(*memory, request(cut));
        CHECK((!loaded || loaded->kind != ImageKind::firmware));
        if (length < image.size() - 28)
            CHECK_FALSE(loaded);
    }
}
