#include "machine/snapshot/memory_pages.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include <zstd.h>

namespace vmhost::machine {

namespace {

constexpr std::size_t most_pages = saved_chunk_bytes / saved_page_bytes;
constexpr std::size_t bitmap_bytes = most_pages / 8;
constexpr std::size_t pages_header_bytes = 16 + bitmap_bytes;
// The fastest level that still halves a typical kernel's memory; a pipe or disk is slower.
constexpr int compression_level = 1;

bool all_zero(const std::uint8_t* page) {
    std::uint64_t sum = 0;
    for (std::size_t at = 0; at < saved_page_bytes; at += 64) {
        std::array<std::uint64_t, 8> words;
        std::memcpy(words.data(), page + at, sizeof(words));
        for (auto word : words)
            sum |= word;
        if (sum != 0)
            return false;
    }
    return true;
}

} // namespace

struct PageWriter::Context {
    ZSTD_CCtx* zstd = ::ZSTD_createCCtx();
    ~Context() { ::ZSTD_freeCCtx(zstd); }
};

PageWriter::PageWriter() : context_(std::make_unique<Context>()) {}
PageWriter::~PageWriter() = default;

Result<Bytes> PageWriter::encode(Gpa start, Bytes bytes) {
    const auto count = bytes.size() / saved_page_bytes;
    std::array<std::uint8_t, bitmap_bytes> present{};
    pages_.clear();
    for (std::size_t page = 0; page < count; ++page) {
        const auto* from = bytes.data() + page * saved_page_bytes;
        if (all_zero(from))
            continue;
        present[page / 8] |= static_cast<std::uint8_t>(1U << page % 8);
        pages_.insert(pages_.end(), from, from + saved_page_bytes);
    }
    if (pages_.empty())
        return Bytes();
    payload_.resize(pages_header_bytes + ::ZSTD_compressBound(pages_.size()));
    MutableBytes payload(payload_);
    store_le<std::uint64_t>(payload, start);
    store_le(payload.subspan(8), static_cast<std::uint32_t>(count));
    store_le(payload.subspan(12), std::uint32_t{0});
    std::ranges::copy(present, payload.begin() + 16);
    auto size = context_->zstd == nullptr
                    ? 0
                    : ::ZSTD_compressCCtx(context_->zstd, payload_.data() + pages_header_bytes,
                                          payload_.size() - pages_header_bytes, pages_.data(),
                                          pages_.size(), compression_level);
    if (size == 0 || ::ZSTD_isError(size))
        return fail(ErrorKind::internal, "memory at {:#x} cannot be compressed: {}", start,
                    size == 0 ? "no memory" : ::ZSTD_getErrorName(size));
    return Bytes(payload_).first(pages_header_bytes + size);
}

struct PageReader::Context {
    ZSTD_DCtx* zstd = ::ZSTD_createDCtx();
    ~Context() { ::ZSTD_freeDCtx(zstd); }
};

PageReader::PageReader() : context_(std::make_unique<Context>()), pages_(saved_chunk_bytes) {}
PageReader::~PageReader() = default;

Result<void> PageReader::decode(Bytes payload, GuestMemory& memory) {
    ByteReader reader(payload);
    auto start = reader.le<std::uint64_t>();
    auto count = reader.le<std::uint32_t>();
    auto zero = reader.le<std::uint32_t>();
    auto present = reader.bytes(bitmap_bytes);
    bool good = reader.ok() && zero == 0 && count != 0 && count <= most_pages &&
                start % saved_page_bytes == 0;
    for (std::size_t page = count; good && page < most_pages; ++page)
        good = !(present[page / 8] >> page % 8 & 1);
    if (!good)
        return fail(ErrorKind::corrupt, "state section memory: a malformed piece at {:#x}", start);
    auto into = memory.slice(start, count * saved_page_bytes);
    if (!into)
        return fail(ErrorKind::corrupt,
                    "state section memory: {} pages at {:#x} are outside of the machine's memory",
                    count, start);
    auto frame = reader.bytes(reader.remaining());
    // One frame and nothing after it; the room for it is a constant.
    auto size = context_->zstd == nullptr ||
                        ::ZSTD_findFrameCompressedSize(frame.data(), frame.size()) != frame.size()
                    ? 0
                    : ::ZSTD_decompressDCtx(context_->zstd, pages_.data(), pages_.size(),
                                            frame.data(), frame.size());
    std::size_t taken = 0;
    if (size != 0 && !::ZSTD_isError(size))
        for (std::size_t page = 0; page < count; ++page) {
            if (!(present[page / 8] >> page % 8 & 1))
                continue;
            if (taken + saved_page_bytes > size)
                return fail(ErrorKind::corrupt, "state section memory: pages are missing at {:#x}",
                            start);
            std::memcpy(into->data() + page * saved_page_bytes, pages_.data() + taken,
                        saved_page_bytes);
            taken += saved_page_bytes;
        }
    if (taken == 0 || taken != size)
        return fail(ErrorKind::corrupt, "state section memory: the pages at {:#x} cannot be read",
                    start);
    memory.written(start, into->size());
    return {};
}

} // namespace vmhost::machine
