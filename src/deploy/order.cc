// Orders come from strangers, by a web form and by mail: each is bounded, taken apart without a
// shell, and all that is wrong with it is said at once. What is only for people (note, payment) is
// checked for control characters and goes nowhere.
#include "deploy/order.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace vmhost::deploy {

using config::Complaints;

namespace {

using Value = config::FlatValue;

constexpr std::array<std::string_view, 23> known_keys{
    "date",   "payment",  "donated", "name",   "email",  "sshkey",   "hostname", "note",
    "memory", "disk",     "disk2",   "format", "cpus",   "username", "mac",      "ipv4",
    "ipv6",   "referral", "state",   "site",   "backup", "image",    "system"};

// RFC 3629, without the surrogates.
bool is_utf8(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        auto c = static_cast<unsigned char>(text[i]);
        std::size_t more = c < 0x80 ? 0 : c >> 5 == 6 ? 1 : c >> 4 == 14 ? 2 : c >> 3 == 30 ? 3 : 9;
        if (more == 9 || text.size() - i <= more)
            return false;
        std::uint32_t code = more == 0 ? c : c & (0x3fU >> more);
        for (std::size_t k = 1; k <= more; ++k) {
            auto next = static_cast<unsigned char>(text[i + k]);
            if (next >> 6 != 2)
                return false;
            code = code << 6 | (next & 0x3fU);
        }
        constexpr std::uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (code < least[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            return false;
        i += more + 1;
    }
    return true;
}

bool is_key(std::string_view text) {
    return !text.empty() && text.size() <= 32 && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    });
}

// ---- from text to keys and values -------------------------------------------------

class Lines {
public:
    Lines(std::string_view text, const std::string& file, Complaints& complaints)
        : rest_(text), file_(file), complaints_(complaints) {}

    std::vector<Value> read() {
        mail_ = begins_like_mail(rest_);
        if (mail_)
            skip_headers();
        for (std::string_view line; next(line);) {
            if (mail_ && line == "--")
                break; // the signature
            if (!line.empty() && !line.starts_with('#'))
                read_line(line);
        }
        return std::move(values_);
    }

private:
    void complain(std::string text) {
        complaints_.push_back(Error(ErrorKind::invalid, std::move(text)).at({file_, number_, 1}));
    }
    bool next(std::string_view& line) {
        if (rest_.empty())
            return false;
        line = rest_.substr(0, rest_.find('\n'));
        rest_.remove_prefix(std::min(line.size() + 1, rest_.size()));
        line = trimmed(line, " \t\r");
        if (++number_ > limits::max_order_lines) {
            complain(fmt::format("an order has at most {} lines", limits::max_order_lines));
            return false;
        }
        return true;
    }

    // Names of headers begin with a capital letter, keys do not.
    static bool begins_like_mail(std::string_view text) {
        if (text.starts_with("From "))
            return true;
        auto name = text.substr(0, text.find_first_of(":\n"));
        return name.size() > 1 && name.size() < text.size() && text[name.size()] == ':' &&
               name[0] >= 'A' && name[0] <= 'Z' &&
               std::ranges::all_of(name, [](char c) { return c > 0x20 && c < 0x7f; });
    }
    void skip_headers() {
        for (std::string_view line; next(line) && !line.empty();) {
            auto header = lower_case(line);
            if (header.starts_with("content-transfer-encoding:") &&
                (header.find("base64") != std::string::npos ||
                 header.find("quoted-printable") != std::string::npos))
                complain("the mail is encoded: save it as plain text");
        }
    }

    void read_line(std::string_view line) {
        auto sign = line.find_first_of(mail_ ? "=:" : "=");
        auto key = std::string(trimmed(line.substr(0, sign)));
        if (mail_)
            key = lower_case(key);
        if (sign == std::string_view::npos || !is_key(key)) {
            if (!mail_) // in a mail somebody may say more
                complain("expected a line such as hostname=\"puffy\"");
            return;
        }
        auto value = trimmed(line.substr(sign + 1));
        if (value.starts_with('"')) {
            auto close = value.rfind('"');
            auto behind = close == 0 ? std::string_view() : trimmed(value.substr(close + 1));
            if (close == 0 || (!behind.empty() && !behind.starts_with('#')))
                return complain(fmt::format("{}: the value has no closing quote", key));
            value = value.substr(1, close - 1);
        } else if (!mail_) {
            value = trimmed(value.substr(0, value.find(" #")));
        }
        values_.push_back({key, std::string(value), {file_, number_, 1}});
    }

    std::string_view rest_;
    const std::string& file_;
    Complaints& complaints_;
    std::uint32_t number_ = 0;
    bool mail_ = false;
    std::vector<Value> values_;
};

// ---- from values to an order ------------------------------------------------------

Result<unsigned> parse_count(std::string_view text, unsigned max) {
    unsigned value = 0;
    auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc() || end != text.data() + text.size() || value == 0 || value > max)
        return fail(ErrorKind::invalid, "\"{}\" is no number from 1 to {}", printable(text, 20),
                    max);
    return value;
}

Result<std::uint64_t> parse_size_in(std::string_view text, std::uint64_t min, std::uint64_t max) {
    auto size = TRY(parse_size(text));
    if (size < min || size > max)
        return fail(ErrorKind::limit, "expected {} to {}, such as 512M, got {}", format_size(min),
                    format_size(max), format_size(size));
    return size / MiB * MiB;
}

Result<config::ImageFormat> parse_format(std::string_view text) {
    if (text == "raw")
        return config::ImageFormat::raw;
    if (text == "qcow2")
        return config::ImageFormat::qcow2;
    return fail(ErrorKind::invalid, "\"{}\" is neither \"qcow2\" nor \"raw\"", printable(text, 20));
}

Result<config::InstallSystem> parse_system(std::string_view text) {
    using enum config::InstallSystem;
    static constexpr std::pair<std::string_view, config::InstallSystem> words[] = {
        {"openbsd", openbsd},
        {"cloud-init", cloud_init},
        {"preseed", preseed},
        {"kickstart", kickstart},
        {"ipxe", ipxe}};
    auto found = std::ranges::find(words, text, [](const auto& word) { return word.first; });
    if (found == std::end(words))
        return fail(ErrorKind::invalid,
                    "\"{}\" is none of openbsd, cloud-init, preseed, kickstart and ipxe",
                    printable(text, 20));
    return found->second;
}

Result<Mac> parse_guest_mac(std::string_view text) {
    auto mac = TRY(parse_mac(text));
    if (mac.is_multicast() || mac.is_zero())
        return fail(ErrorKind::invalid, "{} is no address that one machine can have", mac.text());
    return mac;
}

Result<bool> parse_state(std::string_view text) {
    if (text == "suspended" || text == "active")
        return text == "suspended";
    return fail(ErrorKind::invalid, "\"{}\" is neither \"active\" nor \"suspended\"",
                printable(text, 20));
}

Result<void> check_email(std::string_view text) {
    auto at = text.find('@');
    if (at == 0 || at == std::string_view::npos || at + 1 == text.size() ||
        text.find('@', at + 1) != std::string_view::npos || text.size() > 254 ||
        text.find_first_of(" \t<>,;") != std::string_view::npos)
        return fail(ErrorKind::invalid, "\"{}\" is no address of a mailbox", printable(text, 80));
    return {};
}

class Reader {
public:
    Reader(Order& order, Complaints& complaints) : order_(order), complaints_(complaints) {}

    void read(const std::vector<Value>& values) {
        for (const auto& value : values)
            if (is_usable(value))
                take(value);
        for (const auto* key : {"username", "hostname", "sshkey"})
            if (!order_.lines.contains(key) || empty_.contains(key))
                complaints_.push_back(
                    Error(ErrorKind::invalid, fmt::format("\"{}\" is missing", key))
                        .at(order_.place(key)));
    }

private:
    void complain(const Value& value, const Error& error) {
        complaints_.push_back(
            Error(error.kind(), fmt::format("{}: {}", value.key, error.text())).at(value.place));
    }
    bool is_usable(const Value& value) {
        auto [first, fresh] = order_.lines.emplace(value.key, value.place.line);
        if (!fresh) {
            complain(value, Error(ErrorKind::exists,
                                  fmt::format("is there twice, first at line {}", first->second)));
            return false;
        }
        bool odd = std::ranges::any_of(value.value, [](char c) {
            return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
        });
        if (odd || value.value.size() > vmhost::limits::max_text_bytes) {
            complain(value, Error(ErrorKind::invalid,
                                  odd ? "has a control character, or lines" : "is too long"));
            return false;
        }
        if (value.value.empty())
            empty_.emplace(value.key, value.place.line);
        return !value.value.empty();
    }
    template <class Field, class Parse>
    void set(const Value& value, Field& field, Parse parse) {
        auto parsed = parse(value.value);
        if (parsed)
            field = *std::move(parsed);
        else
            complain(value, parsed.error());
    }
    void set_checked(const Value& value, std::string& field,
                     Result<void> (*check)(std::string_view)) {
        field = value.value;
        if (auto good = check(field); !good)
            complain(value, good.error());
    }
    template <std::uint64_t min, std::uint64_t max>
    static Result<std::uint64_t> size_in(std::string_view text) {
        return parse_size_in(text, min, max);
    }

    void take(const Value& value) {
        namespace all = vmhost::limits;
        constexpr auto disk_size = size_in<all::min_disk_bytes, all::max_disk_bytes>;
        const auto& key = value.key;
        if (key == "date") {
            order_.date = value.value;
            if (auto date = parse_date(value.value); !date)
                complain(value, date.error());
        } else if (key == "name") {
            order_.name = value.value;
        } else if (key == "email") {
            set_checked(value, order_.email, check_email);
        } else if (key == "sshkey") {
            set(value, order_.sshkey, parse_ssh_key);
        } else if (key == "hostname") {
            set_checked(value, order_.hostname, check_hostname);
        } else if (key == "username") {
            set_checked(value, order_.username, check_username);
        } else if (key == "memory") {
            set(value, order_.memory_bytes, size_in<all::min_memory_bytes, all::max_memory_bytes>);
        } else if (key == "disk") {
            set(value, order_.disk_bytes, disk_size);
        } else if (key == "disk2") {
            set(value, order_.disk2_bytes, disk_size);
        } else if (key == "cpus") {
            set(value, order_.cpus,
                [](std::string_view text) { return parse_count(text, all::max_vcpus); });
        } else if (key == "format") {
            set(value, order_.format, parse_format);
        } else if (key == "image") {
            set_checked(value, order_.image, check_image_name);
        } else if (key == "system") {
            set(value, order_.system, parse_system);
        } else if (key == "mac") {
            set(value, order_.mac, parse_guest_mac);
        } else if (key == "ipv4") {
            set(value, order_.ipv4, parse_ipv4);
        } else if (key == "ipv6") {
            set(value, order_.ipv6, parse_ipv6);
        } else if (key == "state") {
            set(value, order_.suspended, parse_state);
        } else if (std::ranges::find(known_keys, key) == known_keys.end()) {
            auto near = nearest(key, known_keys);
            order_.warnings.push_back(
                Error(ErrorKind::invalid,
                      fmt::format("\"{}\" is not known{}", printable(key, 40),
                                  near.empty() ? "" : fmt::format(": did you mean \"{}\"?", near)))
                    .at(value.place));
        }
    }

    Order& order_;
    Complaints& complaints_;
    std::unordered_map<std::string, std::uint32_t> empty_;
};

// "vms/vm13.txt" is vm13 and 13, "13.txt" too; a name without digits at its end says nothing.
Result<void> name_by_file(Order& order) {
    std::string_view stem = order.file;
    stem.remove_prefix(stem.rfind('/') + 1);
    stem = stem.substr(0, stem.find('.'));
    auto last = stem.find_last_not_of("0123456789");
    auto digits = stem.substr(last == std::string_view::npos ? 0 : last + 1);
    if (digits.empty())
        return {};
    if (digits.size() > 1 && digits.front() == '0')
        return fail(ErrorKind::invalid, "\"{}\": the number of a VM has no zero in front",
                    printable(stem, 70));
    unsigned number = 0;
    auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (problem != std::errc() || number > limits::max_number)
        return fail(ErrorKind::limit, "\"{}\": the number of a VM is at most {}",
                    printable(stem, 70), limits::max_number);
    order.vm = digits.size() == stem.size() ? fmt::format("vm{}", digits) : std::string(stem);
    order.number = number;
    return check_name(order.vm);
}

} // namespace

Place Order::place(const std::string& key) const {
    auto found = lines.find(key);
    return {file, found == lines.end() ? 1 : found->second, 1};
}

Result<std::chrono::sys_days> parse_date(std::string_view text) {
    auto wrong = [&] {
        return fail(ErrorKind::invalid, "\"{}\" is no date: write it like 2019/09/21",
                    printable(text, 20));
    };
    unsigned parts[3] = {};
    const char separator = text.size() == 10 ? text[4] : '\0';
    if ((separator != '/' && separator != '-') || text[7] != separator)
        return wrong();
    constexpr std::pair<std::size_t, std::size_t> where[] = {{0, 4}, {5, 2}, {8, 2}};
    for (std::size_t i = 0; i < 3; ++i)
        for (char c : text.substr(where[i].first, where[i].second)) {
            if (c < '0' || c > '9')
                return wrong();
            parts[i] = parts[i] * 10 + static_cast<unsigned>(c - '0');
        }
    std::chrono::year_month_day day{std::chrono::year(static_cast<int>(parts[0])),
                                    std::chrono::month(parts[1]), std::chrono::day(parts[2])};
    if (!day.ok())
        return wrong();
    return std::chrono::sys_days(day);
}

Result<void> check_hostname(std::string_view text) {
    auto wrong = [&] {
        return fail(ErrorKind::invalid,
                    "\"{}\" is no host name: letters, digits and hyphens, at most 63 of them, no "
                    "hyphen first or last, or several of these with dots between them",
                    printable(text, 80));
    };
    if (text.empty() || text.size() > vmhost::limits::max_domain_bytes)
        return wrong();
    for (auto rest = text;;) {
        auto label = rest.substr(0, rest.find('.'));
        bool good = !label.empty() && label.size() <= 63 && label.front() != '-' &&
                    label.back() != '-' && std::ranges::all_of(label, [](char c) {
                        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                               (c >= '0' && c <= '9') || c == '-';
                    });
        if (!good)
            return wrong();
        if (label.size() == rest.size())
            return {};
        rest.remove_prefix(label.size() + 1);
    }
}

Result<void> check_image_name(std::string_view text) {
    constexpr std::string_view endings[] = {".qcow2", ".raw", ".zst"};
    bool good = text == "none" ||
                (text.size() <= 100 && !text.starts_with('.') &&
                 std::ranges::all_of(text,
                                     [](char c) {
                                         return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                                (c >= '0' && c <= '9') || c == '.' || c == '-' ||
                                                c == '_' || c == '+';
                                     }) &&
                 std::ranges::any_of(endings, [&](auto ending) { return text.ends_with(ending); }));
    if (!good)
        return fail(
            ErrorKind::invalid,
            "\"{}\" is no name of an image: letters, digits and \".-_+\", without a folder, "
            "with .qcow2, .raw or .zst at its end",
            printable(text, 100));
    return {};
}

Result<void> check_username(std::string_view text) {
    static constexpr std::string_view reserved[] = {
        "root",  "daemon", "operator", "bin",   "build",  "sshd",     "www", "www-data", "nobody",
        "ftp",   "adm",    "sys",      "sync",  "games",  "man",      "lp",  "mail",     "news",
        "uucp",  "proxy",  "backup",   "list",  "irc",    "gnats",    "tty", "disk",     "kmem",
        "wheel", "sudo",   "admin",    "staff", "users",  "shadow",   "kvm", "postfix",  "vmhost",
        "no",    "n",      "yes",      "halt",  "reboot", "shutdown", "toor"};
    bool good = !text.empty() && text.size() <= 31 && text.front() >= 'a' && text.front() <= 'z' &&
                std::ranges::all_of(text, [](char c) {
                    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
                });
    if (!good)
        return fail(ErrorKind::invalid,
                    "\"{}\" is no login name: at most 31 of a-z, 0-9, '-' and '_', a letter first",
                    printable(text, 40));
    if (std::ranges::find(reserved, text) != std::end(reserved))
        return fail(ErrorKind::invalid, "\"{}\" is a name that the system uses itself", text);
    return {};
}

std::expected<Order, Complaints> parse_order(std::string_view text, const std::string& file) {
    Order order;
    order.file = file;
    Complaints complaints;
    auto complain = [&](Error error) { complaints.push_back(std::move(error).at({file, 1, 1})); };
    if (auto named = name_by_file(order); !named)
        complain(std::move(named).error());
    if (text.starts_with("\xef\xbb\xbf"))
        text.remove_prefix(3);
    if (text.size() > limits::max_order_bytes) {
        complain(Error(ErrorKind::limit,
                       fmt::format("an order has at most {} bytes", limits::max_order_bytes)));
        return std::unexpected(std::move(complaints));
    }
    if (!is_utf8(text))
        complain(Error(ErrorKind::invalid, "an order is a text in UTF-8"));
    std::vector<Value> values;
    if (!complaints.empty()) {
        // Nothing more can be said of it.
    } else if (file.ends_with(".toml")) {
        if (auto flat = config::parse_flat(text, file))
            values = *std::move(flat);
        else
            complaints.push_back(std::move(flat).error());
    } else {
        values = Lines(text, file, complaints).read();
    }
    if (!complaints.empty() && values.empty())
        return std::unexpected(std::move(complaints));
    Reader(order, complaints).read(values);
    if (!complaints.empty()) {
        std::ranges::stable_sort(complaints, {}, [](const Error& one) { return one.place().line; });
        return std::unexpected(std::move(complaints));
    }
    return order;
}

} // namespace vmhost::deploy
