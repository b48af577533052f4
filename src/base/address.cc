#include "base/address.h"

#include <fmt/format.h>

#include "base/text.h"

namespace vmhost {

namespace {

// One decimal number of at most max; no sign, no leading zero.
bool take_decimal(std::string_view& text, unsigned max, unsigned& value) {
    std::size_t count = 0;
    value = 0;
    while (count < text.size() && count < 4 && text[count] >= '0' && text[count] <= '9')
        value = value * 10 + static_cast<unsigned>(text[count++] - '0');
    if (count == 0 || value > max || (count > 1 && text[0] == '0'))
        return false;
    text.remove_prefix(count);
    return true;
}

} // namespace

std::string Mac::text() const {
    return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", octets[0], octets[1], octets[2],
                       octets[3], octets[4], octets[5]);
}

Mac Mac::from(Bytes six_bytes) {
    Mac mac;
    if (six_bytes.size() >= 6)
        std::memcpy(mac.octets.data(), six_bytes.data(), 6);
    return mac;
}

Result<Mac> parse_mac(std::string_view text) {
    Mac mac;
    bool good = text.size() == 17;
    for (std::size_t i = 0; good && i < 6; ++i) {
        int high = hex_digit(text[i * 3]), low = hex_digit(text[i * 3 + 1]);
        good =
            high >= 0 && low >= 0 && (i == 5 || text[i * 3 + 2] == ':' || text[i * 3 + 2] == '-');
        mac.octets[i] = static_cast<std::uint8_t>(high * 16 + low);
    }
    if (!good)
        return fail(ErrorKind::invalid,
                    "\"{}\" is no Ethernet address: write six hex pairs, like fe:e1:bb:d1:00:01",
                    printable(text, 40));
    return mac;
}

std::string Ipv4::text() const {
    return fmt::format("{}.{}.{}.{}", value >> 24, value >> 16 & 255, value >> 8 & 255,
                       value & 255);
}

Result<Ipv4> parse_ipv4(std::string_view text) {
    std::string_view rest = text;
    Ipv4 address;
    bool good = true;
    for (int i = 0; good && i < 4; ++i) {
        unsigned octet = 0;
        if (i > 0) {
            good = !rest.empty() && rest.front() == '.';
            if (good)
                rest.remove_prefix(1);
        }
        good = good && take_decimal(rest, 255, octet);
        address.value = address.value << 8 | octet;
    }
    if (!good || !rest.empty())
        return fail(ErrorKind::invalid, "\"{}\" is no IPv4 address", printable(text, 40));
    return address;
}

std::string Ipv4Prefix::text() const {
    return fmt::format("{}/{}", address.text(), length);
}

Result<Ipv4Prefix> parse_ipv4_prefix(std::string_view text) {
    auto slash = text.find('/');
    if (slash == std::string_view::npos)
        return fail(ErrorKind::invalid, "\"{}\" has no prefix length: write it like 192.0.2.1/24",
                    printable(text, 40));
    Ipv4Prefix prefix;
    prefix.address = TRY(parse_ipv4(text.substr(0, slash)));
    unsigned length = 0;
    auto rest = text.substr(slash + 1);
    if (!take_decimal(rest, 32, length) || !rest.empty())
        return fail(ErrorKind::invalid, "\"{}\": the prefix length is 0 to 32",
                    printable(text, 40));
    prefix.length = static_cast<std::uint8_t>(length);
    return prefix;
}

} // namespace vmhost
