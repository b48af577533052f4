// DHCP options by name and number: RFC 2132 and later, named as dhcp-options(5) does, with their
// values as a configuration writes them and as the wire has them.
//
// Values only; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "config/schema.h"

namespace vmhost::config {

enum class DhcpType : std::uint8_t {
    address,   // "192.0.2.1"
    addresses, // one or an array
    pairs,     // array of "ADDRESS ADDRESS"
    number8,
    number16,
    number32,
    signed32,
    numbers8, // one or an array
    numbers16,
    flag,    // true, false
    text,    // without a NUL at its end
    routes,  // array of "10.0.0.0/8 10.1.1.1"
    domains, // one or an array
    raw,     // "01:02:ff", else the text itself
};

struct DhcpOptionKind {
    std::uint8_t code = 0;
    std::string_view name; // empty: it has none
    DhcpType type = DhcpType::raw;
};

// "ntp-servers", "42" or "option-42". Options that the server makes itself are refused.
Result<DhcpOptionKind> find_dhcp_option(std::string_view name);
// The bytes that go over the wire, never empty.
Result<std::string> dhcp_option_data(DhcpType type, const Json& value);

// Of a switch, its classes and its VMs together: they go to the service in one frame.
inline constexpr std::size_t max_dhcp_options_bytes = limits::max_frame_bytes / 2;

} // namespace vmhost::config
