// Pieces of tables in memory, at most 4 KiB each: a guest that touches one cluster here and one
// there costs a page each, not a whole table. The least recently used clean piece goes first.
// Under its owner's mutex.
#pragma once

#include <cstdint>
#include <list>
#include <unordered_map>
#include <vector>

#include "base/base.h"
#include "disk/storage.h"

namespace vmhost::disk::qcow2 {

struct Slice {
    std::uint64_t offset = 0;
    std::vector<std::uint8_t> bytes;
    bool dirty = false;
    bool writing = false; // a copy is on its way to disk: must not be read from there yet
};

class SliceCache {
public:
    SliceCache(Storage& file, std::uint64_t cluster_bytes, std::size_t max_bytes)
        : file_(file), slice_bytes_(std::min<std::uint64_t>(cluster_bytes, 4096)),
          max_slices_(max_bytes / slice_bytes_) {}

    std::uint64_t slice_bytes() const { return slice_bytes_; }
    // The slice that holds the byte at offset; good until the next get(). Dirty slices are not
    // written by this: the cache grows past its bound when there are too many of them.
    Result<Slice*> get(std::uint64_t offset) {
        offset -= offset % slice_bytes_;
        if (auto found = index_.find(offset); found != index_.end()) {
            slices_.splice(slices_.begin(), slices_, found->second);
            return &slices_.front();
        }
        make_room();
        Slice slice{offset, std::vector<std::uint8_t>(slice_bytes_)};
        TRY(file_.read(slice.bytes, offset));
        slices_.push_front(std::move(slice));
        index_.emplace(offset, slices_.begin());
        return &slices_.front();
    }
    // Null when it would have to be read; marks it used like get().
    Slice* get_cached(std::uint64_t offset) {
        auto found = index_.find(offset - offset % slice_bytes_);
        if (found == index_.end())
            return nullptr;
        slices_.splice(slices_.begin(), slices_, found->second);
        return &slices_.front();
    }
    // Forgets what lies there, changed or not: the clusters have another use now.
    void drop(std::uint64_t start, std::uint64_t length) {
        for (auto at = start; at < start + length; at += slice_bytes_) {
            if (auto found = index_.find(at); found != index_.end()) {
                slices_.erase(found->second);
                index_.erase(found);
            }
        }
    }
    std::list<Slice>& slices() { return slices_; }
    Slice* find(std::uint64_t offset) {
        auto found = index_.find(offset);
        return found == index_.end() ? nullptr : &*found->second;
    }
    bool is_over_bound() const { return slices_.size() > max_slices_; }

private:
    void make_room() {
        auto at = slices_.end();
        // A few steps are enough: what is dirty at the old end is written soon.
        for (int step = 0; step < 64 && slices_.size() >= max_slices_ && at != slices_.begin();
             ++step) {
            --at;
            if (at->dirty || at->writing)
                continue;
            index_.erase(at->offset);
            at = slices_.erase(at);
        }
    }

    Storage& file_;
    std::uint64_t slice_bytes_;
    std::size_t max_slices_;
    std::list<Slice> slices_; // newest first
    std::unordered_map<std::uint64_t, std::list<Slice>::iterator> index_;
};

} // namespace vmhost::disk::qcow2
