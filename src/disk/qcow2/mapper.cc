#include "disk/qcow2/mapper.h"

#include "base/base.h"

namespace vmhost::disk::qcow2 {

Mapper::Mapper(Storage& file, Header header)
    : file_(file), header_(std::move(header)), refcounts_(file, header_, tables_),
      l2_cache_(file, header_.cluster_bytes(), limits::qcow2_l2_cache_bytes) {}

template <class... Args>
std::unexpected<Error> Mapper::damaged(fmt::format_string<Args...> format, Args&&... args) const {
    return std::unexpected(
        Error(ErrorKind::corrupt, fmt::format(format, std::forward<Args>(args)...))
            .in("image " + file_.name()));
}

Result<void> Mapper::load(bool read_only) {
    end_cluster_ = header_.clusters_of(TRY(file_.size()));
    for (const auto& region : fixed_regions(header_))
        for (auto at = region.start; at < region.end; at += header_.cluster_bytes())
            tables_.insert(at >> header_.cluster_bits);
    // The reader of an image marked corrupt needs no counts, and they may be what is wrong.
    if (!(read_only && header_.incompatible & incompatible_corrupt))
        TRY(refcounts_.load());

    std::vector<std::uint8_t> raw(header_.l1_entries * 8ULL);
    TRY(file_.read(raw, header_.l1_offset));
    l1_.resize(header_.l1_entries);
    for (std::size_t i = 0; i < l1_.size(); ++i) {
        l1_[i] = load_be<std::uint64_t>(Bytes(raw).subspan(i * 8));
        auto offset = l1_[i] & entry_offset_mask;
        if (l1_[i] & l1_reserved)
            return damaged("L1 entry {} has reserved bits: {:#x}", i, l1_[i]);
        if (offset == 0)
            continue;
        if (offset % header_.cluster_bytes() != 0)
            return damaged("L2 table {} at {} is not at a cluster's begin", i, offset);
        if (offset >> header_.cluster_bits >= end_cluster_)
            return damaged("L2 table {} at {} lies past the end of the file", i, offset);
        if (!tables_.insert(offset >> header_.cluster_bits))
            return damaged("L2 table {} at {} lies in another table", i, offset);
    }
    // Writing makes stale whatever these bits vouch for; those that wrote it know.
    if (!read_only && header_.autoclear != 0) {
        const std::uint8_t zeros[8]{};
        TRY(file_.write(zeros, autoclear_field));
        TRY(sync());
        header_.autoclear = 0;
    }
    return {};
}

Result<Slice*> Mapper::l2_slice(std::uint64_t cluster, std::uint64_t& index) {
    auto in_table = cluster % header_.l2_entries() * 8;
    auto table = l1_[cluster / header_.l2_entries()] & entry_offset_mask;
    index = in_table % l2_cache_.slice_bytes();
    return l2_cache_.get(table + in_table);
}

Result<Mapping> Mapper::map(std::uint64_t cluster) {
    if ((l1_[cluster / header_.l2_entries()] & entry_offset_mask) == 0)
        return Mapping{};
    std::uint64_t index = 0;
    auto* slice = TRY(l2_slice(cluster, index));
    return parse(cluster, load_be<std::uint64_t>(Bytes(slice->bytes).subspan(index)));
}

std::optional<Mapping> Mapper::map_cached(std::uint64_t cluster) {
    auto table = l1_[cluster / header_.l2_entries()] & entry_offset_mask;
    if (table == 0)
        return Mapping{};
    auto in_table = cluster % header_.l2_entries() * 8;
    auto* slice = l2_cache_.get_cached(table + in_table);
    if (slice == nullptr)
        return std::nullopt;
    auto index = in_table % l2_cache_.slice_bytes();
    auto mapping = parse(cluster, load_be<std::uint64_t>(Bytes(slice->bytes).subspan(index)));
    return mapping ? std::optional(*mapping) : std::nullopt;
}

Result<Mapping> Mapper::parse(std::uint64_t cluster, std::uint64_t entry) const {
    Mapping mapping;
    mapping.entry = entry;
    if (entry & entry_compressed) {
        auto place = compressed_place(header_, entry);
        if (place.first_sector() >> header_.cluster_bits >= end_cluster_)
            return damaged("compressed cluster {} at {} lies past the end of the file", cluster,
                           place.offset);
        mapping.kind = Mapping::Kind::compressed;
        return mapping;
    }
    auto reserved = l2_reserved | (header_.version == 2 ? entry_zero : 0);
    if (entry & reserved)
        return damaged("the L2 entry of cluster {} has reserved bits: {:#x}", cluster, entry);
    auto host = mapping.host_offset = entry & entry_offset_mask;
    bool l2_is_ours = l1_[cluster / header_.l2_entries()] & entry_copied;
    mapping.copied = host != 0 && entry & entry_copied && l2_is_ours;
    mapping.kind = entry & entry_zero ? Mapping::Kind::zero
                   : host != 0        ? Mapping::Kind::data
                                      : Mapping::Kind::unallocated;
    if (host == 0)
        return mapping;
    if (host % header_.cluster_bytes() != 0)
        return damaged("cluster {} at {} is not at a cluster's begin", cluster, host);
    if (host >> header_.cluster_bits >= end_cluster_)
        return damaged("cluster {} at {} lies past the end of the file", cluster, host);
    if (tables_.contains(host >> header_.cluster_bits))
        return damaged("cluster {} at {} lies in a table", cluster, host);
    return mapping;
}

Result<Refcounts::Allocation> Mapper::allocate() {
    if (broken_)
        return std::unexpected(*broken_);
    auto allocation = TRY(refcounts_.allocate());
    end_cluster_ = std::max(end_cluster_, allocation.cluster + 1);
    return allocation;
}

void Mapper::abandon(std::uint64_t host_cluster) {
    // When this fails too, the cluster is leaked; check finds it.
    (void)refcounts_.release(host_cluster, 1, false);
}

// An L2 table that a snapshot shares is copied before it is changed, a missing one made.
Result<void> Mapper::own_l2(std::uint64_t l1_index) {
    auto old = l1_[l1_index];
    if (old & entry_copied)
        return {};
    auto place = TRY(allocate());
    std::vector<std::uint8_t> table(header_.cluster_bytes());
    auto offset = place.cluster << header_.cluster_bits;
    auto old_offset = old & entry_offset_mask;
    auto filled = old_offset != 0 ? file_.read(table, old_offset) : Result<void>();
    if (filled)
        filled = file_.write(table, offset);
    if (!filled) {
        abandon(place.cluster);
        return filled;
    }
    if (old_offset != 0) { // clean in the cache: it was never ours to change
        l2_cache_.drop(old_offset, header_.cluster_bytes());
        tables_.erase(old_offset >> header_.cluster_bits);
        ++freed_[old_offset >> header_.cluster_bits];
    }
    l2_cache_.drop(offset, header_.cluster_bytes());
    tables_.insert(place.cluster);
    l1_[l1_index] = dirty_l1_[l1_index] = offset | entry_copied;
    return {};
}

Result<void> Mapper::set(std::uint64_t cluster, std::uint64_t entry) {
    if (broken_)
        return std::unexpected(*broken_);
    auto old = TRY(map(cluster));
    TRY(own_l2(cluster / header_.l2_entries()));
    std::uint64_t index = 0;
    auto* slice = TRY(l2_slice(cluster, index));
    store_be(MutableBytes(slice->bytes).subspan(index), entry);
    slice->dirty = dirty_l2_ = true;
    let_go(old, entry & entry_compressed ? 0 : entry & entry_offset_mask);
    return {};
}

void Mapper::let_go(const Mapping& old, std::uint64_t kept_host_offset) {
    if (old.kind == Mapping::Kind::compressed) {
        auto place = compressed_place(header_, old.entry);
        auto last = (place.end() - 1) >> header_.cluster_bits;
        for (auto at = place.first_sector() >> header_.cluster_bits; at <= last; ++at)
            ++freed_[at];
    } else if (old.host_offset != 0 && old.host_offset != kept_host_offset) {
        ++freed_[old.host_offset >> header_.cluster_bits];
    }
}

} // namespace vmhost::disk::qcow2
