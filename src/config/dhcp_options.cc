#include "config/dhcp_options.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "config/rules.h"

namespace vmhost::config {

namespace {

using enum DhcpType;

constexpr DhcpOptionKind kinds[] = {
    {2, "time-offset", signed32},
    {3, "routers", addresses},
    {4, "time-servers", addresses},
    {5, "ien116-name-servers", addresses},
    {6, "domain-name-servers", addresses},
    {7, "log-servers", addresses},
    {8, "cookie-servers", addresses},
    {9, "lpr-servers", addresses},
    {10, "impress-servers", addresses},
    {11, "resource-location-servers", addresses},
    {12, "host-name", text},
    {13, "boot-size", number16},
    {14, "merit-dump", text},
    {15, "domain-name", text},
    {16, "swap-server", address},
    {17, "root-path", text},
    {18, "extensions-path", text},
    {19, "ip-forwarding", flag},
    {20, "non-local-source-routing", flag},
    {21, "policy-filter", pairs},
    {22, "max-dgram-reassembly", number16},
    {23, "default-ip-ttl", number8},
    {24, "path-mtu-aging-timeout", number32},
    {25, "path-mtu-plateau-table", numbers16},
    {26, "interface-mtu", number16},
    {27, "all-subnets-local", flag},
    {28, "broadcast-address", address},
    {29, "perform-mask-discovery", flag},
    {30, "mask-supplier", flag},
    {31, "router-discovery", flag},
    {32, "router-solicitation-address", address},
    {33, "static-routes", pairs},
    {34, "trailer-encapsulation", flag},
    {35, "arp-cache-timeout", number32},
    {36, "ieee802-3-encapsulation", flag},
    {37, "default-tcp-ttl", number8},
    {38, "tcp-keepalive-interval", number32},
    {39, "tcp-keepalive-garbage", flag},
    {40, "nis-domain", text},
    {41, "nis-servers", addresses},
    {42, "ntp-servers", addresses},
    {43, "vendor-encapsulated-options", raw},
    {44, "netbios-name-servers", addresses},
    {45, "netbios-dd-server", addresses},
    {46, "netbios-node-type", number8},
    {47, "netbios-scope", text},
    {48, "font-servers", addresses},
    {49, "x-display-manager", addresses},
    {60, "dhcp-class-identifier", text},
    {64, "nisplus-domain", text},
    {65, "nisplus-servers", addresses},
    {66, "tftp-server-name", text},
    {67, "bootfile-name", text},
    {68, "mobile-ip-home-agent", addresses},
    {69, "smtp-server", addresses},
    {70, "pop-server", addresses},
    {71, "nntp-server", addresses},
    {72, "www-server", addresses},
    {73, "finger-server", addresses},
    {74, "irc-server", addresses},
    {75, "streettalk-server", addresses},
    {76, "streettalk-directory-assistance-server", addresses},
    {85, "nds-servers", addresses},
    {86, "nds-tree-name", raw},
    {87, "nds-context", raw},
    {108, "ipv6-only-preferred", number32},
    {119, "domain-search", domains},
    {121, "classless-static-routes", routes},
    {138, "capwap-servers", addresses},
    {144, "tftp-config-file", text},
    {150, "voip-configuration-server", addresses},
    {208, "pxelinux-magic", raw},
    {209, "pxelinux-configfile", text},
    {210, "pxelinux-pathprefix", text},
    {211, "pxelinux-reboottime", number32},
    {249, "classless-ms-static-routes", routes},
    {252, "autoproxy-script", text},
};

// Part of the protocol, or of the address that a client gets.
constexpr std::array<std::uint8_t, 15> ours{0,  1,  50, 51, 52, 53, 54, 55,
                                            56, 57, 58, 59, 61, 82, 255};

template <WireInteger T>
void append(std::string& out, T value) {
    for (unsigned i = sizeof(T); i-- > 0;)
        out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
}

Result<std::string> number_data(const Json& value, std::int64_t least, std::int64_t most,
                                unsigned bytes) {
    if (!value.is_number_integer())
        return fail(ErrorKind::invalid, "expected a number from {} to {}", least, most);
    auto number = value.get<std::int64_t>();
    if (number < least || number > most)
        return fail(ErrorKind::limit, "expected a number from {} to {}, got {}", least, most,
                    number);
    std::string out;
    for (unsigned i = bytes; i-- > 0;)
        out.push_back(static_cast<char>(number >> (8 * i) & 0xff));
    return out;
}

Result<std::string> text_of(const Json& value, std::string_view expected) {
    if (!value.is_string())
        return fail(ErrorKind::invalid, "expected {}", expected);
    return value.get<std::string>();
}

Result<std::string> address_data(const Json& value) {
    std::string out;
    auto text = TRY(text_of(value, "an IPv4 address such as \"10.9.8.1\""));
    append(out, TRY(parse_ipv4(text)).value);
    return out;
}

// Two words with a blank between them.
Result<std::pair<std::string, std::string>> words_of(const Json& value, std::string_view expected) {
    auto text = TRY(text_of(value, expected));
    auto blank = text.find(' ');
    auto rest = text.find_first_not_of(' ', blank);
    if (blank == 0 || blank == std::string::npos || rest == std::string::npos ||
        text.find(' ', rest) != std::string::npos)
        return fail(ErrorKind::invalid, "\"{}\": expected {}", printable(text, 70), expected);
    return std::pair(text.substr(0, blank), text.substr(rest));
}

Result<std::string> pair_data(const Json& value) {
    auto [first, second] = TRY(words_of(value, "two addresses such as \"10.0.0.0 10.9.8.1\""));
    std::string out;
    append(out, TRY(parse_ipv4(first)).value);
    append(out, TRY(parse_ipv4(second)).value);
    return out;
}

// RFC 3442: the prefix length, as many octets of the network as it covers, the gateway.
Result<std::string> route_data(const Json& value) {
    auto [network, gateway] = TRY(words_of(value, "a route such as \"10.0.0.0/8 10.1.1.1\""));
    auto prefix = TRY(parse_ipv4_prefix(network));
    if (prefix.address != prefix.network())
        return fail(ErrorKind::invalid, "{} is no network: that would be {}/{}", prefix.text(),
                    prefix.network().text(), prefix.length);
    std::string out;
    append(out, prefix.length);
    std::string octets;
    append(octets, prefix.address.value);
    out += octets.substr(0, (prefix.length + 7U) / 8);
    append(out, TRY(parse_ipv4(gateway)).value);
    return out;
}

// RFC 1035 §3.1, without the compression that RFC 3397 allows.
Result<std::string> domain_data(const Json& value) {
    auto text = TRY(text_of(value, "a domain such as \"example.org\""));
    if (text.empty())
        return fail(ErrorKind::invalid, "expected a domain, got an empty string");
    TRY(domain_rule.check(text));
    std::string out;
    for (std::string_view rest = text; !rest.empty();) {
        auto label = rest.substr(0, rest.find('.'));
        out.push_back(static_cast<char>(label.size()));
        out += label;
        rest.remove_prefix(std::min(rest.size(), label.size() + 1));
    }
    out.push_back('\0');
    return out;
}

Result<std::string> raw_data(const Json& value) {
    auto text = TRY(text_of(value, "bytes such as \"01:02:ff\", or a text"));
    std::string out;
    for (std::size_t at = 0; at < text.size(); at += 3) {
        unsigned byte = 0;
        auto [end, error] = std::from_chars(text.data() + at,
                                            text.data() + std::min(at + 2, text.size()), byte, 16);
        bool last = at + 2 == text.size();
        if (error != std::errc() || end != text.data() + at + 2 || (!last && text[at + 2] != ':'))
            return text;
        out.push_back(static_cast<char>(byte));
    }
    // A colon at the end: it is a text after all.
    return text.ends_with(':') ? text : out;
}

Result<std::string> one_data(DhcpType type, const Json& value) {
    switch (type) {
    case address:
    case addresses:
        return address_data(value);
    case pairs:
        return pair_data(value);
    case number8:
    case numbers8:
        return number_data(value, 0, 0xff, 1);
    case number16:
    case numbers16:
        return number_data(value, 0, 0xffff, 2);
    case number32:
        return number_data(value, 0, 0xffffffff, 4);
    case signed32:
        return number_data(value, INT32_MIN, INT32_MAX, 4);
    case flag:
        if (!value.is_boolean())
            return fail(ErrorKind::invalid, "expected true or false");
        return std::string(1, value.get<bool>() ? '\1' : '\0');
    case text:
        return text_of(value, "a text");
    case routes:
        return route_data(value);
    case domains:
        return domain_data(value);
    case raw:
        return raw_data(value);
    }
    return fail(ErrorKind::internal, "an option of no type");
}

bool may_be_many(DhcpType type) {
    return type == addresses || type == pairs || type == numbers8 || type == numbers16 ||
           type == routes || type == domains;
}

} // namespace

Result<DhcpOptionKind> find_dhcp_option(std::string_view name) {
    DhcpOptionKind found;
    bool known = false;
    for (const auto& kind : kinds)
        if (kind.name == name) {
            found = kind;
            known = true;
        }
    auto digits = name.starts_with("option-") ? name.substr(7) : name;
    unsigned code = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code);
    if (!known && error == std::errc() && end == digits.data() + digits.size() && code <= 255) {
        found.code = static_cast<std::uint8_t>(code);
        for (const auto& kind : kinds)
            if (kind.code == code)
                found = kind;
        known = true;
    }
    if (!known) {
        std::vector<std::string_view> names;
        for (const auto& kind : kinds)
            names.push_back(kind.name);
        return fail(ErrorKind::invalid, "there is no DHCP option \"{}\"{}", printable(name, 70),
                    suggestion(name, names));
    }
    if (std::ranges::find(ours, found.code) != ours.end())
        return fail(ErrorKind::invalid, "DHCP option {} is made by the server itself", found.code);
    return found;
}

Result<std::string> dhcp_option_data(DhcpType type, const Json& value) {
    std::string out;
    if (value.is_array() && may_be_many(type)) {
        for (const auto& one : value)
            out += TRY(one_data(type, one));
    } else {
        out = TRY(one_data(type, value));
    }
    if (out.empty())
        return fail(ErrorKind::invalid, "an option without a value cannot be sent: leave it out");
    if (out.size() > limits::max_dhcp_option_bytes)
        return fail(ErrorKind::limit, "has {} bytes, and {} is the most", out.size(),
                    limits::max_dhcp_option_bytes);
    return out;
}

} // namespace vmhost::config
