// A new, empty qcow2 image: header with the backing file's name, L1 table, refcount table and
// the first refcount blocks, each at a cluster's begin; nothing else. With 64 KiB clusters
// that is the layout that vmctl(8) of OpenBSD writes, and the backing format besides.
#include "base/base.h"
#include "disk/qcow2/image.h"
#include "disk/qcow2/refcounts.h"

namespace vmhost::disk::qcow2 {

namespace {

void put_extension(ByteWriter& to, std::uint32_t type, std::string_view data) {
    to.be(type);
    to.be(static_cast<std::uint32_t>(data.size()));
    to.bytes(as_bytes(data));
    to.zeros((8 - data.size() % 8) % 8);
}

std::vector<std::uint8_t> encode(const Header& header, Format backing_format) {
    ByteWriter extensions;
    if (!header.backing_file.empty()) {
        put_extension(extensions, extension_backing_format, name_of(backing_format));
        put_extension(extensions, extension_end, "");
    }
    ByteWriter to;
    to.be(magic);
    to.be(header.version);
    to.be<std::uint64_t>(header.backing_file.empty() ? 0 : header.header_bytes + extensions.size());
    to.be(static_cast<std::uint32_t>(header.backing_file.size()));
    to.be(header.cluster_bits);
    to.be(header.size_bytes);
    to.be<std::uint32_t>(0); // not encrypted
    to.be(header.l1_entries);
    to.be(header.l1_offset);
    to.be(header.refcount_table_offset);
    to.be(header.refcount_table_clusters);
    to.be(header.snapshots);
    to.be(header.snapshots_offset);
    if (header.version >= 3) {
        to.be(header.incompatible);
        to.be(header.compatible);
        to.be(header.autoclear);
        to.be(header.refcount_order);
        to.be(header.header_bytes);
    }
    to.bytes(extensions.buffer());
    to.bytes(as_bytes(header.backing_file));
    return to.take();
}

} // namespace

Result<void> format(Storage& file, const NewImage& image) {
    if (image.size_bytes < 512 || image.size_bytes > limits::max_disk_bytes)
        return fail(ErrorKind::invalid, "image {}: a size of {} bytes is not possible", file.name(),
                    image.size_bytes);
    if (image.backing_file.size() > limits::max_backing_name_bytes)
        return fail(ErrorKind::invalid, "image {}: the name of its base has more than {} bytes",
                    file.name(), limits::max_backing_name_bytes);
    Header header;
    header.version = image.version;
    header.cluster_bits = image.cluster_bits;
    header.size_bytes = image.size_bytes;
    header.backing_file = image.backing_file;
    header.header_bytes = image.version >= 3 ? header_bytes_v3 : header_bytes_v2;
    if (header.l1_entries_needed() > limits::max_qcow2_l1_bytes / 8)
        return fail(ErrorKind::invalid, "image {}: {} bytes are too many for clusters of {} bytes",
                    file.name(), image.size_bytes, header.cluster_bytes());
    header.l1_entries = static_cast<std::uint32_t>(header.l1_entries_needed());
    header.l1_offset = header.cluster_bytes();
    auto raw = encode(header, image.backing_format);
    if (raw.size() > header.cluster_bytes())
        return fail(ErrorKind::invalid, "image {}: the name of its base does not fit into {} bytes",
                    file.name(), header.cluster_bytes());

    // One cluster of table to begin with; it grows with the file.
    auto table = 1 + header.clusters_of(header.l1_entries * 8ULL);
    auto fixed = table + 1;
    std::uint64_t blocks = 1;
    while (blocks * header.refcounts_per_block() < fixed + blocks)
        ++blocks;
    if (blocks > header.l2_entries())
        return fail(ErrorKind::invalid, "image {}: {} bytes are too many for clusters of {} bytes",
                    file.name(), image.size_bytes, header.cluster_bytes());
    header.refcount_table_offset = table << header.cluster_bits;
    header.refcount_table_clusters = 1;

    ByteWriter counts;
    for (std::uint64_t i = 0; i < fixed + blocks; ++i)
        counts.be<std::uint16_t>(1);
    counts.pad_to(blocks * header.cluster_bytes());
    ByteWriter entries;
    for (std::uint64_t i = 0; i < blocks; ++i)
        entries.be((fixed + i) << header.cluster_bits);
    entries.pad_to(header.cluster_bytes());
    TRY(file.write(counts.buffer(), fixed << header.cluster_bits));
    TRY(file.write(entries.buffer(), header.refcount_table_offset));
    TRY(file.write(encode(header, image.backing_format), 0));
    return file.sync();
}

} // namespace vmhost::disk::qcow2
