#include "base/units.h"

#include <algorithm>
#include <vector>

#include "base/bytes.h"
#include "base/limits.h"

namespace vmhost {

namespace {

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n';
}
bool is_alnum(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

constexpr std::string_view suffixes = "BKMGTPE";

} // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
    const std::string_view whole = text;
    auto invalid = [&] {
        return fail(ErrorKind::invalid,
                    "\"{}\" is no size: write a number with B, K, M, G, T, P or E, like 512M",
                    printable(whole, 40));
    };
    while (!text.empty() && is_blank(text.front()))
        text.remove_prefix(1);
    if (!text.empty() && (text.front() == '+' || text.front() == '-')) {
        if (text.front() == '-')
            return fail(ErrorKind::invalid, "\"{}\": a size cannot be negative",
                        printable(whole, 40));
        text.remove_prefix(1);
    }
    __uint128_t number = 0, fraction = 0, fraction_scale = 1;
    std::size_t digits = 0;
    for (; !text.empty() && is_digit(text.front()); text.remove_prefix(1), ++digits) {
        number = number * 10 + static_cast<unsigned>(text.front() - '0');
        if (number > UINT64_MAX)
            return fail(ErrorKind::limit, "\"{}\" is larger than 16E", printable(whole, 40));
    }
    if (!text.empty() && text.front() == '.') {
        text.remove_prefix(1);
        for (; !text.empty() && is_digit(text.front()); text.remove_prefix(1), ++digits) {
            if (fraction_scale < 1'000'000'000'000'000ULL) { // further digits are below one byte
                fraction = fraction * 10 + static_cast<unsigned>(text.front() - '0');
                fraction_scale *= 10;
            }
        }
    }
    if (digits == 0)
        return invalid();
    unsigned shift = 0;
    if (!text.empty()) {
        char upper = text.front() >= 'a' && text.front() <= 'z'
                         ? static_cast<char>(text.front() - 'a' + 'A')
                         : text.front();
        auto at = suffixes.find(upper);
        if (at == std::string_view::npos)
            return invalid();
        shift = static_cast<unsigned>(at) * 10;
        text.remove_prefix(1);
        if (!text.empty() && is_alnum(text.front()))
            return invalid();
        if (!text.empty())
            return invalid();
    }
    if (number > (static_cast<__uint128_t>(UINT64_MAX) >> shift))
        return fail(ErrorKind::limit, "\"{}\" is larger than 16E", printable(whole, 40));
    auto result = (number << shift) + ((fraction << shift) / fraction_scale);
    if (result > UINT64_MAX)
        return fail(ErrorKind::limit, "\"{}\" is larger than 16E", printable(whole, 40));
    return static_cast<std::uint64_t>(result);
}

std::string exact_size(std::uint64_t bytes) {
    static constexpr std::string_view units = "KMGTPE";
    std::size_t unit = 0;
    while (bytes != 0 && unit < units.size() && bytes % KiB == 0) {
        bytes /= KiB;
        ++unit;
    }
    return unit == 0 ? fmt::format("{}", bytes) : fmt::format("{}{}", bytes, units[unit - 1]);
}

std::string format_size(std::uint64_t bytes) {
    if (bytes < KiB)
        return fmt::format("{}B", bytes);
    unsigned shift = 0;
    std::size_t suffix = 0;
    while (suffix + 1 < suffixes.size() && (bytes >> shift) >= KiB) {
        shift += 10;
        ++suffix;
    }
    std::uint64_t whole = bytes >> shift;
    // One decimal, rounded, below 100 as fmt_scaled(3) prints it.
    std::uint64_t rest = bytes & ((std::uint64_t{1} << shift) - 1);
    std::uint64_t tenths = static_cast<std::uint64_t>(
        (static_cast<__uint128_t>(rest) * 10 + (1ULL << (shift - 1))) >> shift);
    if (tenths == 10) {
        tenths = 0;
        ++whole;
    }
    if (whole < 100)
        return fmt::format("{}.{}{}", whole, tenths, suffixes[suffix]);
    if (tenths >= 5)
        ++whole;
    return fmt::format("{}{}", whole, suffixes[suffix]);
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
    std::uint64_t number = 0;
    std::size_t digits = 0;
    while (digits < text.size() && is_digit(text[digits]) && digits < 15)
        number = number * 10 + static_cast<unsigned>(text[digits++] - '0');
    std::string_view unit = text.substr(digits);
    std::uint64_t factor_ms = unit == "ms"  ? 1
                              : unit == "s" ? 1000
                              : unit == "m" ? 60'000
                              : unit == "h" ? 3'600'000
                              : unit == "d" ? 86'400'000
                                            : 0;
    if (digits == 0 || factor_ms == 0)
        return fail(ErrorKind::invalid,
                    "\"{}\" is no duration: write a number with ms, s, m, h or d, like 30s",
                    printable(text, 40));
    if (number > limits::max_duration_ms / factor_ms)
        return fail(ErrorKind::limit, "\"{}\" is longer than 10 years", printable(text, 40));
    return std::chrono::milliseconds(number * factor_ms);
}

std::string format_duration(std::chrono::milliseconds duration) {
    auto ms = duration.count();
    if (ms % 86'400'000 == 0 && ms != 0)
        return fmt::format("{}d", ms / 86'400'000);
    if (ms % 3'600'000 == 0 && ms != 0)
        return fmt::format("{}h", ms / 3'600'000);
    if (ms % 60'000 == 0 && ms != 0)
        return fmt::format("{}m", ms / 60'000);
    if (ms % 1000 == 0)
        return fmt::format("{}s", ms / 1000);
    return fmt::format("{}ms", ms);
}

Result<void> check_name(std::string_view name) {
    if (name.empty())
        return fail(ErrorKind::invalid, "the name is empty");
    if (name.size() > limits::max_name_bytes)
        return fail(ErrorKind::limit, "\"{}\": a name has at most {} bytes", printable(name, 70),
                    limits::max_name_bytes);
    if (!is_alnum(name.front()))
        return fail(ErrorKind::invalid, "\"{}\": a name begins with a letter or digit",
                    printable(name));
    for (char c : name)
        if (!is_alnum(c) && c != '.' && c != '-' && c != '_')
            return fail(ErrorKind::invalid,
                        "\"{}\": a name has only letters, digits, '.', '-' and '_'",
                        printable(name));
    return {};
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j)
        row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            std::size_t above = row[j];
            row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
            diagonal = above;
        }
    }
    return row[b.size()];
}

} // namespace vmhost
