#include "dhcp/ping.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <linux/icmp.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace vmhost::dhcp {

namespace {

constexpr std::uint8_t echo_reply = 0, echo_request = 8;
constexpr std::size_t echo_bytes = 8, max_ip_bytes = 60 + echo_bytes;
// Of linux/icmp.h's raw.h, which glibc does not have: struct icmp_filter at SOL_RAW.
constexpr int icmp_filter_option = 1;

std::uint16_t checksum(Bytes data) {
    std::uint32_t sum = 0;
    for (; data.size() >= 2; data = data.subspan(2))
        sum += load_be<std::uint16_t>(data);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}

} // namespace

Result<Fd> open_ping_socket(const std::string& bridge) {
    Fd fd(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP));
    if (!fd)
        return fail_errno(errno, "dhcp on {}: open an ICMP socket", bridge);
    std::uint32_t others = ~(std::uint32_t{1} << echo_reply);
    if (::setsockopt(fd.get(), SOL_RAW, icmp_filter_option, &others, sizeof(others)) < 0 ||
        ::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, bridge.c_str(),
                     static_cast<socklen_t>(bridge.size())) < 0)
        return fail_errno(errno, "dhcp on {}: set up the ICMP socket", bridge);
    return fd;
}

Pinger::Pinger(Loop& loop, Fd socket)
    : loop_(loop), socket_(std::move(socket)),
      watch_(loop, socket_.get(), [this](Watch::Ready) { receive(); }),
      timer_(loop, [this] { give_up(); }) {
    watch_.set(true, false);
    id_ = random_number<std::uint16_t>();
}

void Pinger::ask(Ipv4 address, Done done) {
    if (asked_.size() >= limits::max_dhcp_pings || asked_.contains(address.value))
        return done(false);
    std::array<std::uint8_t, echo_bytes> echo{echo_request};
    auto out = MutableBytes(echo);
    store_be(out.subspan(4), id_);
    store_be(out.subspan(2), checksum(echo));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = from_big(address.value);
    if (::sendto(socket_.get(), echo.data(), echo.size(), 0, reinterpret_cast<sockaddr*>(&to),
                 sizeof(to)) < 0)
        return done(false);
    auto until_ms = loop_.now_ms() + limits::dhcp_ping_ms;
    asked_.emplace(address.value, Asked{std::move(done), until_ms});
    order_.emplace_back(until_ms, address);
    if (!timer_.active())
        timer_.start(std::chrono::milliseconds(limits::dhcp_ping_ms));
}

void Pinger::receive() {
    for (std::size_t i = 0; i < limits::max_dhcp_pings; ++i) {
        std::array<std::uint8_t, max_ip_bytes> packet;
        auto count = ::recv(socket_.get(), packet.data(), packet.size(), 0);
        if (count < 0)
            return; // nothing left; or an error of the bridge, which the listener tells
        auto bytes = Bytes(packet).first(static_cast<std::size_t>(count));
        if (bytes.empty())
            continue;
        std::size_t header = (bytes[0] & 0xfU) * std::size_t{4};
        if (bytes.size() < header + echo_bytes || header < 20 || bytes[header] != echo_reply ||
            load_be<std::uint16_t>(bytes.subspan(header + 4)) != id_)
            continue;
        answered({load_be<std::uint32_t>(bytes.subspan(12))}, true);
    }
}

void Pinger::give_up() {
    const auto now_ms = loop_.now_ms();
    while (!order_.empty() && order_.front().first <= now_ms) {
        auto address = order_.front().second;
        order_.pop_front();
        answered(address, false);
    }
    if (!order_.empty())
        timer_.start(std::chrono::milliseconds(order_.front().first - now_ms));
}

void Pinger::answered(Ipv4 address, bool in_use) {
    auto found = asked_.find(address.value);
    if (found == asked_.end() || (!in_use && found->second.until_ms > loop_.now_ms()))
        return; // nobody asked; or it was asked anew after an answer
    auto done = std::move(found->second.done);
    asked_.erase(found);
    done(in_use);
}

} // namespace vmhost::dhcp
