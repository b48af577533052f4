// The qcow2 format, as far as bytes on disk go: QEMU's docs/interop/qcow2.txt,
// sections "Header", "Header extensions", "Host cluster management", "Cluster
// mapping", "Snapshots". All numbers are big-endian.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/base.h"
#include "disk/storage.h"

namespace vmhost::disk::qcow2 {

inline constexpr std::uint32_t magic = 0x514649fb; // "QFI\xfb"
inline constexpr std::uint32_t header_bytes_v2 = 72;
inline constexpr std::uint32_t header_bytes_v3 = 104;
inline constexpr unsigned min_cluster_bits = 9;
inline constexpr unsigned max_cluster_bits = 21;

// Places in the header that are rewritten in place.
inline constexpr std::uint64_t refcount_table_field = 48; // u64 offset, u32 clusters
inline constexpr std::uint64_t autoclear_field = 88;

enum : std::uint64_t {
    incompatible_dirty = 1 << 0,
    incompatible_corrupt = 1 << 1,
    incompatible_external_data = 1 << 2,
    incompatible_compression = 1 << 3,
    incompatible_extended_l2 = 1 << 4,
    compatible_lazy_refcounts = 1 << 0,
};

enum : std::uint32_t {
    extension_end = 0,
    extension_backing_format = 0xe2792aca,
    extension_feature_names = 0x6803f857,
    extension_bitmaps = 0x23852875,
};

// Entries of L1 and L2 tables.
inline constexpr std::uint64_t entry_copied = 1ULL << 63; // exactly one reference
inline constexpr std::uint64_t entry_compressed = 1ULL << 62;
inline constexpr std::uint64_t entry_zero = 1; // version 3 only
inline constexpr std::uint64_t entry_offset_mask = 0x00fffffffffffe00;
inline constexpr std::uint64_t l1_reserved = 0x7f000000000001ff;
inline constexpr std::uint64_t l2_reserved = 0x3f000000000001fe;
inline constexpr std::uint64_t refcount_table_reserved = 0x1ff;

struct Header {
    std::uint32_t version = 3;
    std::uint32_t cluster_bits = 16;
    std::uint64_t size_bytes = 0;
    std::uint32_t l1_entries = 0;
    std::uint64_t l1_offset = 0;
    std::uint64_t refcount_table_offset = 0;
    std::uint32_t refcount_table_clusters = 0;
    std::uint32_t snapshots = 0;
    std::uint64_t snapshots_offset = 0;
    std::uint64_t incompatible = 0;
    std::uint64_t compatible = 0;
    std::uint64_t autoclear = 0;
    std::uint32_t refcount_order = 4;
    std::uint32_t header_bytes = header_bytes_v3;
    std::string backing_file; // empty = none
    std::optional<std::string> backing_format;
    bool has_bitmaps = false;

    std::uint64_t cluster_bytes() const { return 1ULL << cluster_bits; }
    std::uint64_t l2_entries() const { return cluster_bytes() / 8; }
    std::uint64_t refcounts_per_block() const { return cluster_bytes() * 8 >> refcount_order; }
    std::uint64_t refcount_table_entries() const {
        return refcount_table_clusters * cluster_bytes() / 8;
    }
    std::uint64_t clusters_of(std::uint64_t bytes) const {
        return (bytes >> cluster_bits) + ((bytes & (cluster_bytes() - 1)) != 0);
    }
    // L1 entries that the disk's size asks for.
    std::uint64_t l1_entries_needed() const {
        auto clusters = clusters_of(size_bytes);
        return clusters / l2_entries() + (clusters % l2_entries() != 0);
    }
};

// The host bytes of a compressed cluster's entry ("Compressed Clusters Descriptor").
struct CompressedPlace {
    std::uint64_t offset = 0;
    std::uint64_t length = 0; // an upper bound: the stream may end in its last sector
    std::uint64_t first_sector() const { return offset & ~511ULL; }
    std::uint64_t end() const { return offset + length; }
};
inline CompressedPlace compressed_place(const Header& header, std::uint64_t entry) {
    unsigned bits = 62 - (header.cluster_bits - 8);
    auto offset = entry & ((1ULL << bits) - 1);
    auto sectors = (entry & (entry_compressed - 1)) >> bits;
    return {offset, (sectors + 1) * 512 - (offset & 511)};
}

// Everything but the tables' contents: fields, limits, features, and that no table reaches past
// the file or into another one. A dirty image is refused, a corrupt one only for writing.
Result<Header> read_header(Storage& file, bool read_only);

// Where the active tables lie, for overlap checks and messages.
struct Region {
    const char* what;
    std::uint64_t start;
    std::uint64_t end; // rounded up to whole clusters
};
std::vector<Region> fixed_regions(const Header& header);

} // namespace vmhost::disk::qcow2
