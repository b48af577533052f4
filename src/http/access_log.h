// Who asked for what, a line each, in the form that log analysers know ("combined"):
//
//   10.9.8.20 - vm13 [22/Nov/2026:07:40:01 +0000] "GET /a?b HTTP/1.1" 200 1234 "referer" "agent"
//
// The third word is the VM whose answer file was asked for, by the VM itself. Lines are kept for up
// to a second, so that a file is written to seldom; what cannot be written is lost, and said so
// once. Of more than limits::max_http_access_lines_per_second the rest is left out.
//
// Thread: that of the server.
#pragma once

#include "http/server.h"

namespace vmhost::http {

class AccessLog {
public:
    explicit AccessLog(Loop& loop);
    ~AccessLog(); // writes what is kept

    // Opened to append. Without one, nothing is kept.
    void open(Fd file);
    void add(const Access& access, std::int64_t now_unix_seconds);

private:
    void flush();

    Fd file_;
    std::string lines_;
    bool failed_ = false;
    std::int64_t second_ = 0; // of the last line
    unsigned lines_in_second_ = 0;
    Timer flush_;
};

// With the line feed. Whatever a client said is one word or between quotes.
std::string access_line(const Access& access, std::int64_t now_unix_seconds);

} // namespace vmhost::http
