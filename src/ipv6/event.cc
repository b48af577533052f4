#include "ipv6/event.h"

namespace vmhost::ipv6 {

std::string_view name_of(EventKind kind) {
    constexpr std::string_view names[event_kinds] = {"solicited", "offered",  "acknowledged",
                                                     "refused",   "informed", "released",
                                                     "declined",  "dropped"};
    return names[static_cast<std::size_t>(kind)];
}

std::string_view name_of(Drop drop) {
    constexpr std::string_view names[drop_kinds] = {
        "none",       "unknown-network", "unknown-guest",  "rate-limited", "bad-frame",
        "malformed",  "hop-limit",       "spoofed",        "not-served",   "server-message",
        "no-address", "other-server",    "unexpected-type"};
    return names[static_cast<std::size_t>(drop)];
}

std::string text(const Event& event) {
    auto line = fmt::format("{}: {} ({}): {}", event.network,
                            event.vm.empty() ? "unknown sender" : event.vm, event.mac.text(),
                            event.kind == EventKind::solicited ? "asked for a router"
                                                               : name_of(event.kind));
    if (event.kind == EventKind::dropped)
        line += fmt::format(", {}", name_of(event.drop));
    else if (!event.address.is_zero())
        line += " " + event.address.text();
    if (!event.detail.empty())
        line += ": " + event.detail;
    if (!event.warning.empty())
        line += "; warning: " + event.warning;
    if (event.suppressed > 0)
        line += fmt::format("; {} lines were left out before this one", event.suppressed);
    return line;
}

void log_event(const Event& event) {
    if (!event.log)
        return;
    // Solicitations, and messages for other servers, are everyday life on a shared wire.
    if (event.drop == Drop::other_server || event.kind == EventKind::solicited)
        log::debug("ipv6", "{}", text(event));
    else if (event.kind == EventKind::dropped || !event.warning.empty())
        log::warning("ipv6", "{}", text(event));
    else
        log::info("ipv6", "{}", text(event));
}

} // namespace vmhost::ipv6
