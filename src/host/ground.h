// What the parent stands on: everything through which host/ acts on the machine, or asks it, beside
// its own memory and the files of guests. The real one does it; a simulation puts a world of its
// own here, and can end the parent at any of these calls, as kill -9 would.
//
// Files are real in both: they are opened under a directory that the model names. So that a
// simulation can end the parent between two changes of them, changing() is called before each.
//
// Loop thread of the parent.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/base.h"
#include "dhcp/dhcp.h"
#include "host/cgroup.h"
#include "host/child.h"
#include "host/users.h"
#include "ipv6/ipv6.h"
#include "net/net.h"
#include "tftp/tftp.h"

namespace vmhost::host {

class Ground {
public:
    virtual ~Ground() = default;

    virtual Result<std::unique_ptr<RoleChild>> start_role(Loop& loop, const Launch& launch,
                                                          RoleChild::Events events) = 0;
    // When a process was started, in ticks since boot; 0 when there is none of that number.
    virtual std::uint64_t start_ticks(pid_t pid) = 0;
    // The process of that number and start, to be adopted.
    virtual Result<Fd> open_process(pid_t pid, std::uint64_t start_ticks) = 0;
    virtual std::unique_ptr<RoleChild> adopt_role(Loop& loop, pid_t pid, Fd process, Fd connection,
                                                  RoleChild::Events events) = 0;
    virtual Result<std::unique_ptr<net::Links>> open_links() = 0;
    // Only one daemon of a name may be at work on the links of a network namespace: busy when there
    // is one. It goes with the descriptor.
    virtual Result<Fd> lock_links(const std::string& host_name) = 0;
    virtual Result<Fd> open_kvm() = 0;
    // /dev/vhost-net, for one queue of a tap. unsupported when this host has none.
    virtual Result<Fd> open_vhost() = 0;
    virtual Result<dhcp::Sockets> open_dhcp(const std::string& bridge, unsigned index,
                                            Ipv4 address) = 0;
    virtual Result<ipv6::Sockets> open_ipv6(const std::string& bridge, unsigned index) = 0;
    // device: a bridge or a routing domain, whose packets alone are heard; empty = all.
    virtual Result<Fd> open_tftp(Ipv4 address, const std::string& device) = 0;
    // device: of a routing domain; empty = of none.
    virtual Result<Fd> open_http(const IpAddress& address, std::uint16_t port,
                                 const std::string& device) = 0;
    // A connection that is being made. device as of open_http().
    virtual Result<Fd> open_connection(Ipv4 address, std::uint16_t port,
                                       const std::string& device) = 0;
    // A file is about to be made, written, renamed or removed.
    virtual void changing(std::string_view what) = 0;

    virtual Users users() = 0;
    virtual CgroupMounts cgroups() = 0;
    virtual bool is_root() = 0;
    virtual unsigned processors() = 0;
    virtual std::int64_t time_s() = 0; // since 1970
};

// This machine.
std::unique_ptr<Ground> open_ground();

// What an earlier daemon holds, which may have been killed this very moment: its last processes
// take a moment to end, and their sockets and locks go with them. So in this program's first second
// that which is busy is tried again. Blocks.
bool wait_for_the_last_daemon(); // false: there was time enough
template <class Take>
auto once_free(Take take) -> decltype(take()) {
    auto taken = take();
    while (!taken && taken.error().kind() == ErrorKind::busy && wait_for_the_last_daemon())
        taken = take();
    return taken;
}

} // namespace vmhost::host
