#include "net/trace.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <time.h>

namespace vmhost::net {

namespace {

constexpr int buffer_bytes = 16 << 20; // what may wait for a reader that writes to a disk
constexpr std::size_t tag_offset = 12, tag_bytes = 4;

// The kernel takes a VLAN tag out of a frame and tells of it beside it.
void put_tag(TracedFrame& frame, MutableBytes room, std::size_t& count,
             const tpacket_auxdata& aux) {
    if (!(aux.tp_status & TP_STATUS_VLAN_VALID) || count < tag_offset)
        return;
    auto kept = std::min(count, room.size() - tag_bytes);
    std::memmove(room.data() + tag_offset + tag_bytes, room.data() + tag_offset, kept - tag_offset);
    const bool known = aux.tp_status & TP_STATUS_VLAN_TPID_VALID;
    store_be(room.subspan(tag_offset), known ? aux.tp_vlan_tpid : std::uint16_t{ETH_P_8021Q});
    store_be(room.subspan(tag_offset + 2), aux.tp_vlan_tci);
    count = kept + tag_bytes;
    frame.wire_bytes += tag_bytes;
}

} // namespace

Result<Fd> open_trace(const std::string& device) {
    auto index = ::if_nametoindex(device.c_str());
    if (index == 0)
        return fail_errno(errno, "trace {}", device);
    // Of no protocol before it is bound: it must not hear the other interfaces.
    Fd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd)
        return fail_errno(errno, "trace {}: open a packet socket", device);
    const int on = 1;
    if (::setsockopt(fd.get(), SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)) < 0 ||
        ::setsockopt(fd.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) < 0)
        return fail_errno(errno, "trace {}: set a socket option", device);
    // Less is fine where the host does not allow as much.
    (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof(buffer_bytes));
    sockaddr_ll where{};
    where.sll_family = AF_PACKET;
    where.sll_protocol = htons(ETH_P_ALL);
    where.sll_ifindex = static_cast<int>(index);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&where), sizeof(where)) < 0)
        return fail_errno(errno, "trace {}: bind a packet socket", device);
    return fd;
}

Result<TracedFrame> read_trace(const Fd& trace, MutableBytes room) {
    alignas(cmsghdr)
        std::uint8_t control[CMSG_SPACE(sizeof(timespec)) + CMSG_SPACE(sizeof(tpacket_auxdata))];
    iovec piece{room.data(), room.size() - tag_bytes};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    auto got = ::recvmsg(trace.get(), &message, MSG_TRUNC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return fail(ErrorKind::busy, "trace: nothing now");
    if (got < 0)
        return fail_errno(errno, "trace");
    TracedFrame frame;
    frame.wire_bytes = static_cast<std::uint32_t>(got);
    auto count = std::min(static_cast<std::size_t>(got), piece.iov_len);
    for (auto* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_TIMESTAMPNS) {
            timespec time{};
            std::memcpy(&time, CMSG_DATA(header), sizeof(time));
            frame.time_ns = time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec;
        } else if (header->cmsg_level == SOL_PACKET && header->cmsg_type == PACKET_AUXDATA) {
            tpacket_auxdata aux{};
            std::memcpy(&aux, CMSG_DATA(header), sizeof(aux));
            put_tag(frame, room, count, aux);
        }
    }
    frame.data = room.first(count);
    return frame;
}

std::uint32_t lost_of_trace(const Fd& trace) {
    tpacket_stats stats{};
    socklen_t length = sizeof(stats);
    if (::getsockopt(trace.get(), SOL_PACKET, PACKET_STATISTICS, &stats, &length) < 0)
        return 0;
    return stats.tp_drops;
}

} // namespace vmhost::net
