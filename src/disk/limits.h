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
// The kernel may copy out of its cache while a request is handed over, on the loop's thread;
// larger ones go to a thread of the kernel's.
inline constexpr std::uint64_t max_inline_io_bytes = 128 << 10;

} // namespace vmhost::limits
