#include <catch2/catch.hpp>

#include "http/date.h"

using namespace vmhost::http;

namespace {
constexpr std::int64_t now = 1'790'000'000; // in September 2026
std::optional<std::int64_t> read(std::string_view text) {
    return parse_http_date(text, now);
}
} // namespace

TEST_CASE("the three forms of a date are one time") {
    CHECK(http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT");
    CHECK(read("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777);
    CHECK(read("Sunday, 06-Nov-94 08:49:37 GMT") == 784111777);
    CHECK(read("Sun Nov  6 08:49:37 1994") == 784111777);
    CHECK(read("Wed Nov 16 08:49:37 1994") == 784975777);
    for (std::int64_t at :
         {std::int64_t{0}, std::int64_t{951782400}, now, std::int64_t{4102444800}})
        CHECK(read(http_date(at)) == at);
}

TEST_CASE("a year of two digits is at most fifty years ahead") {
    CHECK(http_date(*read("Monday, 01-Jan-76 00:00:00 GMT")).substr(12, 4) == "2076");
    CHECK(http_date(*read("Monday, 01-Jan-77 00:00:00 GMT")).substr(12, 4) == "1977");
}

TEST_CASE("what is no date is none") {
    for (const char* text :
         {"", "now", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC",
          "Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 6 Nov 1994 08:49:37 GMT",
          "Sun, 06 nov 1994 08:49:37 GMT", "Sun, 31 Nov 1994 08:49:37 GMT",
          "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:00:00 GMT",
          "Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT",
          "Sun, -6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov +994 08:49:37 GMT", "784111777",
          "Sunday, 06 Nov 1994 08:49:37 GMT", "Sun Nov 6 08:49:37 1994"}) {
        INFO(text);
        CHECK_FALSE(read(text));
    }
    CHECK(read("Sat, 31 Dec 2016 23:59:60 GMT") == 1483228800); // a leap second
}
