// What an image lies on: a file, behind the few calls that image formats need.
//
// The seam for tests: one that lies in memory and remembers every call shows what a
// crash at any moment would have left. Any thread, also at once.
#pragma once

#include <memory>
#include <span>
#include <string>

#include <sys/uio.h>

#include "base/base.h"

namespace vmhost::disk {

inline constexpr std::uint64_t sector_bytes = 512;

class Storage {
public:
    virtual ~Storage() = default;

    // For error texts: the name of the image.
    virtual const std::string& name() const = 0;
    virtual Result<std::uint64_t> size() const = 0;

    // The bytes read; fewer than asked only at the end of the file.
    virtual Result<std::uint64_t> readv(std::span<const iovec> into, std::uint64_t offset) = 0;
    // All of it; a file that ends earlier grows.
    virtual Result<void> writev(std::span<const iovec> from, std::uint64_t offset) = 0;
    // Both leave zeros, and the size as it was: what lies past the end is zeros already.
    // The first gives the space back where the filesystem can, the second keeps it.
    virtual Result<void> punch_hole(std::uint64_t offset, std::uint64_t length) = 0;
    virtual Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length) = 0;
    // Everything written before is stable when this returns.
    virtual Result<void> sync() = 0;

    // The first byte at or after offset that may be other than zero, and the end of that run;
    // both are the size when there is none.
    struct DataRun {
        std::uint64_t start = 0;
        std::uint64_t end = 0;
    };
    virtual Result<DataRun> next_data(std::uint64_t offset) const;

    // The file's descriptor; -1 when it is not one that others may use.
    virtual int descriptor() const { return -1; }

    // Past the end of the file there are zeros.
    Result<void> read(MutableBytes into, std::uint64_t offset);
    Result<void> write(Bytes from, std::uint64_t offset);
};

class Image;

std::unique_ptr<Storage> file_storage(Fd file, std::string name);

// The image that is the storage, byte for byte (raw.cc).
std::unique_ptr<Image> raw_image(std::unique_ptr<Storage> file, bool read_only,
                                 std::uint64_t size_bytes);

} // namespace vmhost::disk
