#include "dhcp/event.h"

namespace vmhost::dhcp {

std::string_view name_of(Drop drop) {
    switch (drop) {
    case Drop::none:
        return "none";
    case Drop::unknown_network:
        return "unknown-network";
    case Drop::unknown_guest:
        return "unknown-guest";
    case Drop::other_network:
        return "other-network";
    case Drop::rate_limited:
        return "rate-limited";
    case Drop::bad_frame:
        return "bad-frame";
    case Drop::malformed:
        return "malformed";
    case Drop::server_port:
        return "server-port";
    case Drop::server_message:
        return "server-message";
    case Drop::relayed:
        return "relayed";
    case Drop::hardware_type:
        return "hardware-type";
    case Drop::spoofed:
        return "spoofed";
    case Drop::no_address:
        return "no-address";
    case Drop::other_server:
        return "other-server";
    case Drop::wrong_address:
        return "wrong-address";
    case Drop::off_link:
        return "off-link";
    case Drop::unexpected_type:
        return "unexpected-type";
    case Drop::no_free_address:
        return "no-free-address";
    case Drop::declines:
        return "declines";
    case Drop::not_stored:
        return "not-stored";
    }
    return "none";
}

std::string_view name_of(EventKind kind) {
    constexpr std::string_view names[event_kinds] = {"offered",  "acknowledged", "refused",
                                                     "informed", "booted",       "released",
                                                     "declined", "dropped"};
    return names[static_cast<std::size_t>(kind)];
}

namespace {

std::string_view verb(EventKind kind) {
    switch (kind) {
    case EventKind::offered:
        return "offered";
    case EventKind::acknowledged:
        return "acknowledged";
    case EventKind::refused:
        return "refused";
    case EventKind::informed:
        return "informed";
    case EventKind::booted:
        return "answered BOOTP with";
    case EventKind::released:
        return "released";
    case EventKind::declined:
        return "declined";
    case EventKind::dropped:
        return "dropped";
    }
    return "";
}

} // namespace

std::string text(const Event& event) {
    auto line =
        fmt::format("{}: {} ({}): {}", event.network, event.vm.empty() ? event.client : event.vm,
                    event.mac.text(), verb(event.kind));
    if (event.kind == EventKind::dropped)
        line += fmt::format(", {}", name_of(event.drop));
    else if (!event.address.is_zero())
        line += " " + event.address.text();
    if (!event.detail.empty())
        line += ": " + event.detail;
    line += fmt::format(" (xid {:08x})", event.xid);
    if (!event.warning.empty())
        line += "; warning: " + event.warning;
    if (event.suppressed > 0)
        line += fmt::format("; {} lines were left out before this one", event.suppressed);
    return line;
}

void log_event(const Event& event) {
    if (!event.log)
        return;
    // A message for another server is everyday life on a shared wire.
    if (event.drop == Drop::other_server)
        log::debug("dhcp", "{}", text(event));
    else if (event.kind == EventKind::dropped || !event.warning.empty())
        log::warning("dhcp", "{}", text(event));
    else
        log::info("dhcp", "{}", text(event));
}

} // namespace vmhost::dhcp
