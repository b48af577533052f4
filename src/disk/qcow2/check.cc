// Is a qcow2 image sound? Walks every table, counts the references to each host cluster and
// compares them with the refcounts. Memory is bounded: references are counted in windows of
// clusters, one walk for each window that anything lies in.
//
// A count that is too high is a leak: space lost, nothing else. Everything else is a
// corruption. Leaks are mended only where there is no corruption.
#include "disk/qcow2/check.h"

#include <algorithm>
#include <functional>
#include <set>

#include "base/base.h"
#include "disk/qcow2/clusters.h"
#include "disk/qcow2/format.h"
#include "disk/qcow2/refcounts.h"
#include "disk/qcow2/slice_cache.h"

namespace vmhost::disk::qcow2 {

namespace {

using limits::max_qcow2_checked_clusters;

class Checker {
public:
    Checker(Storage& file, Header header, CheckReport& report)
        : file_(file), header_(std::move(header)), report_(report),
          counts_(file, header_.cluster_bytes(), MiB) {}

    Result<void> run(bool repair) {
        file_clusters_ = header_.clusters_of(TRY(file_.size()));
        TRY(read_refcount_table());
        TRY(read_l1_tables());
        note_ = [this](std::uint64_t cluster) {
            windows_.insert(cluster / max_qcow2_checked_clusters);
        };
        loud_ = true;
        TRY(walk());
        loud_ = false;
        TRY(compare(false));
        if (header_.has_bitmaps && report_.leaks > 0) {
            report_.leaks = 0;
            say("it has dirty bitmaps, which are not walked: leaks are not told");
        }
        if (!repair || report_.leaks == 0 || report_.corruptions > 0)
            return {};
        TRY(compare(true));
        TRY(file_.sync());
        TRY(set_copied());
        TRY(file_.sync());
        report_.leaks_repaired = report_.leaks;
        return {};
    }

private:
    struct L1 {
        std::string what;
        std::uint64_t offset = 0;
        std::vector<std::uint64_t> entries;
        bool active = false;
    };

    void say(std::string text) {
        if (report_.messages.size() < limits::max_check_messages)
            report_.messages.push_back(std::move(text));
    }
    template <class... Args>
    void corrupt(fmt::format_string<Args...> format, Args&&... args) {
        if (!loud_)
            return;
        ++report_.corruptions;
        say(fmt::format(format, std::forward<Args>(args)...));
    }
    // A table or cluster at offset: where a cluster begins, and inside the file?
    bool is_place(std::uint64_t offset, std::string_view what, std::uint64_t index) {
        if (offset % header_.cluster_bytes() != 0)
            corrupt("{} {} at {} is not at a cluster's begin", what, index, offset);
        else if (offset >> header_.cluster_bits >= file_clusters_)
            corrupt("{} {} at {} lies past the end of the file", what, index, offset);
        else
            return true;
        return false;
    }
    Result<std::vector<std::uint64_t>> read_entries(std::uint64_t offset, std::uint64_t count) {
        std::vector<std::uint8_t> raw(count * 8);
        TRY(file_.read(raw, offset));
        std::vector<std::uint64_t> entries(count);
        for (std::size_t i = 0; i < count; ++i)
            entries[i] = load_be<std::uint64_t>(Bytes(raw).subspan(i * 8));
        return entries;
    }

    Result<void> read_refcount_table();
    Result<void> read_l1_tables();
    Result<void> read_snapshots(std::uint64_t& l1_budget);
    Result<void> walk();
    Result<void> walk_l1(const L1& l1);
    Result<void> walk_l2(const L1& l1, std::uint64_t index, std::uint64_t offset);
    Result<void> visit_entry(const L1& l1, std::uint64_t cluster, std::uint64_t entry);
    Result<void> check_copied(const L1& l1, std::string_view what, std::uint64_t index,
                              std::uint64_t entry);
    Result<std::uint64_t> count_of(std::uint64_t cluster);
    Result<void> set_count(std::uint64_t cluster, std::uint64_t count);
    Result<void> compare(bool repair);
    Result<void> compare_window(std::uint64_t window, bool repair);
    Result<void> set_copied();

    Storage& file_;
    Header header_;
    CheckReport& report_;
    SliceCache counts_;
    std::uint64_t file_clusters_ = 0;
    std::vector<std::uint64_t> refcount_table_;
    std::vector<L1> l1_tables_;
    std::vector<Region> regions_; // tables of fixed place
    ClusterSet tables_;           // where those, refcount blocks and L2 tables lie
    std::set<std::uint64_t> windows_;
    std::function<void(std::uint64_t)> note_; // called for each reference to a cluster
    bool loud_ = true;
};

Result<void> Checker::read_refcount_table() {
    regions_ = fixed_regions(header_);
    for (const auto& region : regions_)
        for (auto at = region.start; at < region.end; at += header_.cluster_bytes())
            tables_.insert(at >> header_.cluster_bits);
    refcount_table_ =
        TRY(read_entries(header_.refcount_table_offset, header_.refcount_table_entries()));
    for (std::size_t i = 0; i < refcount_table_.size(); ++i) {
        auto& offset = refcount_table_[i];
        if (offset == 0)
            continue;
        if (!is_place(offset, "refcount block", i)) {
            offset = 0;
        } else if (!tables_.insert(offset >> header_.cluster_bits)) {
            corrupt("refcount block {} at {} lies in another table", i, offset);
            offset = 0;
        } else {
            windows_.insert(i * header_.refcounts_per_block() / max_qcow2_checked_clusters);
            windows_.insert(((i + 1) * header_.refcounts_per_block() - 1) /
                            max_qcow2_checked_clusters);
        }
    }
    return {};
}

Result<void> Checker::read_l1_tables() {
    auto budget = limits::max_qcow2_checked_l1_bytes / 8 - header_.l1_entries;
    l1_tables_.push_back(
        {"", header_.l1_offset, TRY(read_entries(header_.l1_offset, header_.l1_entries)), true});
    return read_snapshots(budget);
}

// Rows of variable length ("Snapshots" in the specification).
Result<void> Checker::read_snapshots(std::uint64_t& l1_budget) {
    auto at = header_.snapshots_offset;
    for (std::uint32_t i = 0; i < header_.snapshots; ++i) {
        std::uint8_t raw[40];
        TRY(file_.read(raw, at));
        ByteReader row{Bytes(raw)};
        auto offset = row.be<std::uint64_t>();
        auto entries = row.be<std::uint32_t>();
        auto name_bytes = row.be<std::uint16_t>() + std::uint64_t{row.be<std::uint16_t>()};
        row.skip(20);
        auto extra_bytes = row.be<std::uint32_t>();
        at += (40 + extra_bytes + name_bytes + 7) / 8 * 8;
        if (at > file_clusters_ << header_.cluster_bits) {
            corrupt("snapshot {} lies past the end of the file", i);
            return {};
        }
        if (entries > limits::max_qcow2_l1_bytes / 8 || entries > l1_budget)
            return fail(ErrorKind::limit,
                        "image {}: its snapshots' L1 tables are too long to check", file_.name());
        l1_budget -= entries;
        if (entries == 0 || !is_place(offset, "L1 table of snapshot", i))
            continue;
        auto bytes = header_.clusters_of(entries * 8ULL) << header_.cluster_bits;
        if ((offset + bytes) >> header_.cluster_bits > file_clusters_) {
            corrupt("L1 table of snapshot {} at {} lies past the end of the file", i, offset);
            continue;
        }
        for (auto place = offset; place < offset + bytes; place += header_.cluster_bytes())
            if (!tables_.insert(place >> header_.cluster_bits))
                corrupt("L1 table of snapshot {} at {} lies in another table", i, offset);
        regions_.push_back({"L1 table of a snapshot", offset, offset + bytes});
        l1_tables_.push_back(
            {fmt::format("snapshot {}: ", i), offset, TRY(read_entries(offset, entries)), false});
    }
    // Now that its end is known.
    for (auto& region : regions_) {
        if (header_.snapshots == 0 || region.start != header_.snapshots_offset)
            continue;
        auto known = std::exchange(region.end, header_.clusters_of(at) << header_.cluster_bits);
        for (; known < region.end; known += header_.cluster_bytes())
            if (!tables_.insert(known >> header_.cluster_bits))
                corrupt("the snapshot table's end at {} lies in another table", known);
    }
    return {};
}

// Tells note_ of every reference that the image holds; loud, also of what is wrong with them.
Result<void> Checker::walk() {
    for (const auto& region : regions_)
        for (auto at = region.start; at < region.end; at += header_.cluster_bytes())
            note_(at >> header_.cluster_bits);
    for (auto offset : refcount_table_)
        if (offset != 0)
            note_(offset >> header_.cluster_bits);
    if (loud_) { // all L2 tables first: data may lie in none of them
        ClusterSet l2_tables;
        for (const auto& l1 : l1_tables_) {
            for (std::size_t i = 0; i < l1.entries.size(); ++i) {
                auto offset = l1.entries[i] & entry_offset_mask;
                if (offset == 0 || !is_place(offset, l1.what + "L2 table", i))
                    continue;
                auto cluster = offset >> header_.cluster_bits;
                if (l2_tables.insert(cluster) && !tables_.insert(cluster))
                    corrupt("{}L2 table {} at {} lies in another table", l1.what, i, offset);
            }
        }
    }
    for (const auto& l1 : l1_tables_)
        TRY(walk_l1(l1));
    return {};
}

Result<void> Checker::walk_l1(const L1& l1) {
    ClusterSet seen;
    for (std::size_t i = 0; i < l1.entries.size(); ++i) {
        auto entry = l1.entries[i];
        auto offset = entry & entry_offset_mask;
        if (entry & l1_reserved)
            corrupt("{}L1 entry {} has reserved bits: {:#x}", l1.what, i, entry);
        auto cluster = offset >> header_.cluster_bits;
        if (offset == 0 || offset % header_.cluster_bytes() != 0 || cluster >= file_clusters_)
            continue;
        note_(cluster);
        if (!seen.insert(cluster)) {
            corrupt("{}L2 table {} at {} is another one's too", l1.what, i, offset);
            continue; // once is enough, however often it is named
        }
        TRY(check_copied(l1, "L2 table", i, entry));
        TRY(walk_l2(l1, i, offset));
    }
    return {};
}

Result<void> Checker::walk_l2(const L1& l1, std::uint64_t index, std::uint64_t offset) {
    auto entries = TRY(read_entries(offset, header_.l2_entries()));
    for (std::size_t i = 0; i < entries.size(); ++i)
        if (entries[i] != 0)
            TRY(visit_entry(l1, index * header_.l2_entries() + i, entries[i]));
    return {};
}

Result<void> Checker::visit_entry(const L1& l1, std::uint64_t cluster, std::uint64_t entry) {
    if (entry & entry_compressed) {
        auto place = compressed_place(header_, entry);
        auto first = place.first_sector() >> header_.cluster_bits;
        auto last = (place.end() - 1) >> header_.cluster_bits;
        if (entry & entry_copied)
            corrupt("{}compressed cluster {} is marked as ours alone", l1.what, cluster);
        if (first >= file_clusters_) {
            corrupt("{}compressed cluster {} at {} lies past the end of the file", l1.what, cluster,
                    place.offset);
            return {};
        }
        for (auto at = first; at <= last; ++at) {
            if (tables_.contains(at))
                corrupt("{}compressed cluster {} at {} lies in a table", l1.what, cluster,
                        place.offset);
            note_(at);
        }
        report_.clusters_in_use += loud_ && l1.active;
        return {};
    }
    auto offset = entry & entry_offset_mask;
    if (entry & (l2_reserved | (header_.version == 2 ? entry_zero : 0)))
        corrupt("{}the L2 entry of cluster {} has reserved bits: {:#x}", l1.what, cluster, entry);
    if (offset == 0 || !is_place(offset, l1.what + "cluster", cluster))
        return {};
    if (tables_.contains(offset >> header_.cluster_bits))
        corrupt("{}cluster {} at {} lies in a table", l1.what, cluster, offset);
    note_(offset >> header_.cluster_bits);
    report_.clusters_in_use += loud_ && l1.active;
    return check_copied(l1, "cluster", cluster, entry);
}

// The mark must say whether there is exactly one reference.
Result<void> Checker::check_copied(const L1& l1, std::string_view what, std::uint64_t index,
                                   std::uint64_t entry) {
    if (!loud_ || !l1.active)
        return {};
    auto count = TRY(count_of((entry & entry_offset_mask) >> header_.cluster_bits));
    bool marked = entry & entry_copied;
    if (marked && count != 1)
        corrupt("{} {} at {} is marked as ours alone but has refcount {}", what, index,
                entry & entry_offset_mask, count);
    else if (!marked && count == 1)
        corrupt("{} {} at {} is ours alone but not marked so", what, index,
                entry & entry_offset_mask);
    return {};
}

Result<std::uint64_t> Checker::count_of(std::uint64_t cluster) {
    auto block = cluster / header_.refcounts_per_block();
    if (block >= refcount_table_.size() || refcount_table_[block] == 0)
        return 0;
    auto per_slice = counts_.slice_bytes() * 8 >> header_.refcount_order;
    auto index = cluster % header_.refcounts_per_block();
    auto* slice =
        TRY(counts_.get(refcount_table_[block] + index / per_slice * counts_.slice_bytes()));
    return load_refcount(slice->bytes, index % per_slice, header_.refcount_order);
}

Result<void> Checker::set_count(std::uint64_t cluster, std::uint64_t count) {
    auto per_slice = counts_.slice_bytes() * 8 >> header_.refcount_order;
    auto index = cluster % header_.refcounts_per_block();
    auto* slice = TRY(counts_.get(refcount_table_[cluster / header_.refcounts_per_block()] +
                                  index / per_slice * counts_.slice_bytes()));
    store_refcount(slice->bytes, index % per_slice, header_.refcount_order, count);
    slice->dirty = true;
    if (!counts_.is_over_bound())
        return {};
    for (auto& each : counts_.slices()) {
        if (std::exchange(each.dirty, false))
            TRY(file_.write(each.bytes, each.offset));
    }
    return {};
}

Result<void> Checker::compare(bool repair) {
    for (auto window : windows_)
        TRY(compare_window(window, repair));
    for (auto& slice : counts_.slices())
        if (std::exchange(slice.dirty, false))
            TRY(file_.write(slice.bytes, slice.offset));
    return {};
}

Result<void> Checker::compare_window(std::uint64_t window, bool repair) {
    auto first = window * max_qcow2_checked_clusters;
    // Counts may reach past the file's end: clusters that were given back there.
    auto end = std::max(file_clusters_, refcount_table_.size() * header_.refcounts_per_block());
    end = std::min(end, first + max_qcow2_checked_clusters);
    if (end <= first)
        return {};
    std::vector<std::uint32_t> references(end - first);
    note_ = [&](std::uint64_t cluster) {
        if (cluster >= first && cluster < end && references[cluster - first] < UINT32_MAX)
            ++references[cluster - first];
    };
    TRY(walk());
    loud_ = !repair;
    for (auto cluster = first; cluster < end; ++cluster) {
        auto block = cluster / header_.refcounts_per_block();
        if (references[cluster - first] == 0 &&
            (block >= refcount_table_.size() || refcount_table_[block] == 0)) {
            // Nothing counted in the whole block; what is referenced shows cluster by cluster.
            continue;
        }
        auto count = TRY(count_of(cluster));
        auto found = references[cluster - first];
        if (count < found) {
            corrupt("cluster at {} has {} references and refcount {}",
                    cluster << header_.cluster_bits, found, count);
        } else if (count > found && repair) {
            TRY(set_count(cluster, found));
        } else if (count > found) {
            ++report_.leaks;
            say(fmt::format("leaked: cluster at {} has {} references and refcount {}",
                            cluster << header_.cluster_bits, found, count));
        }
    }
    loud_ = false;
    return {};
}

// After leaks were mended, what was shared with nobody is ours alone.
Result<void> Checker::set_copied() {
    auto mark = [&](std::uint64_t place, std::uint64_t entry) -> Result<void> {
        if (entry & (entry_copied | entry_compressed) || (entry & entry_offset_mask) == 0 ||
            TRY(count_of((entry & entry_offset_mask) >> header_.cluster_bits)) != 1)
            return {};
        std::uint8_t raw[8];
        store_be(MutableBytes(raw), entry | entry_copied);
        return file_.write(raw, place);
    };
    const auto& active = l1_tables_.front();
    for (std::size_t i = 0; i < active.entries.size(); ++i) {
        auto offset = active.entries[i] & entry_offset_mask;
        if (offset == 0)
            continue;
        // A table that a snapshot shares says nothing of our own references.
        if (TRY(count_of(offset >> header_.cluster_bits)) == 1) {
            auto entries = TRY(read_entries(offset, header_.l2_entries()));
            for (std::size_t j = 0; j < entries.size(); ++j)
                TRY(mark(offset + j * 8, entries[j]));
        }
        TRY(mark(active.offset + i * 8, active.entries[i]));
    }
    return {};
}

} // namespace

Result<CheckReport> check(Storage& file, bool repair_leaks) {
    auto header = TRY(read_header(file, !repair_leaks));
    CheckReport report;
    TRY(Checker(file, std::move(header), report).run(repair_leaks));
    return report;
}

} // namespace vmhost::disk::qcow2
