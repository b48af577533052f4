// What guests were sent of OpenBSD's sets, as the parent is told of it: at most once a second of
// each set, whatever number of requests and connections takes it, and of every byte in the end.
//
// Pure: bytes and times go in, tell() comes out. Thread: that of the server.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "base/base.h"

namespace vmhost::role {

class SetsSent {
public:
    using Tell = std::function<void(Ipv4 to, const std::string& set, std::uint64_t bytes)>;
    explicit SetsSent(Tell tell) : tell_(std::move(tell)) {}

    static constexpr std::uint64_t interval_ms = 1000;
    // So many bytes more. now_ms is monotonic.
    void sent(Ipv4 to, const std::string& set, std::uint64_t bytes, std::uint64_t now_ms);
    // Tells what has waited for long enough. False: nothing is left, and sent() is what comes next.
    bool tell_due(std::uint64_t now_ms);

private:
    struct Going {
        std::uint64_t bytes = 0; // not told yet
        std::uint64_t told_ms = 0;
    };
    using Key = std::pair<std::uint32_t, std::string>;
    void tell(const Key& key, Going& going, std::uint64_t now_ms);

    Tell tell_;
    std::map<Key, Going> going_; // of the last second
};

} // namespace vmhost::role
