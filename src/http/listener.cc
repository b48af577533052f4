// TCP_NODELAY is set here once, accepted connections inherit it: answers go out
// in whole buffers, holding the last piece back would only add delay.

#include "http/listener.h"

#include <algorithm>
#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace vmhost::http {

Result<Fd> open_listener(const IpAddress& address, std::uint16_t port, const std::string& device) {
    const int family = address.is_ipv4() ? AF_INET : AF_INET6;
    Fd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket)
        return fail_errno(errno, "http: make a socket for {} port {}", address.text(), port);
    int on = 1;
    for (auto [level, option] : {std::pair{SOL_SOCKET, SO_REUSEADDR}, {IPPROTO_TCP, TCP_NODELAY}})
        if (::setsockopt(socket.get(), level, option, &on, sizeof(on)) < 0)
            return fail_errno(errno, "http: set up the socket for {} port {}", address.text(),
                              port);
    // Else :: would take the port of IPv4 too, or not, as a setting of the host has it.
    if (family == AF_INET6 &&
        ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
        return fail_errno(errno, "http: set up the socket for {} port {}", address.text(), port);
    if (!device.empty() && ::setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, device.c_str(),
                                        static_cast<socklen_t>(device.size())) < 0)
        return fail_errno(errno, "http: listen in {}", device);
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = htons(port);
    four.sin_addr.s_addr = htonl(address.ipv4().value);
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(port);
    const auto octets = address.ipv6().octets();
    std::ranges::copy(octets, six.sin6_addr.s6_addr);
    const auto* name = family == AF_INET ? reinterpret_cast<const sockaddr*>(&four)
                                         : reinterpret_cast<const sockaddr*>(&six);
    const auto name_bytes = static_cast<socklen_t>(family == AF_INET ? sizeof(four) : sizeof(six));
    if (::bind(socket.get(), name, name_bytes) < 0 || ::listen(socket.get(), 128) < 0) {
        if (errno == EADDRINUSE)
            return fail(ErrorKind::busy, "http: port {} of {} is in use by another program", port,
                        address.text());
        if (errno == EADDRNOTAVAIL)
            return fail(ErrorKind::not_found, "http: {} is not an address of this host",
                        address.text());
        return fail_errno(errno, "http: listen on port {} of {}", port, address.text());
    }
    return socket;
}

Result<Fd> open_connection(Ipv4 address, std::uint16_t port, const std::string& device) {
    Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket)
        return fail_errno(errno, "make a socket to {} port {}", address.text(), port);
    if (!device.empty() && ::setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, device.c_str(),
                                        static_cast<socklen_t>(device.size())) < 0)
        return fail_errno(errno, "reach {} in {}", address.text(), device);
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    name.sin_addr.s_addr = htonl(address.value);
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) < 0 &&
        errno != EINPROGRESS)
        return fail_errno(errno, "connect to {} port {}", address.text(), port);
    return socket;
}

} // namespace vmhost::http
