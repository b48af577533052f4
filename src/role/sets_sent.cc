#include "role/sets_sent.h"

#include <utility>

namespace vmhost::role {

// Each is a connection's; who would keep more than there can be loses only how far they are.
constexpr std::size_t max_going = limits::max_http_connections;

void SetsSent::sent(Ipv4 to, const std::string& set, std::uint64_t bytes, std::uint64_t now_ms) {
    if (bytes == 0)
        return;
    Key key(to.value, set);
    auto going = going_.find(key);
    if (going == going_.end()) {
        if (going_.size() >= max_going)
            going_.clear();
        going = going_.emplace(std::move(key), Going{bytes, now_ms}).first;
        return tell(going->first, going->second, now_ms);
    }
    going->second.bytes += bytes;
    if (now_ms - going->second.told_ms >= interval_ms)
        tell(going->first, going->second, now_ms);
}

bool SetsSent::tell_due(std::uint64_t now_ms) {
    for (auto one = going_.begin(); one != going_.end();) {
        auto& [key, going] = *one;
        if (now_ms - going.told_ms >= interval_ms && going.bytes == 0) {
            one = going_.erase(one);
            continue;
        }
        if (now_ms - going.told_ms >= interval_ms)
            tell(key, going, now_ms);
        ++one;
    }
    return !going_.empty();
}

void SetsSent::tell(const Key& key, Going& going, std::uint64_t now_ms) {
    going.told_ms = now_ms;
    tell_(Ipv4{key.first}, key.second, std::exchange(going.bytes, 0));
}

} // namespace vmhost::role
