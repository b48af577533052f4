// A file in memory that remembers every write and sync, and can be built again as a crash
// at any moment would have left it. Also the random disk of the property and crash tests.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "disk/storage.h"
#include "disk/vectors.h"

namespace vmhost::test {

struct Disk {
    struct Step {
        enum class What { write, zero, sync } what;
        std::uint64_t offset = 0;
        std::vector<std::uint8_t> bytes;
        std::uint64_t length = 0;
    };
    std::mutex mutex;
    std::vector<std::uint8_t> bytes;
    std::vector<Step> log;
    bool logging = false;
    std::uint64_t fail_after = UINT64_MAX; // writes until the disk is full
    bool fail_sync = false; // the next one tells of a lost write, as the kernel: once

    void apply(const Step& step) {
        if (step.what == Step::What::write) {
            if (bytes.size() < step.offset + step.bytes.size())
                bytes.resize(step.offset + step.bytes.size());
            std::ranges::copy(step.bytes, bytes.begin() + static_cast<long>(step.offset));
        } else if (step.what == Step::What::zero && step.offset < bytes.size()) {
            auto end = std::min<std::uint64_t>(bytes.size(), step.offset + step.length);
            std::fill(bytes.begin() + static_cast<long>(step.offset),
                      bytes.begin() + static_cast<long>(end), std::uint8_t{0});
        }
    }
};

class MemoryStorage final : public disk::Storage {
public:
    explicit MemoryStorage(std::shared_ptr<Disk> on) : disk_(std::move(on)) {}
    const std::string& name() const override { return name_; }
    Result<std::uint64_t> size() const override {
        std::scoped_lock guard(disk_->mutex);
        return disk_->bytes.size();
    }
    Result<std::uint64_t> readv(std::span<const iovec> into, std::uint64_t offset) override {
        std::scoped_lock guard(disk_->mutex);
        auto size = disk_->bytes.size();
        auto length =
            std::min(disk::total_bytes(into), size - std::min<std::uint64_t>(size, offset));
        disk::Cursor cursor(into);
        disk::copy_to(cursor.take(length), disk_->bytes.data() + offset);
        return length;
    }
    Result<void> writev(std::span<const iovec> from, std::uint64_t offset) override {
        Disk::Step step{Disk::Step::What::write, offset, {}, 0};
        step.bytes.resize(disk::total_bytes(from));
        disk::copy_from(from, step.bytes.data());
        return take(std::move(step));
    }
    Result<void> punch_hole(std::uint64_t offset, std::uint64_t length) override {
        return take({Disk::Step::What::zero, offset, {}, length});
    }
    Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length) override {
        return take({Disk::Step::What::zero, offset, {}, length});
    }
    Result<void> sync() override { return take({Disk::Step::What::sync, 0, {}, 0}); }

private:
    Result<void> take(Disk::Step step) {
        std::scoped_lock guard(disk_->mutex);
        if (step.what == Disk::Step::What::write) {
            if (disk_->fail_after == 0)
                return fail_errno(ENOSPC, "image {}: write at {}", name_, step.offset);
            --disk_->fail_after;
        }
        if (step.what == Disk::Step::What::sync && std::exchange(disk_->fail_sync, false))
            return fail_errno(EIO, "image {}: sync", name_);
        disk_->apply(step);
        if (disk_->logging)
            disk_->log.push_back(std::move(step));
        return {};
    }
    std::shared_ptr<Disk> disk_;
    std::string name_ = "test";
};

} // namespace vmhost::test
