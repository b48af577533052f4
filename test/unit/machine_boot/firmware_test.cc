#include <catch2/catch.hpp>

#include "images.h"
#include "machine/boot/firmware.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace vmhost::machine::boot;
using namespace vmhost::machine::boot::test;
using Catch::Matchers::Contains;

namespace {

// size bytes that end in a far jump at the reset vector.
Buffer firmware(std::size_t size) {
    auto image = pattern(size, 5);
    Buffer vector = {0xea, 0x5b, 0xe0, 0x00, 0xf0};
    vector.resize(16);
    std::copy(vector.begin(), vector.end(), image.end() - 16);
    return image;
}

} // namespace

TEST_CASE("the embedded SeaBIOS is a firmware image") {
    auto bios = seabios();
    CHECK(bios.size() == 256 * KiB);
    auto memory = guest(16 * MiB);
    auto loaded = load(*memory, request(bios));
    REQUIRE(error_of(loaded) == "no error");
    CHECK(loaded->kind == ImageKind::firmware);
    CHECK(bytes_at(*memory, 4 * GiB - bios.size(), bios.size()) ==
          Buffer(bios.begin(), bios.end()));
    CHECK(bytes_at(*memory, MiB - bios.size(), bios.size()) == Buffer(bios.begin(), bios.end()));
}

TEST_CASE("firmware ends at 4 GiB and its last part at 1 MiB") {
    auto size = GENERATE(std::size_t{16}, std::size_t{4097}, 64 * KiB, 256 * KiB, 4 * MiB);
    auto image = firmware(size);
    auto memory = guest(16 * MiB);
    auto loaded = load(*memory, request(image));
    REQUIRE(error_of(loaded) == "no error");
    const auto& cpu = loaded->cpu;
    CHECK(cpu.cs.base + cpu.rip == 0xfffffff0);
    CHECK(cpu.cs.selector == 0xf000);
    CHECK((cpu.cr0 & 1) == 0);
    CHECK(bytes_at(*memory, 4 * GiB - size, size) == image);
    std::size_t low = std::min(size, 256 * KiB);
    CHECK(bytes_at(*memory, MiB - low, low) ==
          Buffer(image.end() - static_cast<std::ptrdiff_t>(low), image.end()));

    auto map = memory_map(*memory);
    REQUIRE(map.size() == 4);
    CHECK(map[3].type == 2);
    CHECK(map[3].start == (4 * GiB - size) / 4096 * 4096);
    CHECK(map[3].start + map[3].size == 4 * GiB);
}

TEST_CASE("what cannot be firmware is refused") {
    auto memory = guest(16 * MiB);
    const std::string neither =
        "/bsd is no kernel (neither ELF nor Linux bzImage) and no firmware image";
    auto fails = [&](Bytes image) { return error_of(load(*memory, request(image))); };
    CHECK(fails({}) == "kernel /bsd: the file is empty");
    CHECK(fails(Buffer(64 * KiB)) == neither);
    CHECK(fails(Buffer(64 * KiB, 0xff)) == neither);
    CHECK(fails(text("this is a text file of some length, but no firmware")) == neither);
    CHECK(fails(Buffer(14, 0xea)) == neither);
    CHECK(fails(firmware(4 * MiB + 1)) == neither);
    CHECK(fails(text("#!/bin/sh")) == neither);
    CHECK(error_of(load(*memory, [] {
              Request odd;
              static const Buffer image(100);
              odd.image = image;
              odd.name = "a\nb";
              return odd;
          }())) == "a\\x0ab is no kernel (neither ELF nor Linux bzImage) and no firmware image");
}

TEST_CASE("reset vectors of real firmware are recognized") {
    auto accepted = [](Buffer vector) {
        Buffer image(64 * KiB);
        vector.resize(16);
        std::copy(vector.begin(), vector.end(), image.end() - 16);
        auto memory = guest(16 * MiB);
        return load(*memory, request(image)).has_value();
    };
    CHECK(accepted({0xea, 0x5b, 0xe0, 0x00, 0xf0}));       // SeaBIOS
    CHECK(accepted({0x90, 0x90, 0xe9, 0xab, 0xff}));       // OVMF
    CHECK(accepted({0xfa, 0xfc, 0xeb, 0xee}));             // cli, cld, short jump
    CHECK(accepted({0x0f, 0x09, 0xe9, 0x00, 0xf0}));       // wbinvd first
    CHECK(accepted({0x66, 0xea, 0, 0, 0xff, 0xff, 8, 0})); // 32-bit far jump
    CHECK(accepted({0x2e, 0xff, 0x2e, 0xf0, 0xff}));       // far jump through memory
    CHECK_FALSE(accepted({0xff, 0xff, 0xff}));
    CHECK_FALSE(accepted({0x90, 0x90, 0x90}));
    CHECK_FALSE(accepted({0x0f, 0x0b}));
    CHECK_FALSE(accepted(Buffer(16, 0x90)));
    CHECK_FALSE(accepted(Buffer(16, 0x0f)));
}

TEST_CASE("firmware takes neither initrd nor command line") {
    auto memory = guest(16 * MiB);
    auto wanted = request(seabios());
    wanted.command_line = "x";
    CHECK(error_of(load(*memory, wanted)) == "firmware /bsd: firmware takes no command line");
    wanted.command_line.clear();
    wanted.initrd = seabios();
    CHECK(error_of(load(*memory, wanted)) == "firmware /bsd: firmware takes no initrd");
}

TEST_CASE("firmware is not loaded over RAM and not without low memory") {
    GuestMemory small;
    REQUIRE(small.add(0, 0xa0000, true));
    CHECK_THAT(error_of(load(small, request(seabios()))), Contains("no memory at 0xc0000"));
    GuestMemory full;
    REQUIRE(full.add(4 * GiB - 64 * KiB, 128 * KiB, true));
    CHECK_THAT(error_of(load(full, request(seabios()))), Contains("overlap"));
}

TEST_CASE("the network boot ROM says that it is for the device it is in") {
    for (unsigned device : {0x1000U, 0x1041U}) {
        auto rom = virtio_net_rom(0x1af4, static_cast<std::uint16_t>(device));
        REQUIRE(rom);
        Bytes bytes(*rom);
        CHECK(load_le<std::uint16_t>(bytes) == 0xaa55);
        auto size = bytes[2] * std::size_t{512};
        REQUIRE(size <= bytes.size());
        unsigned sum = 0;
        for (auto byte : bytes.first(size))
            sum += byte;
        CHECK((sum & 0xff) == 0);
        auto data = bytes.subspan(load_le<std::uint16_t>(bytes.subspan(0x18)));
        CHECK(as_text(data.first(4)) == "PCIR");
        CHECK(load_le<std::uint16_t>(data.subspan(4)) == 0x1af4);
        CHECK(load_le<std::uint16_t>(data.subspan(6)) == device);
    }
    // Cut anywhere in its header, or not a ROM.
    auto rom = *virtio_net_rom(0x1af4, 0x1000);
    for (std::size_t size : {0, 1, 2, 3, 0x19, 0x1a, 0x20, 512})
        CHECK(!rom_for(Bytes(rom).first(size), 1, 2));
    rom[0x18] = 0xff;
    rom[0x19] = 0xff;
    CHECK(!rom_for(Bytes(rom).first(1024), 1, 2));
    rom[0] = 0;
    CHECK(!rom_for(rom, 1, 2));
}
