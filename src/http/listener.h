// Listening sockets: made by the privileged parent, handed to the server's process.
#pragma once

#include "base/base.h"

namespace vmhost::http {

// Bound and listening, non-blocking, close-on-exec; 0.0.0.0 = every address of the host.
Result<Fd> open_listener(Ipv4 address, std::uint16_t port);

} // namespace vmhost::http
