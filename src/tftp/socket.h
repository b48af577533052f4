// The UDP sockets of the service, and the listener that a role runs on its loop with them.
#pragma once

#include <memory>
#include <vector>

#include "base/base.h"
#include "loop/loop.h"
#include "tftp/server.h"

namespace vmhost::tftp {

// In the parent (CAP_NET_BIND_SERVICE): port 69 of an address of this host. device: a bridge or a
// routing domain, whose packets alone are heard; empty = all. busy: the port is in use; not_found:
// the address is not there.
Result<Fd> open_socket(Ipv4 address, const std::string& device);

class Listener {
public:
    Listener(Loop& loop, Server::Told told);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    Server& server() { return server_; }
    void listen(Fd socket, std::uint32_t max_block_bytes);

private:
    void receive(std::size_t index);
    bool receive_one(std::size_t index);
    void send(const Client& client, Bytes message);

    struct Socket {
        Fd fd;
        std::unique_ptr<Watch> watch;
        std::uint32_t max_block_bytes;
    };
    Loop& loop_;
    Server server_;
    std::vector<Socket> sockets_;
    Timer tick_; // runs while there are transfers
};

} // namespace vmhost::tftp
