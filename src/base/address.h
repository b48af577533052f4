// Ethernet and IPv4 addresses as values. Numbers are kept in host byte order.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"

namespace vmhost {

struct Mac {
    std::array<std::uint8_t, 6> octets{};
    auto operator<=>(const Mac&) const = default;
    bool is_multicast() const { return octets[0] & 1; }
    bool is_zero() const { return *this == Mac{}; }
    std::string text() const;         // "fe:e1:bb:d1:00:01"
    static Mac from(Bytes six_bytes); // zero when fewer than six are given
};
// Six hex pairs separated by ':' (or '-'), any case.
Result<Mac> parse_mac(std::string_view text);

struct Ipv4 {
    std::uint32_t value = 0;
    auto operator<=>(const Ipv4&) const = default;
    bool is_zero() const { return value == 0; }
    std::string text() const; // "192.0.2.1"
};
Result<Ipv4> parse_ipv4(std::string_view text);

// An address on a network: "192.0.2.1/24".
struct Ipv4Prefix {
    Ipv4 address;
    std::uint8_t length = 32;
    auto operator<=>(const Ipv4Prefix&) const = default;
    std::uint32_t mask() const { return length == 0 ? 0 : ~std::uint32_t{0} << (32 - length); }
    Ipv4 network() const { return {address.value & mask()}; }
    Ipv4 broadcast() const { return {address.value | ~mask()}; }
    bool contains(Ipv4 other) const { return (other.value & mask()) == network().value; }
    std::string text() const;
};
Result<Ipv4Prefix> parse_ipv4_prefix(std::string_view text);

} // namespace vmhost
