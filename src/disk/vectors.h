// Scattered buffers, taken piece by piece.
#pragma once

#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <sys/uio.h>

namespace vmhost::disk {

inline std::uint64_t total_bytes(std::span<const iovec> vectors) {
    std::uint64_t total = 0;
    for (const auto& vector : vectors)
        total += vector.iov_len;
    return total;
}

inline void copy_from(std::span<const iovec> vectors, std::uint8_t* to) {
    for (const auto& vector : vectors) {
        if (vector.iov_len > 0)
            std::memcpy(to, vector.iov_base, vector.iov_len);
        to += vector.iov_len;
    }
}

inline void copy_to(std::span<const iovec> vectors, const std::uint8_t* from) {
    for (const auto& vector : vectors) {
        if (vector.iov_len > 0)
            std::memcpy(vector.iov_base, from, vector.iov_len);
        from += vector.iov_len;
    }
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
    // The next length bytes (or what is left); they count as moved.
    std::vector<iovec> take(std::uint64_t length) {
        std::vector<iovec> part;
        while (length > 0 && !done()) {
            auto front = rest_[first_];
            front.iov_len = std::min<std::uint64_t>(front.iov_len, length);
            if (front.iov_len > 0)
                part.push_back(front);
            length -= front.iov_len;
            advance(front.iov_len);
        }
        return part;
    }
    void zero_rest() {
        for (; first_ < rest_.size(); ++first_)
            std::memset(rest_[first_].iov_base, 0, rest_[first_].iov_len);
    }

private:
    std::vector<iovec> rest_;
    std::size_t first_ = 0;
};

} // namespace vmhost::disk
