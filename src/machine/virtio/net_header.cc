// Nothing here trusts the driver: a header is a request to the host's network stack to write a
// checksum somewhere and to cut a frame in pieces.
#include "machine/virtio/net_header.h"

namespace vmhost::machine::virtio {

namespace {

constexpr std::uint8_t needs_checksum = 1; // the other flags are for the receiving side
constexpr std::uint8_t gso_none = 0, gso_tcp4 = 1, gso_tcp6 = 4, gso_ecn = 0x80;
constexpr std::uint16_t ipv4 = 0x0800, ipv6 = 0x86dd, vlan = 0x8100, service_vlan = 0x88a8;
constexpr std::size_t ipv6_header_bytes = 40, tcp_header_bytes = 20;
constexpr std::uint16_t tcp_checksum_offset = 16;
constexpr std::uint8_t protocol_tcp = 6;

struct Fields {
    std::uint8_t flags = 0, gso_type = 0;
    std::uint16_t header_bytes = 0, segment_bytes = 0, checksum_start = 0, checksum_offset = 0;
};

// Where the network header begins behind up to two VLAN tags, and its EtherType.
std::optional<std::pair<std::size_t, std::uint16_t>> find_network_header(Bytes start) {
    for (std::size_t at = 12; at <= 20; at += 4) {
        if (at + 2 > start.size())
            return std::nullopt;
        auto type = load_be<std::uint16_t>(start.subspan(at));
        if (type != vlan && type != service_vlan)
            return std::pair{at + 2, type};
    }
    return std::nullopt;
}

// Does TCP begin at the place that the driver names?
bool is_tcp_at(Bytes start, std::size_t tcp, bool version_6) {
    auto found = find_network_header(start);
    if (!found || found->second != (version_6 ? ipv6 : ipv4))
        return false;
    auto network = found->first;
    if (version_6) // extension headers may lie in between
        return tcp >= network + ipv6_header_bytes && start[network] >> 4 == 6 &&
               (tcp > network + ipv6_header_bytes || start[network + 6] == protocol_tcp);
    if (network + 20 > start.size() || start[network] >> 4 != 4)
        return false;
    std::size_t length = 4 * (start[network] & 15U);
    return length >= 20 && tcp == network + length && start[network + 9] == protocol_tcp;
}

// Fills in what is to be cut, when it is a TCP frame of a kind that was negotiated.
bool check_segmentation(Fields& fields, std::uint64_t features, Bytes start,
                        std::uint64_t frame_bytes) {
    auto kind = static_cast<std::uint8_t>(fields.gso_type & ~gso_ecn);
    bool version_6 = kind == gso_tcp6;
    if ((kind != gso_tcp4 && !version_6) ||
        !(features & (version_6 ? net_host_tso6 : net_host_tso4)) ||
        ((fields.gso_type & gso_ecn) && !(features & net_host_ecn)))
        return false;
    std::size_t tcp = fields.checksum_start;
    if (!(fields.flags & needs_checksum) || fields.segment_bytes < limits::min_segment_bytes ||
        fields.checksum_offset != tcp_checksum_offset || tcp + tcp_header_bytes > start.size() ||
        !is_tcp_at(start, tcp, version_6))
        return false;
    std::size_t length = 4 * (start[tcp + 12] >> 4U);
    if (length < tcp_header_bytes || tcp + length >= frame_bytes)
        return false;
    fields.header_bytes = static_cast<std::uint16_t>(tcp + length);
    return true;
}

} // namespace

std::optional<std::array<std::uint8_t, net_header_bytes>>
header_for_kernel(Bytes header, std::uint64_t features, Bytes start, std::uint64_t frame_bytes) {
    std::array<std::uint8_t, net_header_bytes> made{};
    if (!(features & net_csum))
        return made; // nothing that the header can say was negotiated
    ByteReader reader(header);
    Fields fields;
    fields.flags = reader.le<std::uint8_t>() & needs_checksum;
    fields.gso_type = reader.le<std::uint8_t>();
    reader.skip(2); // the length of the headers: a hint that the frame itself answers
    fields.segment_bytes = reader.le<std::uint16_t>();
    fields.checksum_start = reader.le<std::uint16_t>();
    fields.checksum_offset = reader.le<std::uint16_t>();
    if (!reader.ok())
        return std::nullopt;

    if ((fields.flags & needs_checksum) &&
        (fields.checksum_start < ethernet_header_bytes ||
         !range_fits(fields.checksum_start, fields.checksum_offset + 2ULL, frame_bytes)))
        return std::nullopt;
    if (fields.gso_type != gso_none && !check_segmentation(fields, features, start, frame_bytes))
        return std::nullopt;

    if (!(fields.flags & needs_checksum))
        return made;
    auto put = [&](std::size_t offset, std::uint16_t value) {
        store_le(MutableBytes(made).subspan(offset), value);
    };
    made[0] = fields.flags;
    put(6, fields.checksum_start);
    put(8, fields.checksum_offset);
    if (fields.gso_type != gso_none) {
        made[1] = fields.gso_type;
        put(2, fields.header_bytes);
        put(4, fields.segment_bytes);
    }
    return made;
}

} // namespace vmhost::machine::virtio
