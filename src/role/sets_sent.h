// What guests were sent of OpenBSD's sets, as the parent is told of it: while a set goes at most
// once a second, whatever number of connections takes it, and at its end what is left.
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

    // So many bytes more; ended: one connection has sent it, or never will. now_ms is monotonic.
    void sent(Ipv4 to, const std::string& set, std::uint64_t bytes, bool ended,
              std::uint64_t now_ms);

private:
    struct Going {
        std::uint64_t bytes = 0; // not told yet
        std::uint64_t told_ms = 0;
    };
    Tell tell_;
    std::map<std::pair<std::uint32_t, std::string>, Going> going_; // until a connection has ended
};

} // namespace vmhost::role
