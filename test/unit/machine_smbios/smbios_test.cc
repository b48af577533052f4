// The tables, taken apart as DSP0134 says and as guests do: found by their anchors, checked by
// their sums, walked structure by structure.
#include "../machine_device/fw_cfg_files.h"

#include <map>
#include <numeric>

#include "machine/acpi/acpi.h"
#include "machine/layout.h"
#include "machine/smbios/smbios.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace vmhost::machine::smbios;

namespace {

using Buffer = std::vector<std::uint8_t>;

bool sums_to_zero(Bytes bytes) {
    return static_cast<std::uint8_t>(std::accumulate(bytes.begin(), bytes.end(), 0U)) == 0;
}

struct Parsed {
    unsigned type = 0, handle = 0;
    Buffer body; // with the header
    std::vector<std::string> strings;

    template <WireInteger T>
    T field(std::size_t offset) const {
        REQUIRE(range_fits(offset, sizeof(T), body.size()));
        return load_le<T>(Bytes(body).subspan(offset));
    }
    unsigned byte(std::size_t offset) const { return field<std::uint8_t>(offset); }
    std::string text(std::size_t offset) const {
        auto number = byte(offset);
        REQUIRE(number <= strings.size());
        return number == 0 ? "" : strings[number - 1];
    }
};

// 6.1: header, the rest of the formatted area, strings, two zero bytes at least.
std::vector<Parsed> parse(Bytes table) {
    std::vector<Parsed> out;
    std::size_t at = 0;
    while (at < table.size()) {
        REQUIRE(table.size() - at >= 6);
        Parsed one;
        one.type = table[at];
        std::size_t length = table[at + 1];
        REQUIRE(length >= 4);
        REQUIRE(range_fits(at, length + 2, table.size()));
        one.handle = load_le<std::uint16_t>(table.subspan(at + 2));
        one.body.assign(table.begin() + static_cast<std::ptrdiff_t>(at),
                        table.begin() + static_cast<std::ptrdiff_t>(at + length));
        at += length;
        while (table[at] != 0) {
            auto rest = as_text(table.subspan(at));
            auto end = rest.find('\0');
            REQUIRE(end != std::string_view::npos);
            one.strings.emplace_back(rest.substr(0, end));
            at += end + 1;
            REQUIRE(at < table.size());
        }
        at += one.strings.empty() ? 2 : 1;
        REQUIRE(at <= table.size());
        out.push_back(std::move(one));
    }
    return out;
}

const Parsed& only(const std::vector<Parsed>& all, unsigned type) {
    auto found = std::ranges::find(all, type, &Parsed::type);
    REQUIRE(found != all.end());
    CHECK(std::ranges::count(all, type, &Parsed::type) == 1);
    return *found;
}

Description description() {
    return {.serial = "ds=nocloud;s=http://192.0.2.1/seed/;i=vm13-1",
            .uuid_high = 0x0011223344558677,
            .uuid_low = 0x8899aabbccddeeff,
            .vcpus = 3,
            .memory_bytes = 512 * MiB};
}

// As guests search: on each 16 bytes of the BIOS area.
std::vector<Gpa> anchors(const GuestMemory& memory, std::string_view anchor) {
    std::vector<Gpa> found;
    for (Gpa at = 0xf0000; at < 1 * MiB; at += 16) {
        Buffer bytes(anchor.size());
        REQUIRE(memory.read(at, bytes));
        if (as_text(bytes) == anchor)
            found.push_back(at);
    }
    return found;
}

Buffer bytes_at(const GuestMemory& memory, Gpa at, std::size_t count) {
    Buffer bytes(count);
    REQUIRE(memory.read(at, bytes));
    return bytes;
}

// Where the 2.8 entry point leads, after all that guests check of it.
void check_entry21(Bytes entry, Bytes table) {
    REQUIRE(entry.size() == 31);
    CHECK(as_text(entry.first(4)) == "_SM_");
    CHECK(entry[5] == 31);
    CHECK(entry[6] == 2);
    CHECK(entry[7] == 8);
    CHECK(sums_to_zero(entry));
    CHECK(as_text(entry.subspan(16, 5)) == "_DMI_");
    CHECK(sums_to_zero(entry.subspan(16)));
    CHECK(load_le<std::uint16_t>(entry.subspan(22)) == table.size());
    auto all = parse(table);
    CHECK(load_le<std::uint16_t>(entry.subspan(28)) == all.size());
    CHECK(entry[30] == 0x28);
    std::size_t largest = 0;
    for (const auto& one : all) {
        std::size_t bytes = one.body.size() + (one.strings.empty() ? 2 : 1);
        for (const auto& text : one.strings)
            bytes += text.size() + 1;
        largest = std::max(largest, bytes);
    }
    CHECK(load_le<std::uint16_t>(entry.subspan(8)) == largest);
}

} // namespace

TEST_CASE("smbios: the structures say what the machine is") {
    auto table = structures(description());
    REQUIRE(table);
    auto all = parse(*table);
    std::map<unsigned, unsigned> handles;
    for (const auto& one : all)
        CHECK(handles.emplace(one.handle, one.type).second);
    CHECK(all.back().type == 127);
    CHECK(all.back().body.size() == 4);

    const auto& firmware = only(all, 0);
    CHECK(firmware.body.size() == 0x18);
    CHECK(firmware.text(4) == "vmhost");
    CHECK(firmware.text(8) == "01/01/2020");
    CHECK((firmware.byte(0x13) & 0x10) != 0); // a virtual machine

    const auto& system = only(all, 1);
    CHECK(system.body.size() == 0x1b);
    CHECK(system.text(4) == "vmhost");
    CHECK(system.text(5) == "vmhost VM");
    CHECK(system.text(7) == description().serial);

    const auto& chassis = only(all, 3);
    CHECK(chassis.body.size() == 0x16);
    CHECK(chassis.byte(5) == 1);

    const auto& processor = only(all, 4);
    CHECK(processor.body.size() == 0x30);
    CHECK(processor.byte(0x18) == 0x41);
    CHECK(processor.byte(0x23) == 3);
    CHECK(processor.byte(0x25) == 3);
    CHECK(processor.field<std::uint16_t>(0x2a) == 3);

    const auto& array = only(all, 16);
    CHECK(array.body.size() == 0x17);
    CHECK(array.field<std::uint32_t>(7) == 512 * 1024);
    CHECK(array.field<std::uint16_t>(0x0d) == 1);
    const auto& module = only(all, 17);
    CHECK(module.body.size() == 0x28);
    CHECK(module.field<std::uint16_t>(4) == array.handle);
    CHECK(module.field<std::uint16_t>(0x0c) == 512);
    const auto& range = only(all, 19);
    CHECK(range.body.size() == 0x1f);
    CHECK(range.field<std::uint16_t>(0x0c) == array.handle);
    CHECK(range.field<std::uint64_t>(0x0f) == 0);
    CHECK(range.field<std::uint64_t>(0x17) == 512 * MiB - 1);

    CHECK(only(all, 32).body.size() == 0x0b);
}

TEST_CASE("smbios: a UUID has its first three fields in little-endian") {
    auto table = structures({.uuid_high = 0x0011223344556677,
                             .uuid_low = 0x8899aabbccddeeff,
                             .memory_bytes = 64 * MiB});
    REQUIRE(table);
    auto all = parse(*table);
    const auto& system = only(all, 1);
    CHECK(system.text(7).empty());
    // 7.2.1's example
    CHECK(Buffer(system.body.begin() + 8, system.body.begin() + 24) ==
          Buffer{0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
                 0xee, 0xff});
}

TEST_CASE("smbios: memory beyond the hole, and more than the fields once had room for") {
    auto large = description();
    large.memory_bytes = 4096 * GiB;
    large.vcpus = 64;
    auto table = structures(large);
    REQUIRE(table);
    auto all = parse(*table);
    CHECK(only(all, 16).field<std::uint32_t>(7) == 0x80000000);
    CHECK(only(all, 16).field<std::uint64_t>(0x0f) == 4096 * GiB);
    CHECK(only(all, 17).field<std::uint16_t>(0x0c) == 0x7fff);
    CHECK(only(all, 17).field<std::uint32_t>(0x1c) == 4096 * 1024);
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
    for (const auto& one : all)
        if (one.type == 19)
            ranges.emplace_back(one.field<std::uint64_t>(0x0f), one.field<std::uint64_t>(0x17));
    CHECK(ranges == std::vector<std::pair<std::uint64_t, std::uint64_t>>{
                        {0, 3 * GiB - 1}, {4 * GiB, 4097 * GiB - 1}});
    CHECK(only(all, 4).field<std::uint16_t>(0x2c) == 64);
}

TEST_CASE("smbios: a guest that is entered directly finds both entry points") {
    const unsigned vcpus = GENERATE(1U, 64U);
    GuestMemory memory;
    REQUIRE(lay_out_memory(memory, 8 * MiB));
    auto free_from = acpi::install(memory, vcpus);
    REQUIRE(free_from);
    auto what = description();
    what.vcpus = vcpus;
    what.serial = std::string(max_serial_bytes, 'x');
    auto wanted = structures(what);
    REQUIRE(wanted);
    REQUIRE(install(memory, *free_from, what));

    auto old_ones = anchors(memory, "_SM_"), new_ones = anchors(memory, "_SM3_");
    REQUIRE(old_ones.size() == 1);
    REQUIRE(new_ones.size() == 1);
    CHECK(anchors(memory, "_DMI_").size() == 1); // of guests that know nothing of _SM_
    CHECK(anchors(memory, "_MP_").size() == 1);
    CHECK(anchors(memory, "RSD PTR ").size() == 1);
    CHECK(old_ones[0] >= *free_from);

    auto entry = bytes_at(memory, old_ones[0], 31);
    auto at = load_le<std::uint32_t>(Bytes(entry).subspan(24));
    auto table = bytes_at(memory, at, load_le<std::uint16_t>(Bytes(entry).subspan(22)));
    CHECK(table == *wanted);
    check_entry21(entry, table);

    auto newer = bytes_at(memory, new_ones[0], 24);
    CHECK(sums_to_zero(newer));
    CHECK(newer[6] == 24);
    CHECK(newer[7] == 3);
    CHECK(load_le<std::uint32_t>(Bytes(newer).subspan(12)) == table.size());
    CHECK(load_le<std::uint64_t>(Bytes(newer).subspan(16)) == at);
}

TEST_CASE("smbios: firmware gets the same through fw_cfg") {
    GuestMemory memory;
    REQUIRE(lay_out_memory(memory, 8 * MiB));
    FwCfg fw_cfg(memory);
    REQUIRE(add_firmware_files(fw_cfg, description()));
    auto table = machine::test::file_of(fw_cfg, "etc/smbios/smbios-tables");
    CHECK(table == *structures(description()));
    check_entry21(machine::test::file_of(fw_cfg, "etc/smbios/smbios-anchor"), table);
}

TEST_CASE("smbios: what is no serial number, and no room for the tables") {
    auto wrong = description();
    for (std::string serial : {std::string("a\nb"), std::string("a\0b", 3), std::string("\x7f"),
                               std::string("\xc3\xa9"), std::string(max_serial_bytes + 1, 'x')}) {
        wrong.serial = serial;
        auto table = structures(wrong);
        REQUIRE_FALSE(table);
        CHECK(table.error().kind() == ErrorKind::invalid);
    }
    GuestMemory memory;
    REQUIRE(lay_out_memory(memory, 8 * MiB));
    CHECK_FALSE(install(memory, 1 * MiB - 64, description()));
    CHECK_FALSE(install(memory, 0xe0000, description()));
    CHECK(anchors(memory, "_SM_").empty());
}
