// The wire of one bridge: two sockets that the parent opens, and the listener that a role runs on
// its loop with them.
//
// A packet socket on the bridge receives solicitations and DHCPv6 messages, as the frame says who
// speaks, and sends frames, each to one guest. The UDP socket only holds port 547 of the bridge: it
// makes "somebody else serves here" an error at start. A filter on it lets nothing in.
#pragma once

#include <functional>
#include <string>

#include "base/base.h"
#include "ipv6/server.h"
#include "loop/loop.h"

namespace vmhost::ipv6 {

struct Sockets {
    Fd packet;
    Fd udp;
    Mac mac; // of the bridge: the source of our frames
};

// In the parent (CAP_NET_RAW, CAP_NET_BIND_SERVICE).
Result<Sockets> open_sockets(const std::string& bridge, unsigned ifindex);

class Listener {
public:
    // Serves from now on. network is its name in the server's configuration; told gets every event
    // (log_event() is the plain thing to do with it).
    Listener(Loop& loop, Sockets sockets, std::string network, Server& server,
             std::function<void(const Event&)> told);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    // Tells guests that this host is their router no more.
    void farewell();

private:
    void receive();
    bool receive_one(MutableBytes buffer);
    void serve(Bytes frame, const Mac& source, bool checksum_trusted, bool tagged);
    void advertise();
    void send(Bytes frame);

    Loop& loop_;
    Sockets sockets_;
    std::string network_;
    Server& server_;
    std::function<void(const Event&)> told_;
    bool failed_ = false;     // the socket is of no more use
    unsigned advertised_ = 0; // to all guests
    Timer periodic_, solicited_;
    Watch watch_;
};

} // namespace vmhost::ipv6
