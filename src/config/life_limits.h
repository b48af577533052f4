// Limits around the life of a VM, with their reasons; see base/limits.h for the others.
#pragma once

#include "base/base.h"

namespace vmhost::limits {

// Log of a console: a file stays small enough to be looked at; slower than a serial line of
// old makes no sense, and faster than this is a disk's whole work.
inline constexpr std::uint64_t max_console_log_bytes = 1ULL << 30;
inline constexpr unsigned max_console_log_files = 100;
inline constexpr unsigned min_console_log_bytes_per_s = 1024;
inline constexpr unsigned max_console_log_bytes_per_s = 64 << 20;
// Lines of a console that are told when its guest fails: a panic and its beginning.
inline constexpr std::size_t console_last_lines = 10;
inline constexpr std::size_t console_last_bytes = 4096;
// A VM that is started again when it ends: the delay doubles, a good run forgets the bad
// ones, and one that fails ten times in a row is broken.
inline constexpr std::uint64_t first_restart_delay_ms = 1000;
inline constexpr std::uint64_t max_restart_delay_ms = 60'000;
inline constexpr std::uint64_t good_run_ms = 600'000;
inline constexpr unsigned max_restarts_in_a_row = 10;
// Snapshots of one VM: each holds the guest's memory on disk.
inline constexpr std::size_t max_snapshots = 16;
// VMs of one user that are not in the file: a class's homework, not the whole host.
inline constexpr std::size_t max_instances_of_user = 32;
// For VM processes to say what they have counted; a list must not hang on one that hangs.
inline constexpr std::uint64_t count_timeout_ms = 500;
// More than one service counts; what it says is kept.
inline constexpr std::size_t max_service_counters = 256;
// A service that ends unasked: tried less and less often, until it has stayed up for a while.
inline constexpr std::uint64_t max_service_restart_delay_ms = 30'000;
inline constexpr std::uint64_t good_service_run_ms = 60'000;
// What vmctl events can look back at: some 200 KiB; and clients that follow, each of which gets
// every event.
inline constexpr std::size_t max_events = 1000;
inline constexpr std::size_t max_event_text_bytes = 400;
inline constexpr std::size_t max_event_followers = 64;
// Broadcasts and multicasts of a guest in a second: more small frames than any host switches.
inline constexpr unsigned max_storm_frames = 10'000'000;

} // namespace vmhost::limits
