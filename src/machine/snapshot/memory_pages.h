// Guest memory as it stands in a "memory" section: up to a megabyte from `start` on.
//
//   u64 start, u32 pages, u32 zero, 32 bytes: a bit per page, set = not all zero
//   one zstd frame with the pages of set bits, one after the other
//
// Pages are 4096 bytes. A megabyte of zeros is not written at all.
#pragma once

#include <optional>
#include <vector>

#include "machine/memory.h"

namespace vmhost::machine {

inline constexpr std::uint64_t saved_page_bytes = 4096;
inline constexpr std::uint64_t saved_chunk_bytes = 1 << 20;

// Compresses one piece after the other; keeps its memory. One per thread.
class PageWriter {
public:
    PageWriter();
    ~PageWriter();
    // bytes are whole pages, a megabyte at most. Empty: all zero, nothing to write.
    Result<Bytes> encode(Gpa start, Bytes bytes);

private:
    struct Context;
    std::unique_ptr<Context> context_;
    std::vector<std::uint8_t> pages_, payload_;
};

class PageReader {
public:
    PageReader();
    ~PageReader();
    // Into memory that is all zero; refuses what lies outside of it.
    Result<void> decode(Bytes payload, GuestMemory& memory);

private:
    struct Context;
    std::unique_ptr<Context> context_;
    std::vector<std::uint8_t> pages_;
};

} // namespace vmhost::machine
