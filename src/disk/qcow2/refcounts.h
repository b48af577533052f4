// How many references each host cluster has, and the search for clusters that have none.
//
// A refcount may be too high on disk (a leak, after a crash), never too low. So what is
// written here may reach the disk at any time: increments come before the reference that they
// count, decrements after the reference is gone from stable storage; the caller sees to the
// second. A new block of counts is stable before the table names it.
// Under its owner's mutex.
#pragma once

#include <cstdint>
#include <vector>

#include "disk/qcow2/clusters.h"
#include "disk/qcow2/format.h"
#include "disk/qcow2/slice_cache.h"

namespace vmhost::disk::qcow2 {

class Refcounts {
public:
    // The set of table clusters grows with the blocks made here; no cluster in it is handed out.
    Refcounts(Storage& file, Header& header, ClusterSet& tables);

    // Reads the table, checks every entry and enters table's clusters and blocks into the set.
    Result<void> load();

    Result<std::uint64_t> get(std::uint64_t cluster);
    Result<void> set(std::uint64_t cluster, std::uint64_t count);

    struct Allocation {
        std::uint64_t cluster = 0;
        bool reads_zero = false; // it was punched, or lies past what the file ever had
    };
    // A cluster that had no reference and has one now.
    Result<Allocation> allocate();
    // A reference less. punched: the caller has made the cluster zero, if it is free now.
    Result<void> release(std::uint64_t cluster, std::uint64_t references, bool punched);

    Result<void> write_back();
    bool dirty() const { return dirty_; }
    std::uint64_t max_count() const;
    std::uint64_t table_entry(std::uint64_t index) const {
        return index < table_.size() ? table_[index] : 0;
    }
    std::uint64_t table_size() const { return table_.size(); }

private:
    Result<Slice*> slice_of(std::uint64_t cluster, std::uint64_t& index);
    Result<std::optional<std::uint64_t>> search_block(std::uint64_t first);
    Result<void> make_block(std::uint64_t index);
    Result<void> grow_table(std::uint64_t index);
    Result<Allocation> take(std::uint64_t cluster, bool reads_zero);
    Result<void> write_slice(Slice& slice);
    std::vector<std::uint8_t> empty_block() const;
    std::unexpected<Error> damaged(const std::string& text) const;

    Storage& file_;
    Header& header_;
    ClusterSet& tables_;
    SliceCache cache_;
    std::vector<std::uint64_t> table_;
    std::vector<std::uint64_t> reusable_; // freed lately and zero; still looked up before use
    std::uint64_t next_ = 0;              // the search goes on here
    std::uint64_t virgin_ = 0;            // nothing was ever written from this cluster on
    bool dirty_ = false;
};

// Entry number index of a block or part of one, 2^order bits wide.
std::uint64_t load_refcount(Bytes block, std::uint64_t index, unsigned order);
void store_refcount(MutableBytes block, std::uint64_t index, unsigned order, std::uint64_t count);

} // namespace vmhost::disk::qcow2
