// qcow2 as an array of bytes. Any thread.
//
// A request is cut into parts; each part holds its guest clusters (range_locks.h), asks the
// mapper under its mutex where they lie, and moves the data with the mutex free. New
// clusters are filled first and entered into the tables afterwards.
#include <algorithm>
#include <zlib.h>

#include "base/base.h"
#include "disk/qcow2/image.h"
#include "disk/qcow2/mapper.h"
#include "disk/qcow2/range_locks.h"
#include "disk/vectors.h"

namespace vmhost::disk::qcow2 {

namespace {

using Kind = Mapping::Kind;
constexpr std::uint64_t sector_bytes = 512;

class Qcow2Image final : public Image {
public:
    Qcow2Image(std::unique_ptr<Storage> file, Header header, std::unique_ptr<Image> backing,
               bool read_only)
        : file_(std::move(file)), backing_(std::move(backing)), read_only_(read_only),
          bits_(header.cluster_bits), cluster_bytes_(header.cluster_bytes()),
          has_zero_flag_(header.version >= 3), size_(header.size_bytes),
          mapper_(*file_, std::move(header)) {}

    ~Qcow2Image() override {
        if (read_only_ || !loaded_)
            return;
        if (auto flushed = flush(); !flushed)
            log::error("disk", "image {}: closed without its last changes: {}", name(),
                       flushed.error().text());
    }

    Result<void> load() {
        TRY(mapper_.load(read_only_));
        loaded_ = true;
        return {};
    }

    const std::string& name() const override { return file_->name(); }
    std::uint64_t size_bytes() const override { return size_; }
    bool read_only() const override { return read_only_; }

    Result<void> readv(std::span<const iovec> into, std::uint64_t offset) override;
    Result<void> writev(std::span<const iovec> from, std::uint64_t offset) override;
    Result<void> flush() override {
        if (read_only_)
            return {};
        return mapper_.flush();
    }
    Result<void> discard(std::uint64_t offset, std::uint64_t length) override;
    Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap) override;
    Result<Extent> extent_at(std::uint64_t offset) override;
    std::optional<Direct> direct(std::uint64_t offset, std::uint64_t length, bool write) override;

private:
    // Neighbours of one kind in one piece of the file.
    struct Run {
        Mapping mapping;
        std::uint64_t guest_offset = 0;
        std::uint64_t host_offset = 0;
        std::uint64_t length = 0;
    };
    // One cluster of a write that does not go in place.
    struct Piece {
        std::uint64_t cluster = 0;
        std::uint64_t skip = 0; // bytes of the cluster before the written ones
        std::uint64_t length = 0;
        Mapping old;
        std::uint64_t host_offset = 0;
        bool fresh = false;      // to be entered into the tables
        bool allocated = false;  // and taken from the free ones for this write
        bool reads_zero = false; // what lies there is zeros
    };

    // The end of the part that begins at offset.
    std::uint64_t part_end(std::uint64_t offset, std::uint64_t end) const {
        auto part = std::max(limits::max_qcow2_part_bytes, cluster_bytes_);
        return std::min(end, (offset / part + 1) * part);
    }
    std::uint64_t padded_size() const {
        return size_ + (sector_bytes - size_ % sector_bytes) % sector_bytes;
    }
    bool zero_below(std::uint64_t guest_offset) const {
        return !backing_ || guest_offset >= backing_->size_bytes();
    }
    bool reads_zero(const Mapping& mapping, std::uint64_t cluster) const {
        return mapping.kind == Kind::zero ||
               (mapping.kind == Kind::unallocated && zero_below(cluster << bits_));
    }
    Result<void> check_inside(const char* what, std::uint64_t offset, std::uint64_t length,
                              std::uint64_t limit) const;
    Result<void> check_writable(const char* what, std::uint64_t offset, std::uint64_t length);

    Result<std::vector<Run>> plan(std::uint64_t offset, std::uint64_t end);
    Result<void> read_part(Cursor& cursor, std::uint64_t offset, std::uint64_t end);
    Result<void> read_run(std::span<const iovec> into, const Run& run);
    Result<void> read_below(std::span<const iovec> into, std::uint64_t offset);
    Result<void> read_compressed(std::span<const iovec> into, const Run& run);
    Result<std::vector<std::uint8_t>> expand(std::uint64_t entry, std::uint64_t cluster);

    Result<bool> write_in_place(Cursor& cursor, std::uint64_t offset, std::uint64_t end);
    Result<void> write_elsewhere(Cursor& cursor, std::uint64_t offset, std::uint64_t end);
    Result<void> place(std::vector<Piece>& pieces);
    Result<void> fill(Cursor& cursor, const std::vector<Piece>& pieces);
    Result<void> fill_around(std::span<const iovec> data, const Piece& piece);

    Result<void> zero_inside(std::uint64_t offset, std::uint64_t length);
    Result<void> zero_clusters(std::uint64_t first, std::uint64_t end, bool may_unmap,
                               bool must_zero);
    Result<bool> zero_cluster(std::uint64_t cluster, bool may_unmap);

    std::unique_ptr<Storage> file_;
    std::unique_ptr<Image> backing_;
    bool read_only_;
    bool loaded_ = false;
    unsigned bits_;
    std::uint64_t cluster_bytes_;
    bool has_zero_flag_;
    std::uint64_t size_;
    Mapper mapper_;
    RangeLocks locks_;

    // The last compressed cluster that was read: guests read it in pages.
    std::mutex expanded_mutex_;
    std::uint64_t expanded_cluster_ = UINT64_MAX;
    std::uint64_t expanded_entry_ = 0;
    std::vector<std::uint8_t> expanded_;
};

Result<void> Qcow2Image::check_inside(const char* what, std::uint64_t offset, std::uint64_t length,
                                      std::uint64_t limit) const {
    if (range_fits(offset, length, limit))
        return {};
    return fail(ErrorKind::invalid, "image {}: {} of {} bytes at {}: past the end at {}", name(),
                what, length, offset, size_);
}

Result<void> Qcow2Image::check_writable(const char* what, std::uint64_t offset,
                                        std::uint64_t length) {
    if (read_only_)
        return fail(ErrorKind::denied, "image {}: {} at {}: the image is read-only", name(), what,
                    offset);
    TRY(check_inside(what, offset, length, size_));
    if (mapper_.wants_flush())
        TRY(mapper_.flush());
    return {};
}

// ---- reading ----------------------------------------------------------------

Result<void> Qcow2Image::readv(std::span<const iovec> into, std::uint64_t offset) {
    auto length = total_bytes(into);
    TRY(check_inside("read", offset, length, padded_size()));
    Cursor cursor(into);
    auto end = std::min(offset + length, size_);
    while (offset < end) {
        auto stop = part_end(offset, end);
        TRY(read_part(cursor, offset, stop));
        offset = stop;
    }
    cursor.zero_rest();
    return {};
}

Result<void> Qcow2Image::read_part(Cursor& cursor, std::uint64_t offset, std::uint64_t end) {
    auto hold = locks_.hold(offset >> bits_, (end - 1) >> bits_, false);
    for (const auto& run : TRY(plan(offset, end)))
        TRY(read_run(cursor.take(run.length), run));
    return {};
}

Result<std::vector<Qcow2Image::Run>> Qcow2Image::plan(std::uint64_t offset, std::uint64_t end) {
    std::vector<Run> runs;
    std::scoped_lock guard(mapper_.mutex);
    while (offset < end) {
        auto within = offset & (cluster_bytes_ - 1);
        auto length = std::min(end - offset, cluster_bytes_ - within);
        auto mapping = TRY(mapper_.map(offset >> bits_));
        Run run{mapping, offset, mapping.host_offset + within, length};
        offset += length;
        if (!runs.empty() && runs.back().mapping.kind == mapping.kind &&
            runs.back().mapping.copied == mapping.copied && mapping.kind != Kind::compressed &&
            (mapping.kind != Kind::data ||
             runs.back().host_offset + runs.back().length == run.host_offset))
            runs.back().length += length;
        else
            runs.push_back(run);
    }
    return runs;
}

Result<void> Qcow2Image::read_run(std::span<const iovec> into, const Run& run) {
    switch (run.mapping.kind) {
    case Kind::data: {
        auto count = TRY(file_->readv(into, run.host_offset));
        Cursor rest(into); // the file may end inside its last cluster
        rest.advance(count);
        rest.zero_rest();
        return {};
    }
    case Kind::compressed:
        return read_compressed(into, run);
    case Kind::unallocated:
        return read_below(into, run.guest_offset);
    case Kind::zero:
        Cursor(into).zero_rest();
        return {};
    }
    return {};
}

Result<void> Qcow2Image::read_below(std::span<const iovec> into, std::uint64_t offset) {
    Cursor cursor(into);
    if (!zero_below(offset)) {
        auto there = cursor.take(std::min(total_bytes(into), backing_->size_bytes() - offset));
        TRY(backing_->readv(there, offset));
    }
    cursor.zero_rest();
    return {};
}

Result<void> Qcow2Image::read_compressed(std::span<const iovec> into, const Run& run) {
    auto cluster = run.guest_offset >> bits_;
    std::scoped_lock guard(expanded_mutex_);
    if (expanded_cluster_ != cluster || expanded_entry_ != run.mapping.entry) {
        expanded_ = TRY(expand(run.mapping.entry, cluster));
        expanded_cluster_ = cluster;
        expanded_entry_ = run.mapping.entry;
    }
    copy_to(into, expanded_.data() + (run.guest_offset & (cluster_bytes_ - 1)));
    return {};
}

Result<std::vector<std::uint8_t>> Qcow2Image::expand(std::uint64_t entry, std::uint64_t cluster) {
    auto place = compressed_place(mapper_.header(), entry);
    std::vector<std::uint8_t> packed(place.length), plain(cluster_bytes_);
    TRY(file_->read(packed, place.offset));
    z_stream stream{};
    if (inflateInit2(&stream, -15) != Z_OK) // raw deflate; the window is at most this
        return fail(ErrorKind::limit, "image {}: no memory to expand a cluster", name());
    stream.next_in = packed.data();
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = plain.data();
    stream.avail_out = static_cast<uInt>(plain.size());
    int status = inflate(&stream, Z_FINISH);
    inflateEnd(&stream);
    // What follows the stream in its last sector is not looked at.
    if (stream.avail_out != 0 || (status != Z_STREAM_END && status != Z_BUF_ERROR))
        return fail(ErrorKind::corrupt, "image {}: compressed cluster {} at {} does not expand",
                    name(), cluster, place.offset);
    return plain;
}

// ---- writing ----------------------------------------------------------------

Result<void> Qcow2Image::writev(std::span<const iovec> from, std::uint64_t offset) {
    auto end = offset + total_bytes(from);
    TRY(check_writable("write", offset, end - offset));
    Cursor cursor(from);
    while (offset < end) {
        auto stop = part_end(offset, end);
        if (!TRY(write_in_place(cursor, offset, stop)))
            TRY(write_elsewhere(cursor, offset, stop));
        offset = stop;
    }
    return {};
}

// False when a cluster of the part has no place of its own yet; nothing was written then.
Result<bool> Qcow2Image::write_in_place(Cursor& cursor, std::uint64_t offset, std::uint64_t end) {
    auto hold = locks_.hold(offset >> bits_, (end - 1) >> bits_, false);
    auto runs = TRY(plan(offset, end));
    for (const auto& run : runs)
        if (run.mapping.kind != Kind::data || !run.mapping.copied)
            return false;
    for (const auto& run : runs)
        TRY(file_->writev(cursor.take(run.length), run.host_offset));
    return true;
}

Result<void> Qcow2Image::write_elsewhere(Cursor& cursor, std::uint64_t offset, std::uint64_t end) {
    auto hold = locks_.hold(offset >> bits_, (end - 1) >> bits_, true);
    std::vector<Piece> pieces;
    while (offset < end) {
        Piece piece;
        piece.cluster = offset >> bits_;
        piece.skip = offset & (cluster_bytes_ - 1);
        piece.length = std::min(end - offset, cluster_bytes_ - piece.skip);
        offset += piece.length;
        pieces.push_back(piece);
    }
    auto done = place(pieces);
    if (done)
        done = fill(cursor, pieces);
    std::scoped_lock guard(mapper_.mutex);
    for (auto& piece : pieces) {
        if (done && piece.fresh) {
            done = mapper_.set(piece.cluster, piece.host_offset | entry_copied);
            piece.allocated &= !done;
        }
        if (!done && piece.allocated)
            mapper_.abandon(piece.host_offset >> bits_);
    }
    return done;
}

// Finds a host cluster for every piece.
Result<void> Qcow2Image::place(std::vector<Piece>& pieces) {
    std::scoped_lock guard(mapper_.mutex);
    for (auto& piece : pieces) {
        piece.old = TRY(mapper_.map(piece.cluster));
        piece.host_offset = piece.old.host_offset;
        if (piece.old.copied) { // in place; a zero cluster comes back to life where it was
            piece.fresh = piece.old.kind == Kind::zero;
            continue;
        }
        auto found = TRY(mapper_.allocate());
        piece.host_offset = found.cluster << bits_;
        piece.reads_zero = found.reads_zero;
        piece.fresh = piece.allocated = true;
    }
    return {};
}

Result<void> Qcow2Image::fill(Cursor& cursor, const std::vector<Piece>& pieces) {
    std::vector<iovec> gathered; // goes to one run of the file
    std::uint64_t start = 0, end = 0;
    auto write_gathered = [&]() -> Result<void> {
        if (gathered.empty())
            return {};
        TRY(file_->writev(gathered, start));
        gathered.clear();
        return {};
    };
    for (const auto& piece : pieces) {
        auto data = cursor.take(piece.length);
        bool direct = !piece.fresh || piece.length == cluster_bytes_ ||
                      (piece.reads_zero && reads_zero(piece.old, piece.cluster));
        if (!direct) {
            TRY(fill_around(data, piece));
            continue;
        }
        auto at = piece.host_offset + piece.skip;
        if (gathered.empty() || at != end) {
            TRY(write_gathered());
            start = end = at;
        }
        gathered.insert(gathered.end(), data.begin(), data.end());
        end += piece.length;
    }
    return write_gathered();
}

// A whole cluster: the new bytes, and around them what was there.
Result<void> Qcow2Image::fill_around(std::span<const iovec> data, const Piece& piece) {
    std::vector<std::uint8_t> whole(cluster_bytes_);
    iovec all{whole.data(), whole.size()};
    TRY(read_run({&all, 1},
                 {piece.old, piece.cluster << bits_, piece.old.host_offset, cluster_bytes_}));
    copy_from(data, whole.data() + piece.skip);
    return file_->write(whole, piece.host_offset);
}

// ---- zeros ------------------------------------------------------------------

Result<void> Qcow2Image::discard(std::uint64_t offset, std::uint64_t length) {
    TRY(check_writable("discard", offset, length));
    auto end = offset + length;
    auto first = (offset >> bits_) + ((offset & (cluster_bytes_ - 1)) != 0);
    auto last = (end >> bits_) + (end == size_ && (end & (cluster_bytes_ - 1)) != 0);
    return zero_clusters(first, last, true, false);
}

Result<void> Qcow2Image::write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap) {
    TRY(check_writable("write zeroes", offset, length));
    auto end = offset + length;
    if (auto within = offset & (cluster_bytes_ - 1); within != 0) {
        auto part = std::min(length, cluster_bytes_ - within);
        TRY(zero_inside(offset, part));
        offset += part;
    }
    auto last = end >> bits_;
    if (end == size_ && (end & (cluster_bytes_ - 1)) != 0 && offset < end)
        ++last; // nothing of the disk follows in the last cluster
    else if (offset < end && (end & (cluster_bytes_ - 1)) != 0)
        TRY(zero_inside(last << bits_, end - (last << bits_)));
    return zero_clusters((offset + cluster_bytes_ - 1) >> bits_, last, may_unmap, true);
}

// A part of one cluster; costs nothing where there are zeros already.
Result<void> Qcow2Image::zero_inside(std::uint64_t offset, std::uint64_t length) {
    if (length == 0)
        return {};
    {
        auto hold = locks_.hold(offset >> bits_, offset >> bits_, false);
        std::scoped_lock guard(mapper_.mutex);
        if (reads_zero(TRY(mapper_.map(offset >> bits_)), offset >> bits_))
            return {};
    }
    return Image::write_zeroes(offset, length, false);
}

Result<void> Qcow2Image::zero_clusters(std::uint64_t first, std::uint64_t end, bool may_unmap,
                                       bool must_zero) {
    constexpr std::uint64_t at_once = 1024;
    while (first < end) {
        auto stop = std::min(end, first + at_once);
        std::vector<std::uint64_t> by_hand;
        {
            auto hold = locks_.hold(first, stop - 1, true);
            std::scoped_lock guard(mapper_.mutex);
            for (; first < stop; ++first)
                if (!TRY(zero_cluster(first, may_unmap)))
                    by_hand.push_back(first);
        }
        for (auto cluster : by_hand) {
            auto start = cluster << bits_;
            if (must_zero)
                TRY(Image::write_zeroes(start, std::min(cluster_bytes_, size_ - start), false));
        }
        if (mapper_.wants_flush())
            TRY(mapper_.flush());
    }
    return {};
}

// False when the tables cannot say it and zeros must be written.
Result<bool> Qcow2Image::zero_cluster(std::uint64_t cluster, bool may_unmap) {
    auto old = TRY(mapper_.map(cluster));
    if (reads_zero(old, cluster) && (!may_unmap || old.host_offset == 0))
        return true;
    if (may_unmap && zero_below(cluster << bits_)) {
        TRY(mapper_.set(cluster, 0));
        return true;
    }
    if (!has_zero_flag_)
        return false;
    bool keep = !may_unmap && old.copied;
    TRY(mapper_.set(cluster, entry_zero | (keep ? old.host_offset | entry_copied : 0)));
    return true;
}

Result<Extent> Qcow2Image::extent_at(std::uint64_t offset) {
    TRY(check_inside("look", offset, 1, size_));
    constexpr std::uint64_t at_once = 4096;
    auto end = std::min(size_, offset + at_once * cluster_bytes_);
    std::optional<bool> zero;
    auto at = offset;
    for (const auto& run : TRY(plan(offset, end))) {
        bool below = run.mapping.kind == Kind::unallocated && !zero_below(run.guest_offset);
        if (below) {
            if (zero)
                break;
            auto extent = TRY(backing_->extent_at(offset));
            extent.length_bytes = std::min(extent.length_bytes, run.length);
            return extent;
        }
        bool run_zero = run.mapping.kind == Kind::zero || run.mapping.kind == Kind::unallocated;
        if (zero && *zero != run_zero)
            break;
        zero = run_zero;
        at += run.length;
    }
    return Extent{at - offset, zero.value_or(false)};
}

// Clusters that have their place in the file, one behind the other; or, for reading, none of
// them here and all below.
std::optional<Image::Direct> Qcow2Image::direct(std::uint64_t offset, std::uint64_t length,
                                                bool write) {
    constexpr std::uint64_t max_clusters = 64; // looked up on a thread that others wait for
    if (length == 0 || !range_fits(offset, length, size_) || (write && read_only_) ||
        file_->descriptor() < 0)
        return std::nullopt;
    auto first = offset >> bits_, last = (offset + length - 1) >> bits_;
    if (last - first >= max_clusters)
        return std::nullopt;
    auto hold = locks_.try_hold(first, last, false);
    std::unique_lock guard(mapper_.mutex, std::try_to_lock); // it may be held across I/O
    if (!hold || !guard)
        return std::nullopt;
    std::uint64_t host = 0;
    unsigned below = 0;
    for (auto cluster = first; cluster <= last; ++cluster) {
        auto mapping = mapper_.map_cached(cluster);
        if (!mapping)
            return std::nullopt;
        if (mapping->kind == Kind::unallocated && !write && !zero_below(cluster << bits_)) {
            ++below;
            continue;
        }
        if (mapping->kind != Kind::data || below > 0 || (write && !mapping->copied))
            return std::nullopt;
        if (cluster == first)
            host = mapping->host_offset;
        else if (mapping->host_offset != host + ((cluster - first) << bits_))
            return std::nullopt;
    }
    if (below == last - first + 1)
        return backing_->direct(offset, length, false); // which does not change: no hold needed
    if (below > 0)
        return std::nullopt;
    return Direct{file_->descriptor(), host + (offset & (cluster_bytes_ - 1)), std::move(hold)};
}

} // namespace

Result<std::unique_ptr<Image>> open(std::unique_ptr<Storage> file, std::unique_ptr<Image> backing,
                                    bool read_only) {
    auto header = TRY(read_header(*file, read_only));
    if (!header.backing_file.empty() && !backing)
        return fail(ErrorKind::invalid, "image {}: its backing file {} was not opened with it",
                    file->name(), printable(header.backing_file));
    if (header.backing_file.empty() && backing)
        return fail(ErrorKind::invalid, "image {}: it names no backing file", file->name());
    auto image = std::make_unique<Qcow2Image>(std::move(file), std::move(header),
                                              std::move(backing), read_only);
    TRY(image->load());
    return std::unique_ptr<Image>(std::move(image));
}

} // namespace vmhost::disk::qcow2
