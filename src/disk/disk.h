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

namespace vmhost::disk {

enum class Format : std::uint8_t { raw, qcow2 };
std::string_view name_of(Format format); // "raw", "qcow2"

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

class Image {
public:
    virtual ~Image() = default;

    // A regular file whose bytes are the disk's. The size is taken now and stays.
    static Result<std::unique_ptr<Image>> open_raw(Fd fd, bool read_only, std::string name);
    // The layers of open_chain(), top first; opens no path. The last one that is used must
    // name no file below it, and every other one must.
    static Result<std::unique_ptr<Image>> open(std::vector<Layer> layers, bool read_only);

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
};

// Opens an existing regular file, never anything else (no device, no pipe, no directory).
Result<Fd> open_image(const std::string& path, bool read_only);

// Whoever writes an image holds an exclusive lock on it, whoever reads only holds a shared one.
// The lock belongs to the open file: it lives as long as a descriptor for it does, in any process.
// busy when another holder is in the way.
Result<void> lock_image(const Fd& fd, bool read_only, const std::string& name);

// A new sparse file, mode 0600; exists when there is something of that name.
Result<void> create_raw(const std::string& path, std::uint64_t size_bytes);

} // namespace vmhost::disk
