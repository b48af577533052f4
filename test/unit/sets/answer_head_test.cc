// Addresses of files and heads of answers.

#include <catch2/catch.hpp>

#include "sets/download.h"

using namespace vmhost;
using namespace vmhost::sets;

namespace {

std::string redirected(std::string_view location) {
    auto to = follow(parse_url("http://a.example/pub/x/y?q").value(), location);
    return to ? to->text() : "";
}

Result<AnswerHead> head(std::string_view line, std::string_view fields) {
    return parse_answer_head(fmt::format("HTTP/1.1 {}\r\n{}", line, fields));
}

} // namespace

TEST_CASE("addresses of files") {
    for (auto good : {"http://a.example/pub/OpenBSD", "http://a:8080/", "http://[2001:db8::1]/x",
                      "http://[::1]:81/x?y=z"}) {
        auto url = parse_url(good);
        REQUIRE(url);
        CHECK(url->text() == good);
    }
    CHECK(parse_url("HTTP://a")->text() == "http://a/");
    CHECK(parse_url("http://a/x#y")->path == "/x");
    CHECK(parse_url("https://a/").error().kind() == ErrorKind::unsupported);
    for (auto bad : {"", "a", "ftp://a/", "http://", "http:///x", "http://a:0/", "http://a:x/",
                     "http://a b/", "http://a/x y", "http://a/\r\nHost: b", "http://u:p@a/",
                     "http://[::1/", "http://[x]/", "http://-a/", "http://a:99999/"}) {
        INFO(bad);
        CHECK_FALSE(parse_url(bad));
    }
}

TEST_CASE("where an answer sends us") {
    CHECK(redirected("http://b.example/z") == "http://b.example/z");
    CHECK(redirected("/z?w") == "http://a.example/z?w");
    CHECK(redirected("z") == "http://a.example/pub/x/z");
    CHECK(redirected("//b.example/z") == "http://b.example/z");
    for (auto bad : {"https://b.example/", "file:///etc/passwd", "/a b", "/\x01", "http://"})
        CHECK(redirected(bad).empty());
}

TEST_CASE("heads of answers") {
    auto whole = head("200 OK", "Content-Length: 5\r\nETag: \"x\"\r\nX: y\r\n");
    REQUIRE(whole);
    CHECK(whole->length == 5);
    CHECK(whole->body.size == 5);
    CHECK(whole->body.offset == 0);
    CHECK(whole->body.validator == "\"x\"");
    auto part =
        head("206 Partial Content", "content-range:bytes 10-14/15\r\nCONTENT-LENGTH:  5 \r\n"
                                    "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    REQUIRE(part);
    CHECK(part->body.offset == 10);
    CHECK(part->body.size == 15);
    CHECK(part->body.validator == "Sun, 06 Nov 1994 08:49:37 GMT");
    CHECK(head("200", "Content-Length: 5\r\nETag: W/\"x\"\r\nLast-Modified: y\r\n")
              ->body.validator.empty());
    CHECK(head("302 Found", "Location: /x\r\n")->location == "/x");
    CHECK(head("404 Not Found", "")->status == 404);
    for (auto bad :
         {"", "Content-Length: x\r\n", "Content-Length: -1\r\n", "Content-Length: 1, 2\r\n",
          "Content-Length: 5\r\nContent-Length: 5\r\n",
          "Content-Length: 99999999999999999999999\r\n", "Transfer-Encoding: chunked\r\n"}) {
        INFO(bad);
        CHECK_FALSE(head("200 OK", bad));
    }
    for (auto bad : {"bytes 10-14/16x", "bytes 10-13/15", "bytes 14-10/15", "bytes 10-14/14",
                     "bytes */15", "items 10-14/15", "10-14/15", ""}) {
        INFO(bad);
        CHECK_FALSE(head("206 x", fmt::format("Content-Length: 5\r\nContent-Range: {}\r\n", bad)));
    }
    for (auto bad : {"", "HTTP/2 200\r\n", "HTTP/1.1 20\r\n", "HTTP/1.1 2000\r\n", "SSH-2.0-x\r\n",
                     "HTTP/1.1 099 x\r\n"})
        CHECK_FALSE(parse_answer_head(bad));
}
