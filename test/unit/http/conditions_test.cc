// RFC 9110 §13 and §14: what a client with conditions is sent of a file of 1000 bytes.
#include <catch2/catch.hpp>

#include "http/conditions.h"
#include "http/date.h"

using namespace vmhost::http;

namespace {

constexpr std::int64_t now = 1'790'000'000, modified = 1'780'000'000;
const Validators file{"\"a-1\"", modified};

Selected ask(const Conditions& conditions, std::uint64_t size_bytes = 1000, bool is_get = true) {
    return select(conditions, file, size_bytes, is_get, now);
}
Selected range(const char* text, std::uint64_t size_bytes = 1000) {
    Conditions conditions;
    conditions.range = text;
    return ask(conditions, size_bytes);
}
bool is(const Selected& selected, int status, std::uint64_t offset, std::uint64_t length) {
    return selected.status == status && selected.offset == offset && selected.length == length;
}
std::string at(std::int64_t seconds) {
    return http_date(seconds);
}

} // namespace

TEST_CASE("one range of bytes") {
    CHECK(is(ask({}), 200, 0, 1000));
    CHECK(is(range("bytes=0-0"), 206, 0, 1));
    CHECK(is(range("bytes=0-99"), 206, 0, 100));
    CHECK(is(range("bytes=100-"), 206, 100, 900));
    CHECK(is(range("bytes=-1"), 206, 999, 1));
    CHECK(is(range("bytes=-5000"), 206, 0, 1000));
    CHECK(is(range("bytes=900-5000"), 206, 900, 100));
    CHECK(is(range("bytes=0-18446744073709551615"), 206, 0, 1000));
    CHECK(is(range("bytes= 5 - 9 "), 206, 5, 5));
    CHECK(is(range("Bytes=0-99999999999999999999"), 206, 0, 1000));
}

TEST_CASE("a range of what is not there") {
    CHECK(is(range("bytes=1000-"), 416, 0, 0));
    CHECK(is(range("bytes=5000-6000"), 416, 0, 0));
    CHECK(is(range("bytes=-0"), 416, 0, 0));
    CHECK(is(range("bytes=99999999999999999999-"), 416, 0, 0));
    CHECK(is(range("bytes=0-0", 0), 416, 0, 0));
    CHECK(is(range("bytes=-1", 0), 416, 0, 0));
}

TEST_CASE("what is no range, or several, is the whole file") {
    for (const char* text :
         {"bytes=5-2", "items=0-1", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=0-0,2-2",
          "bytes=--1", "bytes=+1-2", "bytes=1-2-3", "0-1", "bytes=-+1"}) {
        INFO(text);
        CHECK(is(range(text), 200, 0, 1000));
    }
    Conditions conditions;
    conditions.range = "bytes=0-0";
    CHECK(is(ask(conditions, 1000, false), 200, 0, 1000)); // HEAD
}

TEST_CASE("a part is of use only beside the rest of the same state") {
    Conditions conditions;
    conditions.range = "bytes=10-19";
    for (const auto& same : {file.entity_tag, at(modified)}) {
        conditions.if_range = same;
        CHECK(ask(conditions).status == 206);
    }
    for (const auto& other : {std::string("\"b\""), "W/" + file.entity_tag, at(modified + 1),
                              at(modified - 1), std::string("x")}) {
        INFO(other);
        conditions.if_range = other;
        CHECK(is(ask(conditions), 200, 0, 1000));
    }
}

TEST_CASE("a file of just now may be another within the same second") {
    Conditions conditions;
    conditions.range = "bytes=10-19";
    conditions.if_range = at(modified);
    CHECK(select(conditions, file, 1000, true, modified + 59).status == 200);
    CHECK(select(conditions, file, 1000, true, modified + 60).status == 206);
}

TEST_CASE("what the client has is not sent again") {
    Conditions conditions;
    for (const char* tags : {"\"a-1\"", "W/\"a-1\"", "*", "\"x,y\", \"a-1\"", "W/\"x\",\"a-1\"",
                             ", \"a-1\"", "\"x\",, \"a-1\""}) {
        INFO(tags);
        conditions.if_none_match = tags;
        CHECK(is(ask(conditions), 304, 0, 0));
    }
    for (const char* tags : {"\"b\"", "a-1", "\"a-1", "\"x, \"a-1\""}) {
        INFO(tags);
        conditions.if_none_match = tags;
        CHECK(ask(conditions).status == 200);
    }
    // A tag counts more than a date.
    conditions.if_modified_since = at(modified);
    CHECK(ask(conditions).status == 200);
    conditions.if_none_match.clear();
    CHECK(ask(conditions).status == 304);
    conditions.if_modified_since = at(modified + 1);
    CHECK(ask(conditions).status == 304);
    conditions.if_modified_since = at(modified - 1);
    CHECK(ask(conditions).status == 200);
    conditions.if_modified_since = "yesterday";
    CHECK(ask(conditions).status == 200);
    // And both more than a range.
    conditions.range = "bytes=0-0";
    conditions.if_modified_since = at(modified);
    CHECK(ask(conditions).status == 304);
}

TEST_CASE("a client that wants a certain state gets it or nothing") {
    Conditions conditions;
    for (const char* tags : {"\"a-1\"", "*"}) {
        conditions.if_match = tags;
        CHECK(ask(conditions).status == 200);
    }
    for (const char* tags : {"\"b\"", "W/\"a-1\""}) {
        conditions.if_match = tags;
        CHECK(is(ask(conditions), 412, 0, 0));
    }
    conditions.if_match.clear();
    conditions.if_unmodified_since = at(modified);
    CHECK(ask(conditions).status == 200);
    conditions.if_unmodified_since = at(modified - 1);
    CHECK(ask(conditions).status == 412);
}
