// Request heads: what is taken, and every way to be refused.

#include <catch2/catch.hpp>

#include "http/parser.h"

using namespace vmhost;
using namespace vmhost::http;

namespace {

constexpr std::string_view host = "Host: a\r\n";

std::string get(std::string_view target, std::string_view fields = host) {
    return "GET " + std::string(target) + " HTTP/1.1\r\n" + std::string(fields) + "\r\n";
}

int refusal(std::string_view text) {
    auto parsed = parse_head(text);
    if (parsed.head)
        return 200;
    return parsed.refusal ? parsed.refusal->status : 0; // 0: wants more
}

Head head(std::string_view text) {
    auto parsed = parse_head(text);
    INFO(text);
    REQUIRE(parsed.head);
    CHECK(parsed.used_bytes == text.size());
    return *parsed.head;
}

} // namespace

TEST_CASE("what the installer sends") {
    auto parsed = head("GET /fe:e1:bb:f1:c8:13-install.conf?path=7.8/amd64 HTTP/1.1\r\n"
                       "Connection: close\r\nHost: 10.0.0.1\r\nUser-Agent: OpenBSD ftp\r\n"
                       "Accept: */*\r\n\r\n");
    CHECK(parsed.method == "GET");
    CHECK(parsed.path == "/fe:e1:bb:f1:c8:13-install.conf");
    CHECK(parsed.query == "path=7.8/amd64");
    CHECK(parsed.host == "10.0.0.1");
    CHECK_FALSE(parsed.keep_alive);
    CHECK_FALSE(parsed.has_body);
}

TEST_CASE("paths are decoded once and kept inside the root") {
    auto [target, path] = GENERATE(table<std::string, std::string>({
        {"/", "/"},
        {"/a%20b", "/a b"},
        {"/a//b///c", "/a/b/c"},
        {"/./a/./b/.", "/a/b/"},
        {"/a/../b", "/b"},
        {"/a/b/..", "/a/"},
        {"/../../etc/passwd", "/etc/passwd"},
        {"/%2e%2e/%2e%2e/etc/passwd", "/etc/passwd"},
        {"/..%2f..%2fetc/passwd", "/etc/passwd"},
        {"/a/..//..//x", "/x"},
        {"/%252e%252e/x", "/%2e%2e/x"},
        {"/a\\..\\b", "/a\\..\\b"},
        {"/...", "/..."},
        {"/fe%3ae1-install.conf", "/fe:e1-install.conf"},
        {"http://a/x/../y?q", "/y"},
        {"HTTP://a", "/"},
        {"http://a?q", "/"},
    }));
    INFO(target);
    CHECK(head(get(target)).path == path);
}

TEST_CASE("the query stays raw") {
    CHECK(head(get("/a?b%20c?d=/../")).query == "b%20c?d=/../");
    CHECK(head(get("/a?")).query.empty());
    CHECK(head(get("http://a?q=1")).query == "q=1");
}

TEST_CASE("bad targets") {
    auto target = GENERATE("/%", "/%4", "/%zz", "/%00", "/a%0d%0aX: y", "/%7f", "*", "a", "",
                           "/\x01", "/\x80", "/a#b", "ftp://a/", "http://", "http://a b/",
                           "http://[::1/x", "https://a/");
    INFO(target);
    CHECK(refusal(get(target)) == 400);
}

TEST_CASE("request lines") {
    CHECK(refusal("GET / HTTP/1.0\r\n\r\n") == 200);
    CHECK(refusal("GET / HTTP/1.9\r\nHost: a\r\n\r\n") == 200);
    CHECK(refusal("GET / HTTP/2.0\r\nHost: a\r\n\r\n") == 505);
    CHECK(refusal("GET / HTTP/0.9\r\n\r\n") == 505);
    CHECK(refusal("GET / HTTP/1.1 \r\nHost: a\r\n\r\n") == 400);
    CHECK(refusal("GET / HTTP/11\r\nHost: a\r\n\r\n") == 400);
    CHECK(refusal("GET / http/1.1\r\nHost: a\r\n\r\n") == 400);
    CHECK(refusal("GET /\r\n\r\n") == 400);
    CHECK(refusal("GET\r\n\r\n") == 400);
    CHECK(refusal("GET  / HTTP/1.1\r\nHost: a\r\n\r\n") == 400);
    CHECK(refusal("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n") == 400);
    CHECK(refusal("BREW / HTTP/1.1\r\nHost: a\r\n\r\n") == 501);
    CHECK(refusal("get / HTTP/1.1\r\nHost: a\r\n\r\n") == 501);
    CHECK(refusal("G(T / HTTP/1.1\r\nHost: a\r\n\r\n") == 400);
    CHECK(refusal(" GET / HTTP/1.1\r\nHost: a\r\n\r\n") == 400);
    CHECK(refusal("\x16\x03\x01") == 400); // TLS on the plain port
    CHECK(head("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").path == "/");
}

TEST_CASE("lines end in CRLF and nothing else") {
    CHECK(refusal("GET / HTTP/1.1\nHost: a\n\n") == 400);
    CHECK(refusal("GET / HTTP/1.1\r\nHost: a\n\r\n") == 400);
    CHECK(refusal("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n") == 400);
    CHECK(refusal("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n") == 400);
    CHECK(refusal("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n") == 400);
}

TEST_CASE("fields") {
    CHECK(refusal(get("/", "Host : a\r\n")) == 400);
    CHECK(refusal(get("/", "Host: a\r\n folded\r\n")) == 400);
    CHECK(refusal(get("/", "Host: a\r\nno colon\r\n")) == 400);
    CHECK(refusal(get("/", "Host: a\r\n: x\r\n")) == 400);
    CHECK(refusal(get("/", std::string_view("Host: a\r\nX: a\0b\r\n", 17))) == 400);
    CHECK(refusal(get("/", "Host: a\r\nX: tab\there\r\n")) == 200);
    CHECK(refusal(get("/", "Host: a\r\nX:\r\n")) == 200);
    std::string many(host);
    for (std::size_t i = 1; i < limits::max_http_fields; ++i)
        many += "X: y\r\n";
    CHECK(refusal(get("/", many)) == 200);
    CHECK(refusal(get("/", many + "X: y\r\n")) == 431);
}

TEST_CASE("hosts") {
    CHECK(refusal(get("/", "")) == 400);
    CHECK(refusal(get("/", "Host: a\r\nHost: a\r\n")) == 400);
    CHECK(refusal(get("/", "Host:\r\n")) == 400);
    CHECK(refusal(get("/", "Host: a/b\r\n")) == 400);
    CHECK(refusal(get("/", "Host: a:b\r\n")) == 400);
    CHECK(refusal(get("/", "Host: a:99999\r\n")) == 400);
    CHECK(refusal(get("/", "Host: u@a\r\n")) == 400);
    CHECK(head(get("/", "HOST:  Example.ORG:8080 \r\n")).host == "example.org");
    CHECK(head(get("/", "Host: a:8080\r\n")).host_port == 8080);
    CHECK(head(get("/", "Host: [::1]:80\r\n")).host == "[::1]");
    CHECK(head(get("http://b:81/", "Host: a\r\n")).host == "b");
    CHECK(head("GET / HTTP/1.0\r\n\r\n").host.empty());
}

TEST_CASE("requests that two servers could read differently are refused") {
    auto fields = [](std::string_view more) { return std::string(host) + std::string(more); };
    CHECK(refusal(get("/", fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"))) == 400);
    CHECK(refusal(get("/", fields("Content-Length: 1, 2\r\n"))) == 400);
    CHECK(refusal(get("/", fields("Content-Length: 1\r\nContent-Length: 2\r\n"))) == 400);
    CHECK(refusal(get("/", fields("Content-Length: 5\r\nContent-Length: 5\r\n"))) == 400);
    for (auto bad : {"-1", "+1", "0x10", "1e3", "", "5 5", "99999999999999999999999"})
        CHECK(refusal(get("/", fields("Content-Length: " + std::string(bad) + "\r\n"))) == 400);
    CHECK(refusal(get("/", fields("Content-Length : 5\r\n"))) == 400);
    CHECK(refusal(get("/", fields("Transfer-Encoding : chunked\r\n"))) == 400);
    CHECK(refusal(get("/", fields("Transfer-Encoding: \x0b"
                                  "chunked\r\n"))) == 400);
    CHECK(refusal(get("/", fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"))) ==
          400);
    CHECK(refusal(get("/", fields("Transfer-Encoding: gzip, chunked\r\n"))) == 501);
    CHECK(refusal(get("/", fields("Transfer-Encoding: identity\r\n"))) == 501);
    CHECK(refusal("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == 400);
    CHECK(head(get("/", fields("Transfer-Encoding:  Chunked \r\n"))).has_body);
    CHECK(refusal(get("/", fields("Content-Length: 1048577\r\n"))) == 413);
    CHECK(head(get("/", fields("Content-Length: 1048576\r\n"))).body_bytes == 1048576);
    CHECK_FALSE(head(get("/", fields("Content-Length: 0\r\n"))).has_body);
}

TEST_CASE("persistence") {
    auto keeps = [](std::string_view version, std::string_view fields) {
        return head("GET / HTTP/" + std::string(version) + "\r\nHost: a\r\n" + std::string(fields) +
                    "\r\n")
            .keep_alive;
    };
    CHECK(keeps("1.1", ""));
    CHECK_FALSE(keeps("1.1", "Connection: close\r\n"));
    CHECK_FALSE(keeps("1.1", "Connection: keep-alive, CLOSE\r\n"));
    CHECK_FALSE(keeps("1.1", "Connection: x\r\nConnection: close\r\n"));
    CHECK(keeps("1.1", "Connection: closed\r\n"));
    CHECK_FALSE(keeps("1.0", ""));
    CHECK(keeps("1.0", "Connection: Keep-Alive\r\n"));
    CHECK(refusal(get("/", "Host: a\r\nExpect: 100-Continue\r\n")) == 200);
    CHECK(refusal(get("/", "Host: a\r\nExpect: tea\r\n")) == 417);
}

TEST_CASE("long heads") {
    auto long_target = [](std::size_t size) { return get("/" + std::string(size - 1, 'a')); };
    CHECK(refusal(long_target(limits::max_http_target_bytes)) == 200);
    CHECK(refusal(long_target(limits::max_http_target_bytes + 1)) == 414);
    CHECK(refusal(long_target(limits::max_http_head_bytes)) == 414);
    CHECK(refusal(std::string(limits::max_http_head_bytes - 1, 'G')) == 0);
    CHECK(refusal(std::string(limits::max_http_head_bytes, 'G')) == 414);

    auto whole = get("/", "Host: a\r\nX: \r\n");
    auto padded = [&](std::size_t size) {
        return get("/", "Host: a\r\nX: " + std::string(size - whole.size(), 'x') + "\r\n");
    };
    CHECK(refusal(padded(limits::max_http_head_bytes)) == 200);
    CHECK(refusal(padded(limits::max_http_head_bytes + 1)) == 431);
    auto unfinished = padded(9000).substr(0, 8192);
    CHECK(refusal(unfinished) == 431);
    // Empty lines in front count too: nobody gets a larger buffer by them.
    std::string lines;
    while (lines.size() < limits::max_http_head_bytes)
        lines += "\r\n";
    CHECK(refusal(lines) >= 400);
}

TEST_CASE("a head is not taken before its last byte") {
    auto text = get("/a?b", "Host: a:80\r\nConnection: close\r\n");
    for (std::size_t size = 0; size < text.size(); ++size)
        CHECK(refusal(std::string_view(text).substr(0, size)) == 0);
    auto two = text + text;
    CHECK(parse_head(two).used_bytes == text.size());
}
