// Ethernet, IPv4 and IPv6 addresses as values. Numbers are kept in host byte order.
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

// As two halves: most networks end between them (RFC 4291 §2.5.1).
struct Ipv6 {
    std::uint64_t high = 0, low = 0;
    auto operator<=>(const Ipv6&) const = default;
    bool is_zero() const { return high == 0 && low == 0; }
    bool is_multicast() const { return high >> 56 == 0xff; }
    bool is_link_local() const { return high >> 54 == 0xfe80 >> 6; }
    std::array<std::uint8_t, 16> octets() const; // as on the wire
    std::string text() const;                    // as RFC 5952 wants it: "2001:db8::1"
    static Ipv6 from(Bytes sixteen_bytes);       // zero when fewer than sixteen are given
    static Ipv6 link_local(const Mac& mac);      // fe80:: and the modified EUI-64 of RFC 4291
};
// RFC 4291 §2.2 in all its forms, without a zone.
Result<Ipv6> parse_ipv6(std::string_view text);

// An address on a network: "2001:db8::1/64".
struct Ipv6Prefix {
    Ipv6 address;
    std::uint8_t length = 128;
    auto operator<=>(const Ipv6Prefix&) const = default;
    Ipv6 mask() const;
    Ipv6 network() const { return {address.high & mask().high, address.low & mask().low}; }
    bool contains(const Ipv6& other) const {
        return Ipv6{other.high & mask().high, other.low & mask().low} == network();
    }
    std::string text() const;
};
Result<Ipv6Prefix> parse_ipv6_prefix(std::string_view text);

// Of either family. IPv4 is kept in its mapped form (RFC 4291 §2.5.5.2), so that the two are never
// equal, but for an IPv6 address that is one of those.
class IpAddress {
public:
    IpAddress() : IpAddress(Ipv4{}) {}
    IpAddress(Ipv4 address) : value_{0, mapped_low | address.value} {} // NOLINT: a wider kind
    IpAddress(Ipv6 address) : value_(address) {}                       // NOLINT
    auto operator<=>(const IpAddress&) const = default;
    bool is_ipv4() const { return value_.high == 0 && value_.low >> 32 == mapped_low >> 32; }
    Ipv4 ipv4() const { // zero when it is none
        return {is_ipv4() ? static_cast<std::uint32_t>(value_.low) : 0};
    }
    const Ipv6& ipv6() const { return value_; } // of IPv4 the mapped form
    bool is_unspecified() const { return value_.is_zero() || value_ == IpAddress().value_; }
    bool is_loopback() const {
        return is_ipv4() ? ipv4().value >> 24 == 127 : value_ == Ipv6{0, 1};
    }
    std::string text() const;      // "192.0.2.1", "2001:db8::1"
    std::string host_text() const; // as in a URL: "192.0.2.1", "[2001:db8::1]"

private:
    static constexpr std::uint64_t mapped_low = 0xffff'0000'0000;
    Ipv6 value_;
};

} // namespace vmhost
