#include "host/usage.h"

#include <ctime>
#include <fmt/format.h>
#include <fstream>
#include <unistd.h>

namespace vmhost::host {

std::uint64_t resident_bytes_of(pid_t pid) {
    std::ifstream statm(fmt::format("/proc/{}/statm", pid));
    std::uint64_t total_pages = 0, resident_pages = 0;
    statm >> total_pages >> resident_pages;
    return resident_pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// The clock of the process: exact, and cheaper than proc(5), which counts in hundredths.
std::uint64_t cpu_time_ns_of(pid_t pid) {
    clockid_t clock{};
    timespec used{};
    if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &used) < 0)
        return 0;
    return static_cast<std::uint64_t>(used.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(used.tv_nsec);
}

} // namespace vmhost::host
