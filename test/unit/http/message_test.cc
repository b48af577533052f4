#include <catch2/catch.hpp>

#include "http/access_log.h"

using namespace vmhost;
using namespace vmhost::http;

TEST_CASE("a line of the access log cannot be made two, nor a word too many") {
    Access access;
    access.peer = Ipv4{0x0a090814};
    access.method = "GET";
    access.target = "/a%20b\"?q=1";
    access.status = 200;
    access.body_bytes = 1234;
    access.user_agent = "curl\" 500 \x7f";
    access.vm = "vm13";
    CHECK(access_line(access, 784111777) ==
          "10.9.8.20 - vm13 [06/Nov/1994:08:49:37 +0000] \"GET /a%20b\\x22?q=1 HTTP/1.1\" 200 "
          "1234 \"-\" \"curl\\x22 500 \\x7f\"\n");
    access.target = "/" + std::string(5000, 'x');
    auto line = access_line(access, 0);
    CHECK(line.size() < 1300);
    CHECK(line.find("xx... HTTP/1.1\" 200") != std::string::npos);
    CHECK(access_line({}, 0).starts_with(
        "0.0.0.0 - - [01/Jan/1970:00:00:00 +0000] \"-\" 0 0 \"-\" \"-\"\n"));
}

namespace {
std::string response_bytes(const Response& response, bool keep_alive, bool head_only) {
    std::string out;
    append_response(out, response, "test", 0, keep_alive, head_only);
    return out;
}
} // namespace

TEST_CASE("a response as bytes") {
    Response response;
    response.body = "hello\n";
    response.headers.emplace_back("Cache-Control", "no-store");
    const std::string head = "HTTP/1.1 200 OK\r\n"
                             "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                             "Server: test\r\n"
                             "Content-Type: text/plain\r\n"
                             "Content-Length: 6\r\n"
                             "Cache-Control: no-store\r\n"
                             "X-Content-Type-Options: nosniff\r\n"
                             "Connection: close\r\n\r\n";
    CHECK(response_bytes(response, false, false) == head + "hello\n");
    CHECK(response_bytes(response, false, true) == head);
    response.status = 304;
    auto text = response_bytes(response, true, false);
    CHECK(text.find("Content-Length") == std::string::npos);
    CHECK(text.ends_with("Connection: keep-alive\r\n\r\n"));
}

TEST_CASE("of a file that is in memory the part that is asked for goes with its head") {
    Response response;
    response.file = FileBody{nullptr, std::make_shared<std::string>("0123456789"), 0, 10};
    auto text = response_bytes(response, true, false);
    CHECK(text.find("Content-Length: 10\r\n") != std::string::npos);
    CHECK(text.ends_with("\r\n\r\n0123456789"));
    CHECK(response_bytes(response, true, true).ends_with("\r\n\r\n"));
    response.file->offset = 6;
    response.file->length = 3;
    CHECK(body_in_memory(response) == "678");
    CHECK(response_bytes(response, true, false)
              .ends_with("Content-Length: 3\r\n"
                         "X-Content-Type-Options: nosniff\r\n"
                         "Connection: keep-alive\r\n\r\n678"));
    response.file = FileBody{nullptr, std::make_shared<std::string>(), 0, 0};
    CHECK(response_bytes(response, true, false).ends_with("\r\n\r\n"));
    response.file = FileBody{nullptr, nullptr, 0, 10};
    CHECK(body_in_memory(response).empty());
    CHECK(response_bytes(response, true, false).ends_with("\r\n\r\n"));
}

TEST_CASE("a field cannot break out of its line") {
    for (auto value : {"a\r\nSet-Cookie: x", "a\nb", "a\rb"}) {
        Response response;
        response.headers.emplace_back("Location", value);
        CHECK_FALSE(has_sound_fields(response));
        Response of_type;
        of_type.content_type = value;
        CHECK_FALSE(has_sound_fields(of_type));
    }
    for (auto name : {"X: y", "X y", ""}) {
        Response response;
        response.headers.emplace_back(name, "z");
        CHECK_FALSE(has_sound_fields(response));
    }
}

TEST_CASE("every status that is sent has its reason") {
    for (int status :
         {200, 204, 301, 304, 400, 403, 404, 405, 408, 413, 414, 417, 429, 431, 500, 501, 503, 505})
        CHECK(reason_of(status) != "Unknown");
    CHECK(error_response(404).body.find("404 Not Found") != std::string::npos);
}
