// The newest bytes of a stream, addressed by their position in the whole stream.
#pragma once

#include <algorithm>
#include <vector>

#include "base/base.h"

namespace vmhost::machine {

class OutputRing {
public:
    explicit OutputRing(std::size_t capacity_bytes) : bytes_(capacity_bytes) {}

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
    std::vector<std::uint8_t> bytes_;
    std::uint64_t end_ = 0; // bytes ever appended
};

} // namespace vmhost::machine
