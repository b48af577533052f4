// Contents and order of replies.
//
// dhcpleased throws a whole packet away when 1, 51, 54, 58 or 59 has another
// length than 4, and an ACK without 1 or 51; OpenBSD's installer takes its server
// from siaddr (old ones: sname, 66) and its mode from file (old ones: 67). So the
// header fields and the essential options are always there, and what does not fit
// is left out from the end of what the client asked for. Nothing is overloaded.
#include "dhcp/reply.h"

#include <algorithm>

namespace vmhost::dhcp {

namespace {

constexpr std::uint32_t for_ever = 0xffffffff;
constexpr unsigned ip_and_udp_bytes = 28;
constexpr unsigned min_datagram_bytes = 576; // RFC 2131 §2: every client takes this

using Data = std::vector<std::uint8_t>;

Data number(std::uint32_t value) {
    Data data(4);
    store_be(MutableBytes(data), value);
    return data;
}
Data text(std::string_view value) {
    return {value.begin(), value.end()};
}
Data addresses(const std::vector<Ipv4>& list) {
    ByteWriter writer;
    for (auto address : list)
        writer.be(address.value);
    return writer.take();
}

const std::string& filename(const Network& network, const Guest& guest) {
    return guest.filename ? *guest.filename : network.filename;
}
Ipv4 next_server(const Network& network) {
    return network.next_server.is_zero() ? network.server.address : network.next_server;
}

// What the model has for an option; empty when nothing.
Data value(std::uint8_t code, const Network& network, const Guest& guest) {
    switch (code) {
    case option::subnet_mask:
        return number(network.server.mask());
    case option::routers:
        return addresses(network.routers);
    case option::domain_name_servers:
        return addresses(network.domain_name_servers);
    case option::host_name:
        return legal_host_name(guest.host_name) ? text(guest.host_name) : Data{};
    case option::domain_name:
        return text(network.domain_name);
    case option::interface_mtu:
        return {static_cast<std::uint8_t>(network.mtu >> 8),
                static_cast<std::uint8_t>(network.mtu)};
    case option::broadcast_address: // a /31 has none
        return network.server.length < 31 ? number(network.server.broadcast().value) : Data{};
    case option::tftp_server_name:
        return text(next_server(network).text());
    case option::bootfile_name:
        return text(filename(network, guest));
    default:
        return {};
    }
}

struct Item {
    std::uint8_t code;
    Data data;
    bool essential;
};

class OptionList {
public:
    void add(std::uint8_t code, Data data, bool essential) {
        bool present = std::ranges::any_of(items_, [&](auto& item) { return item.code == code; });
        if (!data.empty() && !present)
            items_.push_back({code, std::move(data), essential});
    }
    // In order; what is essential has its place before the rest gets any.
    void write(ReplyWriter& writer) const {
        std::size_t reserved = 0;
        for (const auto& item : items_)
            reserved += item.essential ? ReplyWriter::wire_bytes(item.data.size()) : 0;
        for (const auto& item : items_) {
            auto size = ReplyWriter::wire_bytes(item.data.size());
            if (item.essential)
                reserved -= size;
            else if (size + reserved > writer.room_bytes())
                continue;
            writer.add(item.code, item.data);
        }
    }

private:
    std::vector<Item> items_;
};

Header header_of(const Network& network, const Guest& guest, const Message& request,
                 const ReplyForm& form) {
    Header header;
    header.op = boot_reply;
    header.htype = request.header.htype;
    header.hlen = request.header.hlen;
    header.xid = request.header.xid;
    header.flags = request.header.flags & broadcast_flag;
    header.chaddr = request.header.chaddr;
    if (form.type == MessageType::nak) {
        header.flags |= broadcast_flag;
        header.siaddr = network.server.address;
        return header;
    }
    if (form.type != MessageType::offer)
        header.ciaddr = request.header.ciaddr;
    header.yiaddr = form.yiaddr;
    header.siaddr = next_server(network);
    header.sname = next_server(network).text();
    header.file = filename(network, guest);
    return header;
}

std::size_t max_reply_bytes(const Network& network, const Message& request, const ReplyForm& form) {
    // RFC 951 has a vendor area of 64 bytes; a longer request shows room for more.
    if (form.type == MessageType::bootp)
        return std::min(request.size_bytes, default_reply_bytes);
    unsigned asked = request.number<std::uint16_t>(option::max_message_size).value_or(0);
    return std::max(std::min(std::max(asked, min_datagram_bytes), network.mtu), ip_and_udp_bytes) -
           ip_and_udp_bytes;
}

void add_times(OptionList& options, std::uint32_t lease_s) {
    auto part = [&](std::uint64_t eighths) {
        return lease_s == for_ever ? for_ever : static_cast<std::uint32_t>(lease_s * eighths / 8);
    };
    options.add(option::lease_time, number(lease_s), true);
    options.add(option::renewal_time, number(part(4)), true);
    options.add(option::rebinding_time, number(part(7)), true);
}

} // namespace

std::uint32_t lease_time_s(const Network& network, const Message& request) {
    auto asked = request.number<std::uint32_t>(option::lease_time).value_or(0);
    if (asked == 0)
        return network.lease_time_s;
    return std::min(network.lease_time_s, std::max(asked, limits::min_dhcp_lease_s));
}

std::vector<std::uint8_t> build_reply(const Network& network, const Guest& guest,
                                      const Message& request, const ReplyForm& form) {
    bool bootp = form.type == MessageType::bootp;
    // A BOOTP client without the cookie does not know options.
    ReplyWriter writer(header_of(network, guest, request, form), !bootp || request.has_cookie,
                       max_reply_bytes(network, request, form));
    OptionList options;
    if (!bootp) {
        options.add(option::message_type, {static_cast<std::uint8_t>(form.type)}, true);
        options.add(option::server_identifier, number(network.server.address.value), true);
        if (form.lease_time_s != 0)
            add_times(options, form.lease_time_s);
        options.add(option::message, text(form.message), true);
        // RFC 6842: unchanged. One instance holds 255 bytes.
        auto id = request.find(option::client_identifier);
        if (id && id->size() <= 255)
            options.add(option::client_identifier, {id->begin(), id->end()}, true);
    }
    if (form.type != MessageType::nak) {
        constexpr std::array basic{option::subnet_mask,         option::routers,
                                   option::domain_name_servers, option::host_name,
                                   option::domain_name,         option::broadcast_address};
        auto add = [&](std::uint8_t code) {
            options.add(code, value(code, network, guest),
                        code == option::subnet_mask || code == option::routers);
        };
        auto asked = bootp ? std::nullopt : request.find(option::parameter_request_list);
        if (asked)
            std::ranges::for_each(*asked, add);
        std::ranges::for_each(basic, add);
    }
    options.write(writer);
    return writer.finish();
}

} // namespace vmhost::dhcp
