// Builds what clients send, field by field.
#pragma once

#include <initializer_list>
#include <string_view>

#include "dhcp/dhcp.h"
#include "dhcp/packet.h"

namespace vmhost::test {

inline Ipv4 ip(std::string_view text) {
    return parse_ipv4(text).value();
}
inline Mac mac(std::string_view text) {
    return parse_mac(text).value();
}

struct Client {
    Mac mac;
    std::uint8_t op = 1, htype = 1, hlen = 6, hops = 0;
    std::uint32_t xid = 0x1234abcd;
    std::uint16_t flags = 0;
    Ipv4 ciaddr{}, giaddr{};
    std::string sname{}, file{};
    bool cookie = true, end = true;
    std::size_t pad_to = 300;
    std::vector<std::uint8_t> options{};

    Client& option(std::uint8_t code, Bytes data) {
        options.push_back(code);
        options.push_back(static_cast<std::uint8_t>(data.size()));
        options.insert(options.end(), data.begin(), data.end());
        return *this;
    }
    Client& option(std::uint8_t code, std::initializer_list<std::uint8_t> data) {
        return option(code, Bytes(data.begin(), data.size()));
    }
    Client& option(std::uint8_t code, std::string_view data) {
        return option(code, as_bytes(data));
    }
    Client& option(std::uint8_t code, Ipv4 address) {
        std::uint8_t wire[4];
        store_be(MutableBytes(wire), address.value);
        return option(code, Bytes(wire));
    }
    Client& type(dhcp::MessageType value) { return option(53, {static_cast<std::uint8_t>(value)}); }

    std::vector<std::uint8_t> bytes() const {
        ByteWriter writer;
        for (auto byte : {op, htype, hlen, hops})
            writer.be(byte);
        writer.be(xid);
        writer.be(std::uint16_t{0});
        writer.be(flags);
        for (auto address : {ciaddr, Ipv4{}, Ipv4{}, giaddr})
            writer.be(address.value);
        writer.bytes(mac.octets);
        writer.pad_to(44);
        writer.bytes(as_bytes(sname));
        writer.pad_to(108);
        writer.bytes(as_bytes(file));
        writer.pad_to(236);
        if (cookie)
            writer.be(std::uint32_t{0x63825363});
        writer.bytes(options);
        if (cookie && end)
            writer.be(std::uint8_t{255});
        writer.pad_to(pad_to);
        return writer.take();
    }
};

// The client id that OpenBSD's clients send: hardware type and address.
inline std::vector<std::uint8_t> client_id(const Mac& mac) {
    std::vector<std::uint8_t> id{1};
    id.insert(id.end(), mac.octets.begin(), mac.octets.end());
    return id;
}

// dhcpleased(8): 53, 12, 61, 55, then 50 and 54 while requesting; padded to 300.
inline Client dhcpleased(const Mac& mac, dhcp::MessageType type) {
    Client client{.mac = mac};
    client.type(type).option(61, client_id(mac)).option(55, {1, 3, 6, 12, 15, 28, 119, 121});
    return client;
}

} // namespace vmhost::test
