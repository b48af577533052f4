#include "role/sets_sent.h"

namespace vmhost::role {

namespace {

constexpr std::uint64_t interval_ms = 1000;
// Each is a connection's; who would keep more than there can be loses only how far they are.
constexpr std::size_t max_going = limits::max_http_connections;

} // namespace

void SetsSent::sent(Ipv4 to, const std::string& set, std::uint64_t bytes, bool ended,
                    std::uint64_t now_ms) {
    const auto key = std::pair(to.value, set);
    auto going = going_.find(key);
    if (going != going_.end())
        bytes += going->second.bytes;
    if (ended) {
        if (going != going_.end())
            going_.erase(going);
        if (bytes > 0)
            tell_(to, set, bytes);
        return;
    }
    if (going == going_.end()) {
        if (going_.size() >= max_going)
            going_.clear();
        going_.emplace(key, Going{0, now_ms});
        return tell_(to, set, bytes);
    }
    going->second.bytes = bytes;
    if (now_ms - going->second.told_ms < interval_ms)
        return;
    going->second = {0, now_ms};
    tell_(to, set, bytes);
}

} // namespace vmhost::role
