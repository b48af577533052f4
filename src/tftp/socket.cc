#include "tftp/socket.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <sys/socket.h>

namespace vmhost::tftp {

namespace {

constexpr std::uint16_t server_port = 69;
// Datagrams handled per wake-up, so that a flood does not starve transfers that wait for their
// time.
constexpr int datagrams_per_turn = 64;
constexpr std::chrono::milliseconds tick_interval{200};

sockaddr_in socket_address(Ipv4 address, std::uint16_t port) {
    sockaddr_in out{};
    out.sin_family = AF_INET;
    out.sin_port = htons(port);
    out.sin_addr.s_addr = htonl(address.value);
    return out;
}

} // namespace

Result<Fd> open_socket(Ipv4 address, const std::string& device) {
    Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd)
        return fail_errno(errno, "tftp on {}: open a socket", address.text());
    if (!device.empty() && ::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, device.c_str(),
                                        static_cast<socklen_t>(device.size())) < 0)
        return fail_errno(errno, "tftp: listen in {}", device);
    auto to = socket_address(address, server_port);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) < 0) {
        if (errno == EADDRINUSE)
            return fail(ErrorKind::busy, "tftp: port 69 of {} is in use by another program",
                        address.text());
        if (errno == EADDRNOTAVAIL)
            return fail(ErrorKind::not_found, "tftp: {} is not an address of this host",
                        address.text());
        return fail_errno(errno, "tftp: bind port 69 of {}", address.text());
    }
    return fd;
}

Listener::Listener(Loop& loop, Server::Told told)
    : loop_(loop), server_([this](const Client& client, Bytes message) { send(client, message); },
                           std::move(told)),
      tick_(loop, [this] {
          server_.tick(loop_.now_ms());
          if (server_.transfers() == 0)
              tick_.stop();
      }) {}

Listener::~Listener() = default;

void Listener::listen(Fd socket, std::uint32_t max_block_bytes) {
    const auto index = sockets_.size();
    auto watch = std::make_unique<Watch>(loop_, socket.get(),
                                         [this, index](Watch::Ready) { receive(index); });
    watch->set(true, false);
    sockets_.push_back({std::move(socket), std::move(watch), max_block_bytes});
}

void Listener::receive(std::size_t index) {
    for (int i = 0; i < datagrams_per_turn && receive_one(index); ++i)
        ;
    if (server_.transfers() > 0 && !tick_.active())
        tick_.start(tick_interval, tick_interval);
}

// False when nothing is left for now.
bool Listener::receive_one(std::size_t index) {
    std::array<std::uint8_t, limits::max_tftp_request_bytes> buffer;
    sockaddr_in from{};
    socklen_t size = sizeof(from);
    auto count = ::recvfrom(sockets_[index].fd.get(), buffer.data(), buffer.size(), 0,
                            reinterpret_cast<sockaddr*>(&from), &size);
    if (count < 0) {
        // Errors that answers of ours met (ICMP) are told here; the socket is good.
        if (errno == EAGAIN)
            return false;
        if (errno == EBADF || errno == ENOTSOCK || errno == EINVAL) {
            log::error("tftp", "receive: {}", std::strerror(errno));
            sockets_[index].watch->set(false, false);
            return false;
        }
        return true;
    }
    server_.handle({index, {ntohl(from.sin_addr.s_addr)}, ntohs(from.sin_port)},
                   Bytes(buffer).first(static_cast<std::size_t>(count)), loop_.now_ms(),
                   sockets_[index].max_block_bytes);
    return true;
}

// What the kernel does not take is sent again when it is not acknowledged.
void Listener::send(const Client& client, Bytes message) {
    auto to = socket_address(client.address, client.port);
    (void)::sendto(sockets_[client.listener].fd.get(), message.data(), message.size(), 0,
                   reinterpret_cast<sockaddr*>(&to), sizeof(to));
}

} // namespace vmhost::tftp
