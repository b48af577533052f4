#include "host/cgroup.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

namespace vmhost::host {

namespace {

constexpr unsigned period_us = 100'000;

// The files of the kernel take a value in one write.
Result<void> put(const std::string& path, const std::string& value) {
    Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file || ::write(file.get(), value.data(), value.size()) < 0)
        return fail_errno(errno, "write {} to {}", value, path);
    return {};
}

bool has_word(const std::string& text, std::string_view word) {
    std::istringstream words(text);
    for (std::string one; words >> one;)
        if (one == word)
            return true;
    return false;
}

bool v2_has(const std::string& mount, std::string_view controller) {
    std::string controllers;
    std::ifstream file(mount + "/cgroup.controllers");
    std::getline(file, controllers);
    return has_word(controllers, controller);
}

} // namespace

// "36 35 98:0 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"; a hyphen ends the optional fields.
CgroupMounts CgroupMounts::parse(const std::string& mountinfo) {
    CgroupMounts mounts;
    std::istringstream lines(mountinfo);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string skip, point, word, type, source, options;
        words >> skip >> skip >> skip >> skip >> point;
        while (words >> word && word != "-") {
        }
        words >> type >> source >> options;
        std::ranges::replace(options, ',', ' ');
        if (type == "cgroup2" && mounts.v2.empty())
            mounts.v2 = point;
        if (type == "cgroup" && has_word(options, "cpu"))
            mounts.v1_cpu = point;
        if (type == "cgroup" && has_word(options, "memory"))
            mounts.v1_memory = point;
    }
    return mounts;
}

CgroupMounts CgroupMounts::of_this_host() {
    std::ifstream file("/proc/self/mountinfo");
    std::stringstream text;
    text << file.rdbuf();
    auto mounts = parse(text.str());
    // Another mount may cover them.
    for (auto* mount : {&mounts.v2, &mounts.v1_cpu, &mounts.v1_memory})
        if (::access((*mount + "/cgroup.procs").c_str(), W_OK) < 0)
            mount->clear();
    return mounts;
}

Result<std::string> Cgroup::make_folder(const std::string& mount, const std::string& folder,
                                        const std::string& name) {
    auto above = mount + "/" + folder;
    auto path = above + "/" + name;
    if (std::ranges::find(folders_, path) != folders_.end())
        return path;
    // One that a killed daemon left has limits that nobody asked for.
    (void)::rmdir(path.c_str());
    for (const auto& one : {above, path})
        if (::mkdir(one.c_str(), 0755) < 0 && errno != EEXIST)
            return fail_errno(errno, "make the control group {}", one);
    folders_.push_back(path);
    return path;
}

Result<Cgroup> Cgroup::make(const CgroupMounts& mounts, const std::string& folder,
                            const std::string& name, const CgroupLimits& limits,
                            std::vector<std::string>& missing) {
    Cgroup made;
    // A controller is handed down from the top of v2 to the group's folder, where it is there.
    auto use_v2 = [&](std::string_view controller) {
        if (mounts.v2.empty() || !v2_has(mounts.v2, controller))
            return false;
        auto above = mounts.v2 + "/" + folder;
        (void)::mkdir(above.c_str(), 0755);
        auto enable = "+" + std::string(controller);
        if (put(mounts.v2 + "/cgroup.subtree_control", enable) &&
            put(above + "/cgroup.subtree_control", enable))
            return true;
        (void)::rmdir(above.c_str()); // unless groups are in it
        return false;
    };
    if (limits.cpu_weight || limits.cpu_limit_pct) {
        bool v2 = use_v2("cpu");
        if (v2 || !mounts.v1_cpu.empty()) {
            auto path = TRY(made.make_folder(v2 ? mounts.v2 : mounts.v1_cpu, folder, name));
            if (limits.cpu_weight)
                TRY(v2 ? put(path + "/cpu.weight", std::to_string(*limits.cpu_weight))
                       : put(path + "/cpu.shares",
                             std::to_string(std::max(2U, *limits.cpu_weight * 1024 / 100))));
            auto quota = std::to_string(limits.cpu_limit_pct.value_or(0) * (period_us / 100));
            if (limits.cpu_limit_pct && v2)
                TRY(put(path + "/cpu.max", fmt::format("{} {}", quota, period_us)));
            if (limits.cpu_limit_pct && !v2) {
                TRY(put(path + "/cpu.cfs_period_us", std::to_string(period_us)));
                TRY(put(path + "/cpu.cfs_quota_us", quota));
            }
        } else {
            missing.emplace_back("processors");
        }
    }
    if (limits.memory_bytes) {
        bool v2 = use_v2("memory");
        if (v2 || !mounts.v1_memory.empty()) {
            auto path = TRY(made.make_folder(v2 ? mounts.v2 : mounts.v1_memory, folder, name));
            TRY(put(path + (v2 ? "/memory.max" : "/memory.limit_in_bytes"),
                    std::to_string(*limits.memory_bytes)));
        } else {
            missing.emplace_back("memory");
        }
    }
    return made;
}

Cgroup Cgroup::adopt(const CgroupMounts& mounts, const std::string& folder,
                     const std::string& name) {
    Cgroup adopted;
    for (const auto& mount : {mounts.v2, mounts.v1_cpu, mounts.v1_memory}) {
        auto path = fmt::format("{}/{}/{}", mount, folder, name);
        if (!mount.empty() && ::access(path.c_str(), F_OK) == 0 &&
            std::ranges::find(adopted.folders_, path) == adopted.folders_.end())
            adopted.folders_.push_back(path);
    }
    return adopted;
}

Result<void> Cgroup::add(pid_t process) const {
    for (const auto& path : folders_)
        TRY(put(path + "/cgroup.procs", std::to_string(process)));
    return {};
}

bool Cgroup::ran_out_of_memory() const {
    for (const auto& path : folders_)
        for (const char* name : {"/memory.events", "/memory.oom_control"}) {
            std::ifstream file(path + name);
            std::string key;
            for (std::uint64_t value = 0; file >> key >> value;)
                if (key == "oom_kill" && value != 0)
                    return true;
        }
    return false;
}

// The folder above goes with its last group.
Cgroup::~Cgroup() {
    for (const auto& path : folders_) {
        if (::rmdir(path.c_str()) < 0)
            log::warning("host", "{}",
                         Error::system(errno, "remove the control group " + path).text());
        (void)::rmdir(path.substr(0, path.rfind('/')).c_str());
    }
}

} // namespace vmhost::host
