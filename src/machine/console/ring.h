// The newest bytes of a stream, addressed by their position in the whole stream; in
// memory of its own or in a ring that the parent reads too.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "base/base.h"
#include "ipc/ipc.h"

namespace vmhost::machine {

class OutputRing {
public:
    explicit OutputRing(std::size_t capacity_bytes) : own_(capacity_bytes), bytes_(own_) {}
    explicit OutputRing(ipc::SharedRing shared)
        : shared_(std::move(shared)), bytes_(shared_->bytes()) {}
    OutputRing(const OutputRing&) = delete;
    OutputRing& operator=(const OutputRing&) = delete;

    std::uint64_t end() const { return end_; }
    std::uint64_t begin() const { return end_ - std::min<std::uint64_t>(end_, bytes_.size()); }

    void append(Bytes data) {
        if (data.size() > bytes_.size()) {
            end_ += data.size() - bytes_.size();
            data = data.last(bytes_.size());
        }
        while (!data.empty()) {
            std::size_t at = end_ % bytes_.size();
            auto part = data.first(std::min(data.size(), bytes_.size() - at));
            std::memcpy(bytes_.data() + at, part.data(), part.size());
            end_ += part.size();
            data = data.subspan(part.size());
        }
        if (shared_)
            shared_->publish(end_);
    }

    // Copies from position on, which lies in [begin, end]; the number of bytes copied.
    std::size_t copy(std::uint64_t position, MutableBytes into) const {
        std::size_t total = 0;
        while (total < into.size() && position < end_) {
            std::size_t at = position % bytes_.size();
            std::size_t count = std::min({into.size() - total, bytes_.size() - at,
                                          static_cast<std::size_t>(end_ - position)});
            std::memcpy(into.data() + total, bytes_.data() + at, count);
            total += count;
            position += count;
        }
        return total;
    }

private:
    std::vector<std::uint8_t> own_;
    std::optional<ipc::SharedRing> shared_;
    MutableBytes bytes_;
    std::uint64_t end_ = 0; // bytes ever appended
};

} // namespace vmhost::machine
