#include "disk/qcow2/refcounts.h"

#include <algorithm>

#include "base/base.h"

namespace vmhost::disk::qcow2 {

std::uint64_t load_refcount(Bytes block, std::uint64_t index, unsigned order) {
    switch (order) {
    case 3:
        return block[index];
    case 4:
        return load_be<std::uint16_t>(block.subspan(index * 2));
    case 5:
        return load_be<std::uint32_t>(block.subspan(index * 4));
    case 6:
        return load_be<std::uint64_t>(block.subspan(index * 8));
    default: { // several in a byte, the lowest bits first
        unsigned per_byte = 8U >> order;
        unsigned shift = static_cast<unsigned>(index % per_byte) << order;
        return block[index / per_byte] >> shift & ((1U << (1U << order)) - 1);
    }
    }
}

void store_refcount(MutableBytes block, std::uint64_t index, unsigned order, std::uint64_t count) {
    switch (order) {
    case 3:
        block[index] = static_cast<std::uint8_t>(count);
        break;
    case 4:
        store_be(block.subspan(index * 2), static_cast<std::uint16_t>(count));
        break;
    case 5:
        store_be(block.subspan(index * 4), static_cast<std::uint32_t>(count));
        break;
    case 6:
        store_be(block.subspan(index * 8), count);
        break;
    default: {
        unsigned per_byte = 8U >> order;
        unsigned shift = static_cast<unsigned>(index % per_byte) << order;
        unsigned mask = ((1U << (1U << order)) - 1) << shift;
        auto& byte = block[index / per_byte];
        byte = static_cast<std::uint8_t>((byte & ~mask) | (count << shift & mask));
    }
    }
}

Refcounts::Refcounts(Storage& file, Header& header, ClusterSet& tables)
    : file_(file), header_(header), tables_(tables),
      cache_(file, header.cluster_bytes(), limits::qcow2_refcount_cache_bytes) {}

std::unexpected<Error> Refcounts::damaged(const std::string& text) const {
    return fail(ErrorKind::corrupt, "image {}: {}", file_.name(), text);
}

Result<void> Refcounts::load() {
    auto file_bytes = TRY(file_.size());
    std::vector<std::uint8_t> raw(header_.refcount_table_entries() * 8);
    TRY(file_.read(raw, header_.refcount_table_offset));
    table_.resize(header_.refcount_table_entries());
    for (std::size_t i = 0; i < table_.size(); ++i) {
        auto offset = load_be<std::uint64_t>(Bytes(raw).subspan(i * 8));
        table_[i] = offset;
        if (offset == 0)
            continue;
        if (offset % header_.cluster_bytes() != 0)
            return damaged(
                fmt::format("refcount block {} at {} is not at a cluster's begin", i, offset));
        if (offset >= file_bytes)
            return damaged(
                fmt::format("refcount block {} at {} lies past the end of the file", i, offset));
        if (!tables_.insert(offset >> header_.cluster_bits))
            return damaged(fmt::format("refcount block {} at {} lies in another table", i, offset));
    }
    virgin_ = header_.clusters_of(file_bytes);
    return {};
}

std::uint64_t Refcounts::max_count() const {
    return header_.refcount_order == 6 ? UINT64_MAX : (1ULL << (1U << header_.refcount_order)) - 1;
}

// The slice with the cluster's count, and the count's index in it; the block must exist.
Result<Slice*> Refcounts::slice_of(std::uint64_t cluster, std::uint64_t& index) {
    auto per_slice = cache_.slice_bytes() * 8 >> header_.refcount_order;
    auto in_block = cluster % header_.refcounts_per_block();
    index = in_block % per_slice;
    auto offset = table_[cluster / header_.refcounts_per_block()] +
                  in_block / per_slice * cache_.slice_bytes();
    // Counts may be written at any time, so a full cache is simply emptied onto the disk.
    if (cache_.is_over_bound())
        TRY(write_back());
    return cache_.get(offset);
}

Result<std::uint64_t> Refcounts::get(std::uint64_t cluster) {
    if (table_entry(cluster / header_.refcounts_per_block()) == 0)
        return 0;
    std::uint64_t index = 0;
    auto* slice = TRY(slice_of(cluster, index));
    return load_refcount(slice->bytes, index, header_.refcount_order);
}

Result<void> Refcounts::set(std::uint64_t cluster, std::uint64_t count) {
    if (table_entry(cluster / header_.refcounts_per_block()) == 0)
        return damaged(
            fmt::format("cluster at {} has no refcount", cluster << header_.cluster_bits));
    std::uint64_t index = 0;
    auto* slice = TRY(slice_of(cluster, index));
    store_refcount(slice->bytes, index, header_.refcount_order, count);
    slice->dirty = dirty_ = true;
    return {};
}

Result<void> Refcounts::write_slice(Slice& slice) {
    TRY(file_.write(slice.bytes, slice.offset));
    slice.dirty = false;
    return {};
}

Result<void> Refcounts::write_back() {
    for (auto& slice : cache_.slices())
        if (slice.dirty)
            TRY(write_slice(slice));
    dirty_ = false;
    return {};
}

Result<Refcounts::Allocation> Refcounts::take(std::uint64_t cluster, bool reads_zero) {
    // Whatever the counts say: a table is never handed out.
    if (tables_.contains(cluster))
        return damaged(fmt::format("a table at {} counts as free; check the image",
                                   cluster << header_.cluster_bits));
    TRY(set(cluster, 1));
    reads_zero |= cluster >= virgin_;
    virgin_ = std::max(virgin_, cluster + 1);
    return Allocation{cluster, reads_zero};
}

Result<Refcounts::Allocation> Refcounts::allocate() {
    while (!reusable_.empty()) {
        auto cluster = reusable_.back();
        reusable_.pop_back();
        if (TRY(get(cluster)) == 0)
            return take(cluster, true);
    }
    auto per_block = header_.refcounts_per_block();
    for (;;) {
        if (next_ > limits::max_qcow2_file_bytes >> header_.cluster_bits)
            return fail(ErrorKind::limit, "image {}: the file cannot grow past {} bytes",
                        file_.name(), limits::max_qcow2_file_bytes);
        auto block = next_ / per_block;
        if (table_entry(block) == 0) {
            TRY(block < table_.size() ? make_block(block) : grow_table(block));
            continue;
        }
        auto found = TRY(search_block(next_));
        next_ = found ? *found + 1 : (block + 1) * per_block;
        if (found)
            return take(*found, false);
    }
}

// The first free cluster from first to the end of its block.
Result<std::optional<std::uint64_t>> Refcounts::search_block(std::uint64_t first) {
    auto per_slice = cache_.slice_bytes() * 8 >> header_.refcount_order;
    auto end = (first / header_.refcounts_per_block() + 1) * header_.refcounts_per_block();
    while (first < end) {
        std::uint64_t index = 0;
        auto* slice = TRY(slice_of(first, index));
        for (; index < per_slice; ++index, ++first)
            if (load_refcount(slice->bytes, index, header_.refcount_order) == 0)
                return first;
    }
    return std::nullopt;
}

Result<void> Refcounts::release(std::uint64_t cluster, std::uint64_t references, bool punched) {
    auto count = TRY(get(cluster));
    if (count < references)
        return damaged(fmt::format("cluster at {} has {} references and lost {}; check the image",
                                   cluster << header_.cluster_bits, count, references));
    TRY(set(cluster, count - references));
    if (count != references)
        return {};
    if (punched && reusable_.size() < limits::max_qcow2_reusable_clusters)
        reusable_.push_back(cluster);
    else
        next_ = std::min(next_, cluster);
    return {};
}

std::vector<std::uint8_t> Refcounts::empty_block() const {
    return std::vector<std::uint8_t>(header_.cluster_bytes());
}

// A block in the first of the clusters that it counts: none of them can be in use.
Result<void> Refcounts::make_block(std::uint64_t index) {
    auto cluster = index * header_.refcounts_per_block();
    if (tables_.contains(cluster))
        return damaged(fmt::format("a table at {} has no refcount; check the image",
                                   cluster << header_.cluster_bits));
    auto offset = cluster << header_.cluster_bits;
    auto block = empty_block();
    store_refcount(block, 0, header_.refcount_order, 1);
    TRY(file_.write(block, offset));
    TRY(file_.sync());
    std::uint8_t entry[8];
    store_be(MutableBytes(entry), offset);
    TRY(file_.write(entry, header_.refcount_table_offset + index * 8));
    table_[index] = offset;
    tables_.insert(cluster);
    virgin_ = std::max(virgin_, cluster + 1);
    return {};
}

// A longer table, and blocks for it, in the first clusters that the old one could not count.
Result<void> Refcounts::grow_table(std::uint64_t index) {
    auto per_block = header_.refcounts_per_block();
    auto first = index * per_block;
    std::uint64_t blocks = 1, clusters = 0;
    for (;;) { // the table counts its own blocks, the blocks count the table
        clusters = header_.clusters_of((index + blocks) * 8 * 3 / 2);
        auto wanted = (clusters + blocks + per_block - 1) / per_block;
        if (wanted <= blocks)
            break;
        blocks = wanted;
    }
    if (clusters * header_.cluster_bytes() > limits::max_qcow2_refcount_table_bytes)
        return fail(ErrorKind::limit, "image {}: its refcount table would be longer than {} bytes",
                    file_.name(), limits::max_qcow2_refcount_table_bytes);
    auto table = table_;
    table.resize(clusters * header_.cluster_bytes() / 8);
    for (std::uint64_t i = 0; i < blocks; ++i) {
        auto block = empty_block();
        for (std::uint64_t j = 0; j < per_block && i * per_block + j < clusters + blocks; ++j)
            store_refcount(block, j, header_.refcount_order, 1);
        table[index + i] = (first + clusters + i) << header_.cluster_bits;
        TRY(file_.write(block, table[index + i]));
    }
    ByteWriter raw;
    for (auto entry : table)
        raw.be(entry);
    TRY(file_.write(raw.buffer(), first << header_.cluster_bits));
    TRY(file_.sync());

    ByteWriter field;
    field.be(first << header_.cluster_bits);
    field.be(static_cast<std::uint32_t>(clusters));
    TRY(file_.write(field.buffer(), refcount_table_field));
    TRY(file_.sync());

    auto old_first = header_.refcount_table_offset >> header_.cluster_bits;
    auto old_clusters = header_.refcount_table_clusters;
    header_.refcount_table_offset = first << header_.cluster_bits;
    header_.refcount_table_clusters = static_cast<std::uint32_t>(clusters);
    table_ = std::move(table);
    for (std::uint64_t i = 0; i < clusters + blocks; ++i)
        tables_.insert(first + i);
    virgin_ = std::max(virgin_, first + clusters + blocks);
    for (std::uint64_t i = 0; i < old_clusters; ++i) {
        tables_.erase(old_first + i);
        TRY(release(old_first + i, 1, false));
    }
    return {};
}

} // namespace vmhost::disk::qcow2
