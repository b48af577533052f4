#include "host/ground.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

#include "http/http.h"

namespace vmhost::host {

namespace {

// Links are told apart by the host's name. An abstract socket is the lock: it goes with the
// process.
Result<Fd> take_lock(const std::string& host_name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    auto name = "vmhost:" + host_name;
    name.copy(address.sun_path + 1, sizeof(address.sun_path) - 1);
    Fd lock(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 +
                                       std::min(name.size(), sizeof(address.sun_path) - 1));
    if (!lock || ::bind(lock.get(), reinterpret_cast<sockaddr*>(&address), size) < 0) {
        if (errno == EADDRINUSE)
            return fail(ErrorKind::busy,
                        "another vmhost with the name \"{}\" is at work on this machine: give one "
                        "of them another name in [host]",
                        printable(host_name));
        return fail_errno(errno, "lock the links of \"{}\"", printable(host_name));
    }
    return lock;
}

class Machine final : public Ground {
public:
    Result<std::unique_ptr<RoleChild>> start_role(Loop& loop, const Launch& launch,
                                                  RoleChild::Events events) override {
        return start_role_process(loop, launch, std::move(events));
    }
    std::uint64_t start_ticks(pid_t pid) override;
    Result<Fd> open_process(pid_t pid, std::uint64_t start) override {
        Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
        if (!process)
            return fail_errno(errno, "process {}", pid);
        if (start_ticks(pid) != start)
            return fail(ErrorKind::not_found, "process {} is another by now", pid);
        return process;
    }
    std::unique_ptr<RoleChild> adopt_role(Loop& loop, pid_t pid, Fd process, Fd connection,
                                          RoleChild::Events events) override {
        return adopt_role_process(loop, pid, std::move(process), std::move(connection),
                                  std::move(events));
    }
    Result<std::unique_ptr<net::Links>> open_links() override { return net::open_kernel_links(); }
    Result<Fd> lock_links(const std::string& host_name) override {
        return once_free([&] { return take_lock(host_name); });
    }
    Result<Fd> open_kvm() override;
    Result<Fd> open_vhost() override;
    Result<dhcp::Sockets> open_dhcp(const std::string& bridge, unsigned index,
                                    Ipv4 address) override {
        return once_free([&] { return dhcp::open_sockets(bridge, index, address); });
    }
    Result<ipv6::Sockets> open_ipv6(const std::string& bridge, unsigned index) override {
        return once_free([&] { return ipv6::open_sockets(bridge, index); });
    }
    Result<Fd> open_tftp(Ipv4 address, const std::string& device) override {
        return once_free([&] { return tftp::open_socket(address, device); });
    }
    Result<Fd> open_http(const IpAddress& address, std::uint16_t port,
                         const std::string& device) override {
        return once_free([&] { return http::open_listener(address, port, device); });
    }
    Result<Fd> open_connection(Ipv4 address, std::uint16_t port,
                               const std::string& device) override {
        return http::open_connection(address, port, device);
    }
    void changing(std::string_view) override {}
    Users users() override { return Users::of_this_host(); }
    CgroupMounts cgroups() override { return CgroupMounts::of_this_host(); }
    bool is_root() override { return ::geteuid() == 0; }
    unsigned processors() override {
        return static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
    }
    std::int64_t time_s() override { return std::time(nullptr); }
};

// proc(5), stat. Its second field, the program's name in parentheses, may hold anything.
std::uint64_t Machine::start_ticks(pid_t pid) {
    std::ifstream file(fmt::format("/proc/{}/stat", pid));
    std::string text;
    std::getline(file, text);
    auto end = text.rfind(')');
    if (end == std::string::npos)
        return 0;
    std::istringstream rest(text.substr(end + 1));
    constexpr int start_field = 22, first_field = 3;
    std::string word;
    for (int field = first_field; field < start_field; ++field)
        rest >> word;
    std::uint64_t ticks = 0;
    rest >> ticks;
    return ticks;
}

Result<Fd> Machine::open_kvm() {
    Fd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (kvm)
        return kvm;
    switch (errno) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return fail(ErrorKind::unsupported, "/dev/kvm is missing: this host has no hardware "
                                            "virtualization, or its kvm module is not loaded");
    default:
        return fail_errno(errno, "open /dev/kvm");
    }
}

Result<Fd> Machine::open_vhost() {
    Fd vhost(::open("/dev/vhost-net", O_RDWR | O_CLOEXEC));
    if (vhost)
        return vhost;
    if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
        return fail(ErrorKind::unsupported, "/dev/vhost-net is missing: this kernel has no "
                                            "vhost_net, or its module is not loaded");
    return fail_errno(errno, "open /dev/vhost-net");
}

} // namespace

std::unique_ptr<Ground> open_ground() {
    return std::make_unique<Machine>();
}

bool wait_for_the_last_daemon() {
    using namespace std::chrono_literals;
    static const auto enough = std::chrono::steady_clock::now() + 1s;
    if (std::chrono::steady_clock::now() >= enough)
        return false;
    std::this_thread::sleep_for(20ms);
    return true;
}

} // namespace vmhost::host
