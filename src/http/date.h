// Dates as HTTP writes and reads them (RFC 9110 §5.6.7). Seconds since 1970.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vmhost::http {

// Sun, 06 Nov 1994 08:49:37 GMT
std::string http_date(std::int64_t unix_seconds);

// That form, or one of the two obsolete ones that a recipient must know:
//   Sunday, 06-Nov-94 08:49:37 GMT   (two digits: the year that is nearest to now, at most 50
//   ahead) Sun Nov  6 08:49:37 1994
// Nothing for any other text, and for a day or time that does not exist.
std::optional<std::int64_t> parse_http_date(std::string_view text, std::int64_t now_unix_seconds);

} // namespace vmhost::http
