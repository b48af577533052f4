#include "http/access_log.h"

#include <array>
#include <cerrno>
#include <ctime>

namespace vmhost::http {

namespace {

constexpr std::chrono::milliseconds flush_interval{1000};
constexpr std::size_t max_kept_bytes = 64 << 10;
constexpr std::size_t max_shown_bytes = 1024; // of each text of a client

std::string log_date(std::int64_t unix_seconds) {
    static constexpr std::array months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = unix_seconds;
    tm parts{};
    ::gmtime_r(&seconds, &parts);
    return fmt::format("{:02}/{}/{}:{:02}:{:02}:{:02} +0000", parts.tm_mday,
                       months[static_cast<std::size_t>(parts.tm_mon)], parts.tm_year + 1900,
                       parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string shown(std::string_view text) {
    const bool cut = text.size() > max_shown_bytes;
    return printable(text.substr(0, max_shown_bytes), 4 * max_shown_bytes + 1) + (cut ? "..." : "");
}

std::string quoted(std::string_view text) {
    return text.empty() ? "\"-\"" : fmt::format("\"{}\"", shown(text));
}

} // namespace

AccessLog::AccessLog(Loop& loop) : flush_(loop, [this] { flush(); }) {}

AccessLog::~AccessLog() {
    flush();
}

void AccessLog::open(Fd file) {
    flush();
    file_ = std::move(file);
    failed_ = false;
}

void AccessLog::add(const Access& access, std::int64_t now_unix_seconds) {
    if (!file_)
        return;
    if (now_unix_seconds != std::exchange(second_, now_unix_seconds)) {
        if (lines_in_second_ > limits::max_http_access_lines_per_second)
            log::notice("http", "{} lines of the access log are left out within a second",
                        lines_in_second_ - limits::max_http_access_lines_per_second);
        lines_in_second_ = 0;
    }
    if (++lines_in_second_ > limits::max_http_access_lines_per_second)
        return;
    if (lines_.empty())
        flush_.start(flush_interval);
    lines_ += access_line(access, now_unix_seconds);
    if (lines_.size() >= max_kept_bytes)
        flush();
}

void AccessLog::flush() {
    flush_.stop();
    auto lines = std::exchange(lines_, {});
    std::string_view rest = lines;
    while (file_ && !rest.empty()) {
        auto count = ::write(file_.get(), rest.data(), rest.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            if (!std::exchange(failed_, true))
                log::error("http", "{}", Error::system(errno, "write the access log").text());
            return;
        }
        rest.remove_prefix(static_cast<std::size_t>(count));
        failed_ = false;
    }
}

std::string access_line(const Access& access, std::int64_t now_unix_seconds) {
    auto request = access.method.empty()
                       ? std::string("\"-\"")
                       : fmt::format("\"{} {} HTTP/1.{}\"", printable(access.method),
                                     shown(access.target), access.http_1_0 ? 0 : 1);
    return fmt::format("{} - {} [{}] {} {} {} {} {}\n", access.peer.text(),
                       access.vm.empty() ? "-" : access.vm, log_date(now_unix_seconds), request,
                       access.status, access.body_bytes, quoted(access.referer),
                       quoted(access.user_agent));
}

} // namespace vmhost::http
