// Responses as bytes (RFC 9110, RFC 9112 §4).

#include "http/message.h"

#include <iterator>
#include <utility>

#include <fmt/compile.h>

#include "http/date.h"

namespace vmhost::http {

namespace {

constexpr std::pair<int, std::string_view> reasons[] = {
    {200, "OK"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {426, "Upgrade Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
};

// Of the second that it is: made once.
std::string_view date_of(std::int64_t unix_seconds) {
    thread_local std::int64_t of = -1;
    thread_local std::string text;
    if (std::exchange(of, unix_seconds) != unix_seconds)
        text = http_date(unix_seconds);
    return text;
}

bool fits_a_line(std::string_view text) {
    bool fits = true; // without a way out in the middle, which would be a jump for each character
    for (char c : text)
        fits &= static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
    return fits;
}

} // namespace

bool has_sound_fields(const Response& response) {
    for (const auto& [name, value] : response.headers)
        if (name.empty() || !fits_a_line(name) || !fits_a_line(value) ||
            name.find_first_of(": ") != std::string::npos)
            return false;
    return fits_a_line(response.content_type);
}

std::string_view reason_of(int status) {
    for (const auto& [number, text] : reasons)
        if (number == status)
            return text;
    return "Unknown";
}

Response error_response(int status) {
    Response response;
    response.status = status;
    response.content_type = "text/html; charset=utf-8";
    response.body = fmt::format("<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>{0} {1}</title>"
                                "</head>\n<body><h1>{0} {1}</h1></body>\n</html>\n",
                                status, reason_of(status));
    return response;
}

std::string_view body_in_memory(const Response& response) {
    const auto& file = response.file;
    if (!file)
        return response.body;
    return file->content ? std::string_view(*file->content).substr(file->offset, file->length)
                         : std::string_view();
}

void append_response(std::string& out, const Response& response, std::string_view server_name,
                     std::int64_t now_unix_seconds, bool keep_alive, bool head_only) {
    const bool has_body = response.status != 204 && response.status != 304;
    const auto body = body_in_memory(response);
    const bool sends_body = has_body && !head_only;
    const std::uint64_t length = response.file ? response.file->length : response.body.size();
    out.reserve(out.size() + 512 + (sends_body ? body.size() : 0));
    auto end = std::back_inserter(out);
    // Compiled formats: to read them for each answer was a tenth of what a small file costs.
    fmt::format_to(end, FMT_COMPILE("HTTP/1.1 {} {}\r\nDate: {}\r\nServer: {}\r\n"),
                   response.status, reason_of(response.status), date_of(now_unix_seconds),
                   server_name);
    if (has_body)
        fmt::format_to(end, FMT_COMPILE("Content-Type: {}\r\nContent-Length: {}\r\n"),
                       response.content_type, length);
    for (const auto& [name, value] : response.headers)
        fmt::format_to(end, FMT_COMPILE("{}: {}\r\n"), name, value);
    out += "X-Content-Type-Options: nosniff\r\nConnection: ";
    out += keep_alive ? "keep-alive\r\n\r\n" : "close\r\n\r\n";
    if (sends_body)
        out += body;
}

} // namespace vmhost::http
