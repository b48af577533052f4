// Listening sockets: made by the privileged parent, handed to the server's process.
#pragma once

#include "base/base.h"

namespace vmhost::http {

// Bound and listening, non-blocking, close-on-exec; 0.0.0.0 = every IPv4 address of the host, :: =
// every IPv6 address, and those alone.
// device: only what comes by it, or by what is in it when it is a routing domain; empty = any.
Result<Fd> open_listener(const IpAddress& address, std::uint16_t port,
                         const std::string& device = {});

// A connection that is being made: it can be written to, or not, when that is decided. device as
// above.
Result<Fd> open_connection(Ipv4 address, std::uint16_t port, const std::string& device);

} // namespace vmhost::http
