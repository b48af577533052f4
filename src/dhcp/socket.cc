// packet(7). The kernel hands over what it knows of a frame beside the bytes
// (PACKET_AUXDATA): whether the UDP checksum is still to be computed (a guest with
// checksum offload never fills it in) and the VLAN tag that it took off.
#include "dhcp/socket.h"

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

#include "dhcp/frame.h"

namespace vmhost::dhcp {

namespace {

constexpr std::uint16_t server_port = 67;
// Header, one priority tag, IP header with options, and the message.
constexpr std::size_t max_frame_bytes = 14 + 4 + 60 + 8 + limits::max_dhcp_packet_bytes;
// Frames handled per wake-up, so that a flood does not starve the other bridges.
constexpr int frames_per_turn = 64;

Result<void> attach_filter(int fd, std::span<sock_filter> program, std::string_view what) {
    sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0)
        return fail_errno(errno, "{}: attach the filter", what);
    return {};
}

// IPv4, UDP, not a later fragment, destination port 67. Offsets are those of the frame.
Result<void> attach_dhcp_filter(int fd, std::string_view what) {
    std::array<sock_filter, 11> program{{
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 8),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 9),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 6),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 14 + 6),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 4, 0),
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, 14 + 2),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, server_port, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
        BPF_STMT(BPF_RET | BPF_K, 0),
    }};
    return attach_filter(fd, program, what);
}

Result<void> attach_empty_filter(int fd, std::string_view what) {
    std::array<sock_filter, 1> program{{BPF_STMT(BPF_RET | BPF_K, 0)}};
    return attach_filter(fd, program, what);
}

Result<void> set_flag(int fd, int level, int option, std::string_view what) {
    int on = 1;
    if (::setsockopt(fd, level, option, &on, sizeof(on)) < 0)
        return fail_errno(errno, "{}: set socket option {}", what, option);
    return {};
}

Result<Fd> open_packet_socket(unsigned ifindex, std::string_view what) {
    // Protocol 0 receives nothing until the filter is on and bind() names one.
    Fd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd)
        return fail_errno(errno, "{}: open a packet socket", what);
    TRY(attach_dhcp_filter(fd.get(), what));
    TRY(set_flag(fd.get(), SOL_PACKET, PACKET_AUXDATA, what));
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_IP);
    address.sll_ifindex = static_cast<int>(ifindex);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0)
        return fail_errno(errno, "{}: bind the packet socket", what);
    return fd;
}

Result<Fd> hold_port(const std::string& bridge, Ipv4 own, std::string_view what) {
    Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd)
        return fail_errno(errno, "{}: open a UDP socket", what);
    TRY(attach_empty_filter(fd.get(), what));
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, bridge.c_str(),
                     static_cast<socklen_t>(bridge.size())) < 0)
        return fail_errno(errno, "{}: bind the UDP socket to the bridge", what);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(server_port);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0) {
        if (errno == EADDRINUSE)
            return fail(ErrorKind::busy, "{}: port 67 of {} is in use by another program", what,
                        own.text());
        return fail_errno(errno, "{}: bind port 67 of {}", what, own.text());
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

Result<Sockets> open_sockets(const std::string& bridge, unsigned ifindex, Ipv4 address) {
    auto what = "dhcp on " + bridge;
    Sockets sockets;
    sockets.udp = TRY(hold_port(bridge, address, what));
    sockets.packet = TRY(open_packet_socket(ifindex, what));
    sockets.mac = TRY(address_of(sockets.udp, bridge, what));
    return sockets;
}

Listener::Listener(Loop& loop, Sockets sockets, std::string network, Server& server,
                   std::function<void(const Event&)> told)
    : loop_(loop), sockets_(std::move(sockets)), network_(std::move(network)), server_(server),
      told_(std::move(told)), watch_(loop, sockets_.packet.get(), [this](Watch::Ready ready) {
          receive();
          // An error (the bridge went down) ends the watch; reading has cleared it.
          if (ready.hangup && !failed_)
              watch_.set(true, false);
      }) {
    watch_.set(true, false);
}

Listener::~Listener() = default;

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
        log::warning("dhcp", "{}: receive: {}", network_, std::strerror(errno));
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
    auto datagram =
        parse_frame(frame, checksum_trusted ? UdpChecksum::trusted : UdpChecksum::verify);
    if (!datagram) {
        told_(server_.drop_frame(network_, source, datagram.error(), loop_.now_ms()));
        return;
    }
    auto answer = server_.handle({.network = network_,
                                  .ethernet_source = datagram->ethernet_source,
                                  .source = datagram->source,
                                  .destination = datagram->destination,
                                  .source_port = datagram->source_port,
                                  .payload = datagram->payload,
                                  .now_ms = loop_.now_ms()});
    if (answer.reply)
        send(*answer.reply);
    told_(answer.event);
}

void Listener::send(const Reply& reply) {
    auto frame = build_frame({.ethernet_source = sockets_.mac,
                              .ethernet_destination = reply.ethernet_destination,
                              .source = reply.source,
                              .destination = reply.destination,
                              .source_port = server_port,
                              .destination_port = reply.port,
                              .payload = reply.payload});
    if (::send(sockets_.packet.get(), frame.data(), frame.size(), 0) < 0)
        ++unsent_;
}

} // namespace vmhost::dhcp
