#include "config/rules.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace vmhost::config {

namespace {

bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_word(char c) {
    return is_letter(c) || is_digit(c);
}
// Printable ASCII without the blank.
bool is_visible(char c) {
    return c > 0x20 && c < 0x7f;
}

bool all_of(std::string_view text, bool (*accept)(char)) {
    return std::all_of(text.begin(), text.end(), accept);
}

Result<void> accept(std::string_view) {
    return {};
}

Result<void> check_path_pattern(std::string_view text) {
    if (!text.starts_with('/') && !text.starts_with('*'))
        return fail(ErrorKind::invalid, "a path begins with \"/\"");
    return {};
}

Result<void> check_host_pattern(std::string_view text) {
    // As of the Host field, which is compared in small letters and without its port.
    if (std::ranges::any_of(text, [](char c) { return (c >= 'A' && c <= 'Z') || c <= ' '; }))
        return fail(ErrorKind::invalid, "write it in small letters and without blanks");
    return {};
}

Result<void> check_absolute_path(std::string_view text) {
    if (!text.starts_with('/'))
        return fail(ErrorKind::invalid, "\"{}\" does not begin with '/'", printable(text));
    return {};
}

Result<void> check_socket_path(std::string_view text) {
    if (text.size() > limits::max_socket_path_bytes)
        return fail(ErrorKind::limit, "a socket's path has at most {} bytes, this one has {}",
                    limits::max_socket_path_bytes, text.size());
    return check_absolute_path(text);
}

Result<void> check_domain(std::string_view text) {
    if (text.size() > limits::max_domain_bytes)
        return fail(ErrorKind::limit, "a domain name has at most {} bytes, this one has {}",
                    limits::max_domain_bytes, text.size());
    for (std::string_view rest = text; !rest.empty() || text.ends_with('.');) {
        auto label = rest.substr(0, rest.find('.'));
        bool good = !label.empty() && label.size() <= 63 && is_word(label.front()) &&
                    is_word(label.back()) && std::all_of(label.begin(), label.end(), [](char c) {
                        return is_word(c) || c == '-' || c == '_';
                    });
        if (!good)
            return fail(ErrorKind::invalid, "\"{}\" is no domain name: write it like example.org",
                        printable(text, 70));
        if (label.size() == rest.size())
            break;
        rest.remove_prefix(label.size() + 1);
    }
    return {};
}

// Any VM's name is a host name too: it is the default for its guest.
Result<void> check_host_name(std::string_view text) {
    bool good = text.size() <= limits::max_domain_bytes && is_word(text.front()) &&
                std::all_of(text.begin(), text.end(),
                            [](char c) { return is_word(c) || c == '.' || c == '-' || c == '_'; });
    if (!good)
        return fail(ErrorKind::invalid, "\"{}\" is no host name: write it like puffy",
                    printable(text, 70));
    return {};
}

// As useradd(8) takes them; numbers pass too.
Result<void> check_account(std::string_view text) {
    bool good = text.size() <= 32 && (is_word(text.front()) || text.front() == '_') &&
                std::all_of(text.begin(), text.end(), [](char c) {
                    return is_word(c) || c == '_' || c == '-' || c == '.' || c == '$';
                });
    if (!good)
        return fail(ErrorKind::invalid, "\"{}\" is no name of a user or group",
                    printable(text, 40));
    return {};
}

// The installer's rule for "Setup a user?"; it takes "no" for an answer.
Result<void> check_login(std::string_view text) {
    bool good = text.size() <= 31 && text.front() >= 'a' && text.front() <= 'z' &&
                std::all_of(text.begin(), text.end(), [](char c) {
                    return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-' || c == '_';
                });
    if (!good || text == "no" || text == "n")
        return fail(ErrorKind::invalid,
                    "\"{}\" is no login name: at most 31 of a-z, 0-9, '-' and '_', a letter first",
                    printable(text, 40));
    return {};
}

// What the kernel accepts, less '%' (it makes a number of it) and odd bytes.
Result<void> check_device(std::string_view text) {
    if (text.size() > limits::max_device_name_bytes)
        return fail(ErrorKind::limit, "\"{}\": an interface's name has at most {} bytes",
                    printable(text, 40), limits::max_device_name_bytes);
    bool good = text != "." && text != ".." && std::all_of(text.begin(), text.end(), [](char c) {
                    return is_visible(c) && c != '/' && c != ':' && c != '%';
                });
    if (!good)
        return fail(ErrorKind::invalid, "\"{}\" is no name of an interface", printable(text, 40));
    return {};
}

// As ifconfig(8) of OpenBSD has it: a name with a number at its end is that of an interface.
Result<void> check_group(std::string_view text) {
    TRY(check_device(text));
    if (is_digit(text.back()))
        return fail(ErrorKind::invalid, "\"{}\": a group's name does not end in a digit",
                    printable(text, 40));
    return {};
}

// It becomes a directory of a URL and part of file names.
Result<void> check_release(std::string_view text) {
    bool good = text.size() <= 32 && is_word(text.front()) &&
                std::all_of(text.begin(), text.end(),
                            [](char c) { return is_word(c) || c == '.' || c == '-'; });
    if (!good)
        return fail(ErrorKind::invalid, "\"{}\" is no release: write it like 7.8",
                    printable(text, 40));
    return {};
}

Result<void> check_mirror(std::string_view text) {
    std::string_view rest = text;
    for (std::string_view scheme : {"http://", "https://"})
        if (text.starts_with(scheme))
            rest.remove_prefix(scheme.size());
    if (rest.size() == text.size() || rest.empty() || rest.front() == '/' ||
        !all_of(rest, is_visible))
        return fail(ErrorKind::invalid,
                    "\"{}\" is no mirror: write it like http://cdn.openbsd.org/pub/OpenBSD",
                    printable(text, 100));
    return {};
}

Result<void> check_serial(std::string_view text) {
    if (text.size() > limits::max_disk_serial_bytes)
        return fail(ErrorKind::limit, "\"{}\": a serial number has at most {} bytes",
                    printable(text, 40), limits::max_disk_serial_bytes);
    if (!all_of(text, is_visible))
        return fail(ErrorKind::invalid, "\"{}\": a serial number is ASCII without blanks",
                    printable(text, 40));
    return {};
}

Result<void> check_dhcp_filename(std::string_view text) {
    if (text.size() > limits::max_dhcp_filename_bytes)
        return fail(ErrorKind::limit, "a boot file's name has at most {} bytes, this one has {}",
                    limits::max_dhcp_filename_bytes, text.size());
    if (!all_of(text, is_visible))
        return fail(ErrorKind::invalid, "\"{}\": a boot file's name is ASCII without blanks",
                    printable(text, 40));
    return {};
}

Result<void> check_boot_file(std::string_view text) {
    constexpr std::size_t max_bytes = 255; // of option 67
    if (text.size() > max_bytes)
        return fail(ErrorKind::limit, "a boot file has at most {} bytes, this one has {}",
                    max_bytes, text.size());
    if (!all_of(text, is_visible))
        return fail(ErrorKind::invalid, "\"{}\": a boot file is ASCII without blanks",
                    printable(text, 40));
    return {};
}

Result<void> check_dhcp_class(std::string_view text) {
    constexpr std::size_t max_bytes = 255; // of an option
    if (text.size() > max_bytes)
        return fail(ErrorKind::limit, "has at most {} bytes, this one has {}", max_bytes,
                    text.size());
    return {};
}

// The installer cuts blanks off both ends of a line: a password would silently change.
Result<void> check_answer(std::string_view text) {
    if (text.starts_with(' ') || text.ends_with(' '))
        return fail(ErrorKind::invalid, "begins or ends with a blank, which an installer cuts off");
    return {};
}

Result<void> check_time_zone(std::string_view text) {
    bool good = text.size() <= 64 && is_word(text.front()) &&
                std::all_of(text.begin(), text.end(), [](char c) {
                    return is_word(c) || c == '/' || c == '_' || c == '-' || c == '+';
                });
    if (!good)
        return fail(ErrorKind::invalid, "\"{}\" is no time zone: write it like Europe/Amsterdam",
                    printable(text, 40));
    return {};
}

// The first octets of a MAC: unicast and of local meaning, as nobody gave them to us.
Result<void> check_mac_prefix(std::string_view text) {
    constexpr std::size_t four = 11, five = 14; // octets, with the colons between them
    auto whole = text.size() == four   ? parse_mac(std::string(text) + ":00:00")
                 : text.size() == five ? parse_mac(std::string(text) + ":00")
                                       : fail(ErrorKind::invalid, "length");
    if (!whole)
        return fail(ErrorKind::invalid,
                    "\"{}\" is no beginning of Ethernet addresses: write four or five octets, like "
                    "fe:e1:bb:f1:c8",
                    printable(text, 40));
    if ((whole->octets[0] & 3) != 2)
        return fail(ErrorKind::invalid,
                    "\"{}\": addresses that are made up are unicast and locally administered: the "
                    "second digit is 2, 6, a or e",
                    printable(text, 40));
    return {};
}

Result<void> check_one_of(std::string_view text, std::span<const std::string_view> words) {
    if (std::ranges::find(words, text) != words.end())
        return {};
    auto best = text.size() <= limits::max_name_bytes ? nearest(text, words) : std::string_view();
    auto hint = best.empty() ? std::string() : fmt::format(": did you mean \"{}\"?", best);
    return fail(ErrorKind::invalid, "\"{}\" is none of \"{}\"{}", printable(text, 40),
                fmt::join(words, "\", \""), hint);
}

Result<void> check_boot_flag(std::string_view text) {
    static constexpr std::array<std::string_view, 3> flags{"ask_name", "single_user", "config"};
    return check_one_of(text, flags);
}

Result<void> check_instance_option(std::string_view text) {
    return check_one_of(text, instance_options);
}

} // namespace

const TextRule name_rule{"name", "a name such as \"lan\"", check_name};
const TextRule line_rule{"string", "a string", accept, true};
const TextRule path_rule{"path", "a path such as \"a.qcow2\"", accept};
const TextRule optional_path_rule{"path", "a path such as \"/var/lib/vmhost/bsd.rd\"", accept,
                                  true};
const TextRule absolute_path_rule{"path", "a path such as \"/var/lib/vmhost\"",
                                  check_absolute_path};
const TextRule path_pattern_rule{"pattern", "a pattern such as \"/pub/OpenBSD/*\"",
                                 check_path_pattern};
const TextRule host_pattern_rule{"pattern", "a pattern such as \"*.example.org\"",
                                 check_host_pattern};
const TextRule socket_path_rule{"path", "a path such as \"/run/vmhost.sock\"", check_socket_path};
const TextRule domain_rule{"domain", "a domain name such as \"example.org\"", check_domain, true};
const TextRule host_name_rule{"host name", "a host name such as \"puffy\"", check_host_name};
const TextRule account_rule{"user", "a user's name such as \"_vmhost\"", check_account};
const TextRule login_rule{"string", "a login name such as \"puffy\"", check_login, true};
const TextRule device_rule{"device", "an interface's name such as \"eth1\"", check_device};
const TextRule release_rule{"string", "a release such as \"7.8\"", check_release};
const TextRule mirror_rule{"URL", "a URL such as \"http://cdn.openbsd.org/pub/OpenBSD\"",
                           check_mirror};
const TextRule serial_rule{"string", "a serial number such as \"a-0\"", check_serial};
const TextRule dhcp_filename_rule{"string", "a boot file's name such as \"auto_install\"",
                                  check_dhcp_filename, true};
const TextRule boot_file_rule{
    "string", "a boot file or a URL such as \"http://10.9.8.1/boot.ipxe\"", check_boot_file, true};
const TextRule dhcp_class_rule{"string", "a class such as \"PXEClient\"", check_dhcp_class, true};
const TextRule answer_rule{"string", "a string", check_answer};
const TextRule optional_answer_rule{"string", "a string", check_answer, true};
const TextRule password_rule{"string", "a password, plain or bcrypt", check_answer};
const TextRule time_zone_rule{"string", "a time zone such as \"Europe/Amsterdam\"",
                              check_time_zone};
const TextRule group_rule{"name", "a group's name such as \"tenants\"", check_group, true};
const TextRule instance_option_rule{"option", "an option such as \"memory\"",
                                    check_instance_option};
const TextRule mac_prefix_rule{
    "string", "the beginning of Ethernet addresses such as \"fe:e1:bb:f1:c8\"", check_mac_prefix};
const TextRule boot_flag_rule{"flag", "a flag such as \"single_user\"", check_boot_flag};

Result<void> check_question(std::string_view text) {
    TRY(check_answer(text));
    if (text.empty() || text.starts_with('#') || text.find('=') != std::string_view::npos)
        return fail(ErrorKind::invalid,
                    "a question is not empty, does not begin with '#' and has no '='");
    for (char c : text)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            return fail(ErrorKind::invalid, "a question has no control characters");
    return {};
}

Result<Ipv4Prefix> parse_local_prefix(std::string_view text) {
    auto prefix = TRY(parse_ipv4_prefix(text));
    if (prefix.length < 1 || prefix.length > 24)
        return fail(ErrorKind::limit, "{}: the prefix length is 1 to 24", prefix.text());
    if (prefix.address != prefix.network())
        return fail(ErrorKind::invalid, "{}: the address has bits beyond its prefix: write {}",
                    prefix.text(), Ipv4Prefix{prefix.network(), prefix.length}.text());
    return prefix;
}

Result<Ipv6Prefix> parse_local_ipv6(std::string_view text) {
    auto prefix = TRY(parse_ipv6_prefix(text));
    if (prefix.length < 16 || prefix.length > 64)
        return fail(ErrorKind::limit, "{}: the prefix length is 16 to 64", prefix.text());
    if (prefix.address != prefix.network())
        return fail(ErrorKind::invalid, "{}: the address has bits beyond its prefix: write {}",
                    prefix.text(), Ipv6Prefix{prefix.network(), prefix.length}.text());
    if (prefix.address.high >> 48 == 0 || prefix.address.is_multicast() ||
        prefix.address.is_link_local())
        return fail(ErrorKind::invalid, "{}: no host has an address of it", prefix.text());
    return prefix;
}

Result<Ipv6Prefix> parse_allocated_ipv6(std::string_view text) {
    auto prefix = TRY(parse_ipv6_prefix(text));
    if (prefix.length < 48 || prefix.length > 56)
        return fail(ErrorKind::limit, "{}: the prefix length is 48 to 56", prefix.text());
    if (prefix.address != prefix.network())
        return fail(ErrorKind::invalid, "{}: the address has bits beyond its prefix: write {}",
                    prefix.text(), Ipv6Prefix{prefix.network(), prefix.length}.text());
    return prefix;
}

Result<Owner> parse_owner(std::string_view text) {
    auto colon = text.find(':');
    Owner owner;
    if (text.empty())
        return fail(ErrorKind::invalid, "the owner is empty");
    owner.user = text.substr(0, colon);
    if (colon != std::string_view::npos) {
        owner.group = text.substr(colon + 1);
        if (owner.group.empty())
            return fail(ErrorKind::invalid, "\"{}\" has no group after its ':'",
                        printable(text, 70));
    }
    for (const auto& account : {owner.user, owner.group})
        if (!account.empty())
            TRY(check_account(account));
    return owner;
}

std::string owner_text(const Owner& owner) {
    return owner.group.empty() ? owner.user : fmt::format("{}:{}", owner.user, owner.group);
}

Result<DhcpRange> parse_dhcp_range(std::string_view text) {
    auto dash = text.find('-');
    DhcpRange range;
    range.first = TRY(parse_ipv4(text.substr(0, dash)));
    range.last =
        dash == std::string_view::npos ? range.first : TRY(parse_ipv4(text.substr(dash + 1)));
    if (range.last < range.first)
        return fail(ErrorKind::invalid, "\"{}\" ends before it begins", printable(text, 40));
    return range;
}

std::string dhcp_range_text(const DhcpRange& range) {
    return range.first == range.last ? range.first.text()
                                     : range.first.text() + "-" + range.last.text();
}

// An address of IPv6 stands in brackets when a port follows, as in URLs, and may without.
Result<ListenAddress> parse_listen(std::string_view text) {
    ListenAddress listen;
    std::string_view address = text, port;
    if (text.starts_with('[')) {
        auto end = std::min(text.find(']'), text.size());
        address = text.substr(1, end - 1);
        port = text.substr(std::min(end + 1, text.size()));
        listen.address = TRY(parse_ipv6(address));
        if (end == text.size() || (!port.empty() && port.front() != ':'))
            return fail(ErrorKind::invalid, "\"{}\" is no address such as \"[2001:db8::1]:80\"",
                        printable(text, 60));
    } else if (std::ranges::count(text, ':') > 1) {
        listen.address = TRY(parse_ipv6(text));
    } else {
        address = text.substr(0, text.find(':'));
        port = text.substr(address.size());
        listen.address = TRY(parse_ipv4(address));
    }
    if (port.empty())
        return listen;
    auto digits = port.substr(1);
    auto [end, problem] =
        std::from_chars(digits.data(), digits.data() + digits.size(), listen.port);
    if (problem != std::errc() || end != digits.data() + digits.size() || listen.port == 0)
        return fail(ErrorKind::invalid, "\"{}\": a port is a number from 1 to 65535",
                    printable(text, 60));
    return listen;
}

std::string listen_text(const ListenAddress& listen) {
    return fmt::format("{}:{}", listen.address.host_text(), listen.port);
}

} // namespace vmhost::config
