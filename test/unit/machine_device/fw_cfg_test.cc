#include <catch2/catch.hpp>

#include "fakes.h"
#include "machine/device/fw_cfg.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

constexpr std::uint64_t mib = 1 << 20;
constexpr Gpa descriptor = 0x1000, buffer = 0x2000;
constexpr std::uint32_t read_bit = 2, skip_bit = 4, select_bit = 8, write_bit = 16;

struct Firmware {
    Firmware() { REQUIRE(memory.add(0, mib, true)); }
    GuestMemory memory;
    FwCfg fw_cfg{memory};

    std::vector<std::uint8_t> item(std::uint16_t selector, std::size_t count) {
        out(fw_cfg, 0, selector);
        std::vector<std::uint8_t> data(count);
        for (auto& byte : data)
            byte = inb(fw_cfg, 1);
        return data;
    }
    struct File {
        std::uint32_t size = 0;
        std::uint16_t selector = 0;
        bool operator==(const File&) const = default;
    };
    std::map<std::string, File> directory() {
        std::map<std::string, File> files;
        auto count = load_be<std::uint32_t>(item(0x19, 4));
        auto raw = item(0x19, 4 + 64 * count);
        ByteReader reader(Bytes(raw).subspan(4));
        std::string last;
        for (unsigned i = 0; i < count; i++) {
            File file{.size = reader.be<std::uint32_t>(), .selector = reader.be<std::uint16_t>()};
            reader.skip(2);
            std::string name(as_text(reader.bytes(56)).data());
            CHECK(last < name); // sorted
            last = name;
            files[name] = file;
        }
        return files;
    }
    std::string file(const std::string& name) {
        auto entry = directory().at(name);
        return std::string(as_text(item(entry.selector, entry.size)));
    }
    // The control word after the transfer.
    std::uint32_t dma(std::uint32_t control, std::uint32_t length, Gpa address) {
        ByteWriter writer;
        writer.be(control);
        writer.be(length);
        writer.be(address);
        REQUIRE(memory.write(descriptor, writer.buffer()));
        out(fw_cfg, 8, from_big(static_cast<std::uint32_t>(descriptor)));
        std::uint8_t raw[4];
        REQUIRE(memory.read(descriptor, raw));
        return load_be<std::uint32_t>(raw);
    }
    std::string at(Gpa gpa, std::size_t count) {
        return std::string(as_text(*memory.slice(gpa, count)));
    }
};

std::vector<std::uint8_t> bytes(std::string_view text) {
    return {as_bytes(text).begin(), as_bytes(text).end()};
}

} // namespace

TEST_CASE("fw_cfg: signature, features, and zeros past the end") {
    Firmware firmware;
    CHECK(as_text(firmware.item(0, 4)) == "QEMU");
    CHECK(firmware.item(1, 6) == std::vector<std::uint8_t>{3, 0, 0, 0, 0, 0});
    CHECK(firmware.item(0x7777, 3) == std::vector<std::uint8_t>{0, 0, 0});
    CHECK(firmware.item(0x19, 4) == std::vector<std::uint8_t>{0, 0, 0, 0});
}

TEST_CASE("fw_cfg: files are found through the directory") {
    Firmware firmware;
    firmware.fw_cfg.add_file("etc/z", bytes("last"));
    firmware.fw_cfg.add_file("bootorder", bytes("first"));
    firmware.fw_cfg.add_file("etc/a", {});
    auto files = firmware.directory();
    REQUIRE(files.size() == 3);
    CHECK(files["bootorder"] == Firmware::File{5, 0x20});
    CHECK(files["etc/z"] == Firmware::File{4, 0x22});
    CHECK(firmware.file("etc/z") == "last");
    CHECK(firmware.file("etc/a").empty());
    SECTION("a second one of the same name replaces the first") {
        firmware.fw_cfg.add_file("bootorder", bytes("second one"));
        CHECK(firmware.directory().size() == 3);
        CHECK(firmware.file("bootorder") == "second one");
    }
    SECTION("names are bounded") {
        firmware.fw_cfg.add_file(std::string(56, 'x'), bytes("refused"));
        firmware.fw_cfg.add_file("", bytes("refused"));
        CHECK(firmware.directory().size() == 3);
        firmware.fw_cfg.add_file(std::string(55, 'x'), bytes("taken"));
        CHECK(firmware.file(std::string(55, 'x')) == "taken");
    }
}

TEST_CASE("fw_cfg: an announced DMA reads, skips and selects") {
    Firmware firmware;
    firmware.fw_cfg.add_file("f", bytes("0123456789"));
    CHECK(in<std::uint32_t>(firmware.fw_cfg, 4) == load_le<std::uint32_t>(as_bytes("QEMU")));
    CHECK(in<std::uint32_t>(firmware.fw_cfg, 8) == load_le<std::uint32_t>(as_bytes(" CFG")));
    REQUIRE(firmware.memory.fill(buffer, 'x', 32));

    CHECK(firmware.dma(0x20 << 16 | select_bit | read_bit, 4, buffer) == 0);
    CHECK(firmware.at(buffer, 5) == "0123x");
    CHECK(firmware.dma(skip_bit, 2, 0) == 0);
    CHECK(firmware.dma(read_bit, 6, buffer) == 0); // two bytes past the end
    CHECK(firmware.at(buffer, 7) == std::string("6789\0\0x", 7));
    CHECK(firmware.dma(skip_bit, UINT32_MAX, 0) == 0);
    CHECK(firmware.dma(skip_bit, UINT32_MAX, 0) == 0);
    CHECK(inb(firmware.fw_cfg, 1) == 0);
    CHECK(firmware.dma(0x20 << 16 | select_bit, 0, 0) == 0);
    CHECK(inb(firmware.fw_cfg, 1) == '0');
    CHECK(firmware.fw_cfg.failed_transfers() == 0);
}

TEST_CASE("fw_cfg: the two halves of the address, and both at once") {
    Firmware firmware;
    REQUIRE(firmware.memory.add(1ULL << 32, mib, true));
    ByteWriter writer;
    writer.be(std::uint32_t{select_bit | read_bit}); // the signature
    writer.be(std::uint32_t{4});
    writer.be(std::uint64_t{buffer});
    auto high = (1ULL << 32) + 0x100;
    SECTION("high, then low") {
        REQUIRE(firmware.memory.write(high, writer.buffer()));
        out(firmware.fw_cfg, 4, from_big(std::uint32_t{1}));
        out(firmware.fw_cfg, 8, from_big(std::uint32_t{0x100}));
        CHECK(firmware.at(buffer, 4) == "QEMU");
        // The high half is used up.
        REQUIRE(firmware.memory.fill(buffer, 0, 4));
        REQUIRE(firmware.memory.write(0x100, writer.buffer()));
        out(firmware.fw_cfg, 8, from_big(std::uint32_t{0x100}));
        CHECK(firmware.at(buffer, 4) == "QEMU");
    }
    SECTION("as one quad word") {
        REQUIRE(firmware.memory.write(high, writer.buffer()));
        out(firmware.fw_cfg, 4, from_big(high));
        CHECK(firmware.at(buffer, 4) == "QEMU");
    }
    SECTION("narrow writes start nothing") {
        REQUIRE(firmware.memory.write(0x100, writer.buffer()));
        out(firmware.fw_cfg, 8, std::uint16_t{0});
        outb(firmware.fw_cfg, 11, 0);
        CHECK(firmware.at(buffer, 4) == std::string(4, '\0'));
        CHECK(firmware.fw_cfg.failed_transfers() == 0);
    }
}

TEST_CASE("fw_cfg: a transfer that cannot be done says so and writes nothing") {
    Firmware firmware;
    firmware.fw_cfg.add_file("f", bytes("0123456789"));
    auto select_read = 0x20U << 16 | select_bit | read_bit;
    CHECK(firmware.dma(0x20 << 16 | select_bit | write_bit, 4, buffer) == 1);
    CHECK(inb(firmware.fw_cfg, 1) == '0'); // nothing was overwritten
    CHECK(firmware.dma(select_read, 4, mib) == 1);
    CHECK(firmware.dma(select_read, 4, UINT64_MAX - 1) == 1);
    CHECK(firmware.dma(select_read, limits::max_fw_cfg_transfer_bytes + 1, 0) == 1);
    CHECK(firmware.dma(select_read, UINT32_MAX, buffer) == 1);
    CHECK(firmware.dma(select_read, 8, mib - 4) == 1);
    CHECK(firmware.at(mib - 4, 4) == std::string(4, '\0'));
    CHECK(firmware.dma(select_read, 4, mib - 4) == 0);
    CHECK(firmware.at(mib - 4, 4) == "0123");
    CHECK(firmware.fw_cfg.failed_transfers() == 6);
    // A descriptor outside memory, and one that ends there.
    out(firmware.fw_cfg, 8, from_big(std::uint32_t{2 * mib}));
    out(firmware.fw_cfg, 8, from_big(std::uint32_t{mib - 15}));
    CHECK(firmware.fw_cfg.failed_transfers() == 8);
}

TEST_CASE("fw_cfg: one transfer moves a limited amount, a large file comes in pieces") {
    Firmware firmware;
    REQUIRE(firmware.memory.add(1ULL << 32, 4 * mib, true));
    std::vector<std::uint8_t> large(limits::max_fw_cfg_transfer_bytes + 1000, 0x5a);
    large.back() = 0xa5;
    firmware.fw_cfg.add_file("f", large);
    auto select_read = 0x20U << 16 | select_bit | read_bit;
    CHECK(firmware.dma(select_read, limits::max_fw_cfg_transfer_bytes + 1, 1ULL << 32) == 1);
    CHECK(firmware.at(1ULL << 32, 1) == std::string(1, '\0'));
    CHECK(firmware.dma(select_read, limits::max_fw_cfg_transfer_bytes, 1ULL << 32) == 0);
    CHECK(firmware.dma(read_bit, 1000, (1ULL << 32) + limits::max_fw_cfg_transfer_bytes) == 0);
    CHECK(firmware.at((1ULL << 32) + large.size() - 2, 2) == "Z\xa5");
}

TEST_CASE("fw_cfg: a transfer onto its own descriptor ends") {
    Firmware firmware;
    CHECK(firmware.dma(0x19 << 16 | select_bit | read_bit, 64, descriptor) == 0);
}

TEST_CASE("fw_cfg: what SeaBIOS reads") {
    Firmware firmware;
    const MemoryMapRow map[] = {
        {0, 0xa0000, 1}, {0xa0000, 0x60000, 2}, {mib, 511 * mib, 1}, {4ULL << 30, mib, 1}};
    add_platform_files(firmware.fw_cfg, map, 3, "/pci@i0cf8/*@2\nHALT");
    CHECK(load_le<std::uint64_t>(firmware.item(0x03, 8)) == 0xa0000 + 512 * mib);
    CHECK(load_le<std::uint16_t>(firmware.item(0x04, 2)) == 1);
    CHECK(load_le<std::uint16_t>(firmware.item(0x05, 2)) == 3);
    CHECK(load_le<std::uint16_t>(firmware.item(0x0f, 2)) == 3);
    auto e820 = firmware.file("etc/e820");
    REQUIRE(e820.size() == 4 * 20);
    ByteReader reader(as_bytes(e820).subspan(20));
    CHECK(reader.le<std::uint64_t>() == 0xa0000);
    CHECK(reader.le<std::uint64_t>() == 0x60000);
    CHECK(reader.le<std::uint32_t>() == 2);
    CHECK(load_le<std::uint16_t>(as_bytes(firmware.file("etc/sercon-port"))) == 0x3f8);
    CHECK(firmware.file("bootorder") == std::string("/pci@i0cf8/*@2\nHALT\0", 20));

    Firmware plain;
    add_platform_files(plain.fw_cfg, map, 1, "");
    CHECK(plain.directory().count("bootorder") == 0);
}

TEST_CASE("fw_cfg: every access of every size") {
    Firmware firmware;
    add_platform_files(firmware.fw_cfg, {}, 1, "HALT");
    for (std::uint32_t selector = 0; selector < 0x10000; selector += 0x11) {
        out(firmware.fw_cfg, 0, static_cast<std::uint16_t>(selector));
        (void)in<std::uint32_t>(firmware.fw_cfg, 1);
    }
    abuse(firmware.fw_cfg, FwCfg::port_count);
    CHECK(inb(firmware.fw_cfg, 0) == 0xff); // the selector cannot be read
}
