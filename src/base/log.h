// Log lines to standard error, one line each, with a level per room.
//
// On a terminal or a pipe: "TIME ROLE ROOM: text". Under systemd (JOURNAL_STREAM
// names our standard error) the line begins with "<N>" so that the journal takes the level, and has
// no time. Text from outside must go through printable() first; a line feed in a line is escaped
// here as the last defence. Callable from any thread.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"

namespace vmhost::log {

// syslog(3)'s numbers.
enum class Level : int { error = 3, warning = 4, notice = 5, info = 6, debug = 7 };

Result<Level> parse_level(std::string_view text);

// What a line is prefixed with from now on: "parent", "vm/a".
void set_role(std::string_view role);
// Lines of a room above its level are dropped; an empty room sets the default (info).
void set_level(std::string_view room, Level level);
// "info" or "info,dhcp=debug,virtio=warning": as given with --log.
Result<void> set_levels(std::string_view specification);
// What set_levels was given, to hand on to a child process.
std::string levels();

bool enabled(std::string_view room, Level level);
void write(std::string_view room, Level level, std::string_view text);

template <class... Args>
void error(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
    write(room, Level::error, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warning(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
    if (enabled(room, Level::warning))
        write(room, Level::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void notice(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
    if (enabled(room, Level::notice))
        write(room, Level::notice, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
    if (enabled(room, Level::info))
        write(room, Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void debug(std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
    if (enabled(room, Level::debug))
        write(room, Level::debug, fmt::format(format, std::forward<Args>(args)...));
}

} // namespace vmhost::log
