// What a handler is asked and what it answers.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/base.h"

namespace vmhost::http {

// What the client has already, as sent; empty: not said (RFC 9110 §13, §14.2).
struct Conditions {
    std::string if_match, if_none_match;
    std::string if_modified_since, if_unmodified_since;
    std::string range, if_range;
};

struct Request {
    std::string method; // "GET" or "HEAD"; the server answers every other itself
    std::string path;   // decoded once, canonical: begins with '/', no "//", "/./", "/../"
    std::string query;  // raw, without the '?'
    std::string host;   // lower-case, without the port; empty if the client named none
    IpAddress peer;
    IpAddress local;
    std::uint16_t local_port = 0;
    std::uint64_t connection_id = 0; // never used twice by one Server
    Conditions conditions;
};

// A part of a regular file, whose bytes go from the page cache to the socket. A file that turns out
// to be shorter ends its connection: nothing is made up.
struct FileBody {
    std::shared_ptr<const Fd> file;
    std::shared_ptr<const std::string> content; // of the whole file; null: only the file has it
    std::uint64_t offset = 0;                   // bytes
    std::uint64_t length = 0;                   // bytes
};

struct Response {
    int status = 200;
    std::string content_type = "text/plain";
    std::string body;
    std::optional<FileBody> file; // in place of body
    std::string vm;               // whose own it is, for the log
    // Beyond Date, Server, Content-Type, Content-Length, Connection and
    // X-Content-Type-Options, which the server writes.
    std::vector<std::pair<std::string, std::string>> headers;
};

// "Not Found"; "Unknown" for a number we never send.
std::string_view reason_of(int status);

// A small HTML page with the status.
Response error_response(int status);

// Every field is one line, and its name a name.
bool has_sound_fields(const Response& response);
// What is sent of it without its file; empty when that is what has it.
std::string_view body_in_memory(const Response& response);
// Appends status line, fields and, unless head_only, the body as far as it is in memory. A response
// whose fields are not sound must not come here: one could break out of its line.
void append_response(std::string& out, const Response& response, std::string_view server_name,
                     std::int64_t now_unix_seconds, bool keep_alive, bool head_only);

} // namespace vmhost::http
