// The system calls of each role, as data. A call that is missing here ends the process with
// SIGSYS (the kernel's log names its number: "audit: type=1326 … syscall=").
//
// The lists were taken from traces of the end-to-end tests; what a rare way needs beyond that
// (a slow kernel without io_uring, abort(), a grown heap) is added with its reason.
#include <asm/ioctls.h>
#include <cerrno>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define VIRTIO_RING_NO_LEGACY // otherwise inline functions that are no C++ come along
#include <linux/vhost.h>

#include "role/confine.h"

namespace vmhost::role {

namespace {

#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif

constexpr std::uint64_t all_32 = 0xffff'ffff; // the kernel looks at these bits of an int argument

constexpr Call common[] = {
    // the event loop
    {"epoll_wait"},
    {"epoll_pwait"},
    {"epoll_ctl"},
    {"read"},
    {"write"},
    {"writev"},
    {"close"},
    {"ioctl", "libuv makes its descriptors non-blocking", 1, all_32, FIONBIO},
    {"fcntl", "", 1, all_32, F_GETFL},
    {"fcntl", "", 1, all_32, F_SETFL},
    {"fcntl", "", 1, all_32, F_GETFD},
    {"fcntl", "", 1, all_32, F_SETFD},
    {"fcntl", "a second descriptor of a file that we have", 1, all_32, F_DUPFD_CLOEXEC},
    // channels to the parent and to clients
    {"recvmsg"},
    {"sendmsg"},
    {"recvfrom"},
    {"sendto"},
    {"shutdown"},
    {"getsockopt"},
    // memory, but never code
    {"brk"},
    {"mmap", "never executable", 2, PROT_EXEC, 0},
    {"mprotect", "never executable", 2, PROT_EXEC, 0},
    {"munmap"},
    {"mremap"},
    {"madvise"},
    // time: the vDSO falls back to these where the clock source has none
    {"clock_gettime"},
    {"gettimeofday"},
    {"time"},
    {"nanosleep"},
    {"clock_nanosleep"},
    // signals and ends
    {"rt_sigaction"},
    {"rt_sigprocmask"},
    {"rt_sigreturn"},
    {"getpid"},
    {"gettid"},
    {"tgkill", "abort() of a failed assertion"},
    {"exit"},
    {"exit_group"},
    {"restart_syscall", "the kernel resumes an interrupted wait with it"},
    // what libraries do behind our back
    {"futex"},
    {"sched_yield"},
    {"getrandom"},
    {"lseek"},
    {"newfstatat", "fstat(); the root is empty for any other use", 3, all_32, AT_EMPTY_PATH},
    {"openat", "glibc looks for files of /proc, /sys and /etc: there are none", 0, 0, 0, EACCES},
    {"readlink", "", 0, 0, 0, EACCES},
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer) // g++'s word, clang's
    {"sigaltstack", "the address sanitizer, in each thread"},
    {"pipe2", "the undefined-behaviour sanitizer, to try whether memory is there"},
    {"sched_getaffinity", "the leak sanitizer"},
#endif
};

constexpr Call control[] = {
    {"accept4"},
};

constexpr Call dhcp[] = {
    // many messages with one call
    {"recvmmsg"},
    {"sendmmsg"},
    // leases.db, on descriptors that the parent has opened
    {"pread64"},
    {"pwrite64"},
    {"fdatasync"},
    {"ftruncate", "a WAL or journal that is not needed any more"},
    // the threads that wait for the disk
    {"clone3", "its flags are out of a filter's reach; glibc takes clone then", 0, 0, 0, ENOSYS},
    {"clone", "threads, never processes", 0, CLONE_THREAD, CLONE_THREAD},
    {"set_robust_list"},
    {"rseq"},
    {"sched_getaffinity", "how many workers"},
    {"prctl", "names of threads", 0, all_32, PR_SET_NAME},
    {"prlimit64", "how large a thread's stack is"},
    {"geteuid", "SQLite, when it makes a file"},
};

constexpr Call http[] = {
    {"accept4"},
    {"getsockname"},
    {"setsockopt"},
    // files of the locations
    {"openat2", "beneath the directories that landlock leaves"},
    {"pread64"},
    {"sendfile"},
    {"getdents64", "a directory that is listed"},
    {"landlock_create_ruleset", "once, when the directories are known: it can only lose by it"},
    {"landlock_add_rule"},
    {"landlock_restrict_self"},
};

constexpr Call tftp[] = {
    {"openat2", "files beneath the one directory that landlock leaves"},
    {"pread64"},
    {"landlock_create_ruleset", "once, when the directory is known: it can only lose by it"},
    {"landlock_add_rule"},
    {"landlock_restrict_self"},
};

constexpr Call vm[] = {
    {"accept4", "the next parent"},
    // the processor
    {"ioctl", "KVM's own", 1, 0xff00, KVMIO << 8},
    // threads: processors, workers for disks and compression
    {"clone3", "its flags are out of a filter's reach; glibc takes clone then", 0, 0, 0, ENOSYS},
    {"clone", "threads, never processes", 0, CLONE_THREAD, CLONE_THREAD},
    {"set_robust_list"},
    {"rseq"},
    {"set_tid_address"},
    {"sched_getaffinity", "how many workers"},
    {"prctl", "names of threads", 0, all_32, PR_SET_NAME},
    {"prlimit64", "how large a thread's stack is"},
    // the loop of the disks; its signals, which it never has, need a pipe
    {"epoll_create1"},
    {"pipe2"},
    {"eventfd2", "doorbells and interrupts"},
    {"timerfd_create"},
    {"timerfd_settime"},
    {"poll"},
    {"ppoll"},
    {"setsockopt", "how much a console's reader may lag", 1, all_32, SOL_SOCKET},
    // disks
    {"io_uring_setup"},
    {"io_uring_enter"},
    {"io_uring_register"},
    {"pread64"},
    {"preadv"},
    {"preadv2"},
    {"readv"},
    {"pwrite64"},
    {"pwritev"},
    {"pwritev2"},
    {"fsync"},
    {"fdatasync"},
    {"fallocate", "discarded and zeroed blocks"},
    {"ftruncate", "a qcow2 image grows"},
    {"fcntl", "a disk that a snapshot has frozen is locked for reading", 1, all_32, F_OFD_SETLK},
    // network interfaces: what a guest negotiates; never a new interface
    {"ioctl", "", 1, all_32, TUNSETOFFLOAD},
    {"ioctl", "", 1, all_32, TUNSETVNETHDRSZ},
    {"ioctl", "", 1, all_32, TUNSETQUEUE},
    // vhost-net: no more of it than our two rings need; never its log of what was written, which
    // would be a pointer, nor the features of a backend
    {"ioctl", "its memory is this process's", 1, all_32, VHOST_SET_OWNER},
    {"ioctl", "", 1, all_32, VHOST_GET_FEATURES},
    {"ioctl", "what the driver negotiated", 1, all_32, VHOST_SET_FEATURES},
    {"ioctl", "where the guest's memory is", 1, all_32, VHOST_SET_MEM_TABLE},
    {"ioctl", "a ring's size", 1, all_32, VHOST_SET_VRING_NUM},
    {"ioctl", "place", 1, all_32, VHOST_SET_VRING_ADDR},
    {"ioctl", "and position", 1, all_32, VHOST_SET_VRING_BASE},
    {"ioctl", "its doorbell", 1, all_32, VHOST_SET_VRING_KICK},
    {"ioctl", "interrupt", 1, all_32, VHOST_SET_VRING_CALL},
    {"ioctl", "and errors", 1, all_32, VHOST_SET_VRING_ERR},
    {"ioctl", "the tap: begin and stop", 1, all_32, VHOST_NET_SET_BACKEND},
};

} // namespace

const std::span<const Call> common_calls = common, control_calls = control, dhcp_calls = dhcp,
                            ipv6_calls = {}, http_calls = http, vm_calls = vm, tftp_calls = tftp;

} // namespace vmhost::role
