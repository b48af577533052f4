// packet(7). The kernel hands over what it knows of a frame beside the bytes (PACKET_AUXDATA):
// whether the checksum is still to be computed (a guest with checksum offload never fills it in)
// and the VLAN tag that it took off.
#include "ipv6/socket.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "ipv6/neighbour.h"

namespace vmhost::ipv6 {

namespace {

// An Ethernet frame's worth, with a priority tag; these messages are never longer.
constexpr std::size_t max_frame_bytes = 14 + 4 + 1500;
// Frames handled per wake-up, so that a flood does not starve the other bridges.
constexpr int frames_per_turn = 64;
// RFC 4861 §6.2.6 and §10.
constexpr std::uint64_t max_answer_delay_ms = 500;
constexpr unsigned initial_advertisements = 3;
constexpr std::uint64_t max_initial_interval_ms = 16'000;
constexpr std::uint64_t min_interval_ms = 3'000; // RFC 4861 §6.2.1, MinRtrAdvInterval

std::uint64_t random_ms(std::uint64_t least, std::uint64_t most) {
    return least + random_number<std::uint32_t>() % (most - least + 1);
}

Result<void> attach_filter(int fd, std::span<sock_filter> program, std::string_view what) {
    sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0)
        return fail_errno(errno, "{}: attach the filter", what);
    return {};
}

// IPv6, and then ICMPv6 of the type of a solicitation or UDP to port 547.
Result<void> attach_message_filter(int fd, std::string_view what) {
    std::array<sock_filter, 11> program{{
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 0, 8),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 6),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMPV6, 0, 5),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 40),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, type_router_solicitation, 2, 3),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 14 + 40 + 2),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, server_port, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
        BPF_STMT(BPF_RET | BPF_K, 0),
    }};
    return attach_filter(fd, program, what);
}

Result<Fd> open_packet_socket(unsigned ifindex, std::string_view what) {
    // Protocol 0 receives nothing until the filter is on and bind() names one.
    Fd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd)
        return fail_errno(errno, "{}: open a packet socket", what);
    TRY(attach_message_filter(fd.get(), what));
    int on = 1;
    if (::setsockopt(fd.get(), SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)) < 0)
        return fail_errno(errno, "{}: ask for what the kernel knows of frames", what);
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_IPV6);
    address.sll_ifindex = static_cast<int>(ifindex);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0)
        return fail_errno(errno, "{}: bind the packet socket", what);
    return fd;
}

Result<Fd> hold_port(const std::string& bridge, std::string_view what) {
    Fd fd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd)
        return fail_errno(errno, "{}: open a UDP socket", what);
    std::array<sock_filter, 1> nothing{{BPF_STMT(BPF_RET | BPF_K, 0)}};
    TRY(attach_filter(fd.get(), nothing, what));
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, bridge.c_str(),
                     static_cast<socklen_t>(bridge.size())) < 0)
        return fail_errno(errno, "{}: bind the UDP socket to the bridge", what);
    int on = 1;
    if (::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
        return fail_errno(errno, "{}: leave IPv4 to others", what);
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(server_port);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0) {
        if (errno == EADDRINUSE)
            return fail(ErrorKind::busy, "{}: port 547 is in use by another program", what);
        return fail_errno(errno, "{}: bind port 547", what);
    }
    return fd;
}

Result<Mac> address_of(const Fd& socket, const std::string& bridge, std::string_view what) {
    ifreq request{};
    std::memcpy(request.ifr_name, bridge.data(),
                std::min<std::size_t>(bridge.size(), IFNAMSIZ - 1));
    if (::ioctl(socket.get(), SIOCGIFHWADDR, &request) < 0)
        return fail_errno(errno, "{}: read the bridge's Ethernet address", what);
    return Mac::from({reinterpret_cast<const std::uint8_t*>(request.ifr_hwaddr.sa_data), 6});
}

} // namespace

Result<Sockets> open_sockets(const std::string& bridge, unsigned ifindex) {
    auto what = "ipv6 on " + bridge;
    Sockets sockets;
    sockets.udp = TRY(hold_port(bridge, what));
    sockets.packet = TRY(open_packet_socket(ifindex, what));
    sockets.mac = TRY(address_of(sockets.udp, bridge, what));
    return sockets;
}

Listener::Listener(Loop& loop, Sockets sockets, std::string network, Server& server,
                   std::function<void(const Event&)> told)
    : loop_(loop), sockets_(std::move(sockets)), network_(std::move(network)), server_(server),
      told_(std::move(told)), periodic_(loop, [this] { advertise(); }),
      solicited_(loop,
                 [this] {
                     for (const auto& frame : server_.solicited(network_))
                         send(frame);
                 }),
      watch_(loop, sockets_.packet.get(), [this](Watch::Ready ready) {
          receive();
          // An error (the bridge went down) ends the watch; reading has cleared it.
          if (ready.hangup && !failed_)
              watch_.set(true, false);
      }) {
    watch_.set(true, false);
    if (const auto* served = server_.find(network_); served && served->advertise)
        periodic_.start(std::chrono::milliseconds(random_ms(0, max_answer_delay_ms)));
}

Listener::~Listener() = default;

void Listener::advertise() {
    const auto* served = server_.find(network_);
    if (!served)
        return;
    for (const auto& frame : server_.advertisements(network_))
        send(frame);
    const auto most = std::uint64_t{served->interval_s} * 1000;
    auto wait_ms = random_ms(std::max(most / 3, min_interval_ms), most);
    if (++advertised_ < initial_advertisements)
        wait_ms = std::min(wait_ms, max_initial_interval_ms);
    periodic_.start(std::chrono::milliseconds(wait_ms));
}

void Listener::farewell() {
    periodic_.stop();
    solicited_.stop();
    for (const auto& frame : server_.advertisements(network_, true))
        send(frame);
}

void Listener::receive() {
    std::array<std::uint8_t, max_frame_bytes> buffer;
    for (int i = 0; i < frames_per_turn && receive_one(buffer); ++i)
        ;
}

// False when nothing is left for now.
bool Listener::receive_one(MutableBytes buffer) {
    sockaddr_ll from{};
    iovec part{buffer.data(), buffer.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(tpacket_auxdata))];
    msghdr header{};
    header.msg_name = &from;
    header.msg_namelen = sizeof(from);
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    auto count = ::recvmsg(sockets_.packet.get(), &header, MSG_TRUNC);
    if (count < 0) {
        if (errno == EINTR)
            return true;
        if (errno == EAGAIN)
            return false;
        // ENETDOWN once when the bridge goes down; it may come back.
        log::warning("ipv6", "{}: receive: {}", network_, std::strerror(errno));
        if (errno != ENETDOWN) {
            failed_ = true;
            watch_.set(false, false);
        }
        return false;
    }
    if (from.sll_pkttype == PACKET_OUTGOING || from.sll_pkttype == PACKET_OTHERHOST)
        return true;
    tpacket_auxdata known{};
    for (auto* one = CMSG_FIRSTHDR(&header); one; one = CMSG_NXTHDR(&header, one))
        if (one->cmsg_level == SOL_PACKET && one->cmsg_type == PACKET_AUXDATA)
            std::memcpy(&known, CMSG_DATA(one), sizeof(known));
    bool trusted = known.tp_status & (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID);
    bool tagged = known.tp_status & TP_STATUS_VLAN_VALID && (known.tp_vlan_tci & 0xfff) != 0;
    auto source = Mac::from({from.sll_addr, 6});
    if (static_cast<std::size_t>(count) > buffer.size())
        told_(server_.drop_frame(network_, source, "longer than a message may be", loop_.now_ms()));
    else
        serve(buffer.first(static_cast<std::size_t>(count)), source, trusted, tagged);
    return true;
}

void Listener::serve(Bytes frame, const Mac& source, bool checksum_trusted, bool tagged) {
    if (tagged) {
        told_(server_.drop_frame(network_, source, "tagged for a VLAN", loop_.now_ms()));
        return;
    }
    auto packet = parse_frame(frame, checksum_trusted ? Checksum::trusted : Checksum::verify);
    if (!packet) {
        told_(server_.drop_frame(network_, source, packet.error(), loop_.now_ms()));
        return;
    }
    auto answer = server_.handle(network_, *packet, loop_.now_ms());
    if (!answer.frame.empty())
        send(answer.frame);
    if (server_.anybody_asked(network_) && !solicited_.active())
        solicited_.start(std::chrono::milliseconds(random_ms(0, max_answer_delay_ms)));
    told_(answer.event);
}

// What the kernel does not take (queue full, bridge down) the guest asks for again.
void Listener::send(Bytes frame) {
    if (::send(sockets_.packet.get(), frame.data(), frame.size(), 0) < 0 && errno != ENETDOWN)
        log::debug("ipv6", "{}: send: {}", network_, std::strerror(errno));
}

} // namespace vmhost::ipv6
