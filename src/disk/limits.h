// Limits of this room alone, with their reasons; those that others share are in base/limits.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmhost::limits {

// zst images: a frame is what a read of one byte expands, so it is small, and what a writer
// of ours makes of 1 MiB; frames of others are taken up to a size that a pool thread does at once.
inline constexpr std::uint64_t zst_frame_bytes = 1 << 20;
inline constexpr std::uint64_t max_zst_frame_bytes = 16 << 20;
// Their table is kept in memory, 16 bytes each: enough for 4 TiB with frames of 1 MiB.
inline constexpr std::size_t max_zst_frames = 4 << 20;
// Expanded frames kept per image; the largest one always is.
inline constexpr std::uint64_t zst_cache_bytes = 4 << 20;
// The kernel's ring of one disk: a queue of requests fits.
inline constexpr unsigned io_ring_entries = 256;
// Flushes of one disk at once; further ones are joined. The process has four pool threads.
inline constexpr unsigned max_flushes_at_once = 3;
// A request up to this size is moved on the loop's thread when that need not wait, and holds the
// others up no longer than a system call; larger ones go to the kernel's threads.
inline constexpr std::uint64_t max_inline_io_bytes = 128 << 10;
// Requests moved in one turn of the loop, so that its descriptors are looked at.
inline constexpr unsigned max_inline_per_turn = 64;
// A copy up to this long is not worth another thread, which takes some 20 us to begin.
inline constexpr std::uint64_t inline_alone_ns = 200'000;
// A thread that may wait moves data without knowing whether it has to. When that took longer than
// this, the host is short of memory or its disk slow, and the next ones go to the kernel's threads.
inline constexpr std::uint64_t max_inline_wait_ns = 3'000'000;
inline constexpr unsigned not_inline_after_wait = 64;

} // namespace vmhost::limits
