// The fences around a role, each by itself in a process of its own: what is forbidden ends the
// process, and what a role does every day does not.
#include <arpa/inet.h>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "role/confine.h"

using namespace vmhost;
using namespace vmhost::role;

namespace {

// How a process ended that ran body: its exit status, or 1000 + the signal.
int outcome(const std::function<int()>& body) {
    auto pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0)
        ::syscall(SYS_exit_group, body()); // _exit() of a sanitizer's build does more
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

constexpr int killed = 1000 + SIGSYS;

int under(std::span<const Call> calls, const std::function<int()>& body) {
    return outcome([&] { return allow_only(calls) ? body() : 99; });
}

struct Role {
    const char* name;
    std::span<const Call> calls;
};
const Role roles[] = {{"control", control_calls}, {"dhcp", dhcp_calls}, {"http", http_calls},
                      {"ipv6", ipv6_calls},       {"tftp", tftp_calls}, {"vm", vm_calls}};

// Sanitizers of this test build wrap the C library's functions, so calls are made bare.
template <class... Arguments>
long call(long number, Arguments... arguments) {
    return ::syscall(number, arguments...);
}

} // namespace

TEST_CASE("a forbidden system call ends each role") {
    struct Forbidden {
        const char* what;
        std::function<void()> act;
    };
    const Forbidden forbidden[] = {
        {"execve", [] { call(SYS_execve, "/bin/true", nullptr, nullptr); }},
        {"fork", [] { call(SYS_fork); }},
        {"clone of a process", [] { call(SYS_clone, SIGCHLD, 0, 0, 0, 0); }},
        {"socket", [] { call(SYS_socket, AF_INET, SOCK_STREAM, 0); }},
        {"connect", [] { call(SYS_connect, 0, nullptr, 0); }},
        {"bind", [] { call(SYS_bind, 0, nullptr, 0); }},
        {"ptrace", [] { call(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0); }},
        {"process_vm_readv", [] { call(SYS_process_vm_readv, 1, nullptr, 0, nullptr, 0, 0); }},
        {"kill", [] { call(SYS_kill, 1, 0); }},
        {"open", [] { call(SYS_open, "/", O_RDONLY); }},
        {"mount", [] { call(SYS_mount, nullptr, "/", nullptr, 0, nullptr); }},
        {"unshare", [] { call(SYS_unshare, CLONE_NEWUSER); }},
        {"setns", [] { call(SYS_setns, -1, 0); }},
        {"setresuid", [] { call(SYS_setresuid, 0, 0, 0); }},
        {"bpf", [] { call(SYS_bpf, 0, nullptr, 0); }},
        {"keyctl", [] { call(SYS_keyctl, 0, 0, 0, 0, 0); }},
        {"userfaultfd", [] { call(SYS_userfaultfd, 0); }},
        {"executable memory",
         [] {
             call(SYS_mmap, nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                  0);
         }},
        {"memory made executable",
         [] { call(SYS_mprotect, &outcome, 4096, PROT_READ | PROT_EXEC); }},
        {"typing on a terminal", [] { call(SYS_ioctl, 0, TIOCSTI, nullptr); }},
        {"a new network interface", [] { call(SYS_ioctl, 0, TUNSETIFF, nullptr); }},
        {"fcntl of another kind", [] { call(SYS_fcntl, 0, F_SETOWN, 1); }},
    };
    for (const auto& role : roles)
        for (const auto& one : forbidden) {
            INFO(role.name << ": " << one.what);
            CHECK(under(role.calls, [&] {
                      one.act();
                      return 0;
                  }) == killed);
        }
}

TEST_CASE("what only one role needs ends the others") {
    for (const auto& role : roles) {
        INFO(role.name);
        bool is_vm = std::strcmp(role.name, "vm") == 0;
        bool is_tftp = std::strcmp(role.name, "tftp") == 0;
        bool is_dhcp = std::strcmp(role.name, "dhcp") == 0;
        bool listens = !is_dhcp && std::strcmp(role.name, "ipv6") != 0 &&
                       !is_tftp; // a VM: for the next parent
        auto ends = [&](auto act) {
            return under(role.calls, [&] {
                       act();
                       return 0;
                   }) == killed;
        };
        CHECK(ends([] { call(SYS_ioctl, -1, KVM_RUN, 0); }) == !is_vm);
        CHECK(ends([] { call(SYS_io_uring_setup, 0, nullptr); }) == !is_vm);
        CHECK(ends([] { call(SYS_ftruncate, -1, 0); }) == !(is_vm || is_dhcp)); // disks, leases
        bool reads_files = is_tftp || std::strcmp(role.name, "http") == 0;
        CHECK(ends([] { call(SYS_openat2, -1, "/", nullptr, 0); }) == !reads_files);
        CHECK(ends([] { call(SYS_landlock_create_ruleset, nullptr, 0, 0); }) == !reads_files);
        CHECK(ends([] { call(SYS_accept4, -1, nullptr, nullptr, 0); }) == !listens);
    }
}

TEST_CASE("files cannot be opened, and libraries that try go on") {
    for (const auto& role : roles)
        CHECK(under(role.calls, [] {
                  return call(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY) == -1 &&
                                 errno == EACCES
                             ? 0
                             : 1;
              }) == 0);
}

TEST_CASE("threads, doorbells and files of a VM work under its list") {
    CHECK(under(vm_calls, [] {
              int bell = ::eventfd(0, EFD_CLOEXEC);
              std::uint64_t sum = 0;
              std::thread ringer([&] {
                  std::uint64_t one = 1;
                  (void)!::write(bell, &one, sizeof(one));
              });
              ringer.join();
              struct stat status {};
              return ::read(bell, &sum, sizeof(sum)) == sizeof(sum) && sum == 1 &&
                             ::fstat(bell, &status) == 0
                         ? 0
                         : 1;
          }) == 0);
}

TEST_CASE("landlock closes the file system by itself") {
    if (landlock_level() == 0) {
        WARN("this kernel has no landlock");
        return;
    }
    CHECK(outcome([] {
              if (!open_nothing())
                  return 2;
              bool refused = ::open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES;
              return refused ? 0 : 1;
          }) == 0);
}

TEST_CASE("a role that serves files reads those of its directory, and no other") {
    if (landlock_level() == 0) {
        WARN("this kernel has no landlock");
        return;
    }
    char folder[] = "/tmp/vmhost-role-XXXXXX";
    REQUIRE(::mkdtemp(folder) != nullptr);
    std::string inside = std::string(folder) + "/f";
    Fd file(::open(inside.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    REQUIRE(::chmod(folder, 0755) == 0);
    Fd directory(::open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC));
    Fd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    CHECK(outcome([&] {
              (void)log::set_levels("error"); // no complaint of a container without mounts
              const bool is_root = ::geteuid() == 0;
              const char* id = is_root ? "2113929999" : "-";
              const Fd* only[] = {&directory};
              if (!confine({id, id, false, true}, tftp_calls) || !open_beneath(only))
                  return 1;
              auto open_at = [](int at, const char* name, std::uint64_t flags) {
                  open_how how{};
                  how.flags = flags;
                  return ::syscall(SYS_openat2, at, name, &how, sizeof(how));
              };
              if (open_at(directory.get(), "f", O_RDONLY) < 0)
                  return 2;
              if (open_at(directory.get(), "f", O_WRONLY) >= 0 || errno != EACCES)
                  return 3;
              if (open_at(root.get(), "etc/passwd", O_RDONLY) >= 0 || errno != EACCES)
                  return 4;
              return 0;
          }) == 0);
    ::unlink(inside.c_str());
    ::rmdir(folder);
}

TEST_CASE("a role that serves files does not without landlock") {
    std::vector<Call> calls(tftp_calls.begin(), tftp_calls.end());
    std::erase_if(calls, [](const Call& one) {
        return std::string_view(one.name) == "landlock_create_ruleset";
    });
    calls.push_back({.name = "landlock_create_ruleset", .refused_with = ENOSYS});
    Fd directory(::open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC));
    CHECK(under(calls, [&] {
              if (!open_nothing())
                  return 1; // the other fences hold for roles that open none
              const Fd* only[] = {&directory};
              auto opened = open_beneath(only);
              return !opened && opened.error().kind() == ErrorKind::unsupported ? 0 : 2;
          }) == 0);
}

TEST_CASE("the empty root holds nothing, and nothing can be put there") {
    if (::geteuid() != 0) {
        WARN("needs root");
        return;
    }
    auto status = outcome([] {
        if (!enter_empty_root())
            return 77; // a container may forbid it
        if (::access("/etc", F_OK) == 0 || ::access("/proc", F_OK) == 0 ||
            ::access("..", F_OK) != 0)
            return 1;
        if (::mkdir("/x", 0700) == 0 || errno != EROFS)
            return 2;
        return 0;
    });
    if (status == 77) {
        WARN("this machine does not let root mount");
        return;
    }
    CHECK(status == 0);
    CHECK(::access("/proc/self/exe", F_OK) == 0); // the others see what they saw
}

TEST_CASE("the empty network reaches nobody, and what was open stays open") {
    if (::geteuid() != 0) {
        WARN("needs root");
        return;
    }
    int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    auto* plain = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener, plain, size) != 0 || ::listen(listener, 1) != 0 ||
        ::getsockname(listener, plain, &size) != 0) {
        WARN("this machine has no loopback interface");
        return;
    }
    int before = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(outcome([&] {
              if (!enter_empty_network())
                  return 77;
              int after = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
              if (::connect(after, plain, size) == 0 || errno != ENETUNREACH)
                  return 1;
              return ::connect(before, plain, size) == 0 ? 0 : 2;
          }) == 0);
}

TEST_CASE("all fences together: a role becomes its user for good") {
    if (::geteuid() != 0) {
        WARN("needs root");
        return;
    }
    CHECK(outcome([] {
              (void)log::set_levels("error"); // no complaint of a container without mounts
              if (!confine({"2113929999", "2113929999", true}, vm_calls))
                  return 1;
              rlimit limit{};
              if (::syscall(SYS_prlimit64, 0, RLIMIT_NPROC, nullptr, &limit) != 0 ||
                  limit.rlim_max != 256)
                  return 2;
              return ::syscall(SYS_getpid) > 0 ? 0 : 3;
          }) == 0);
    CHECK(outcome([] {
              (void)confine({"2113929999", "2113929999", true}, vm_calls);
              ::syscall(SYS_setresuid, 0, 0, 0);
              return 0;
          }) == killed);
    CHECK(outcome([] { return confine({"root", "0", false}, {}) ? 1 : 0; }) == 0);
}
