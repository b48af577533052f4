// Text of protocols and of files with lines.
#include <catch2/catch.hpp>

#include "base/base.h"

using namespace vmhost;

TEST_CASE("text loses what is blank around it") {
    CHECK(trimmed(" \ta b\t ") == "a b");
    CHECK(trimmed("a\r") == "a\r");
    CHECK(trimmed("a \r", " \t\r") == "a");
    CHECK(trimmed(" \t ").empty());
    CHECK(trimmed("").empty());
}

TEST_CASE("only letters of ASCII have a case") {
    CHECK(lower_case("Content-LENGTH: 5 \xC4") == "content-length: 5 \xC4");
    CHECK(equal_ignoring_case("Keep-Alive", "keep-aLIVE"));
    CHECK_FALSE(equal_ignoring_case("close", "closed"));
    CHECK_FALSE(equal_ignoring_case("@", "`")); // 32 apart, as letters are
}

TEST_CASE("hexadecimal digits") {
    CHECK(hex_digit('0') == 0);
    CHECK(hex_digit('9') == 9);
    CHECK(hex_digit('a') == 10);
    CHECK(hex_digit('F') == 15);
    for (char c : {'g', 'G', '/', ':', '@', '`', ' ', '\0', '\xff'})
        CHECK(hex_digit(c) == -1);
}
