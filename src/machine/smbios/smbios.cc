// The structures of DSP0134 that guests ask for, each as of the version in its comment, the entry
// points, and where they go. Numbers in comments are sections of the specification.
#include "machine/smbios/smbios.h"

#include <algorithm>
#include <numeric>

namespace vmhost::machine::smbios {

namespace {

enum Type : std::uint8_t {
    firmware = 0,
    system = 1,
    chassis = 3,
    processor = 4,
    memory_array = 16,
    memory_device = 17,
    memory_address = 19,
    boot_information = 32,
    end_of_table = 127,
};

constexpr std::string_view maker = "vmhost", product = "vmhost VM";
// Guests turn things off on machines that are old, and others on for those of new makers: a date
// between both.
constexpr std::string_view release_date = "01/01/2020";

// A handle is the structure's type and which of that type it is.
constexpr std::uint16_t handle_of(Type type, unsigned index = 0) {
    return static_cast<std::uint16_t>(type << 8 | index);
}
constexpr std::uint16_t no_handle = 0xffff, no_error_information = 0xfffe;

// One structure: its formatted area, then its strings, which it names by number from 1 (6.1).
class Structure {
public:
    Structure(Type type, unsigned index = 0) {
        out_.le<std::uint8_t>(type);
        out_.le(std::uint8_t{0}); // length: end()
        out_.le(handle_of(type, index));
    }
    Structure& byte(unsigned value) { return put(static_cast<std::uint8_t>(value)); }
    Structure& word(unsigned value) { return put(static_cast<std::uint16_t>(value)); }
    Structure& dword(std::uint64_t value) { return put(static_cast<std::uint32_t>(value)); }
    Structure& qword(std::uint64_t value) { return put(value); }
    Structure& zeros(std::size_t count) {
        out_.zeros(count);
        return *this;
    }
    Structure& text(std::string_view text) {
        if (text.empty())
            return byte(0);
        strings_.emplace_back(text);
        return byte(static_cast<unsigned>(strings_.size()));
    }
    void end(ByteWriter& table) {
        out_.buffer()[1] = static_cast<std::uint8_t>(out_.size());
        table.bytes(out_.buffer());
        for (const auto& text : strings_) {
            table.bytes(as_bytes(text));
            table.zeros(1);
        }
        table.zeros(strings_.empty() ? 2 : 1);
    }

private:
    template <WireInteger T>
    Structure& put(T value) {
        out_.le(value);
        return *this;
    }
    ByteWriter out_;
    std::vector<std::string> strings_;
};

// 7.1 as of 2.4
void add_firmware(ByteWriter& table) {
    constexpr std::uint64_t no_characteristics = 1 << 3; // which the ones beside it would be
    constexpr unsigned is_virtual_machine = 1 << 4;
    Structure(firmware)
        .text(maker)
        .text("1")
        .word(0xe800) // segment
        .text(release_date)
        .byte(0) // 64 KiB
        .qword(no_characteristics)
        .byte(0)
        .byte(is_virtual_machine)
        .byte(0xff) // no release numbers, of it and of an embedded controller
        .byte(0xff)
        .byte(0xff)
        .byte(0xff)
        .end(table);
}

// 7.2 as of 2.4. The first three fields of the UUID are little-endian (7.2.1).
void add_system(ByteWriter& table, const Description& description) {
    constexpr unsigned by_power_switch = 6;
    const auto high = description.uuid_high;
    Structure(system)
        .text(maker)
        .text(product)
        .text("")
        .text(description.serial)
        .dword(high >> 32)
        .word(static_cast<std::uint16_t>(high >> 16))
        .word(static_cast<std::uint16_t>(high))
        .qword(from_big(description.uuid_low))
        .byte(by_power_switch)
        .text("")
        .text("")
        .end(table);
}

// 7.4 as of 2.7
void add_chassis(ByteWriter& table) {
    constexpr unsigned other = 1, safe = 3, unknown = 2;
    Structure(chassis)
        .text(maker)
        .byte(other)
        .text("")
        .text("")
        .text("")
        .byte(safe) // at boot; of the power supply; thermal
        .byte(safe)
        .byte(safe)
        .byte(unknown) // security
        .dword(0)
        .byte(0) // height, power cords, elements
        .byte(0)
        .byte(0)
        .byte(0)
        .text("") // SKU
        .end(table);
}

// 7.5 as of 3.0
void add_processor(ByteWriter& table, unsigned vcpus) {
    constexpr unsigned central = 3, unknown = 2, other = 1, family_in_word = 0xfe;
    constexpr unsigned populated_and_enabled = 0x41, is_64_bit = 1 << 2;
    const unsigned cores = std::min(vcpus, 0xffU);
    Structure(processor)
        .text("CPU 0")
        .byte(central)
        .byte(family_in_word)
        .text(maker)
        .qword(0) // identification: CPUID tells
        .text("")
        .byte(0) // voltage
        .word(0) // clock, highest and current speed: unknown
        .word(0)
        .word(0)
        .byte(populated_and_enabled)
        .byte(other)
        .word(no_handle) // caches
        .word(no_handle)
        .word(no_handle)
        .text("") // serial number, asset, part
        .text("")
        .text("")
        .byte(cores)
        .byte(cores) // enabled
        .byte(cores) // threads
        .word(is_64_bit)
        .word(unknown)
        .word(vcpus)
        .word(vcpus)
        .word(vcpus)
        .end(table);
}

// 7.17 as of 2.7, 7.18 as of 2.8, 7.20 as of 2.7: one module that is all of the memory. Its
// addresses leave out the hole below 4 GiB, as the map of the memory tells it.
void add_memory(ByteWriter& table, std::uint64_t bytes) {
    constexpr unsigned other = 1, system_memory = 3, none = 3, dimm = 9, ram = 7;
    constexpr std::uint64_t low_end = 3 * GiB;
    const auto kib = bytes / KiB, mib = bytes / MiB;
    const bool large = kib > 0x7fffffff;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges{{0, std::min(bytes, low_end)}};
    if (bytes > low_end)
        ranges.emplace_back(4 * GiB, bytes - low_end);
    Structure(memory_array)
        .byte(other)
        .byte(system_memory)
        .byte(none) // error correction
        .dword(large ? 0x80000000 : kib)
        .word(no_error_information)
        .word(1) // modules
        .qword(large ? bytes : 0)
        .end(table);
    const bool beyond_word = mib >= 0x7fff;
    Structure(memory_device)
        .word(handle_of(memory_array))
        .word(no_error_information)
        .word(0xffff) // widths: unknown
        .word(0xffff)
        .word(static_cast<unsigned>(beyond_word ? 0x7fff : mib))
        .byte(dimm)
        .byte(0) // of no set
        .text("DIMM 0")
        .text("")
        .byte(ram)
        .word(other << 1) // detail
        .word(0)          // speed
        .text(maker)
        .text("") // serial number, asset, part
        .text("")
        .text("")
        .byte(0) // rank
        .dword(beyond_word ? mib : 0)
        .word(0) // speed as it is configured
        .word(0) // voltages
        .word(0)
        .word(0)
        .end(table);
    unsigned index = 0;
    for (auto [start, size] : ranges)
        if (size >= KiB)
            Structure(memory_address, index++)
                .dword(0xffffffff) // in KiB: see the last two
                .dword(0xffffffff)
                .word(handle_of(memory_array))
                .byte(1)
                .qword(start)
                .qword(start + size - 1)
                .end(table);
}

std::uint8_t checksum(Bytes bytes) {
    return static_cast<std::uint8_t>(-std::accumulate(bytes.begin(), bytes.end(), 0U));
}

struct Measure {
    std::uint16_t structures = 0, largest_bytes = 0;
};
Measure measure(Bytes table) {
    Measure out;
    for (std::size_t at = 0; at < table.size();) {
        const auto start = at;
        at += table[at + 1];
        while (table[at] != 0 || table[at + 1] != 0)
            ++at;
        at += 2;
        ++out.structures;
        out.largest_bytes = std::max(out.largest_bytes, static_cast<std::uint16_t>(at - start));
    }
    return out;
}

// 5.2.1, and the intermediate one in it.
std::vector<std::uint8_t> entry21(Bytes table, Gpa at) {
    constexpr std::size_t checksum_offset = 4, second_start = 16, second_checksum = 21;
    const auto measured = measure(table);
    ByteWriter out;
    out.bytes(as_bytes("_SM_"));
    out.le(std::uint8_t{0});
    out.le(static_cast<std::uint8_t>(entry21_bytes));
    out.le(std::uint8_t{2});
    out.le(std::uint8_t{8});
    out.le(measured.largest_bytes);
    out.zeros(6); // revision of this entry point, five bytes for it
    out.bytes(as_bytes("_DMI_"));
    out.le(std::uint8_t{0});
    out.le(static_cast<std::uint16_t>(table.size()));
    out.le(static_cast<std::uint32_t>(at));
    out.le(measured.structures);
    out.le(std::uint8_t{0x28});
    auto bytes = out.take();
    bytes[second_checksum] = checksum(Bytes(bytes).subspan(second_start));
    bytes[checksum_offset] = checksum(bytes);
    return bytes;
}

// 5.2.2
std::vector<std::uint8_t> entry30(Bytes table, Gpa at) {
    constexpr std::size_t checksum_offset = 5;
    ByteWriter out;
    out.bytes(as_bytes("_SM3_"));
    out.le(std::uint8_t{0});
    out.le(static_cast<std::uint8_t>(entry30_bytes));
    out.le(std::uint8_t{3});
    out.le(std::uint8_t{0});
    out.le(std::uint8_t{0});
    out.le(std::uint8_t{1}); // revision of this entry point
    out.le(std::uint8_t{0});
    out.le(static_cast<std::uint32_t>(table.size()));
    out.le(std::uint64_t{at});
    auto bytes = out.take();
    bytes[checksum_offset] = checksum(bytes);
    return bytes;
}

constexpr Gpa aligned(Gpa at) {
    return (at + 15) / 16 * 16;
}

} // namespace

Result<std::vector<std::uint8_t>> structures(const Description& description) {
    const auto& serial = description.serial;
    if (serial.size() > max_serial_bytes ||
        !std::ranges::all_of(serial, [](char c) { return c >= 0x20 && c <= 0x7e; }))
        return fail(ErrorKind::invalid, "smbios: \"{}\" is no serial number", printable(serial));
    ByteWriter table;
    add_firmware(table);
    add_system(table, description);
    add_chassis(table);
    add_processor(table, description.vcpus);
    add_memory(table, description.memory_bytes);
    Structure(boot_information).zeros(6).byte(0).end(table); // 7.33: no errors
    Structure(end_of_table).end(table);
    return table.take();
}

Result<void> install(GuestMemory& memory, Gpa from, const Description& description) {
    constexpr Gpa start = 0xf0000, end = 1 * MiB;
    const auto table = TRY(structures(description));
    const Gpa old_at = aligned(from), new_at = aligned(old_at + entry21_bytes),
              table_at = aligned(new_at + entry30_bytes);
    if (from < start || !range_fits(table_at, table.size(), end))
        return fail(ErrorKind::internal, "smbios: {} bytes at {:#x} are not in the BIOS area",
                    table.size(), table_at);
    if (!memory.write(old_at, entry21(table, table_at)) ||
        !memory.write(new_at, entry30(table, table_at)) || !memory.write(table_at, table))
        return fail(ErrorKind::internal, "smbios: the guest has no memory at {:#x}", old_at);
    return {};
}

Result<void> add_firmware_files(FwCfg& fw_cfg, const Description& description) {
    auto table = TRY(structures(description));
    fw_cfg.add_file("etc/smbios/smbios-anchor", entry21(table, 0));
    fw_cfg.add_file("etc/smbios/smbios-tables", std::move(table));
    return {};
}

} // namespace vmhost::machine::smbios
