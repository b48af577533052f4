// struct disklabel (OpenBSD sys/disklabel.h), little-endian, in sector 1 of its area:
//
//   0    u32 magic 0x82564557      132  u32 the same magic
//   64   u8[8] DUID                136  u16 checksum: all u16 up to the last
//   138  u16 number of partitions       partition, exclusive-or, gives 0
//   148  partitions, 16 bytes each
//
// The disk is the guest's: nothing of it is believed without its bounds.
#include "machine/boot/disklabel.h"

namespace vmhost::machine::boot {

namespace {

constexpr std::uint32_t label_magic = 0x82564557;
constexpr std::size_t duid_offset = 64, second_magic_offset = 132, count_offset = 138,
                      partitions_offset = 148, partition_bytes = 16, max_partitions = 22;
constexpr std::size_t mbr_table_offset = 446, mbr_entry_bytes = 16, mbr_entries = 4,
                      mbr_signature_offset = 510;
constexpr std::uint8_t openbsd_type = 0xa6;

std::uint64_t openbsd_area(Bytes mbr) {
    if (load_le<std::uint16_t>(mbr.subspan(mbr_signature_offset)) != 0xaa55)
        return 0;
    for (std::size_t i = 0; i < mbr_entries; ++i) {
        auto entry = mbr.subspan(mbr_table_offset + i * mbr_entry_bytes, mbr_entry_bytes);
        if (entry[4] == openbsd_type)
            return load_le<std::uint32_t>(entry.subspan(8));
    }
    return 0;
}

bool is_label(Bytes sector) {
    if (load_le<std::uint32_t>(sector) != label_magic ||
        load_le<std::uint32_t>(sector.subspan(second_magic_offset)) != label_magic)
        return false;
    auto partitions = load_le<std::uint16_t>(sector.subspan(count_offset));
    if (partitions > max_partitions)
        return false;
    std::uint16_t sum = 0;
    auto end = partitions_offset + partitions * partition_bytes;
    for (std::size_t at = 0; at < end; at += 2)
        sum ^= load_le<std::uint16_t>(sector.subspan(at));
    return sum == 0;
}

} // namespace

std::optional<Duid> find_duid(const ReadSector& read) {
    auto mbr = read(0);
    if (!mbr)
        return std::nullopt;
    auto label = read(openbsd_area(*mbr) + 1);
    if (!label || !is_label(*label))
        return std::nullopt;
    Duid duid;
    std::copy_n(label->begin() + duid_offset, duid.size(), duid.begin());
    return duid == Duid{} ? std::nullopt : std::optional(duid);
}

} // namespace vmhost::machine::boot
