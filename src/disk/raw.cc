// Raw images: the file's bytes are the disk's bytes, through the host's page cache.
// Flush is fdatasync(2). Any thread.
#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

#include <sys/stat.h>

#include "disk/disk.h"

namespace vmhost::disk {

namespace {

constexpr std::uint64_t sector_bytes = 512;

std::uint64_t total_bytes(std::span<const iovec> vectors) {
    std::uint64_t total = 0;
    for (const auto& vector : vectors)
        total += vector.iov_len;
    return total;
}

// The part of the caller's vectors that is still to be moved.
class Cursor {
public:
    explicit Cursor(std::span<const iovec> vectors) : rest_(vectors.begin(), vectors.end()) {
        advance(0);
    }
    bool done() const { return first_ == rest_.size(); }
    const iovec* data() const { return rest_.data() + first_; }
    int count() const {
        return static_cast<int>(std::min<std::size_t>(rest_.size() - first_, IOV_MAX));
    }
    void advance(std::size_t moved) {
        while (first_ < rest_.size() && moved >= rest_[first_].iov_len)
            moved -= rest_[first_++].iov_len;
        if (first_ < rest_.size()) {
            auto& front = rest_[first_];
            front.iov_base = static_cast<std::uint8_t*>(front.iov_base) + moved;
            front.iov_len -= moved;
        }
    }
    void zero_rest() {
        for (; first_ < rest_.size(); ++first_)
            std::memset(rest_[first_].iov_base, 0, rest_[first_].iov_len);
    }

private:
    std::vector<iovec> rest_;
    std::size_t first_ = 0;
};

class RawImage final : public Image {
public:
    RawImage(Fd fd, bool read_only, std::string name, std::uint64_t size_bytes)
        : fd_(std::move(fd)), read_only_(read_only), name_(std::move(name)), size_(size_bytes) {}

    const std::string& name() const override { return name_; }
    std::uint64_t size_bytes() const override { return size_; }
    bool read_only() const override { return read_only_; }

    Result<void> readv(std::span<const iovec> into, std::uint64_t offset) override {
        auto length = total_bytes(into);
        auto padding = (sector_bytes - size_ % sector_bytes) % sector_bytes;
        if (!range_fits(offset, length, size_ + padding))
            return outside("read", offset, length);
        Cursor cursor(into);
        while (!cursor.done()) {
            auto count =
                ::preadv(fd_.get(), cursor.data(), cursor.count(), static_cast<off_t>(offset));
            if (count < 0 && errno == EINTR)
                continue;
            if (count < 0)
                return fail_errno(errno, "image {}: read at {}", name_, offset);
            if (count == 0 && offset < size_)
                return fail(ErrorKind::corrupt, "image {}: the file ends at {}, {} bytes early",
                            name_, offset, size_ - offset);
            if (count == 0) {
                cursor.zero_rest();
                return {};
            }
            cursor.advance(static_cast<std::size_t>(count));
            offset += static_cast<std::uint64_t>(count);
        }
        return {};
    }

    Result<void> writev(std::span<const iovec> from, std::uint64_t offset) override {
        auto length = total_bytes(from);
        if (read_only_)
            return fail(ErrorKind::denied, "image {}: write at {}: the image is read-only", name_,
                        offset);
        if (!range_fits(offset, length, size_))
            return outside("write", offset, length);
        Cursor cursor(from);
        while (!cursor.done()) {
            auto count =
                ::pwritev(fd_.get(), cursor.data(), cursor.count(), static_cast<off_t>(offset));
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

    Result<void> flush() override {
        if (read_only_)
            return {};
        while (::fdatasync(fd_.get()) != 0) {
            if (errno != EINTR)
                return fail_errno(errno, "image {}: flush", name_);
        }
        return {};
    }

private:
    std::unexpected<Error> outside(const char* what, std::uint64_t offset,
                                   std::uint64_t length) const {
        return fail(ErrorKind::invalid, "image {}: {} of {} bytes at {}: past the end at {}", name_,
                    what, length, offset, size_);
    }

    Fd fd_;
    bool read_only_;
    std::string name_;
    std::uint64_t size_;
};

} // namespace

Result<std::unique_ptr<Image>> Image::open_raw(Fd fd, bool read_only, std::string name) {
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0)
        return fail_errno(errno, "image {}: stat", name);
    if (!S_ISREG(status.st_mode))
        return fail(ErrorKind::invalid, "image {}: not a regular file", name);
    auto size_bytes = static_cast<std::uint64_t>(status.st_size);
    if (size_bytes < sector_bytes)
        return fail(ErrorKind::invalid, "image {}: {} bytes hold no 512-byte sector", name,
                    size_bytes);
    return std::make_unique<RawImage>(std::move(fd), read_only, std::move(name), size_bytes);
}

} // namespace vmhost::disk
