#include "dhcp/frame.h"

#include <algorithm>

namespace vmhost::dhcp {

namespace {

constexpr std::uint16_t type_ipv4 = 0x0800, type_vlan = 0x8100, type_service_vlan = 0x88a8;
constexpr std::uint8_t protocol_udp = 17;
constexpr std::size_t ethernet_bytes = 14, ip_bytes = 20, udp_bytes = 8, min_frame_bytes = 60;
constexpr std::uint8_t reply_ttl = 64;

// RFC 1071: the one's complement sum of 16-bit words, carried on from sum.
std::uint32_t add_words(std::uint32_t sum, Bytes data) {
    for (; data.size() >= 2; data = data.subspan(2))
        sum += load_be<std::uint16_t>(data);
    if (!data.empty())
        sum += static_cast<std::uint32_t>(data[0]) << 8;
    return sum;
}
std::uint16_t fold(std::uint32_t sum) {
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
}

// udp covers header and data as long as the UDP length says.
std::uint16_t udp_sum(Ipv4 source, Ipv4 destination, Bytes udp) {
    std::uint32_t sum = (source.value >> 16) + (source.value & 0xffff) + (destination.value >> 16) +
                        (destination.value & 0xffff) + protocol_udp +
                        static_cast<std::uint32_t>(udp.size());
    return fold(add_words(sum, udp));
}

std::expected<void, std::string_view> parse_udp(Bytes packet, UdpChecksum checksum,
                                                Datagram& datagram) {
    ByteReader reader(packet);
    datagram.source_port = reader.be<std::uint16_t>();
    datagram.destination_port = reader.be<std::uint16_t>();
    auto length = reader.be<std::uint16_t>();
    auto sum = reader.be<std::uint16_t>();
    if (!reader.ok() || length < udp_bytes || length > packet.size())
        return std::unexpected("bad UDP length");
    auto udp = packet.first(length);
    // Zero: the sender made none (RFC 768).
    if (checksum == UdpChecksum::verify && sum != 0 &&
        udp_sum(datagram.source, datagram.destination, udp) != 0xffff)
        return std::unexpected("bad UDP checksum");
    datagram.payload = udp.subspan(udp_bytes);
    return {};
}

} // namespace

std::expected<Datagram, std::string_view> parse_frame(Bytes frame, UdpChecksum checksum) {
    ByteReader reader(frame);
    Datagram datagram;
    datagram.ethernet_destination = Mac::from(reader.bytes(6));
    datagram.ethernet_source = Mac::from(reader.bytes(6));
    auto type = reader.be<std::uint16_t>();
    auto rest = frame.subspan(std::min(frame.size(), ethernet_bytes));
    if (type == type_vlan || type == type_service_vlan) {
        if ((reader.be<std::uint16_t>() & 0xfff) != 0)
            return std::unexpected("tagged for a VLAN");
        type = reader.be<std::uint16_t>();
        rest = rest.subspan(std::min<std::size_t>(rest.size(), 4));
    }
    if (!reader.ok() || type != type_ipv4)
        return std::unexpected("not IPv4");
    if (rest.size() < ip_bytes || rest[0] >> 4 != 4)
        return std::unexpected("bad IP header");
    std::size_t header_bytes = (rest[0] & 0xf) * std::size_t{4};
    std::size_t total_bytes = load_be<std::uint16_t>(rest.subspan(2));
    if (header_bytes < ip_bytes || total_bytes < header_bytes || total_bytes > rest.size())
        return std::unexpected("bad IP length");
    if (fold(add_words(0, rest.first(header_bytes))) != 0xffff)
        return std::unexpected("bad IP header checksum");
    if (load_be<std::uint16_t>(rest.subspan(6)) & 0x3fff) // more fragments, or an offset
        return std::unexpected("a fragment");
    if (rest[9] != protocol_udp)
        return std::unexpected("not UDP");
    datagram.source.value = load_be<std::uint32_t>(rest.subspan(12));
    datagram.destination.value = load_be<std::uint32_t>(rest.subspan(16));
    auto packet = rest.subspan(header_bytes, total_bytes - header_bytes);
    if (auto good = parse_udp(packet, checksum, datagram); !good)
        return std::unexpected(good.error());
    return datagram;
}

std::vector<std::uint8_t> build_frame(const Datagram& datagram) {
    const auto udp_length = static_cast<std::uint16_t>(udp_bytes + datagram.payload.size());
    ByteWriter writer;
    writer.bytes(datagram.ethernet_destination.octets);
    writer.bytes(datagram.ethernet_source.octets);
    writer.be(type_ipv4);
    writer.be(std::uint8_t{0x45});
    writer.be(std::uint8_t{0x10}); // low delay, as DHCP servers do
    writer.be(static_cast<std::uint16_t>(ip_bytes + udp_length));
    writer.be(std::uint16_t{0});      // identification: never fragmented
    writer.be(std::uint16_t{0x4000}); // don't fragment
    writer.be(reply_ttl);
    writer.be(protocol_udp);
    writer.be(std::uint16_t{0}); // checksum
    writer.be(datagram.source.value);
    writer.be(datagram.destination.value);
    writer.be(datagram.source_port);
    writer.be(datagram.destination_port);
    writer.be(udp_length);
    writer.be(std::uint16_t{0}); // checksum
    writer.bytes(datagram.payload);
    auto frame = writer.take();
    auto ip = MutableBytes(frame).subspan(ethernet_bytes);
    store_be(ip.subspan(10), static_cast<std::uint16_t>(~fold(add_words(0, ip.first(ip_bytes)))));
    auto udp = ip.subspan(ip_bytes);
    auto sum = static_cast<std::uint16_t>(~udp_sum(datagram.source, datagram.destination, udp));
    store_be(udp.subspan(6), sum == 0 ? std::uint16_t{0xffff} : sum); // RFC 768: zero means none
    if (frame.size() < min_frame_bytes)
        frame.resize(min_frame_bytes);
    return frame;
}

} // namespace vmhost::dhcp
