// Reads the header of a qcow2 image: nothing of it is believed before it was compared
// with the limits and with the file's size.
#include <algorithm>

#include "base/base.h"
#include "disk/qcow2/format.h"

namespace vmhost::disk::qcow2 {

namespace {

struct Feature {
    unsigned bit;
    const char* name;
};
constexpr Feature unsupported_features[] = {
    {2, "an external data file"},
    {3, "a compression type other than zlib"},
    {4, "extended L2 entries"},
};

// The image's own names of its features; for those that we do not know.
std::string feature_name(Bytes names, unsigned bit) {
    for (; names.size() >= 48; names = names.subspan(48)) {
        if (names[0] != 0 || names[1] != bit)
            continue;
        auto text = as_text(names.subspan(2, 46));
        text = text.substr(0, text.find('\0'));
        return fmt::format("\"{}\"", printable(text));
    }
    return fmt::format("number {}", bit);
}

class HeaderReader {
public:
    HeaderReader(Storage& file, bool read_only) : file_(file), read_only_(read_only) {}

    Result<Header> read() {
        file_bytes_ = TRY(file_.size());
        raw_.resize(header_bytes_v3 + 8);
        TRY(file_.read(raw_, 0));
        TRY(read_fixed_part());
        TRY(check_limits());
        // The header, its extensions and the backing file's name share the first cluster.
        raw_.resize(header_.cluster_bytes());
        TRY(file_.read(raw_, 0));
        TRY(read_extensions());
        TRY(check_features());
        TRY(check_places());
        return std::move(header_);
    }

private:
    template <class... Args>
    std::unexpected<Error> refuse(ErrorKind kind, fmt::format_string<Args...> format,
                                  Args&&... args) const {
        return std::unexpected(
            Error(kind, fmt::format(format, std::forward<Args>(args)...)).in("image " + name()));
    }
    const std::string& name() const { return file_.name(); }

    Result<void> read_fixed_part() {
        ByteReader from{Bytes(raw_)};
        if (from.be<std::uint32_t>() != magic)
            return refuse(ErrorKind::invalid, "not a qcow2 image");
        header_.version = from.be<std::uint32_t>();
        if (header_.version != 2 && header_.version != 3)
            return refuse(ErrorKind::unsupported, "qcow2 version {} is not supported",
                          header_.version);
        backing_offset_ = from.be<std::uint64_t>();
        backing_bytes_ = from.be<std::uint32_t>();
        header_.cluster_bits = from.be<std::uint32_t>();
        header_.size_bytes = from.be<std::uint64_t>();
        encryption_ = from.be<std::uint32_t>();
        header_.l1_entries = from.be<std::uint32_t>();
        header_.l1_offset = from.be<std::uint64_t>();
        header_.refcount_table_offset = from.be<std::uint64_t>();
        header_.refcount_table_clusters = from.be<std::uint32_t>();
        header_.snapshots = from.be<std::uint32_t>();
        header_.snapshots_offset = from.be<std::uint64_t>();
        if (header_.version == 2) { // the rest is not there: refcounts have 16 bits
            header_.header_bytes = header_bytes_v2;
            return {};
        }
        header_.incompatible = from.be<std::uint64_t>();
        header_.compatible = from.be<std::uint64_t>();
        header_.autoclear = from.be<std::uint64_t>();
        header_.refcount_order = from.be<std::uint32_t>();
        header_.header_bytes = from.be<std::uint32_t>();
        compression_ = header_.header_bytes > header_bytes_v3 ? from.be<std::uint8_t>() : 0;
        return {};
    }

    Result<void> check_limits() {
        const auto& h = header_;
        if (h.cluster_bits < min_cluster_bits || h.cluster_bits > max_cluster_bits)
            return refuse(ErrorKind::invalid, "clusters of 2^{} bytes: 2^{} to 2^{} are possible",
                          h.cluster_bits, min_cluster_bits, max_cluster_bits);
        if (h.version == 3 && (h.header_bytes < header_bytes_v3 || h.header_bytes % 8 != 0 ||
                               h.header_bytes > h.cluster_bytes()))
            return refuse(ErrorKind::corrupt, "a header of {} bytes is not possible",
                          h.header_bytes);
        if (h.refcount_order > 6)
            return refuse(ErrorKind::corrupt, "refcounts of 2^{} bits are not possible",
                          h.refcount_order);
        if (h.size_bytes < 512 || h.size_bytes > limits::max_disk_bytes)
            return refuse(ErrorKind::limit, "a disk of {} bytes: 512 to {} are possible",
                          h.size_bytes, limits::max_disk_bytes);
        if (h.l1_entries > limits::max_qcow2_l1_bytes / 8)
            return refuse(ErrorKind::limit, "its L1 table has {} entries, at most {} are possible",
                          h.l1_entries, limits::max_qcow2_l1_bytes / 8);
        if (h.l1_entries < h.l1_entries_needed())
            return refuse(ErrorKind::corrupt,
                          "its L1 table has {} entries, a disk of {} bytes needs {}", h.l1_entries,
                          h.size_bytes, h.l1_entries_needed());
        if (h.refcount_table_clusters == 0)
            return refuse(ErrorKind::corrupt, "it has no refcount table");
        if (h.refcount_table_clusters > limits::max_qcow2_refcount_table_bytes / h.cluster_bytes())
            return refuse(ErrorKind::limit,
                          "its refcount table has {} clusters, at most {} are possible",
                          h.refcount_table_clusters,
                          limits::max_qcow2_refcount_table_bytes / h.cluster_bytes());
        if (h.snapshots > limits::max_qcow2_snapshots)
            return refuse(ErrorKind::limit, "it has {} snapshots, at most {} are possible",
                          h.snapshots, limits::max_qcow2_snapshots);
        return {};
    }

    Result<void> read_extensions() {
        auto& h = header_;
        if (backing_offset_ != 0) {
            if (backing_bytes_ == 0 || backing_bytes_ > limits::max_backing_name_bytes)
                return refuse(ErrorKind::invalid,
                              "its backing file's name has {} bytes: 1 to {} are possible",
                              backing_bytes_, limits::max_backing_name_bytes);
            if (backing_offset_ < h.header_bytes ||
                !range_fits(backing_offset_, backing_bytes_, raw_.size()))
                return refuse(ErrorKind::corrupt,
                              "its backing file's name, at {}, is not in the first cluster",
                              backing_offset_);
            h.backing_file = as_text(Bytes(raw_).subspan(backing_offset_, backing_bytes_));
            if (h.backing_file.find('\0') != std::string::npos)
                return refuse(ErrorKind::corrupt, "its backing file's name has a zero byte");
        }
        // Extensions end where the name begins; vmd writes the name directly after the header.
        auto end = backing_offset_ != 0 ? backing_offset_ : raw_.size();
        ByteReader from{Bytes(raw_).subspan(h.header_bytes, end - h.header_bytes)};
        while (from.remaining() >= 8) {
            auto type = from.be<std::uint32_t>();
            auto length = from.be<std::uint32_t>();
            if (type == extension_end)
                break;
            auto data = from.bytes(length);
            if (!from.ok())
                return refuse(ErrorKind::corrupt,
                              "header extension {:#x} of {} bytes reaches past the header", type,
                              length);
            from.skip(std::min<std::size_t>((8 - length % 8) % 8, from.remaining()));
            if (type == extension_backing_format)
                h.backing_format = as_text(data);
            else if (type == extension_feature_names)
                feature_names_ = data;
            else if (type == extension_bitmaps)
                h.has_bitmaps = true;
        }
        return {};
    }

    Result<void> check_features() {
        const auto& h = header_;
        if (encryption_ != 0)
            return refuse(ErrorKind::unsupported, "it is encrypted: that is not supported");
        for (auto [bit, what] : unsupported_features)
            if (h.incompatible & 1ULL << bit)
                return refuse(ErrorKind::unsupported, "it has {}: that is not supported", what);
        for (unsigned bit = 5; bit < 64; ++bit)
            if (h.incompatible & 1ULL << bit)
                return refuse(ErrorKind::unsupported,
                              "it has the incompatible feature {}: that is not supported",
                              feature_name(feature_names_, bit));
        if (compression_ != 0)
            return refuse(ErrorKind::corrupt, "compression type {} without its feature bit",
                          compression_);
        if (h.incompatible & incompatible_dirty)
            return refuse(ErrorKind::unsupported,
                          "it was left dirty by a program with lazy refcounts: that is not "
                          "supported, repair it with \"qemu-img check -r all\"");
        if (h.incompatible & incompatible_corrupt && !read_only_)
            return refuse(ErrorKind::corrupt,
                          "it is marked corrupt and can only be read; repair it with "
                          "\"qemu-img check -r all\"");
        return {};
    }

    Result<void> check_places() {
        auto regions = fixed_regions(header_);
        for (const auto& region : regions) {
            if (region.start % header_.cluster_bytes() != 0)
                return refuse(ErrorKind::corrupt, "its {} at {} is not at a cluster's begin",
                              region.what, region.start);
            // The file may end in the middle of the last cluster.
            if (region.end < region.start || region.start >= file_bytes_ ||
                region.end - header_.cluster_bytes() >= file_bytes_)
                return refuse(ErrorKind::corrupt, "its {} at {} reaches past the end of the file",
                              region.what, region.start);
        }
        std::ranges::sort(regions, {}, &Region::start);
        for (std::size_t i = 1; i < regions.size(); ++i)
            if (regions[i].start < regions[i - 1].end)
                return refuse(ErrorKind::corrupt, "its {} at {} lies in its {}", regions[i].what,
                              regions[i].start, regions[i - 1].what);
        return {};
    }

    Storage& file_;
    bool read_only_;
    std::uint64_t file_bytes_ = 0;
    std::vector<std::uint8_t> raw_;
    Header header_;
    std::uint64_t backing_offset_ = 0;
    std::uint32_t backing_bytes_ = 0;
    std::uint32_t encryption_ = 0;
    std::uint8_t compression_ = 0;
    Bytes feature_names_;
};

} // namespace

std::vector<Region> fixed_regions(const Header& header) {
    auto region = [&](const char* what, std::uint64_t start, std::uint64_t bytes) {
        return Region{what, start, start + (header.clusters_of(bytes) << header.cluster_bits)};
    };
    std::vector<Region> regions{
        region("header", 0, header.cluster_bytes()),
        region("refcount table", header.refcount_table_offset,
               header.refcount_table_clusters * header.cluster_bytes()),
    };
    if (header.l1_entries > 0)
        regions.push_back(region("L1 table", header.l1_offset, header.l1_entries * 8ULL));
    // A snapshot's row has 40 bytes at least; how long the table is, only its rows tell.
    if (header.snapshots > 0)
        regions.push_back(
            region("snapshot table", header.snapshots_offset, header.snapshots * 40ULL));
    return regions;
}

Result<Header> read_header(Storage& file, bool read_only) {
    return HeaderReader(file, read_only).read();
}

} // namespace vmhost::disk::qcow2
