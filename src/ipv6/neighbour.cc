#include "ipv6/neighbour.h"

namespace vmhost::ipv6 {

namespace {

constexpr std::uint8_t nd_source_link_layer = 1, nd_prefix = 3, nd_mtu = 5, nd_dns_servers = 25,
                       nd_dns_search = 31;
constexpr std::uint8_t current_hop_limit = 64;
constexpr std::uint8_t flag_managed = 0x80, flag_other = 0x40;      // of the message
constexpr std::uint8_t flag_on_link = 0x80, flag_autonomous = 0x40; // of a prefix
constexpr std::size_t unit_bytes = 8; // an option's length counts these

} // namespace

std::expected<Solicitation, std::string_view> parse_solicitation(Bytes message,
                                                                 const Ipv6& source) {
    Solicitation found;
    ByteReader reader(message);
    reader.skip(1);
    auto code = reader.be<std::uint8_t>();
    reader.skip(6); // checksum, reserved
    if (!reader.ok())
        return std::unexpected("shorter than its header");
    if (code != 0)
        return std::unexpected("a code other than 0");
    while (reader.remaining() > 0) {
        auto type = reader.be<std::uint8_t>();
        std::size_t units = reader.be<std::uint8_t>();
        if (units == 0) // also when the length is cut off
            return std::unexpected("an option of no length");
        auto body = reader.bytes(units * unit_bytes - 2);
        if (!reader.ok())
            return std::unexpected("an option goes past the end");
        if (type != nd_source_link_layer)
            continue;
        if (source.is_zero())
            return std::unexpected("a source link-layer address without a source address");
        found.link_layer = Mac::from(body);
    }
    return found;
}

std::vector<std::uint8_t> wire_name(std::string_view name) {
    ByteWriter writer;
    if (name.ends_with('.'))
        name.remove_suffix(1);
    if (name.empty() || name.size() > limits::max_domain_bytes)
        return {};
    for (;;) {
        auto label = name.substr(0, name.find('.'));
        if (label.empty() || label.size() > 63)
            return {};
        writer.be(static_cast<std::uint8_t>(label.size()));
        writer.bytes(as_bytes(label));
        if (label.size() == name.size())
            break;
        name.remove_prefix(label.size() + 1);
    }
    writer.be(std::uint8_t{0});
    return writer.take();
}

std::vector<std::uint8_t> build_advertisement(const Advertisement& advertisement) {
    ByteWriter writer;
    writer.be(type_router_advertisement);
    writer.be(std::uint8_t{0});
    writer.be(std::uint16_t{0}); // checksum
    writer.be(current_hop_limit);
    writer.be(static_cast<std::uint8_t>(advertisement.managed ? flag_managed | flag_other : 0));
    writer.be(static_cast<std::uint16_t>(advertisement.router_s));
    writer.zeros(8); // reachable time and retransmission timer: as guests like

    writer.be(nd_source_link_layer);
    writer.be(std::uint8_t{1});
    writer.bytes(advertisement.link_layer.octets);

    writer.be(nd_mtu);
    writer.be(std::uint8_t{1});
    writer.be(std::uint16_t{0});
    writer.be(std::uint32_t{advertisement.mtu});

    writer.be(nd_prefix);
    writer.be(std::uint8_t{4});
    writer.be(advertisement.prefix.length);
    writer.be(
        static_cast<std::uint8_t>(flag_on_link | (advertisement.autonomous ? flag_autonomous : 0)));
    // Not the days of RFC 4861 §6.2.1: a network that is changed while nobody is there to say so is
    // forgotten soon.
    writer.be(2 * advertisement.prefix_s);
    writer.be(advertisement.prefix_s);
    writer.be(std::uint32_t{0});
    writer.bytes(advertisement.prefix.network().octets());

    if (const auto& servers = advertisement.domain_name_servers; !servers.empty()) {
        writer.be(nd_dns_servers);
        writer.be(static_cast<std::uint8_t>(1 + 2 * servers.size()));
        writer.be(std::uint16_t{0});
        writer.be(advertisement.information_s);
        for (const auto& server : servers)
            writer.bytes(server.octets());
    }
    if (auto name = wire_name(advertisement.domain_name); !name.empty()) {
        name.resize((name.size() + unit_bytes - 1) / unit_bytes * unit_bytes);
        writer.be(nd_dns_search);
        writer.be(static_cast<std::uint8_t>(1 + name.size() / unit_bytes));
        writer.be(std::uint16_t{0});
        writer.be(advertisement.information_s);
        writer.bytes(name);
    }
    return writer.take();
}

} // namespace vmhost::ipv6
