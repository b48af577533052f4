// A control group for one VM process: its share of the processors, its limits.
//
// cgroups v2 where the hierarchy has the controller, else the v1 hierarchy of that
// controller, else nothing: the VM runs without, and one line says so. The groups are
// FOLDER/NAME at the top of a hierarchy, FOLDER is "vmhost-" and the host's name.
// Control Group v2 and cgroup-v1 in the Linux kernel's admin guide.
//
// Loop thread of the parent.
#pragma once

#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "base/base.h"

namespace vmhost::host {

struct CgroupLimits {
    std::optional<unsigned> cpu_weight;    // 1..10000, 100 is a process without limits
    std::optional<unsigned> cpu_limit_pct; // of one processor
    std::optional<std::uint64_t> memory_bytes;

    bool any() const { return cpu_weight || cpu_limit_pct || memory_bytes; }
};

// Where the hierarchies are mounted.
struct CgroupMounts {
    std::string v2;                // empty: none
    std::string v1_cpu, v1_memory; // of the controller
    static CgroupMounts of_this_host();
    // mountinfo as in proc(5).
    static CgroupMounts parse(const std::string& mountinfo);
};

class Cgroup {
public:
    // Makes the groups, anew where one was left behind, and sets the limits. missing gets the words
    // of what this host cannot limit.
    static Result<Cgroup> make(const CgroupMounts& mounts, const std::string& folder,
                               const std::string& name, const CgroupLimits& limits,
                               std::vector<std::string>& missing);
    // Those of a process that an earlier parent started; none when it had none.
    static Cgroup adopt(const CgroupMounts& mounts, const std::string& folder,
                        const std::string& name);
    Cgroup() = default;
    Cgroup(Cgroup&& other) noexcept : folders_(std::exchange(other.folders_, {})) {}
    Cgroup& operator=(Cgroup&& other) noexcept {
        std::swap(folders_, other.folders_);
        return *this;
    }
    ~Cgroup(); // its processes must be gone

    // Threads and processes that it starts later follow.
    Result<void> add(pid_t process) const;
    // The kernel ended its process for needing more memory than the limit.
    bool ran_out_of_memory() const;

private:
    Result<std::string> make_folder(const std::string& mount, const std::string& folder,
                                    const std::string& name);
    std::vector<std::string> folders_;
};

} // namespace vmhost::host
