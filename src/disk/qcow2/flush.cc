// How changed tables become stable; the order is told in mapper.h.
#include "base/base.h"
#include "disk/qcow2/mapper.h"

namespace vmhost::disk::qcow2 {

bool Mapper::wants_flush() {
    std::scoped_lock guard(mutex);
    return l2_cache_.is_over_bound() || freed_.size() > limits::max_qcow2_reusable_clusters * 4;
}

Result<void> Mapper::sync() {
    auto synced = file_.sync();
    if (!synced) {
        // The kernel reports a lost write once and calls the page clean: a later success
        // would not mean that the bytes are there.
        std::scoped_lock guard(mutex);
        broken_ = Error(synced.error()).in("an earlier flush failed");
    }
    return synced;
}

Result<void> Mapper::flush() {
    std::scoped_lock turn(flush_mutex_);
    auto batch = TRY(collect());
    auto written = write(batch);
    TRY(settle(batch, written.has_value()));
    TRY(std::move(written));
    return release(batch.freed);
}

// Copies what is dirty, so that requests go on while it is written.
Result<Mapper::Batch> Mapper::collect() {
    std::scoped_lock guard(mutex);
    if (broken_)
        return std::unexpected(*broken_);
    if (refcounts_.dirty())
        TRY(refcounts_.write_back());
    Batch batch;
    if (dirty_l2_) {
        for (auto& slice : l2_cache_.slices()) {
            if (!slice.dirty)
                continue;
            batch.l2.emplace_back(slice.offset, slice.bytes);
            slice.dirty = false;
            slice.writing = true;
        }
        dirty_l2_ = false;
    }
    batch.l1 = std::exchange(dirty_l1_, {});
    batch.freed = std::exchange(freed_, {});
    return batch;
}

Result<void> Mapper::write(const Batch& batch) {
    TRY(sync());
    if (batch.l2.empty() && batch.l1.empty())
        return {};
    for (const auto& [offset, bytes] : batch.l2)
        TRY(file_.write(bytes, offset));
    for (auto [index, entry] : batch.l1) {
        std::uint8_t raw[8];
        store_be(MutableBytes(raw), entry);
        TRY(file_.write(raw, header_.l1_offset + index * 8));
    }
    return sync();
}

// What could not be written is dirty again; what changed meanwhile counts.
Result<void> Mapper::settle(Batch& batch, bool written) {
    std::scoped_lock guard(mutex);
    for (const auto& [offset, bytes] : batch.l2) {
        if (auto* slice = l2_cache_.find(offset)) {
            slice->writing = false;
            slice->dirty |= !written;
        }
    }
    if (!written) {
        dirty_l2_ |= !batch.l2.empty();
        dirty_l1_.merge(batch.l1);
        for (auto [cluster, references] : batch.freed)
            freed_[cluster] += references;
    }
    return {};
}

// The tables on disk do not name these any more.
Result<void> Mapper::release(const std::map<std::uint64_t, std::uint64_t>& freed) {
    if (freed.empty())
        return {};
    std::vector<std::pair<std::uint64_t, std::uint64_t>> runs; // first cluster, end
    {
        std::scoped_lock guard(mutex);
        for (auto [cluster, references] : freed) {
            if (TRY(refcounts_.get(cluster)) != references)
                continue; // somebody else has it too
            if (!runs.empty() && runs.back().second == cluster)
                ++runs.back().second;
            else
                runs.emplace_back(cluster, cluster + 1);
        }
    }
    bool punched = true;
    for (auto [first, end] : runs)
        punched &=
            file_.punch_hole(first << header_.cluster_bits, (end - first) << header_.cluster_bits)
                .has_value();
    std::scoped_lock guard(mutex);
    for (auto [cluster, references] : freed)
        TRY(refcounts_.release(cluster, references, punched));
    return refcounts_.write_back();
}

} // namespace vmhost::disk::qcow2
