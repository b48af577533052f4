#include "http/glob.h"

#include <cstddef>

namespace vmhost::http {

namespace {

// One character against the beginning of the pattern, which holds more than nothing and no "*".
// used: how much of the pattern that was.
bool one_matches(std::string_view pattern, char c, std::size_t& used) {
    used = 1;
    if (pattern.front() == '?')
        return true;
    // The first character of a set may be "]".
    const std::size_t first = pattern.substr(0, 2) == "[!" ? 2 : 1;
    const auto end = pattern.find(']', first + 1);
    if (pattern.front() != '[' || end == std::string_view::npos)
        return pattern.front() == c;
    used = end + 1;
    bool among = false;
    for (std::size_t at = first; at < end; ++at) {
        const char low = pattern[at];
        const bool is_range = at + 2 < end && pattern[at + 1] == '-';
        const char high = is_range ? pattern[at + 2] : low;
        among |= low <= c && c <= high;
        at += is_range ? 2 : 0;
    }
    return among == (first == 1);
}

} // namespace

// Only the last "*" is ever tried again: what an earlier one could take, the last can as well.
bool glob_matches(std::string_view pattern, std::string_view text) {
    std::string_view after_star, text_at_star;
    bool starred = false;
    while (true) {
        if (pattern.starts_with('*')) {
            pattern.remove_prefix(1);
            after_star = pattern;
            text_at_star = text;
            starred = true;
            continue;
        }
        std::size_t used = 0;
        if (pattern.empty() && text.empty())
            return true;
        if (!pattern.empty() && !text.empty() && one_matches(pattern, text.front(), used)) {
            pattern.remove_prefix(used);
            text.remove_prefix(1);
            continue;
        }
        if (!starred || text_at_star.empty())
            return false;
        text_at_star.remove_prefix(1);
        pattern = after_star;
        text = text_at_star;
    }
}

} // namespace vmhost::http
