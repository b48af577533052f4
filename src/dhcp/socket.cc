// packet(7). The kernel hands over what it knows of a frame beside the bytes
// (PACKET_AUXDATA): whether the UDP checksum is still to be computed (a guest with
// checksum offload never fills it in) and the VLAN tag that it took off.
#include "dhcp/socket.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "dhcp/frame.h"
#include "dhcp/packet.h"

namespace vmhost::dhcp {

namespace {

// Header, one priority tag, IP header with options, and the message.
constexpr std::size_t max_frame_bytes = 14 + 4 + 60 + 8 + limits::max_dhcp_packet_bytes;
// Frames per system call, and calls per wake-up, so that a flood does not starve the other bridges.
constexpr unsigned frames_per_call = 64, calls_per_turn = 2;
// What waits while the disk or another bridge has the loop: at 1500 bytes of bookkeeping each, some
// 2700 messages. Beyond that the kernel drops, and clients ask again.
constexpr int receive_buffer_bytes = 4 << 20;

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
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, bootps_port, 0, 1),
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
    for (int option : {SO_RCVBUFFORCE, SO_SNDBUFFORCE}) // not without CAP_NET_ADMIN: then the usual
        (void)::setsockopt(fd.get(), SOL_SOCKET, option, &receive_buffer_bytes,
                           sizeof(receive_buffer_bytes));
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
    address.sin_port = htons(bootps_port);
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
    sockets.icmp = TRY(open_ping_socket(bridge));
    sockets.mac = TRY(address_of(sockets.udp, bridge, what));
    return sockets;
}

// ---- the listener -----------------------------------------------------------

struct Listener::Buffers {
    struct One {
        std::array<std::uint8_t, max_frame_bytes> frame;
        sockaddr_ll from;
        iovec part;
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(tpacket_auxdata))];
    };
    std::array<One, frames_per_call> each;
    std::array<mmsghdr, frames_per_call> headers;

    // As the kernel expects them before each call.
    void make_ready() {
        for (unsigned i = 0; i < frames_per_call; ++i) {
            auto& one = each[i];
            one.part = {one.frame.data(), one.frame.size()};
            headers[i] = {};
            auto& header = headers[i].msg_hdr;
            header.msg_name = &one.from;
            header.msg_namelen = sizeof(one.from);
            header.msg_iov = &one.part;
            header.msg_iovlen = 1;
            header.msg_control = one.control;
            header.msg_controllen = sizeof(one.control);
        }
    }
};

Listener::Listener(Loop& loop, Sockets sockets, std::string network, Server& server, Ledger& ledger,
                   std::function<void(const Event&)> told)
    : loop_(loop), sockets_(std::move(sockets)), network_(std::move(network)), server_(server),
      ledger_(ledger), told_(std::move(told)), self_(std::make_shared<Listener*>(this)),
      buffers_(std::make_unique<Buffers>()), turn_end_(loop, [this] { flush(); }),
      watch_(loop, sockets_.packet.get(), [this](Watch::Ready ready) {
          receive();
          // An error (the bridge went down) ends the watch; reading has cleared it.
          if (ready.hangup && !failed_)
              watch_.set(true, false);
      }) {
    if (sockets_.icmp)
        pinger_ = std::make_unique<Pinger>(loop, std::move(sockets_.icmp));
    watch_.set(true, false);
}

Listener::~Listener() {
    *self_ = nullptr;
}

void Listener::receive() {
    for (unsigned i = 0; i < calls_per_turn && receive_some(); ++i)
        ;
}

// False when nothing is left for now.
bool Listener::receive_some() {
    buffers_->make_ready();
    auto count = ::recvmmsg(sockets_.packet.get(), buffers_->headers.data(), frames_per_call,
                            MSG_TRUNC, nullptr);
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
    for (int i = 0; i < count; ++i) {
        auto at = static_cast<std::size_t>(i);
        take(buffers_->each[at].frame, buffers_->headers[at].msg_len,
             buffers_->headers[at].msg_hdr);
    }
    return count == static_cast<int>(frames_per_call);
}

void Listener::take(Bytes frame, std::size_t size_bytes, msghdr& header) {
    const auto& from = *static_cast<const sockaddr_ll*>(header.msg_name);
    if (from.sll_pkttype == PACKET_OUTGOING || from.sll_pkttype == PACKET_OTHERHOST)
        return;
    tpacket_auxdata known{};
    for (auto* one = CMSG_FIRSTHDR(&header); one; one = CMSG_NXTHDR(&header, one))
        if (one->cmsg_level == SOL_PACKET && one->cmsg_type == PACKET_AUXDATA)
            std::memcpy(&known, CMSG_DATA(one), sizeof(known));
    bool trusted = known.tp_status & (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID);
    bool tagged = known.tp_status & TP_STATUS_VLAN_VALID && (known.tp_vlan_tci & 0xfff) != 0;
    auto source = Mac::from({from.sll_addr, 6});
    if (size_bytes > frame.size())
        told_(server_.drop_frame(network_, source, "longer than a message may be", loop_.now_ms()));
    else
        serve(frame.first(size_bytes), source, trusted, tagged);
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
                                  .now_ms = loop_.now_ms(),
                                  .time_s = std::time(nullptr)});
    if (answer.check && pinger_)
        check_first(std::move(answer));
    else
        deliver(std::move(answer));
}

// At once, or when the ledger has what comes of it.
void Listener::deliver(Answer answer) {
    if (!answer.row) {
        if (answer.reply)
            send(*answer.reply);
        told_(answer.event);
        return;
    }
    auto row = *std::move(answer.row);
    ledger_.keep(std::move(row), [self = self_, answer = std::move(answer)](bool written) {
        if (*self == nullptr)
            return;
        auto& listener = **self;
        if (written || !answer.reply) {
            if (answer.reply)
                listener.send(*answer.reply);
            listener.told_(answer.event);
            return;
        }
        listener.server_.drop_unwritten();
        auto event = answer.event;
        event.kind = EventKind::dropped;
        event.drop = Drop::not_stored;
        listener.told_(event);
    });
}

// The client asks again when somebody else has the address, and is offered another.
void Listener::check_first(Answer answer) {
    auto address = *answer.check;
    pinger_->ask(address, [self = self_, address, answer = std::move(answer)](bool in_use) {
        if (*self == nullptr)
            return;
        auto& listener = **self;
        if (!in_use)
            return listener.deliver(answer);
        log::warning("dhcp",
                     "{}: {} is in use by a station that did not get it from here: it is "
                     "not given out for a while",
                     listener.network_, address.text());
        if (auto row = listener.server_.found_in_use(listener.network_, address,
                                                     listener.loop_.now_ms(), std::time(nullptr)))
            listener.ledger_.keep(*std::move(row), nullptr);
    });
}

void Listener::send(const Reply& reply) {
    outgoing_.push_back(build_frame({.ethernet_source = sockets_.mac,
                                     .ethernet_destination = reply.ethernet_destination,
                                     .source = reply.source,
                                     .destination = reply.destination,
                                     .source_port = bootps_port,
                                     .destination_port = reply.port,
                                     .payload = reply.payload}));
    turn_end_.arm();
}

void Listener::flush() {
    std::array<iovec, frames_per_call> parts;
    std::array<mmsghdr, frames_per_call> headers;
    auto frames = std::exchange(outgoing_, {});
    for (std::size_t at = 0; at < frames.size();) {
        unsigned count = 0;
        for (; count < frames_per_call && at + count < frames.size(); ++count) {
            auto& frame = frames[at + count];
            parts[count] = {frame.data(), frame.size()};
            headers[count] = {};
            headers[count].msg_hdr.msg_iov = &parts[count];
            headers[count].msg_hdr.msg_iovlen = 1;
        }
        auto sent = ::sendmmsg(sockets_.packet.get(), headers.data(), count, 0);
        if (sent < 0 && errno == EINTR)
            continue;
        // What the kernel does not take is left out, and the rest tried.
        unsent_ += sent <= 0;
        at += sent <= 0 ? 1 : static_cast<std::size_t>(sent);
    }
}

} // namespace vmhost::dhcp
