#include "base/log.h"

#include <cstdlib>
#include <ctime>
#include <map>
#include <mutex>
#include <sys/stat.h>
#include <unistd.h>

namespace vmhost::log {

namespace {

// systemd names the stream by device and inode; standard error may have been put elsewhere since.
bool stderr_is_journal() {
    const char* named = std::getenv("JOURNAL_STREAM");
    struct stat stream {};
    return named != nullptr && ::fstat(STDERR_FILENO, &stream) == 0 &&
           fmt::format("{}:{}", stream.st_dev, stream.st_ino) == named;
}

struct State {
    std::mutex mutex;
    std::string role;
    std::string specification;
    Level fallback = Level::info;
    std::map<std::string, Level, std::less<>> rooms;
    bool journal = stderr_is_journal();
};

State& state() {
    static State one;
    return one;
}

} // namespace

Result<Level> parse_level(std::string_view text) {
    if (text == "error")
        return Level::error;
    if (text == "warning")
        return Level::warning;
    if (text == "notice")
        return Level::notice;
    if (text == "info")
        return Level::info;
    if (text == "debug")
        return Level::debug;
    return fail(ErrorKind::invalid, "\"{}\" is no log level: error, warning, notice, info or debug",
                text);
}

void set_role(std::string_view role) {
    std::lock_guard lock(state().mutex);
    state().role = role;
}

void set_level(std::string_view room, Level level) {
    std::lock_guard lock(state().mutex);
    if (room.empty())
        state().fallback = level;
    else
        state().rooms.insert_or_assign(std::string(room), level);
}

Result<void> set_levels(std::string_view specification) {
    const std::string whole(specification);
    { // whatever was set before is forgotten
        std::lock_guard lock(state().mutex);
        state().fallback = Level::info;
        state().rooms.clear();
    }
    while (!specification.empty()) {
        auto comma = specification.find(',');
        auto item = specification.substr(0, comma);
        specification = comma == std::string_view::npos ? "" : specification.substr(comma + 1);
        auto equals = item.find('=');
        if (equals == std::string_view::npos)
            set_level("", TRY(parse_level(item)));
        else
            set_level(item.substr(0, equals), TRY(parse_level(item.substr(equals + 1))));
    }
    std::lock_guard lock(state().mutex);
    state().specification = whole;
    return {};
}

std::string levels() {
    std::lock_guard lock(state().mutex);
    return state().specification;
}

bool enabled(std::string_view room, Level level) {
    auto& one = state();
    std::lock_guard lock(one.mutex);
    auto found = one.rooms.find(room);
    return level <= (found == one.rooms.end() ? one.fallback : found->second);
}

void write(std::string_view room, Level level, std::string_view text) {
    auto& one = state();
    std::string line;
    {
        std::lock_guard lock(one.mutex);
        if (one.journal) {
            line = fmt::format("<{}>{} {}: ", static_cast<int>(level), one.role, room);
        } else {
            timespec now{};
            ::clock_gettime(CLOCK_REALTIME, &now);
            tm parts{};
            ::localtime_r(&now.tv_sec, &parts);
            line = fmt::format("{:02}:{:02}:{:02}.{:03} {} {}: ", parts.tm_hour, parts.tm_min,
                               parts.tm_sec, now.tv_nsec / 1'000'000, one.role, room);
        }
    }
    if (level <= Level::warning && !one.journal)
        line += level == Level::error ? "error: " : "warning: ";
    for (char c : text)
        line += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    line += '\n';
    // One write per line, so that lines of several processes do not mix.
    [[maybe_unused]] auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

} // namespace vmhost::log
