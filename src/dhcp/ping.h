// Asks whether an address is in use before it is offered: ICMP echo (RFC 792) from a raw socket
// that the parent opens. Nothing waits for it but the offer itself.
//
// Loop thread.
#pragma once

#include <deque>
#include <functional>
#include <unordered_map>

#include "base/base.h"
#include "loop/loop.h"

namespace vmhost::dhcp {

// In the parent (CAP_NET_RAW): takes echo replies only, and only those of the bridge.
Result<Fd> open_ping_socket(const std::string& bridge);

class Pinger {
public:
    using Done = std::function<void(bool in_use)>;
    Pinger(Loop& loop, Fd socket);

    // done is called once, in a later turn; at once when so many are under way that nobody can
    // wait for one more, or when the address cannot be asked.
    void ask(Ipv4 address, Done done);
    std::size_t under_way() const { return asked_.size(); }

private:
    struct Asked {
        Done done;
        std::uint64_t until_ms;
    };
    void receive();
    void give_up();
    void answered(Ipv4 address, bool in_use);

    Loop& loop_;
    Fd socket_;
    std::uint16_t id_ = 0;
    std::unordered_map<std::uint32_t, Asked> asked_;
    std::deque<std::pair<std::uint64_t, Ipv4>> order_;
    Watch watch_;
    Timer timer_;
};

} // namespace vmhost::dhcp
