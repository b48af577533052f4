// What a handler is asked and what it answers.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/base.h"

namespace vmhost::http {

struct Request {
    std::string method; // "GET" or "HEAD"; the server answers every other itself
    std::string path;   // decoded once, canonical: begins with '/', no "//", "/./", "/../"
    std::string query;  // raw, without the '?'
    std::string host;   // lower-case, without the port; empty if the client named none
    Ipv4 peer;
    Ipv4 local;
    std::uint16_t local_port = 0;
    std::uint64_t connection_id = 0; // never used twice by one Server
};

struct Response {
    int status = 200;
    std::string content_type = "text/plain";
    std::string body;
    // Beyond Date, Server, Content-Type, Content-Length, Connection and
    // X-Content-Type-Options, which the server writes.
    std::vector<std::pair<std::string, std::string>> headers;
};

// "Not Found"; "Unknown" for a number we never send.
std::string_view reason_of(int status);

// A small HTML page with the status.
Response error_response(int status);

// Sun, 06 Nov 1994 08:49:37 GMT (RFC 9110 §5.6.7).
std::string http_date(std::int64_t unix_seconds);

// Status line, fields and, unless head_only, the body. A field that could break
// out of its line turns the answer into a 500.
std::string response_bytes(const Response& response, std::string_view server_name,
                           std::int64_t now_unix_seconds, bool keep_alive, bool head_only);

} // namespace vmhost::http
