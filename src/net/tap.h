// Tap devices by /dev/net/tun (Documentation/networking/tuntap.rst of Linux).
#pragma once

#include <string>
#include <sys/types.h>

#include "base/base.h"

namespace vmhost::net {

Result<Fd> open_tap_device(const std::string& name, uid_t owner, bool several_queues);
Result<Fd> open_tap_device_queue(const std::string& name);
Result<bool> reap_tap_device(const std::string& name);
Result<void> disable_ipv6_on(const std::string& name);
Result<void> enable_ipv6_on(const std::string& name);

// What an operator has to do about EPERM and EACCES, to be appended.
inline constexpr std::string_view needs_rights = "; vmhost run needs root or CAP_NET_ADMIN";

} // namespace vmhost::net
