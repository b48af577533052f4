#include "base/fd.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>

namespace vmhost {

Result<Fd> Fd::duplicate() const {
    int copy = ::fcntl(number_, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
        return fail_errno(errno, "duplicate descriptor {}", number_);
    return Fd(copy);
}

Result<std::pair<Fd, Fd>> socket_pair(int type) {
    int ends[2];
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) < 0)
        return fail_errno(errno, "socketpair");
    return std::pair{Fd(ends[0]), Fd(ends[1])};
}

Result<void> set_nonblocking(const Fd& fd) {
    int flags = ::fcntl(fd.get(), F_GETFL);
    if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) < 0)
        return fail_errno(errno, "set descriptor {} non-blocking", fd.get());
    return {};
}

} // namespace vmhost
