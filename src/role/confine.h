// What a role may still do once it has its descriptors: next to nothing. Six fences, each of
// which holds when another fails:
//
//   root        an empty, read-only tmpfs in a mount namespace of its own (needs root)
//   network     a network namespace of its own without an interface; sockets and taps that it is
//               handed stay where they were made (needs root)
//   identity    another uid and gid, no groups, no capabilities, no way to gain any
//   landlock    no file can be opened, no TCP socket bound or connected (Linux 5.13 on)
//   seccomp     the system calls of calls.cc; any other ends the process
//   limits      no core file, few descriptors, and few threads for a uid of its own
//
// Called by a role before its first message, on its only thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/base.h"

namespace vmhost::role {

// A system call that a role may make.
struct Call {
    const char* name;
    const char* why = ""; // on each line that is not plain
    // Only when (argument & mask) == value; any argument when mask is 0.
    unsigned argument = 0;
    std::uint64_t mask = 0;
    std::uint64_t value = 0;
    // Not made, but answered with this errno: for what a library tries and can do without.
    int refused_with = 0;
};

// calls.cc; common_calls belong to every role.
extern const std::span<const Call> common_calls, control_calls, dhcp_calls, http_calls, ipv6_calls,
    vm_calls, tftp_calls;

struct Identity {
    std::string uid, gid;     // numbers; "-" for both: not started as root, stay who we are
    bool of_its_own = false;  // no other process has this uid: its threads can be limited
    bool opens_files = false; // calls open_beneath() in its time, and hears nobody before
};

// All six fences. An error means that the role must not go on.
Result<void> confine(const Identity& identity, std::span<const Call> calls);

// Single fences, in their order.
Result<void> enter_empty_root();    // needs root
Result<void> enter_empty_network(); // needs root
Result<void> limit_resources(const Identity& identity);
Result<void> open_nothing(); // landlock; nothing where the kernel has none
// The same, but for reading the files and directories in there; unsupported where the kernel has
// none.
Result<void> open_beneath(std::span<const Fd* const> directories);
// From here on only these calls and the common ones, in all threads.
Result<void> allow_only(std::span<const Call> calls);

// For a parent that is root: it keeps what its duties need, for ever.
Result<void> reduce_capabilities();

// 0 = this kernel has no landlock.
int landlock_level();
// What this kernel offers for the fences, in one line for the log.
std::string confinement_of_this_host();

} // namespace vmhost::role
