// A regular file through the host's page cache. Holes and zeros with fallocate(2), written
// out by hand where the filesystem knows neither.
#include "disk/storage.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>

#include "disk/vectors.h"

namespace vmhost::disk {

namespace {

class FileStorage final : public Storage {
public:
    FileStorage(Fd file, std::string name) : file_(std::move(file)), name_(std::move(name)) {}

    const std::string& name() const override { return name_; }
    int descriptor() const override { return file_.get(); }

    Result<std::uint64_t> size() const override {
        struct stat status {};
        if (::fstat(file_.get(), &status) != 0)
            return fail_errno(errno, "image {}: stat", name_);
        return static_cast<std::uint64_t>(status.st_size);
    }

    Result<std::uint64_t> readv(std::span<const iovec> into, std::uint64_t offset) override {
        Cursor cursor(into);
        std::uint64_t moved = 0;
        while (!cursor.done()) {
            auto count = ::preadv(file_.get(), cursor.data(), cursor.count(),
                                  static_cast<off_t>(offset + moved));
            if (count < 0 && errno == EINTR)
                continue;
            if (count < 0)
                return fail_errno(errno, "image {}: read at {}", name_, offset + moved);
            if (count == 0)
                break;
            cursor.advance(static_cast<std::size_t>(count));
            moved += static_cast<std::uint64_t>(count);
        }
        return moved;
    }

    Result<void> writev(std::span<const iovec> from, std::uint64_t offset) override {
        Cursor cursor(from);
        while (!cursor.done()) {
            auto count =
                ::pwritev(file_.get(), cursor.data(), cursor.count(), static_cast<off_t>(offset));
            if (count < 0 && errno == EINTR)
                continue;
            if (count < 0)
                return fail_errno(errno, "image {}: write at {}", name_, offset);
            if (count == 0)
                return fail(ErrorKind::io, "image {}: write at {}: nothing was written", name_,
                            offset);
            cursor.advance(static_cast<std::size_t>(count));
            offset += static_cast<std::uint64_t>(count);
        }
        return {};
    }

    Result<void> punch_hole(std::uint64_t offset, std::uint64_t length) override {
        return allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    }
    Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length) override {
        return allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
    }

    Result<void> sync() override {
        while (::fdatasync(file_.get()) != 0) {
            if (errno != EINTR)
                return fail_errno(errno, "image {}: flush", name_);
        }
        return {};
    }

    Result<DataRun> next_data(std::uint64_t offset) const override {
        auto end = TRY(size());
        if (offset >= end)
            return DataRun{end, end};
        auto data = ::lseek(file_.get(), static_cast<off_t>(offset), SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            return DataRun{end, end};
        if (data < 0)
            return DataRun{offset, end}; // the filesystem cannot tell
        auto hole = ::lseek(file_.get(), data, SEEK_HOLE);
        return DataRun{static_cast<std::uint64_t>(data),
                       hole < 0 ? end : static_cast<std::uint64_t>(hole)};
    }

private:
    Result<void> allocate(int mode, std::uint64_t offset, std::uint64_t length) {
        auto end = TRY(size());
        if (offset >= end || length == 0)
            return {};
        length = std::min(length, end - offset);
        while (::fallocate(file_.get(), mode, static_cast<off_t>(offset),
                           static_cast<off_t>(length)) != 0) {
            if (errno == EINTR)
                continue;
            if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)
                return write_by_hand(offset, length);
            return fail_errno(errno, "image {}: zero {} bytes at {}", name_, length, offset);
        }
        return {};
    }

    Result<void> write_by_hand(std::uint64_t offset, std::uint64_t length) {
        std::vector<std::uint8_t> zeros(std::min<std::uint64_t>(length, MiB));
        while (length > 0) {
            auto part = std::min<std::uint64_t>(length, zeros.size());
            TRY(write(Bytes(zeros).first(part), offset));
            offset += part;
            length -= part;
        }
        return {};
    }

    Fd file_;
    std::string name_;
};

} // namespace

Result<Storage::DataRun> Storage::next_data(std::uint64_t offset) const {
    auto end = TRY(size());
    return DataRun{std::min(offset, end), end};
}

Result<void> Storage::read(MutableBytes into, std::uint64_t offset) {
    iovec vector{into.data(), into.size()};
    auto count = TRY(readv({&vector, 1}, offset));
    std::ranges::fill(into.subspan(count), std::uint8_t{0});
    return {};
}

Result<void> Storage::write(Bytes from, std::uint64_t offset) {
    iovec vector{const_cast<std::uint8_t*>(from.data()), from.size()};
    return writev({&vector, 1}, offset);
}

std::unique_ptr<Storage> file_storage(Fd file, std::string name) {
    return std::make_unique<FileStorage>(std::move(file), std::move(name));
}

} // namespace vmhost::disk
