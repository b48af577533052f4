#include "ipv6/frame.h"

#include <algorithm>

namespace vmhost::ipv6 {

namespace {

constexpr std::uint16_t type_ipv6 = 0x86dd, type_vlan = 0x8100, type_service_vlan = 0x88a8;
constexpr std::size_t ethernet_bytes = 14, ip_bytes = 40, udp_bytes = 8, min_icmp_bytes = 8;

// RFC 1071, as a sum that is folded at the end.
std::uint32_t add_words(std::uint32_t sum, Bytes data) {
    for (; data.size() >= 2; data = data.subspan(2))
        sum += load_be<std::uint16_t>(data);
    if (!data.empty())
        sum += static_cast<std::uint32_t>(data[0]) << 8;
    return sum;
}

// RFC 8200 §8.1: over the pseudo header and the message, which has its checksum in it or zero.
std::uint16_t sum_of(const Ipv6& source, const Ipv6& destination, std::uint8_t protocol,
                     Bytes message) {
    auto sum = add_words(0, source.octets());
    sum = add_words(sum, destination.octets());
    sum += static_cast<std::uint32_t>(message.size()) + protocol;
    sum = add_words(sum, message);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
}

std::expected<void, std::string_view> parse_udp(Bytes message, Packet& packet) {
    ByteReader reader(message);
    packet.source_port = reader.be<std::uint16_t>();
    packet.destination_port = reader.be<std::uint16_t>();
    auto length = reader.be<std::uint16_t>();
    auto sum = reader.be<std::uint16_t>();
    if (!reader.ok() || length != message.size())
        return std::unexpected("bad UDP length");
    if (sum == 0)
        return std::unexpected("no UDP checksum");
    packet.payload = message.subspan(udp_bytes);
    return {};
}

} // namespace

std::expected<Packet, std::string_view> parse_frame(Bytes frame, Checksum checksum) {
    ByteReader reader(frame);
    Packet packet;
    packet.ethernet_destination = Mac::from(reader.bytes(6));
    packet.ethernet_source = Mac::from(reader.bytes(6));
    auto type = reader.be<std::uint16_t>();
    if (type == type_vlan || type == type_service_vlan) {
        if ((reader.be<std::uint16_t>() & 0xfff) != 0)
            return std::unexpected("tagged for a VLAN");
        type = reader.be<std::uint16_t>();
    }
    if (!reader.ok() || type != type_ipv6)
        return std::unexpected("not IPv6");
    auto version = reader.be<std::uint32_t>() >> 28; // traffic class and flow label do not matter
    auto length = reader.be<std::uint16_t>();
    packet.protocol = reader.be<std::uint8_t>();
    packet.hop_limit = reader.be<std::uint8_t>();
    packet.source = Ipv6::from(reader.bytes(16));
    packet.destination = Ipv6::from(reader.bytes(16));
    if (!reader.ok() || version != 6)
        return std::unexpected("bad IPv6 header");
    auto message = reader.bytes(length); // what follows it is padding
    if (!reader.ok())
        return std::unexpected("bad IPv6 length");
    if (packet.source.is_multicast())
        return std::unexpected("sent by a group");
    if (packet.protocol == protocol_udp) {
        if (auto good = parse_udp(message, packet); !good)
            return std::unexpected(good.error());
    } else if (packet.protocol == protocol_icmp && message.size() >= min_icmp_bytes) {
        packet.payload = message;
    } else {
        return std::unexpected("neither UDP nor ICMPv6");
    }
    if (checksum == Checksum::verify &&
        sum_of(packet.source, packet.destination, packet.protocol, message) != 0xffff)
        return std::unexpected("bad checksum");
    return packet;
}

std::vector<std::uint8_t> build_frame(const Packet& packet) {
    const bool udp = packet.protocol == protocol_udp;
    const auto length = static_cast<std::uint16_t>(packet.payload.size() + (udp ? udp_bytes : 0));
    ByteWriter writer;
    writer.bytes(packet.ethernet_destination.octets);
    writer.bytes(packet.ethernet_source.octets);
    writer.be(type_ipv6);
    writer.be(std::uint32_t{6} << 28);
    writer.be(length);
    writer.be(packet.protocol);
    writer.be(packet.hop_limit);
    writer.bytes(packet.source.octets());
    writer.bytes(packet.destination.octets());
    if (udp) {
        writer.be(packet.source_port);
        writer.be(packet.destination_port);
        writer.be(length);
        writer.be(std::uint16_t{0}); // checksum
    }
    writer.bytes(packet.payload);
    auto frame = writer.take();
    auto message = MutableBytes(frame).subspan(ethernet_bytes + ip_bytes);
    auto field = message.subspan(udp ? 6 : 2);
    store_be(field, std::uint16_t{0});
    auto sum = static_cast<std::uint16_t>(
        ~sum_of(packet.source, packet.destination, packet.protocol, message));
    store_be(field, udp && sum == 0 ? std::uint16_t{0xffff} : sum);
    return frame;
}

} // namespace vmhost::ipv6
