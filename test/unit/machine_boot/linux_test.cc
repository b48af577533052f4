// The oracle for offsets is the kernel's own user-space header.
#include <asm/bootparam.h>

#include <catch2/catch.hpp>

#include "images.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace vmhost::machine::boot;
using namespace vmhost::machine::boot::test;
using Catch::Matchers::Contains;

namespace {

boot_params params_of(const GuestMemory& memory) {
    boot_params params;
    auto raw = bytes_at(memory, 0x7000, sizeof(params));
    std::memcpy(&params, raw.data(), sizeof(params));
    return params;
}

} // namespace

TEST_CASE("a bzImage is entered by the 32-bit protocol") {
    LinuxBuilder builder;
    auto image = builder.build();
    auto initrd = pattern(5000, 3);
    auto memory = guest(64 * MiB);
    auto wanted = request(image);
    wanted.initrd = initrd;
    wanted.command_line = "console=ttyS0 quiet";
    wanted.acpi_rsdp = 0xf0000;
    auto loaded = load(*memory, wanted);
    REQUIRE(error_of(loaded) == "no error");
    CHECK(loaded->kind == ImageKind::linux_bzimage);
    const auto& cpu = loaded->cpu;
    CHECK(cpu.rip == 0x100000);
    CHECK(cpu.rsi == 0x7000);
    CHECK(cpu.rbp == 0);
    CHECK(cpu.rdi == 0);
    CHECK(cpu.rbx == 0);
    CHECK(cpu.rflags == 2);
    CHECK(cpu.cr0 == 0x11);
    CHECK(cpu.cs.selector == 0x10);
    for (const Segment& data : {cpu.ds, cpu.es, cpu.ss})
        CHECK(data.selector == 0x18);
    CHECK(cpu.gdt.base == 0x6000);
    CHECK(cpu.gdt.limit == 31);
    CHECK(long_at(*memory, 0x6010) == 0x00cf9b000000ffff);
    CHECK(long_at(*memory, 0x6018) == 0x00cf93000000ffff);

    CHECK(bytes_at(*memory, 0x100000, builder.payload().size()) == builder.payload());
    auto params = params_of(*memory);
    const Gpa initrd_start = 64 * MiB - 8192;
    CHECK(params.sentinel == 0);
    CHECK(+params.hdr.header == 0x53726448);
    CHECK(+params.hdr.boot_flag == 0xaa55);
    CHECK(+params.hdr.version == 0x20f);
    CHECK(+params.hdr.vid_mode == 0xffff);
    CHECK(long_at(*memory, 0x7000 + 0x70) == 0xf0000);
    CHECK(+params.hdr.type_of_loader == 0xff);
    CHECK(+params.hdr.loadflags == LOADED_HIGH);
    CHECK(+params.hdr.code32_start == 0x100000);
    CHECK(+params.hdr.ramdisk_image == initrd_start);
    CHECK(+params.hdr.ramdisk_size == 5000);
    CHECK(+params.hdr.cmd_line_ptr == 0x20000);
    CHECK(+params.hdr.kernel_alignment == 0x200000);
    CHECK(+params.hdr.pref_address == 0x1000000);
    CHECK(+params.hdr.init_size == 0x800000);
    REQUIRE(params.e820_entries == 3);
    CHECK(+params.e820_table[0].addr == 0);
    CHECK(+params.e820_table[0].size == 0xa0000);
    CHECK(+params.e820_table[0].type == 1);
    CHECK(+params.e820_table[1].addr == 0xa0000);
    CHECK(+params.e820_table[1].type == 2);
    CHECK(+params.e820_table[2].addr == 0x100000);
    CHECK(+params.e820_table[2].size == 63 * MiB);
    CHECK(bytes_at(*memory, initrd_start, 5000) == initrd);
    CHECK(bytes_at(*memory, 0x20000, 20) == text(std::string_view("console=ttyS0 quiet\0", 20)));
}

TEST_CASE("the setup header is copied only as far as it goes") {
    LinuxBuilder builder;
    builder.set(0x26c, std::uint32_t{0xdeadbeef}); // behind the header's end
    auto image = builder.build();
    auto memory = guest(64 * MiB);
    REQUIRE(load(*memory, request(image)));
    CHECK(word_at(*memory, 0x7000 + 0x26c) == 0);
    // A header that claims to reach into the next fields of boot_params is cut before them.
    image = builder.set(0x201, std::uint8_t{0xff}).set(0x290, std::uint32_t{0xdeadbeef}).build();
    REQUIRE(load(*memory, request(image)));
    CHECK(word_at(*memory, 0x7000 + 0x26c) == 0xdeadbeef);
    CHECK(word_at(*memory, 0x7000 + 0x290) == 0);
}

TEST_CASE("the initrd stays below the kernel's limit and off the kernel") {
    auto initrd = pattern(MiB, 3);
    auto memory = guest(64 * MiB);
    auto start_with = [&](std::uint32_t last) {
        auto image = LinuxBuilder().set(0x22c, last).build();
        auto wanted = request(image);
        wanted.initrd = initrd;
        auto loaded = load(*memory, wanted);
        return loaded ? params_of(*memory).hdr.ramdisk_image : 0;
    };
    CHECK(start_with(0x37ffffff) == 63 * MiB);
    CHECK(start_with(0x2ffffff) == 47 * MiB);
    CHECK(start_with(0x2fffffe) == 47 * MiB - 4096);
    // The unpacked kernel fills everything up to 24 MiB.
    CHECK(start_with(0x18fffff) == 24 * MiB);
    CHECK(start_with(0x18ffffe) == 0);
}

TEST_CASE("a kernel that needs more memory says how much") {
    auto image = LinuxBuilder().set(0x260, std::uint32_t{49 << 20}).build();
    auto memory = guest(32 * MiB);
    CHECK(error_of(load(*memory, request(image))) ==
          "kernel /bsd: needs 65M of memory, the guest has 32M");
    auto larger = guest(65 * MiB);
    CHECK(error_of(load(*larger, request(image))) == "no error");
    auto initrd = Buffer(MiB);
    auto wanted = request(image);
    wanted.initrd = initrd;
    CHECK_THAT(error_of(load(*larger, wanted)),
               Contains("the initrd of 1048576 bytes does not fit"));
}

TEST_CASE("the unpacked kernel's place follows its alignment") {
    // Preferred 1 MiB + 4 KiB, aligned to 16 MiB: 16 MiB + 8 MiB are needed.
    auto image = LinuxBuilder()
                     .set(0x258, std::uint64_t{0x101000})
                     .set(0x230, std::uint32_t{0x1000000})
                     .build();
    auto enough = guest(24 * MiB), short_of_it = guest(23 * MiB);
    CHECK(error_of(load(*enough, request(image))) == "no error");
    CHECK_THAT(error_of(load(*short_of_it, request(image))), Contains("needs 24M"));
    // Not relocatable: exactly where it says.
    image = LinuxBuilder().set(0x234, std::uint8_t{0}).set(0x258, std::uint64_t{0x1400000}).build();
    CHECK_THAT(error_of(load(*enough, request(image))), Contains("needs 28M"));
}

TEST_CASE("odd setup headers are refused") {
    auto memory = guest(64 * MiB);
    auto fails = [&](const LinuxBuilder& builder) {
        auto image = builder.build();
        return error_of(load(*memory, request(image)));
    };
    CHECK(fails(LinuxBuilder().set(0x206, std::uint16_t{0x205})) ==
          "kernel /bsd: speaks boot protocol 2.05, at least 2.06 is needed");
    CHECK(fails(LinuxBuilder().set(0x211, std::uint8_t{0})) ==
          "kernel /bsd: is a zImage for low memory, not a bzImage");
    CHECK_THAT(fails(LinuxBuilder().set(0x201, std::uint8_t{0x20})),
               Contains("the setup header ends at 0x222"));
    CHECK_THAT(fails(LinuxBuilder().set(0x1f4, std::uint32_t{0x124})),
               Contains("is truncated: it has 5680 of 5696 bytes"));
    CHECK_THAT(fails(LinuxBuilder().set(0x1f4, std::uint32_t{0xffffffff})), Contains("truncated"));
    CHECK_THAT(fails(LinuxBuilder().set(0x1f1, std::uint8_t{0xff})), Contains("truncated"));
    for (std::uint64_t preferred :
         {~std::uint64_t{0}, std::uint64_t{1} << 63, 4 * GiB, 4 * GiB - MiB})
        CHECK_THAT(fails(LinuxBuilder().set(0x258, preferred)), Contains("wants to run at"));
    CHECK_THAT(fails(LinuxBuilder().set(0x234, std::uint8_t{0}).set(0x258, std::uint64_t{4096})),
               Contains("wants to run at 0x1000"));
    CHECK(fails(LinuxBuilder().set(0x230, std::uint32_t{3})) == "no error");
}

TEST_CASE("the command line is bounded by what the kernel takes") {
    auto memory = guest(64 * MiB);
    auto image = LinuxBuilder().build();
    auto wanted = request(image);
    wanted.command_line = std::string(2047, 'x');
    CHECK(error_of(load(*memory, wanted)) == "no error");
    wanted.command_line += 'x';
    CHECK(error_of(load(*memory, wanted)) ==
          "kernel /bsd: the command line has 2048 bytes, the kernel takes 2047");
    image = LinuxBuilder().set(0x238, std::uint32_t{0xffffffff}).build();
    wanted.image = image;
    wanted.command_line = std::string(65536, 'x');
    CHECK_THAT(error_of(load(*memory, wanted)), Contains("the kernel takes 65535"));
}

TEST_CASE("a bzImage cut at any length is an error, never a crash") {
    auto image = LinuxBuilder().payload(pattern(64, 1)).build();
    auto memory = guest(64 * MiB);
    REQUIRE(load(*memory, request(image)));
    for (std::size_t length = 0; length < image.size(); ++length) {
        Buffer cut(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(length));
        INFO(length);
        CHECK_FALSE(load(*memory, request(cut)));
    }
}
