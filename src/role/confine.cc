#include "role/confine.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <ctime>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <memory>
#include <sched.h>
#include <seccomp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vmhost::role {

// ---- root ---------------------------------------------------------------------

Result<void> enter_empty_root() {
    // A folder that is there wherever this program can start; what it holds is hidden, for us only.
    constexpr const char* place = "/proc";
    if (::unshare(CLONE_NEWNS) < 0)
        return fail_errno(errno, "a mount namespace of its own");
    // What the host unmounts later must not stay in use here.
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) < 0)
        return fail_errno(errno, "keep mounts to ourselves");
    unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (::mount("vmhost", place, "tmpfs", flags, "size=4k,nr_inodes=1,mode=0555") < 0)
        return fail_errno(errno, "mount an empty root");
    if (::chdir(place) < 0)
        return fail_errno(errno, "enter the empty root");
    // Where the old root is no mount point (in a chroot) it cannot be left for good; without
    // rights, as we soon are, the way back is closed all the same.
    if (::syscall(SYS_pivot_root, ".", ".") == 0) {
        if (::umount2(".", MNT_DETACH) < 0)
            return fail_errno(errno, "leave the old root");
    } else if (::chroot(".") < 0) {
        return fail_errno(errno, "change to the empty root");
    }
    if (::chdir("/") < 0)
        return fail_errno(errno, "enter the empty root");
    return {};
}

// ---- network ------------------------------------------------------------------

// A list of system calls says nothing of what io_uring does: IORING_OP_SOCKET and CONNECT.
Result<void> enter_empty_network() {
    if (::unshare(CLONE_NEWNET) < 0)
        return fail_errno(errno, "a network namespace of its own");
    return {};
}

// ---- identity -----------------------------------------------------------------

namespace {

Result<unsigned> number(const std::string& text) {
    unsigned value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        return fail(ErrorKind::invalid, "\"{}\" is no user or group number", printable(text));
    return value;
}

Result<void> become(const Identity& identity) {
    auto user = TRY(number(identity.uid));
    auto group = TRY(number(identity.gid));
    if (::setgroups(0, nullptr) < 0 || ::setresgid(group, group, group) < 0 ||
        ::setresuid(user, user, user) < 0)
        return fail_errno(errno, "become uid {} gid {}", user, group);
    // Root must be out of reach from here on.
    if (user != 0 && ::setresuid(0, 0, 0) == 0)
        return fail(ErrorKind::internal, "root could be regained after becoming uid {}", user);
    return {};
}

// What a parent that is root keeps, capabilities(7). The rest is out of reach for it and for all
// that it starts: modules, raw memory and ports, the clock, tracing, BPF, reboot.
struct Kept {
    unsigned capability;
    const char* reason;
};
constexpr Kept parent_capabilities[] = {
    {CAP_NET_ADMIN, "links, taps, addresses, rules"},
    {CAP_NET_RAW, "packet sockets of the services"},
    {CAP_NET_BIND_SERVICE, "ports below 1024: 67, 69, 80, 547"},
    {CAP_SETUID, "a user for each role"},
    {CAP_SETGID, "its group"},
    {CAP_SETPCAP, "to take capabilities from itself"},
    {CAP_SYS_ADMIN, "namespaces, mounts and control groups of the roles"},
    {CAP_SYS_CHROOT, "their empty root"},
    {CAP_SYS_RESOURCE, "limits beyond those of its own session"},
    {CAP_SYS_NICE, "shares of processors"},
    {CAP_IPC_LOCK, "rings and guest memory that are locked"},
    {CAP_KILL, "processes of other users that do not end"},
    {CAP_CHOWN, "sockets and images for their owners"},
    {CAP_FOWNER, "modes of those"},
    {CAP_FSETID, "the same"},
    {CAP_DAC_OVERRIDE, "images and kernels of any owner"},
    {CAP_DAC_READ_SEARCH, "folders on the way to them"},
    {CAP_LEASE, "whether a client of a file still writes to it"},
};

// A parent that is not root may still have been given capabilities; no role needs any.
Result<void> drop_capabilities() {
    ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2] = {};
    if (::syscall(SYS_capset, &header, none) < 0)
        return fail_errno(errno, "drop capabilities");
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return fail_errno(errno, "set no_new_privs");
    if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return fail_errno(errno, "forbid dumps");
    return {};
}

} // namespace

// ---- limits -------------------------------------------------------------------

Result<void> limit_resources(const Identity& identity) {
    // 64 taps, 16 disks with their bases, a doorbell and an interrupt for each queue; or the
    // clients of a service.
    constexpr rlim_t descriptors = 4096;
    // 64 processors and a few workers; io_uring's kernel threads count too.
    constexpr rlim_t threads = 256;
    struct Limit {
        __rlimit_resource resource;
        rlim_t most;
    };
    for (auto [resource, most] :
         {Limit{RLIMIT_CORE, 0}, Limit{RLIMIT_NOFILE, descriptors}, Limit{RLIMIT_NPROC, threads}}) {
        if (resource == RLIMIT_NPROC && !identity.of_its_own)
            continue; // other processes of that user count, too
        rlimit limit{};
        if (::getrlimit(resource, &limit) < 0)
            return fail_errno(errno, "read a resource limit");
        limit.rlim_max = std::min(limit.rlim_max, most);
        limit.rlim_cur = limit.rlim_max;
        if (::setrlimit(resource, &limit) < 0)
            return fail_errno(errno, "set a resource limit");
    }
    return {};
}

// ---- landlock (landlock(7), linux/landlock.h) -----------------------------------

namespace {

// struct landlock_ruleset_attr of ABI 6; older kernels take a shorter one.
struct Ruleset {
    std::uint64_t files = 0;
    std::uint64_t network = 0; // ABI 4
    std::uint64_t scoped = 0;  // ABI 6
};
static_assert(sizeof(Ruleset) == 24);

} // namespace

int landlock_level() {
    auto level =
        ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return level < 0 ? 0 : static_cast<int>(level);
}

namespace {

// directories: where files may be read.
Result<void> restrict_files(std::span<const Fd* const> directories) {
    int level = landlock_level();
    if (level == 0)
        return {}; // the parent has said so
    // Everything that the kernel can forbid, and no rule that allows any of it.
    unsigned file_rights = level >= 5 ? 16 : level >= 3 ? 15 : level == 2 ? 14 : 13;
    Ruleset rules;
    rules.files = (std::uint64_t{1} << file_rights) - 1;
    rules.network = level >= 4 ? 3 : 0; // bind and connect TCP
    rules.scoped = level >= 6 ? 3 : 0;  // abstract sockets and signals of others
    std::size_t bytes = level >= 6   ? sizeof(Ruleset)
                        : level >= 4 ? offsetof(Ruleset, scoped)
                                     : offsetof(Ruleset, network);
    Fd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &rules, bytes, 0)));
    for (const auto* directory : ruleset ? directories : std::span<const Fd* const>()) {
        landlock_path_beneath_attr allowed{};
        allowed.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
        allowed.parent_fd = directory->get();
        if (::syscall(SYS_landlock_add_rule, ruleset.get(), LANDLOCK_RULE_PATH_BENEATH, &allowed,
                      0) < 0)
            return fail_errno(errno, "landlock: allow a directory");
    }
    if (!ruleset || ::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) < 0)
        return fail_errno(errno, "landlock");
    return {};
}

} // namespace

Result<void> open_nothing() {
    return restrict_files({});
}

Result<void> open_beneath(std::span<const Fd* const> directories) {
    // A descriptor lies outside the empty root, and ".." leads on from there: nothing else would
    // hold back a process that is in somebody's hands.
    if (!directories.empty() && landlock_level() == 0)
        return fail(ErrorKind::unsupported,
                    "files of a directory are not served on this kernel: it has no landlock "
                    "(Linux 5.13 on), which keeps the process that serves them in there");
    return restrict_files(directories);
}

// ---- seccomp --------------------------------------------------------------------

namespace {

Result<void> add(scmp_filter_ctx filter, const Call& call) {
    int number = ::seccomp_syscall_resolve_name(call.name);
    if (number == __NR_SCMP_ERROR)
        return fail(ErrorKind::internal, "system call list: there is no {}", call.name);
    auto action = call.refused_with != 0
                      ? SCMP_ACT_ERRNO(static_cast<std::uint32_t>(call.refused_with))
                      : SCMP_ACT_ALLOW;
    scmp_arg_cmp compare{call.argument, SCMP_CMP_MASKED_EQ, call.mask, call.value};
    int result = ::seccomp_rule_add_array(filter, action, number, call.mask != 0 ? 1 : 0, &compare);
    if (result < 0)
        return fail_errno(-result, "system call list: {}", call.name);
    return {};
}

} // namespace

Result<void> allow_only(std::span<const Call> calls) {
    std::unique_ptr<void, void (*)(scmp_filter_ctx)> filter(::seccomp_init(SCMP_ACT_KILL_PROCESS),
                                                            ::seccomp_release);
    if (!filter)
        return fail(ErrorKind::internal, "system call list: out of memory");
    // A tree instead of a row of comparisons; and no slower processor for the sake of filtering,
    // which older kernels would make of it.
    ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
    ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_SSB, 1);
    ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
    for (const auto& call : common_calls)
        TRY(add(filter.get(), call));
    for (const auto& call : calls)
        TRY(add(filter.get(), call));
    if (int result = ::seccomp_load(filter.get()); result < 0)
        return fail_errno(-result, "load the system call list");
    return {};
}

// Also of the bounding set: executing a program does not bring them back.
Result<void> reduce_capabilities() {
    std::uint64_t kept = 0;
    for (const auto& one : parent_capabilities)
        kept |= std::uint64_t{1} << one.capability;
    for (unsigned capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability)
        if (!(kept >> capability & 1) && ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
            return fail_errno(errno, "drop capability {}", capability);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct sets[2] = {};
    if (::syscall(SYS_capget, &header, sets) < 0)
        return fail_errno(errno, "read capabilities");
    for (unsigned half = 0; half < 2; ++half) {
        const auto mask = static_cast<std::uint32_t>(kept >> (32 * half));
        sets[half].effective &= mask;
        sets[half].permitted &= mask;
        sets[half].inheritable &= mask;
    }
    if (::syscall(SYS_capset, &header, sets) < 0)
        return fail_errno(errno, "reduce capabilities");
    return {};
}

Result<void> confine(const Identity& identity, std::span<const Call> calls) {
    ::tzset(); // the log's time zone, while its file can be read
    bool is_root = identity.uid != "-";
    // An administrator's container may withhold mounts from root; the other fences hold.
    if (is_root) {
        if (auto entered = enter_empty_root(); !entered)
            log::warning("role", "no empty root: {}", entered.error().message());
        if (auto entered = enter_empty_network(); !entered)
            log::warning("role", "no empty network: {}", entered.error().message());
    }
    TRY(limit_resources(identity));
    if (is_root)
        TRY(become(identity));
    TRY(drop_capabilities());
    if (!identity.opens_files)
        TRY(open_nothing());
    return allow_only(calls);
}

std::string confinement_of_this_host() {
    int level = landlock_level();
    return fmt::format(
        "roles are confined by an empty root and network{}, {} and a list of system calls",
        ::geteuid() == 0 ? "" : " (not without root)",
        level > 0 ? fmt::format("landlock level {}", level)
                  : "not by landlock, which this kernel lacks");
}

} // namespace vmhost::role
