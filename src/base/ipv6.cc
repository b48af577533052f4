// IPv6 addresses as text: RFC 4291 §2.2 for what is read, RFC 5952 for what is written, so that
// one address has one text and can be searched for.
#include <algorithm>

#include <fmt/format.h>

#include "base/address.h"

namespace vmhost {

namespace {

constexpr std::size_t group_count = 8;
using Groups = std::array<std::uint16_t, group_count>;

Groups groups_of(const Ipv6& address) {
    Groups groups{};
    for (std::size_t i = 0; i < group_count; ++i)
        groups[i] =
            static_cast<std::uint16_t>((i < 4 ? address.high : address.low) >> (48 - i % 4 * 16));
    return groups;
}

Ipv6 address_of(const Groups& groups) {
    Ipv6 address;
    for (std::size_t i = 0; i < group_count; ++i) {
        auto& half = i < 4 ? address.high : address.low;
        half = half << 16 | groups[i];
    }
    return address;
}

// One group of at most four hex digits.
bool take_group(std::string_view& text, std::uint16_t& group) {
    std::size_t count = 0;
    unsigned value = 0;
    for (; count < text.size() && count < 5; ++count) {
        char c = text[count];
        if (c >= '0' && c <= '9')
            value = value * 16 + static_cast<unsigned>(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value * 16 + static_cast<unsigned>(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            value = value * 16 + static_cast<unsigned>(c - 'A' + 10);
        else
            break;
    }
    if (count == 0 || count > 4)
        return false;
    group = static_cast<std::uint16_t>(value);
    text.remove_prefix(count);
    return true;
}

// Groups with ':' between them until the end or "::". An IPv4 address may be the last of them.
bool take_groups(std::string_view& text, Groups& groups, std::size_t& count) {
    for (;;) {
        if (count == group_count)
            return false;
        if (text.find(':') == std::string_view::npos && text.find('.') != std::string_view::npos) {
            auto tail = parse_ipv4(text);
            if (!tail || count + 2 > group_count)
                return false;
            groups[count++] = static_cast<std::uint16_t>(tail->value >> 16);
            groups[count++] = static_cast<std::uint16_t>(tail->value);
            text = {};
            return true;
        }
        if (!take_group(text, groups[count++]))
            return false;
        if (text.empty() || text.starts_with("::"))
            return true;
        if (text.front() != ':')
            return false;
        text.remove_prefix(1);
    }
}

bool parse_groups(std::string_view text, Groups& all) {
    Groups before{}, after{};
    std::size_t leading = 0, trailing = 0;
    if (!text.starts_with("::") && !take_groups(text, before, leading))
        return false;
    const bool gap = text.starts_with("::");
    if (gap) {
        text.remove_prefix(2);
        if (!text.empty() && (!take_groups(text, after, trailing) || !text.empty()))
            return false;
    }
    // "::" stands for one group at least.
    if (gap ? leading + trailing >= group_count : leading != group_count)
        return false;
    all = before;
    std::copy_n(after.begin(), trailing, all.end() - static_cast<std::ptrdiff_t>(trailing));
    return true;
}

std::unexpected<Error> no_address(std::string_view text) {
    return fail(ErrorKind::invalid, "\"{}\" is no IPv6 address", printable(text, 60));
}

} // namespace

std::array<std::uint8_t, 16> Ipv6::octets() const {
    std::array<std::uint8_t, 16> wire{};
    store_be(MutableBytes(wire), high);
    store_be(MutableBytes(wire).subspan(8), low);
    return wire;
}

Ipv6 Ipv6::from(Bytes sixteen_bytes) {
    if (sixteen_bytes.size() < 16)
        return {};
    return {load_be<std::uint64_t>(sixteen_bytes),
            load_be<std::uint64_t>(sixteen_bytes.subspan(8))};
}

Ipv6 Ipv6::link_local(const Mac& mac) {
    const auto& o = mac.octets;
    std::uint64_t low = 0;
    for (std::uint8_t octet : {static_cast<std::uint8_t>(o[0] ^ 2), o[1], o[2], std::uint8_t{0xff},
                               std::uint8_t{0xfe}, o[3], o[4], o[5]})
        low = low << 8 | octet;
    return {std::uint64_t{0xfe80} << 48, low};
}

std::string Ipv6::text() const {
    if (high == 0 && low >> 32 == 0xffff) // RFC 5952 §5: an IPv4 address in IPv6 clothes
        return "::ffff:" + Ipv4{static_cast<std::uint32_t>(low)}.text();
    auto groups = groups_of(*this);
    // The longest row of zero groups, the first of equals, and not a single one.
    std::size_t best = 0, best_length = 1;
    for (std::size_t i = 0; i < group_count; ++i) {
        std::size_t length = 0;
        while (i + length < group_count && groups[i + length] == 0)
            ++length;
        if (length > best_length) {
            best = i;
            best_length = length;
        }
    }
    std::string out;
    for (std::size_t i = 0; i < group_count; ++i) {
        if (best_length > 1 && i == best) {
            out += "::";
            i += best_length - 1;
            continue;
        }
        if (!out.empty() && !out.ends_with(':'))
            out += ':';
        out += fmt::format("{:x}", groups[i]);
    }
    return out;
}

Result<Ipv6> parse_ipv6(std::string_view text) {
    Groups groups{};
    if (!parse_groups(text, groups))
        return no_address(text);
    return address_of(groups);
}

Ipv6 Ipv6Prefix::mask() const {
    auto bits = [](unsigned count) { return count == 0 ? 0 : ~std::uint64_t{0} << (64 - count); };
    return length >= 64 ? Ipv6{~std::uint64_t{0}, bits(length - 64U)} : Ipv6{bits(length), 0};
}

std::string Ipv6Prefix::text() const {
    return fmt::format("{}/{}", address.text(), length);
}

Result<Ipv6Prefix> parse_ipv6_prefix(std::string_view text) {
    auto slash = text.find('/');
    if (slash == std::string_view::npos)
        return fail(ErrorKind::invalid, "\"{}\" has no prefix length: write it like 2001:db8::1/64",
                    printable(text, 60));
    Ipv6Prefix prefix;
    prefix.address = TRY(parse_ipv6(text.substr(0, slash)));
    auto digits = text.substr(slash + 1);
    unsigned length = 0;
    bool good = !digits.empty() && digits.size() <= 3 && (digits.size() == 1 || digits[0] != '0');
    for (char c : digits) {
        good = good && c >= '0' && c <= '9';
        length = length * 10 + static_cast<unsigned>(c - '0');
        if (!good)
            break;
    }
    if (!good || length > 128)
        return fail(ErrorKind::invalid, "\"{}\": the prefix length is 0 to 128",
                    printable(text, 60));
    prefix.length = static_cast<std::uint8_t>(length);
    return prefix;
}

std::string IpAddress::text() const {
    return is_ipv4() ? ipv4().text() : value_.text();
}

std::string IpAddress::host_text() const {
    return is_ipv4() ? ipv4().text() : "[" + value_.text() + "]";
}

} // namespace vmhost
