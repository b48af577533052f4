// vmctl create: empty images, overlays of a base, and copies in another format. A target
// that could not be finished is removed again; vmd leaves it in place.
#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "disk/disk.h"
#include "disk/new_file.h"
#include "disk/qcow2/check.h"
#include "disk/qcow2/image.h"

namespace vmhost::disk {

namespace {

Result<void> make_image(const std::string& path, Format format, std::uint64_t size_bytes,
                        const std::optional<BaseName>& base) {
    auto target = TRY(NewFile::create(path));
    TRY(fill_image(target.file(), path, format, size_bytes, base));
    return target.keep();
}

bool is_zero(Bytes bytes) {
    return bytes.empty() ||
           (bytes[0] == 0 && std::equal(bytes.begin() + 1, bytes.end(), bytes.begin()));
}

constexpr std::uint64_t copy_bytes = MiB;
constexpr std::uint64_t chunk_bytes = 64 * KiB;

// Chunks of nothing but zeros stay holes.
Result<void> copy_chunks(Image& to, std::uint64_t offset, MutableBytes data) {
    std::uint64_t start = 0;
    auto write_before = [&](std::uint64_t end) -> Result<void> {
        if (end == start)
            return {};
        iovec vector{data.data() + start, end - start};
        return to.writev({&vector, 1}, offset + start);
    };
    for (std::uint64_t at = 0; at < data.size(); at += chunk_bytes) {
        auto length = std::min<std::uint64_t>(chunk_bytes, data.size() - at);
        if (is_zero(data.subspan(at, length))) {
            TRY(write_before(at));
            start = at + length;
        }
    }
    return write_before(data.size());
}

Result<void> copy_image(Image& from, Image& to, const Progress& progress) {
    std::vector<std::uint8_t> buffer(copy_bytes);
    auto size = from.size_bytes();
    for (std::uint64_t offset = 0; offset < size;) {
        auto extent = TRY(from.extent_at(offset));
        if (!extent.zero) {
            // Up to a chunk's end, so that chunks of zeros are seen as such.
            auto end = std::min(
                {offset + extent.length_bytes, size, (offset / copy_bytes + 1) * copy_bytes});
            extent.length_bytes = end - offset;
            iovec vector{buffer.data(), extent.length_bytes};
            TRY(from.readv({&vector, 1}, offset));
            TRY(copy_chunks(to, offset, MutableBytes(buffer).first(extent.length_bytes)));
        }
        offset += extent.length_bytes;
        if (progress)
            progress(offset, size);
    }
    return to.flush();
}

// Every frame expands, and its checksum is right.
CheckReport check_zst(Image& image) {
    CheckReport report;
    std::vector<std::uint8_t> buffer(MiB);
    for (std::uint64_t offset = 0; offset < image.size_bytes(); offset += buffer.size()) {
        iovec vector{buffer.data(), std::min(buffer.size(), image.size_bytes() - offset)};
        if (auto read = image.readv({&vector, 1}, offset); !read) {
            ++report.corruptions;
            if (report.messages.size() < limits::max_check_messages)
                report.messages.push_back(read.error().text());
        }
        ++report.clusters_in_use;
    }
    return report;
}

} // namespace

Result<void> fill_image(const Fd& file, const std::string& path, Format format,
                        std::uint64_t size_bytes, const std::optional<BaseName>& base) {
    if (format == Format::qcow2) {
        qcow2::NewImage image{.size_bytes = size_bytes};
        if (base) {
            image.backing_file = base->path;
            image.backing_format = base->format;
        }
        return qcow2::format(*file_storage(TRY(file.duplicate()), path), image);
    }
    if (base)
        return fail(ErrorKind::invalid, "image {}: only a qcow2 image can have a base", path);
    if (format == Format::zst)
        return fail(ErrorKind::invalid,
                    "image {}: a compressed image is made of another one, by \"vmhost image "
                    "compress\"",
                    path);
    if (size_bytes < 512 || size_bytes > limits::max_disk_bytes)
        return fail(ErrorKind::invalid, "image {}: a size of {} bytes is not possible", path,
                    size_bytes);
    if (::ftruncate(file.get(), static_cast<off_t>(size_bytes)) != 0)
        return fail_errno(errno, "image {}: make it {} bytes long", path, size_bytes);
    return {};
}

Result<void> create_image(const std::string& path, Format format, std::uint64_t size_bytes,
                          const std::optional<BaseName>& base) {
    return make_image(path, format, size_bytes, base);
}

Result<std::uint64_t> create_overlay(const std::string& path, const ImageName& base,
                                     std::optional<std::uint64_t> size_bytes) {
    // Found as the image will find it, so that a base that would be missing later is missing now.
    auto below = open_chain(path_beside(path, base.path), base.format, true, true);
    if (!below)
        return std::unexpected(std::move(below).error().in("base"));
    auto opened = Image::open(std::move(*below), true);
    if (!opened)
        return std::unexpected(std::move(opened).error().in("base"));
    auto base_bytes = (*opened)->size_bytes();
    if (size_bytes && *size_bytes != base_bytes)
        return fail(ErrorKind::invalid, "image {}: its size must be that of its base, {} bytes",
                    path, base_bytes);
    TRY(make_image(path, Format::qcow2, base_bytes, BaseName{base.path, base.format}));
    return base_bytes;
}

Result<std::uint64_t> convert(const ImageName& source, const std::string& path, Format format,
                              std::optional<std::uint64_t> size_bytes, const Progress& progress) {
    auto layers_below = TRY(open_chain(source.path, source.format, true, true));
    auto from = TRY(Image::open(std::move(layers_below), true));
    auto size = size_bytes.value_or(from->size_bytes());
    if (size < from->size_bytes())
        return fail(ErrorKind::invalid, "image {}: {} bytes are less than the {} of {}", path, size,
                    from->size_bytes(), source.path);
    size = (size + MiB - 1) / MiB * MiB;
    auto target = TRY(NewFile::create(path));
    TRY(fill_image(target.file(), path, format, size, std::nullopt));
    std::vector<Layer> layers;
    layers.push_back({TRY(target.file().duplicate()), format, path});
    {
        auto to = TRY(Image::open(std::move(layers), false));
        TRY(copy_image(*from, *to, progress));
    }
    TRY(target.keep());
    return size;
}

Result<CheckReport> check(const ImageName& image, bool repair_leaks) {
    auto file = TRY(open_image(image.path, !repair_leaks));
    TRY(lock_image(file, !repair_leaks, image.path));
    if (image.format == Format::raw) {
        TRY(Image::open_raw(std::move(file), true, image.path));
        return CheckReport{};
    }
    if (image.format == Format::zst)
        return check_zst(*TRY(Image::open_zst(std::move(file), image.path)));
    auto storage = file_storage(std::move(file), image.path);
    return qcow2::check(*storage, repair_leaks);
}

Result<ImageInfo> inspect(const ImageName& image) {
    auto file = TRY(open_image(image.path, true));
    struct stat status {};
    if (::fstat(file.get(), &status) != 0)
        return fail_errno(errno, "image {}: stat", image.path);
    ImageInfo info;
    info.format = image.format;
    info.file_bytes = static_cast<std::uint64_t>(status.st_size);
    info.allocated_bytes = static_cast<std::uint64_t>(status.st_blocks) * 512;
    info.size_bytes = info.file_bytes;
    if (image.format == Format::raw)
        return info;
    if (image.format == Format::zst) {
        info.size_bytes = TRY(Image::open_zst(std::move(file), image.path))->size_bytes();
        return info;
    }
    auto storage = file_storage(std::move(file), image.path);
    auto header = TRY(qcow2::read_header(*storage, true));
    info.size_bytes = header.size_bytes;
    info.version = header.version;
    info.cluster_bytes = header.cluster_bytes();
    info.snapshots = header.snapshots;
    info.backing_file = header.backing_file;
    info.backing_format = header.backing_format.value_or("");
    return info;
}

} // namespace vmhost::disk
