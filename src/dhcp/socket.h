// The wire of one bridge: two sockets that the parent opens, and the listener
// that the DHCP role runs on its loop with them.
//
// Messages are received and sent through a packet socket on the bridge: a client
// without an address cannot be reached otherwise, and the frame says who speaks.
// The UDP socket only holds port 67: it makes "somebody else serves here" an
// error at start, and keeps the kernel from refusing renewals with ICMP. A filter
// on it lets nothing in, so no message is handled twice.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/base.h"
#include "dhcp/ledger.h"
#include "dhcp/ping.h"
#include "dhcp/server.h"
#include "loop/loop.h"

struct msghdr;

namespace vmhost::dhcp {

struct Sockets {
    Fd packet;
    Fd udp;
    Fd icmp; // none: addresses are offered unchecked
    Mac mac; // of the bridge: the source of our frames
};

// In the parent (CAP_NET_RAW, CAP_NET_BIND_SERVICE); the bridge has its address already.
Result<Sockets> open_sockets(const std::string& bridge, unsigned ifindex, Ipv4 address);

class Listener {
public:
    // Serves from now on. network is its name in the server's configuration; told
    // gets every event (log_event() is the plain thing to do with it), that of a lease once the
    // ledger has it.
    Listener(Loop& loop, Sockets sockets, std::string network, Server& server, Ledger& ledger,
             std::function<void(const Event&)> told);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    // Replies that the kernel did not take (queue full, bridge down). The client asks again.
    std::uint64_t unsent() const { return unsent_; }

private:
    struct Buffers; // for as many frames as one call takes
    void receive();
    bool receive_some();
    void take(Bytes frame, std::size_t size_bytes, msghdr& header);
    void serve(Bytes frame, const Mac& source, bool checksum_trusted, bool tagged);
    void deliver(Answer answer);
    void check_first(Answer answer);
    void send(const Reply& reply);
    void flush();

    Loop& loop_;
    Sockets sockets_;
    std::string network_;
    Server& server_;
    Ledger& ledger_;
    std::function<void(const Event&)> told_;
    std::uint64_t unsent_ = 0;
    bool failed_ = false;             // the socket is of no more use
    std::shared_ptr<Listener*> self_; // of what comes later; null in it: we are gone
    std::unique_ptr<Buffers> buffers_;
    std::vector<std::vector<std::uint8_t>> outgoing_; // frames, sent at the end of the turn
    std::unique_ptr<Pinger> pinger_;
    TurnEnd turn_end_;
    Watch watch_;
};

} // namespace vmhost::dhcp
