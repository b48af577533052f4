// Byte spans, byte order, and the two cursors with which everything that comes
// from outside is taken apart and everything that goes out is put together.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace vmhost {

using Bytes = std::span<const std::uint8_t>;
using MutableBytes = std::span<std::uint8_t>;

template <class T>
concept WireInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

template <WireInteger T>
constexpr T from_little(T value) {
    return value; // the host is x86-64
}
template <WireInteger T>
constexpr T from_big(T value) {
    if constexpr (sizeof(T) == 1)
        return value;
    else if constexpr (sizeof(T) == 2)
        return static_cast<T>(__builtin_bswap16(static_cast<std::uint16_t>(value)));
    else if constexpr (sizeof(T) == 4)
        return static_cast<T>(__builtin_bswap32(static_cast<std::uint32_t>(value)));
    else
        return static_cast<T>(__builtin_bswap64(static_cast<std::uint64_t>(value)));
}

// Unaligned loads and stores at the start of a span that the caller has sized;
// a span that is too short reads as zero / is not written.
template <WireInteger T>
T load_le(Bytes bytes) {
    T value{};
    if (bytes.size() >= sizeof(T))
        std::memcpy(&value, bytes.data(), sizeof(T));
    return from_little(value);
}
template <WireInteger T>
T load_be(Bytes bytes) {
    T value{};
    if (bytes.size() >= sizeof(T))
        std::memcpy(&value, bytes.data(), sizeof(T));
    return from_big(value);
}
template <WireInteger T>
void store_le(MutableBytes bytes, T value) {
    value = from_little(value);
    if (bytes.size() >= sizeof(T))
        std::memcpy(bytes.data(), &value, sizeof(T));
}
template <WireInteger T>
void store_be(MutableBytes bytes, T value) {
    value = from_big(value);
    if (bytes.size() >= sizeof(T))
        std::memcpy(bytes.data(), &value, sizeof(T));
}

inline Bytes as_bytes(std::string_view text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads forward through untrusted bytes. A read past the end yields zeros and
// turns ok() false for good, so a parser may read everything and ask once.
class ByteReader {
public:
    explicit ByteReader(Bytes bytes) : rest_(bytes) {}

    bool ok() const { return ok_; }
    std::size_t remaining() const { return rest_.size(); }

    template <WireInteger T>
    T le() {
        return take<T, false>();
    }
    template <WireInteger T>
    T be() {
        return take<T, true>();
    }
    // Empty when fewer than count bytes are left.
    Bytes bytes(std::size_t count) {
        if (count > rest_.size()) {
            ok_ = false;
            rest_ = {};
            return {};
        }
        auto front = rest_.first(count);
        rest_ = rest_.subspan(count);
        return front;
    }
    void skip(std::size_t count) { (void)bytes(count); }

private:
    template <class T, bool big>
    T take() {
        auto raw = bytes(sizeof(T));
        if (raw.size() != sizeof(T))
            return T{};
        return big ? load_be<T>(raw) : load_le<T>(raw);
    }
    Bytes rest_;
    bool ok_ = true;
};

// Appends to a growing buffer.
class ByteWriter {
public:
    template <WireInteger T>
    void le(T value) {
        value = from_little(value);
        append(&value, sizeof(T));
    }
    template <WireInteger T>
    void be(T value) {
        value = from_big(value);
        append(&value, sizeof(T));
    }
    void bytes(Bytes data) { append(data.data(), data.size()); }
    void zeros(std::size_t count) { buffer_.resize(buffer_.size() + count); }
    void pad_to(std::size_t size) {
        if (buffer_.size() < size)
            buffer_.resize(size);
    }
    std::size_t size() const { return buffer_.size(); }
    std::vector<std::uint8_t>& buffer() { return buffer_; }
    std::vector<std::uint8_t> take() { return std::move(buffer_); }

private:
    void append(const void* data, std::size_t count) {
        auto* first = static_cast<const std::uint8_t*>(data);
        buffer_.insert(buffer_.end(), first, first + count);
    }
    std::vector<std::uint8_t> buffer_;
};

// a + b <= limit without overflow: the bounds check of every (address, length) pair.
constexpr bool range_fits(std::uint64_t start, std::uint64_t length, std::uint64_t limit) {
    return length <= limit && start <= limit - length;
}

// Text that came from a guest, a packet or a client, made fit for a log line, a
// terminal or a man page: control characters, quotes, backslashes and bytes
// above 0x7e become \xNN; longer than max_length is cut with "…".
std::string printable(std::string_view text, std::size_t max_length = 256);

} // namespace vmhost
