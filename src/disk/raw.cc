// Raw images: the file's bytes are the disk's bytes, through the host's page cache.
// Flush is fdatasync(2). Any thread.
#include <cerrno>
#include <mutex>
#include <optional>
#include <vector>

#include <sys/stat.h>

#include "disk/disk.h"
#include "disk/storage.h"
#include "disk/vectors.h"

namespace vmhost::disk {

namespace {

class RawImage final : public Image {
public:
    RawImage(std::unique_ptr<Storage> file, bool read_only, std::uint64_t size_bytes)
        : file_(std::move(file)), read_only_(read_only), size_(size_bytes) {}

    const std::string& name() const override { return file_->name(); }
    std::uint64_t size_bytes() const override { return size_; }
    bool read_only() const override { return read_only_; }

    Result<void> readv(std::span<const iovec> into, std::uint64_t offset) override {
        auto length = total_bytes(into);
        TRY(check_readable(offset, length));
        auto count = TRY(file_->readv(into, offset));
        if (count == length)
            return {};
        if (offset + count < size_)
            return fail(ErrorKind::corrupt, "image {}: the file ends at {}, {} bytes early", name(),
                        offset + count, size_ - offset - count);
        Cursor rest(into);
        rest.advance(count);
        rest.zero_rest();
        return {};
    }

    Result<void> writev(std::span<const iovec> from, std::uint64_t offset) override {
        TRY(check_writable("write", offset, total_bytes(from)));
        return file_->writev(from, offset);
    }

    Result<void> flush() override {
        if (read_only_)
            return {};
        TRY(broken());
        auto synced = file_->sync();
        if (!synced) {
            std::scoped_lock guard(broken_mutex_);
            if (!broken_)
                broken_ = Error(synced.error()).in("an earlier flush failed");
        }
        TRY(std::move(synced));
        return broken(); // one that ran beside this one may have been told instead
    }

    Result<void> discard(std::uint64_t offset, std::uint64_t length) override {
        TRY(check_writable("discard", offset, length));
        return file_->punch_hole(offset, length);
    }

    Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap) override {
        TRY(check_writable("write zeroes", offset, length));
        return may_unmap ? file_->punch_hole(offset, length) : file_->write_zeroes(offset, length);
    }

    Result<Extent> extent_at(std::uint64_t offset) override {
        TRY(check_inside("look", offset, 1));
        auto run = TRY(file_->next_data(offset));
        if (run.start > offset)
            return Extent{std::min(run.start, size_) - offset, true};
        return Extent{std::min(run.end, size_) - offset, false};
    }

    std::optional<Direct> direct(std::uint64_t offset, std::uint64_t length, bool write) override {
        if (!range_fits(offset, length, size_) || (write && read_only_))
            return std::nullopt;
        return Direct{file_->descriptor(), offset, nullptr};
    }

private:
    // The kernel tells of a write that was lost once, to one caller, and takes the pages for clean
    // from then on: no later flush may say that all is well.
    Result<void> broken() {
        std::scoped_lock guard(broken_mutex_);
        if (broken_)
            return std::unexpected(Error(*broken_));
        return {};
    }
    std::mutex broken_mutex_;
    std::optional<Error> broken_;
    Result<void> check_readable(std::uint64_t offset, std::uint64_t length) const {
        auto padding = (sector_bytes - size_ % sector_bytes) % sector_bytes;
        if (range_fits(offset, length, size_ + padding))
            return {};
        return check_inside("read", offset, length);
    }
    Result<void> check_writable(const char* what, std::uint64_t offset,
                                std::uint64_t length) const {
        if (read_only_)
            return fail(ErrorKind::denied, "image {}: {} at {}: the image is read-only", name(),
                        what, offset);
        return check_inside(what, offset, length);
    }
    Result<void> check_inside(const char* what, std::uint64_t offset, std::uint64_t length) const {
        if (range_fits(offset, length, size_))
            return {};
        return fail(ErrorKind::invalid, "image {}: {} of {} bytes at {}: past the end at {}",
                    name(), what, length, offset, size_);
    }

    std::unique_ptr<Storage> file_;
    bool read_only_;
    std::uint64_t size_;
};

} // namespace

std::unique_ptr<Image> raw_image(std::unique_ptr<Storage> file, bool read_only,
                                 std::uint64_t size_bytes) {
    return std::make_unique<RawImage>(std::move(file), read_only, size_bytes);
}

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
    return raw_image(file_storage(std::move(fd), std::move(name)), read_only, size_bytes);
}

// An image that can do neither: discard is a hint, zeros can be written.
Result<void> Image::discard(std::uint64_t, std::uint64_t) {
    return {};
}

Result<void> Image::write_zeroes(std::uint64_t offset, std::uint64_t length, bool) {
    std::vector<std::uint8_t> zeros(std::min<std::uint64_t>(length, MiB));
    while (length > 0) {
        iovec vector{zeros.data(), std::min<std::uint64_t>(length, zeros.size())};
        TRY(writev({&vector, 1}, offset));
        offset += vector.iov_len;
        length -= vector.iov_len;
    }
    return {};
}

Result<Extent> Image::extent_at(std::uint64_t offset) {
    if (offset >= size_bytes())
        return fail(ErrorKind::invalid, "image {}: look at {}: past the end at {}", name(), offset,
                    size_bytes());
    return Extent{size_bytes() - offset, false};
}

} // namespace vmhost::disk
