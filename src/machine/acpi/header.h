// Inside acpi/: the header that every table but RSDP and FACS begins with (ACPI
// Specification 6.5, table 5.4), and what the ACPI and the MP table say alike.
#pragma once

#include <numeric>
#include <string_view>

#include "base/base.h"

namespace vmhost::machine::acpi {

inline constexpr std::size_t header_bytes = 36, length_offset = 4, checksum_offset = 9;

// Of interrupts, in the MADT and the MP table: polarity bits 0..1, trigger mode bits 2..3.
inline constexpr std::uint16_t active_high_level = 0x000d;
inline constexpr std::uint8_t io_apic_id = 0;

// What makes the sum of all bytes 0 when it is added to one of them.
inline std::uint8_t checksum(Bytes bytes) {
    return static_cast<std::uint8_t>(-std::accumulate(bytes.begin(), bytes.end(), 0U));
}

inline void begin_table(ByteWriter& out, std::string_view signature, std::uint8_t revision) {
    out.bytes(as_bytes(signature));
    out.le(std::uint32_t{0}); // length: finish_table()
    out.le(revision);
    out.le(std::uint8_t{0}); // checksum
    out.bytes(as_bytes("VMHOST"));
    out.bytes(as_bytes("VMHOSTPC"));
    out.le(std::uint32_t{1}); // revision of this description
    out.bytes(as_bytes("VMHO"));
    out.le(std::uint32_t{1});
}

inline std::vector<std::uint8_t> finish_table(ByteWriter& out) {
    auto table = out.take();
    store_le(MutableBytes(table).subspan(length_offset), static_cast<std::uint32_t>(table.size()));
    table[checksum_offset] = checksum(table);
    return table;
}

} // namespace vmhost::machine::acpi
