// What the files that read header fields share. No door.
#pragma once

#include <string_view>

namespace vmhost::http {

// Without the optional white space around it (RFC 9110 §5.6.3).
inline std::string_view trim(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
        text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t'))
        text.remove_suffix(1);
    return text;
}

} // namespace vmhost::http
