// The door of disk/: images as arrays of bytes, and the files that hold them.
//
// An Image takes reads, writes and flushes from any thread, also at once; what
// overlaps is the guest's business, as on a real disk. Nothing here guesses the
// format of a file that a guest may have written: raw is what the caller says is raw.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <sys/uio.h>

#include "base/base.h"
#include "loop/loop.h"

namespace vmhost::disk {

// zst: a raw image compressed in frames, for reading only (zst.cc).
enum class Format : std::uint8_t { raw, qcow2, zst };
std::string_view name_of(Format format); // "raw", "qcow2", "zst"

// A run of an image; zero = it reads as zeros.
struct Extent {
    std::uint64_t length_bytes = 0;
    bool zero = false;
};

// One file of an image: the image itself or a file below it.
struct Layer {
    Fd file;
    Format format = Format::raw;
    std::string name; // for error texts
};

// A file of an image that a configuration names, nearest to the guest first.
struct ConfiguredLayer {
    Fd file;
    std::optional<Format> format; // none = as the file above says, else qcow2
    std::string path;             // absolute
};

class Image {
public:
    virtual ~Image() = default;

    // A regular file whose bytes are the disk's. The size is taken now and stays.
    static Result<std::unique_ptr<Image>> open_raw(Fd fd, bool read_only, std::string name);
    // Frames of zstd with a table of them at the end; read-only.
    static Result<std::unique_ptr<Image>> open_zst(Fd fd, std::string name);
    // The layers of open_chain(), top first; opens no path. The last one that is used must
    // name no file below it, and every other one must.
    static Result<std::unique_ptr<Image>> open(std::vector<Layer> layers, bool read_only);

    // The files that a configuration names. Refused (denied) when an image names another file
    // below it than the configuration does: such a name can make any file of the host part of
    // a guest's disk. Parses what a guest may have written.
    static Result<std::unique_ptr<Image>> open_configured(std::vector<ConfiguredLayer> layers,
                                                          bool read_only);

    virtual const std::string& name() const = 0;
    virtual std::uint64_t size_bytes() const = 0;
    virtual bool read_only() const = 0;

    // All of it or an error. An access that reaches past the end of the image is refused,
    // but for a read of the rest of the last 512-byte sector, which is zeros.
    virtual Result<void> readv(std::span<const iovec> into, std::uint64_t offset) = 0;
    virtual Result<void> writev(std::span<const iovec> from, std::uint64_t offset) = 0;
    // Everything written before is on stable storage when this returns.
    virtual Result<void> flush() = 0;

    // The bytes are not needed any more: each reads as before or as zero from now on.
    virtual Result<void> discard(std::uint64_t offset, std::uint64_t length);
    // may_unmap: the space may be given back.
    virtual Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap);
    // What begins at offset; not necessarily the longest run, but at least a byte.
    virtual Result<Extent> extent_at(std::uint64_t offset);

    // Where in a file these bytes lie and can be read, or written in place, by anybody who keeps
    // hold until he has done it. Never waits and never does I/O: nothing when the bytes lie in
    // more than one place, or elsewhere, or that cannot be told at once.
    struct Direct {
        int fd = -1;
        std::uint64_t offset_bytes = 0;
        std::shared_ptr<void> hold;
    };
    virtual std::optional<Direct> direct(std::uint64_t, std::uint64_t, bool) {
        return std::nullopt;
    }
};

// ---- requests that nobody waits for ---------------------------------------------

struct IoOptions {
    // The loop's thread has nothing else to do: it may wait a little for the image.
    bool may_wait = false;
    // Called at the end of a turn of the loop in which requests at hand were served.
    std::function<void()> served;
};

// Takes requests to one image on the loop's thread and answers each there later, in the order
// in which they end. What overlaps and is in flight together has no order.
class IoQueue {
public:
    struct Request {
        enum class Kind : std::uint8_t { read, write, flush, discard, write_zeroes };
        Kind kind = Kind::flush;
        bool may_unmap = false;         // of write_zeroes
        bool make_stable = false;       // flush the image too before it counts as done
        std::uint64_t offset_bytes = 0; // of all but flush
        std::uint64_t length_bytes = 0; // of discard and write_zeroes
        std::span<const iovec> data;    // of read and write; stays until done
    };
    using Done = std::function<void(Result<void>)>;

    // The image outlives it.
    static std::unique_ptr<IoQueue> create(Loop& loop, Image& image, IoOptions options = {});
    // What has not begun does not happen, what has is waited for; no done is called from then on.
    virtual ~IoQueue() = default;

    // May do nothing before commit().
    virtual void submit(const Request& request, Done done) = 0;
    virtual void commit() = 0;
    // Requests whose memory may still be touched; any thread.
    virtual unsigned running() const = 0;
    // Requests that this turn of the loop looks after; IoOptions::served is called then.
    virtual std::size_t at_hand() const { return 0; }
};

// Opens an existing regular file, never anything else (no device, no pipe, no directory).
Result<Fd> open_image(const std::string& path, bool read_only);

// Whoever writes an image holds an exclusive lock on it, whoever reads only holds a shared one.
// The lock belongs to the open file: it lives as long as a descriptor for it does, in any process.
// busy when another holder is in the way.
Result<void> lock_image(const Fd& fd, bool read_only, const std::string& name);

// ---- images with files below them -------------------------------------------

// The path of a file that an image names: relative to the image's directory.
std::string path_beside(const std::string& image, const std::string& name);
// As an image in that place names its base: so that both can move together where they may.
std::string name_from(const std::string& image, const std::string& base);

// What a person named on a command line.
struct ImageName {
    Format format = Format::raw;
    std::string path;
};
// vmctl(8)'s order: a prefix "raw:" or "qcow2:", the first bytes of an existing file, the
// name's end, raw. For files that a person names and vouches for; not for a guest's disk.
// A relative name is one in the directory of the image beside, when that is given.
Result<ImageName> decide_format(const std::string& text, const std::string& beside = "");
// By the name's end: ".raw", ".qcow2" and ".zst" in any case.
std::optional<Format> format_of_name(std::string_view path);
// A guest's disk of no declared format: the name's end decides, raw if it says nothing, and never
// the content, which the guest writes. A raw one that begins like qcow2 is refused.
Result<Format> format_of_guest_disk(const Fd& file, const std::string& path);

// Opens and locks the image and every file below it, top first: the top for writing unless
// read_only, the others for reading. The format of a file below is what the image says, else
// qcow2. An image that names a file below it is refused (denied) without allow_backing: such a
// name can make any file of the host part of a guest's disk.
Result<std::vector<Layer>> open_chain(const std::string& path, Format format, bool read_only,
                                      bool allow_backing);

// ---- vmctl create -------------------------------------------------------------

// Done and all, in bytes of the source.
using Progress = std::function<void(std::uint64_t, std::uint64_t)>;

// All of these make a new file, mode 0600, never replace one, and leave none behind on failure.
struct BaseName {
    std::string path; // as the image names it: absolute or relative to the image's directory
    Format format = Format::qcow2;
};
// With a base, qcow2 whatever the base is: it is not looked at.
Result<void> create_image(const std::string& path, Format format, std::uint64_t size_bytes,
                          const std::optional<BaseName>& base = std::nullopt);
inline Result<void> create_raw(const std::string& path, std::uint64_t size_bytes) {
    return create_image(path, Format::raw, size_bytes);
}
// The same into an empty file that the caller made.
Result<void> fill_image(const Fd& file, const std::string& path, Format format,
                        std::uint64_t size_bytes, const std::optional<BaseName>& base);
// qcow2 on a base, whose path is stored as given: relative to the image's directory. Returns the
// size, the base's.
Result<std::uint64_t> create_overlay(const std::string& path, const ImageName& base,
                                     std::optional<std::uint64_t> size_bytes);
// A copy that stands alone: files below are merged in, zeros left out. Returns the size, which
// is the larger one of what was asked and the source, rounded up to MiB.
Result<std::uint64_t> convert(const ImageName& source, const std::string& path, Format format,
                              std::optional<std::uint64_t> size_bytes, const Progress& progress);

// A copy in frames of zstd, expanded again by convert() or below a qcow2 image. The level is
// zstd's. Frames are compressed by as many threads as there are processors.
Result<std::uint64_t> compress(const ImageName& source, const std::string& path, int level,
                               const Progress& progress);

// ---- vmhost image -------------------------------------------------------------

struct CheckReport {
    std::uint64_t corruptions = 0;
    std::uint64_t leaks = 0; // clusters that nobody refers to: lost space, nothing worse
    std::uint64_t leaks_repaired = 0;
    std::uint64_t clusters_in_use = 0;
    std::vector<std::string> messages; // the first of them
};
// Of this file alone, not of those below it. Leaks are repaired only where nothing is corrupt.
// The image must not be in use.
Result<CheckReport> check(const ImageName& image, bool repair_leaks);

struct ImageInfo {
    Format format = Format::raw;
    std::uint64_t size_bytes = 0;      // the disk's
    std::uint64_t file_bytes = 0;      // the file's
    std::uint64_t allocated_bytes = 0; // on the filesystem
    // qcow2 only:
    std::uint32_t version = 0;
    std::uint64_t cluster_bytes = 0;
    std::uint32_t snapshots = 0;
    std::string backing_file, backing_format;
};
Result<ImageInfo> inspect(const ImageName& image);

} // namespace vmhost::disk
