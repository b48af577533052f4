// What a process of ours uses of this host.
#pragma once

#include <cstdint>
#include <sys/types.h>

namespace vmhost::host {

// Of a process that is gone: zero.
std::uint64_t resident_bytes_of(pid_t pid);
std::uint64_t cpu_time_ns_of(pid_t pid); // of all its threads

} // namespace vmhost::host
