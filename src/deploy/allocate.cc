// The rules of the deploy scripts of OpenBSD hosts, which people know by heart: the number is in
// the name, in the Ethernet address and in both IP addresses, to be read in decimal digits. Their
// traps are errors here: a third digit that no octet has, an address past the subnet or a
// router's, a group of IPv6 with more than four digits.
#include "deploy/allocate.h"

#include <algorithm>
#include <charconv>

#include "deploy/order.h"

namespace vmhost::deploy {

namespace {

// The octet or group whose hexadecimal digits are these decimal ones.
constexpr unsigned decimal_digits(unsigned number) {
    unsigned out = 0;
    for (unsigned shift = 0; number > 0; shift += 4, number /= 10)
        out |= number % 10 << shift;
    return out;
}
static_assert(decimal_digits(613) == 0x613);

// 100 is the first octet with a digit above 9, and so on: they are 156.
std::optional<unsigned> octet_of(unsigned number) {
    if (number < 100)
        return decimal_digits(number);
    unsigned count = 100;
    for (unsigned octet = 0; octet < 256; ++octet)
        if ((octet >> 4 > 9 || (octet & 15) > 9) && count++ == number)
            return octet;
    return std::nullopt;
}

} // namespace

Result<Mac> mac_of(std::string_view prefix, unsigned number) {
    constexpr std::size_t four_octets = 11;
    if (prefix.size() == four_octets) {
        auto digits = decimal_digits(number);
        return parse_mac(
            fmt::format("{}:{:02x}:{:02x}", prefix, digits >> 8 & 0xff, digits & 0xff));
    }
    auto octet = octet_of(number);
    if (!octet)
        return fail(ErrorKind::limit,
                    "{} has Ethernet addresses for the numbers 0 to 255, and this is {}: give the "
                    "order a mac, or allocate.mac_prefix four octets",
                    prefix, number);
    return parse_mac(fmt::format("{}:{:02x}", prefix, *octet));
}

Result<void> check_guest_address(const config::Model& model, Ipv4 address) {
    const auto* sw = model.find_switch(model.allocate.switch_name);
    if (sw == nullptr || !sw->ipv4)
        return fail(ErrorKind::invalid, "{}: no switch of [allocate] has an IPv4 subnet",
                    address.text());
    const auto& subnet = *sw->ipv4;
    auto is = [&](std::string_view what) {
        return fail(ErrorKind::invalid, "{} is {} of {} of switch \"{}\"", address.text(), what,
                    subnet.text(), sw->name);
    };
    if (!subnet.contains(address))
        return is("outside");
    if (address == subnet.network())
        return is("the network itself");
    if (address == subnet.broadcast())
        return is("the broadcast address");
    if (address == subnet.address)
        return is("this host's own address");
    if (std::ranges::find(sw->dhcp.routers, address) != sw->dhcp.routers.end())
        return is("the address of a router");
    if (std::ranges::find(sw->dhcp.domain_name_servers, address) !=
        sw->dhcp.domain_name_servers.end())
        return is("the address of a name server");
    if (std::ranges::any_of(sw->dhcp.ranges,
                            [&](const auto& range) { return range.contains(address); }))
        return is("in a range");
    return {};
}

Result<Ipv4> ipv4_of(const config::Model& model, unsigned number) {
    auto start = *model.allocate.ipv4_start;
    if (start.value > UINT32_MAX - number)
        return fail(ErrorKind::limit, "{} plus {} is no IPv4 address", start.text(), number);
    Ipv4 address{start.value + number};
    TRY(check_guest_address(model, address));
    return address;
}

Result<Ipv6> ipv6_of(const config::Allocate& allocate, unsigned number, unsigned last) {
    constexpr unsigned max_group = 9999;
    auto group = allocate.ipv6_start + number;
    if (group > max_group)
        return fail(ErrorKind::limit,
                    "allocate.ipv6_start plus {} is {}, and a group of decimal digits ends at {}",
                    number, group, max_group);
    Ipv6 address{(allocate.ipv6_prefix->address.high & ~std::uint64_t{0xffff}) |
                     decimal_digits(group),
                 decimal_digits(last)};
    if (!allocate.ipv6_prefix->contains(address))
        return fail(ErrorKind::limit, "{} is outside of allocate.ipv6_prefix, {}", address.text(),
                    allocate.ipv6_prefix->text());
    return address;
}

Result<unsigned> free_number(const std::set<unsigned>& used) {
    // Behind the highest one first: a number that was somebody's is somebody's in many minds.
    unsigned number = used.empty() ? 1 : *used.rbegin() + 1;
    if (number > limits::max_number)
        return fail(ErrorKind::limit, "the numbers of VMs end at {}: name the order after a number",
                    limits::max_number);
    return number;
}

std::optional<unsigned> number_of(std::string_view name) {
    auto last = name.find_last_not_of("0123456789");
    auto digits = name.substr(last == std::string_view::npos ? 0 : last + 1);
    unsigned number = 0;
    auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (digits.empty() || digits.size() > 4 || problem != std::errc())
        return std::nullopt;
    return number;
}

} // namespace vmhost::deploy
