// Where each guest cluster lies in the file: L1 and L2 tables, and the order in which changes
// of them become stable.
//
// Changes gather in memory until flush(), which brings them out so that a crash between
// any two writes leaves an image whose every reference is counted and points to finished data:
//
//   1. data (written by the caller before) and refcounts        then fdatasync
//   2. L2 entries, L1 entries                                    then fdatasync
//   3. refcounts of what lost its last reference; holes          whenever
//
// A cluster that was let go keeps its count until step 3, so nothing is reused while the
// tables on disk still name it. A crash leaves clusters counted that nobody refers to
// (leaks) and never the reverse.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "disk/qcow2/clusters.h"
#include "disk/qcow2/format.h"
#include "disk/qcow2/refcounts.h"
#include "disk/qcow2/slice_cache.h"

namespace vmhost::disk::qcow2 {

struct Mapping {
    enum class Kind : std::uint8_t { unallocated, zero, data, compressed };
    Kind kind = Kind::unallocated;
    std::uint64_t host_offset = 0; // data; also of a zero cluster that keeps its place
    bool copied = false;           // ours alone: may be written in place
    std::uint64_t entry = 0;
};

class Mapper {
public:
    Mapper(Storage& file, Header header);
    // Checks the tables; an image marked corrupt is read as far as it goes.
    Result<void> load(bool read_only);

    const Header& header() const { return header_; }

    // Held by the caller around everything down to the next comment.
    std::mutex mutex;
    Result<Mapping> map(std::uint64_t cluster);
    // The same without I/O: nothing when it is not in memory, or wrong.
    std::optional<Mapping> map_cached(std::uint64_t cluster);
    Result<Refcounts::Allocation> allocate();
    // Gives back what allocate() gave and no entry names.
    void abandon(std::uint64_t host_cluster);
    // Replaces the entry; the old one's host clusters lose a reference, but for the new one's.
    Result<void> set(std::uint64_t cluster, std::uint64_t entry);

    // Not to be held here.
    Result<void> flush();
    // Too much is waiting for a flush.
    bool wants_flush();

private:
    struct Batch {
        std::vector<std::pair<std::uint64_t, std::vector<std::uint8_t>>> l2; // offset, bytes
        std::map<std::uint64_t, std::uint64_t> l1;                           // index, entry
        std::map<std::uint64_t, std::uint64_t> freed;                        // cluster, references
    };
    Result<Mapping> parse(std::uint64_t cluster, std::uint64_t entry) const;
    Result<void> own_l2(std::uint64_t l1_index);
    Result<Slice*> l2_slice(std::uint64_t cluster, std::uint64_t& index);
    void let_go(const Mapping& old, std::uint64_t kept_host_offset);
    Result<Batch> collect();
    Result<void> write(const Batch& batch);
    Result<void> settle(Batch& batch, bool written);
    Result<void> release(const std::map<std::uint64_t, std::uint64_t>& freed);
    Result<void> sync();
    template <class... Args>
    std::unexpected<Error> damaged(fmt::format_string<Args...> format, Args&&... args) const;

    Storage& file_;
    Header header_;
    ClusterSet tables_;
    Refcounts refcounts_;
    SliceCache l2_cache_;
    std::vector<std::uint64_t> l1_;
    std::map<std::uint64_t, std::uint64_t> dirty_l1_;
    std::map<std::uint64_t, std::uint64_t> freed_;
    std::uint64_t end_cluster_ = 0; // the file's end, rounded up
    bool dirty_l2_ = false;
    std::optional<Error> broken_; // a sync failed: nothing is known about the disk since

    std::mutex flush_mutex_; // one flush at a time; taken before mutex
};

} // namespace vmhost::disk::qcow2
