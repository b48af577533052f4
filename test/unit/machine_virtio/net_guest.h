// A guest with a network device over a real tap, in a network namespace of this process's own. The
// host's end is a packet socket on the tap's interface.
#pragma once

#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "guest.h"
#include "machine/virtio/net.h"

namespace vmhost::test {

using machine::virtio::Net;

inline constexpr std::uint16_t rx = 0, tx = 1;
inline constexpr Mac guest_mac = {{0xfe, 0xe1, 0xbb, 0xd1, 0x00, 0x01}};

inline Fd open_tap(const char* name, int more_flags = 0) {
    Fd tap(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    struct ifreq request {};
    std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | more_flags);
    if (!tap || ::ioctl(tap.get(), TUNSETIFF, &request) != 0)
        return {};
    return tap;
}

inline bool set_up(const char* name, bool up) {
    Fd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    struct ifreq request {};
    std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (::ioctl(control.get(), SIOCGIFFLAGS, &request) != 0)
        return false;
    request.ifr_flags =
        static_cast<short>(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
    return ::ioctl(control.get(), SIOCSIFFLAGS, &request) == 0;
}

inline bool set_mtu(const char* name, int mtu) {
    Fd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    struct ifreq request {};
    std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_mtu = mtu;
    return ::ioctl(control.get(), SIOCSIFMTU, &request) == 0;
}

// An Ethernet frame of an EtherType that nothing else in the namespace speaks.
inline std::vector<std::uint8_t> frame(std::size_t size_bytes, std::uint8_t mark) {
    std::vector<std::uint8_t> bytes(size_bytes, mark);
    std::fill(bytes.begin(), bytes.begin() + 6, std::uint8_t{0xff});
    std::copy(guest_mac.octets.begin(), guest_mac.octets.end(), bytes.begin() + 6);
    bytes[12] = 0x88;
    bytes[13] = 0xb5;
    return bytes;
}

struct NetGuest : Guest {
    std::vector<Fd> taps;
    Fd wire; // the host's end
    Net* net = nullptr;

    DoorbellBackend bells; // of a device with vhosts

    explicit NetGuest(unsigned pairs = 1, machine::IoLimit limit = {},
                      Interface interface = Interface::modern,
                      std::vector<std::unique_ptr<machine::virtio::Vhost>> vhosts = {}) {
        std::vector<int> numbers;
        for (unsigned i = 0; i < pairs; ++i) {
            taps.push_back(open_tap("tap0", pairs > 1 ? IFF_MULTI_QUEUE : 0));
            REQUIRE(taps.back());
            numbers.push_back(taps.back().get());
        }
        REQUIRE(set_mtu("tap0", 9000));
        REQUIRE(set_up("tap0", true));
        wire = Fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)));
        struct sockaddr_ll address {};
        address.sll_family = AF_PACKET;
        address.sll_protocol = htons(ETH_P_ALL);
        address.sll_ifindex = static_cast<int>(::if_nametoindex("tap0"));
        REQUIRE(::bind(wire.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
        auto* backend = vhosts.empty() ? nullptr : &bells;
        auto made = Net::create({.name = "vm-net0",
                                 .taps = numbers,
                                 .mac = guest_mac,
                                 .mtu = 1500,
                                 .limit = limit,
                                 .vhosts = std::move(vhosts)},
                                loop, bus.lock(), clock);
        REQUIRE(made);
        net = made->get();
        add(std::move(*made), backend, interface);
    }
    ~NetGuest() { host.reset(); }

    void host_sends(const std::vector<std::uint8_t>& bytes) {
        REQUIRE(::send(wire.get(), bytes.data(), bytes.size(), 0) ==
                static_cast<ssize_t>(bytes.size()));
    }
    // The next frame that the guest sent.
    std::optional<std::vector<std::uint8_t>> poll_wire() {
        for (;;) {
            std::vector<std::uint8_t> bytes(70'000);
            struct sockaddr_ll from {};
            socklen_t size = sizeof(from);
            auto count = ::recvfrom(wire.get(), bytes.data(), bytes.size(), 0,
                                    reinterpret_cast<sockaddr*>(&from), &size);
            if (count < 0)
                return std::nullopt;
            if (from.sll_pkttype == PACKET_OUTGOING)
                continue; // what the host's end sent itself
            bytes.resize(static_cast<std::size_t>(count));
            return bytes;
        }
    }
    std::vector<std::uint8_t> host_receives() {
        std::optional<std::vector<std::uint8_t>> got;
        settle([&] { return (got = poll_wire()).has_value(); });
        return *got;
    }
    Submitted offer_buffer(std::size_t size_bytes = 2048, std::uint16_t pair = 0) {
        auto index = static_cast<std::uint16_t>(2 * pair + rx);
        auto sent = queue(index).chain().writable(size_bytes).submit();
        notify(index);
        return sent;
    }
    Submitted guest_sends(Bytes bytes, std::uint8_t header_byte = 0, std::uint16_t pair = 0) {
        return guest_sends(std::vector<std::uint8_t>(12, header_byte), bytes, pair);
    }
    Submitted guest_sends(const std::vector<std::uint8_t>& header, Bytes bytes,
                          std::uint16_t pair = 0) {
        auto index = static_cast<std::uint16_t>(2 * pair + tx);
        auto sent = queue(index).chain().readable(header).readable(bytes).submit();
        notify(index);
        return sent;
    }
    // What came in, out of buffers that were offered, with its header; the namespace's own chatter
    // (IPv6) is skipped. More than one buffer only as the first one's header says.
    std::vector<std::uint8_t> guest_receives(const std::vector<Submitted>& buffers,
                                             std::uint16_t pair = 0) {
        auto index = static_cast<std::uint16_t>(2 * pair + rx);
        for (;;) {
            std::vector<std::uint8_t> bytes;
            unsigned expected = 1;
            for (unsigned got = 0; got < expected; ++got) {
                auto used = got == 0 ? std::optional(wait_used(index)) : queue(index).used();
                REQUIRE(used); // the others are there when the first one is
                for (const auto& buffer : buffers)
                    if (buffer.head == used->id)
                        append(bytes, buffer, used->length, index);
                if (got == 0 && bytes.size() >= 12)
                    expected = load_le<std::uint16_t>(Bytes(bytes).subspan(10));
                REQUIRE(expected >= 1);
            }
            if (bytes.size() > 26 && bytes[24] == 0x88 && bytes[25] == 0xb5)
                return bytes;
        }
    }

private:
    void append(std::vector<std::uint8_t>& bytes, const Submitted& buffer, std::uint32_t length,
                std::uint16_t index) {
        std::vector<std::uint8_t> content;
        for (const auto& piece : buffer.buffers) {
            auto part = queue(index).contents(piece);
            content.insert(content.end(), part.begin(), part.end());
        }
        REQUIRE(length <= content.size());
        bytes.insert(bytes.end(), content.begin(), content.begin() + length);
    }
};

// On the control queue; the answer.
struct Command {
    NetGuest& g;
    std::uint16_t queue;
    int operator()(std::uint8_t group, std::uint8_t command, Bytes data) {
        std::vector<std::uint8_t> head = {group, command};
        auto sent = g.queue(queue).chain().readable(head).readable(data).writable(1).submit();
        g.notify(queue);
        auto used = g.wait_used(queue);
        CHECK(used == Used{sent.head, 1});
        return g.queue(queue).contents(sent.buffers.back())[0];
    }
    template <WireInteger T>
    int operator()(std::uint8_t group, std::uint8_t command, T value) {
        std::uint8_t raw[sizeof(T)];
        store_le(MutableBytes(raw), value);
        return (*this)(group, command, Bytes(raw));
    }
};

} // namespace vmhost::test
