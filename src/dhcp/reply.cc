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

// What goes into one reply, from where: a guest's own, then the classes that the client is of, in
// their order, then the network's.
struct Sources {
    const Network& network;
    const Message& request;
    const ReplyForm& form;
    std::vector<const Class*> classes;

    Sources(const Network& its_network, const Message& its_request, const ReplyForm& its_form)
        : network(its_network), request(its_request), form(its_form) {
        for (const auto& one : network.classes)
            if (fits(one, request))
                classes.push_back(&one);
    }

    // What boots an installer would do so again.
    bool only_own_boot_file() const { return form.guest && form.guest->installed; }
    std::string_view filename() const {
        if (form.guest && form.guest->filename && !form.guest->filename->empty())
            return *form.guest->filename;
        if (only_own_boot_file())
            return "";
        for (const auto* one : classes)
            if (one->filename)
                return *one->filename;
        if (form.guest)
            return form.guest->filename ? *form.guest->filename : network.filename;
        return ""; // the network's is for guests that are being installed
    }
    Ipv4 next_server() const {
        if (form.guest && form.guest->next_server)
            return *form.guest->next_server;
        for (const auto* one : classes)
            if (one->next_server)
                return *one->next_server;
        return network.next_server.is_zero() ? network.server.address : network.next_server;
    }
    // Calls visit(option) for all that are configured, the stronger ones first.
    template <class Visit>
    void each_option(Visit visit) const {
        if (form.guest)
            std::ranges::for_each(form.guest->options, visit);
        auto visit_others = [&](const Option& one) {
            if (one.code != option::bootfile_name || !only_own_boot_file())
                visit(one);
        };
        for (const auto* one : classes)
            std::ranges::for_each(one->options, visit_others);
        std::ranges::for_each(network.options, visit_others);
    }
    Data configured(std::uint8_t code) const {
        const Option* found = nullptr;
        each_option([&](const Option& one) {
            if (one.code == code && !found)
                found = &one;
        });
        return found ? found->data : Data{};
    }
    Data routers() const {
        // A relay agent is the way out of its subnet.
        return form.foreign ? number(request.header.giaddr.value) : addresses(network.routers);
    }
    // What the model has for an option; empty when nothing.
    Data value(std::uint8_t code) const;
};

Data Sources::value(std::uint8_t code) const {
    if (auto data = configured(code); !data.empty())
        return data;
    switch (code) {
    case option::subnet_mask:
        return number(form.prefix.mask());
    case option::routers:
        return routers();
    case option::domain_name_servers:
        return addresses(network.domain_name_servers);
    case option::host_name:
        return form.guest && legal_host_name(form.guest->host_name) ? text(form.guest->host_name)
                                                                    : Data{};
    case option::domain_name:
        return text(network.domain_name);
    case option::interface_mtu:
        return {static_cast<std::uint8_t>(network.mtu >> 8),
                static_cast<std::uint8_t>(network.mtu)};
    case option::broadcast_address: // a /31 has none
        return form.prefix.length < 31 ? number(form.prefix.broadcast().value) : Data{};
    case option::tftp_server_name:
        return text(next_server().text());
    case option::bootfile_name:
        return text(filename());
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
    // In order; what is essential has its place before the rest gets any. What had none.
    std::vector<std::uint8_t> write(ReplyWriter& writer) const {
        std::vector<std::uint8_t> left_out;
        std::size_t reserved = 0;
        for (const auto& item : items_)
            reserved += item.essential ? ReplyWriter::wire_bytes(item.data.size()) : 0;
        for (const auto& item : items_) {
            auto size = ReplyWriter::wire_bytes(item.data.size());
            if (item.essential)
                reserved -= size;
            bool fits = item.essential || size + reserved <= writer.room_bytes();
            if (!fits || !writer.add(item.code, item.data))
                left_out.push_back(item.code);
        }
        return left_out;
    }

private:
    std::vector<Item> items_;
};

Header header_of(const Sources& from) {
    const auto& asked = from.request.header;
    Header header;
    header.op = boot_reply;
    header.htype = asked.htype;
    header.hlen = asked.hlen;
    header.xid = asked.xid;
    header.flags = asked.flags & broadcast_flag;
    header.giaddr = asked.giaddr;
    header.chaddr = asked.chaddr;
    if (from.form.type == MessageType::nak) {
        header.flags |= broadcast_flag;
        header.siaddr = from.network.server.address;
        return header;
    }
    if (from.form.type != MessageType::offer)
        header.ciaddr = asked.ciaddr;
    header.yiaddr = from.form.yiaddr;
    header.siaddr = from.next_server();
    header.sname = from.next_server().text();
    if (auto file = from.filename(); file.size() <= limits::max_dhcp_filename_bytes)
        header.file = file;
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

// What clients want that read the vendor class and the boot file of the reply: PXE ROMs read the
// header or 66 and 67, UEFI's HTTP boot takes no offer without 60, and a URL may not fit into the
// header.
void add_boot_options(OptionList& options, const Sources& from) {
    auto file = from.filename();
    if (file.empty())
        return;
    constexpr std::string_view http_client = "HTTPClient";
    auto vendor = from.request.find(option::vendor_class);
    bool http = vendor && as_text(*vendor).starts_with(http_client);
    if (http)
        options.add(option::vendor_class, text(http_client), true);
    if (http || file.size() > limits::max_dhcp_filename_bytes)
        options.add(option::bootfile_name, text(file), true);
}

// In the order in which the client asks, then those of the basic set, then what is configured.
void add_settings(OptionList& options, const Sources& from, bool bootp) {
    constexpr std::array basic{option::subnet_mask,         option::routers,
                               option::domain_name_servers, option::host_name,
                               option::domain_name,         option::broadcast_address};
    auto add = [&](std::uint8_t code) {
        // Our own business, whatever the client asks.
        constexpr std::array ours{
            option::requested_address, option::lease_time,        option::overload,
            option::message_type,      option::server_identifier, option::message,
            option::max_message_size,  option::client_identifier, option::relay_agent};
        if (std::ranges::find(ours, code) == ours.end())
            options.add(code, from.value(code),
                        code == option::subnet_mask || code == option::routers);
    };
    auto asked = bootp ? std::nullopt : from.request.find(option::parameter_request_list);
    // RFC 3442: a client that asks for 121 leaves routers aside once it has it.
    if (asked && std::ranges::find(*asked, option::classless_routes) != asked->end())
        add(option::classless_routes);
    if (asked)
        std::ranges::for_each(*asked, add);
    std::ranges::for_each(basic, add);
    from.each_option([&](const Option& one) { add(one.code); });
}

} // namespace

// RFC 3004 has parts with their lengths; iPXE and others send the bare text.
bool fits(const Class& one, const Message& request) {
    if (!one.vendor.empty()) {
        auto vendor = request.find(option::vendor_class);
        if (!vendor || !as_text(*vendor).starts_with(one.vendor))
            return false;
    }
    if (!one.user.empty()) {
        auto user = request.find(option::user_class);
        if (!user)
            return false;
        auto bare = as_text(*user);
        bool found = bare.substr(0, bare.find('\0')) == one.user;
        for (auto rest = *user; !found && !rest.empty() && rest[0] < rest.size();
             rest = rest.subspan(1 + std::size_t{rest[0]}))
            found = as_text(rest.subspan(1, rest[0])) == one.user;
        if (!found)
            return false;
    }
    if (!one.architectures.empty()) {
        auto codes = request.find(option::architecture).value_or(Bytes{});
        bool found = false;
        for (; codes.size() >= 2 && !found; codes = codes.subspan(2))
            found = std::ranges::find(one.architectures, load_be<std::uint16_t>(codes)) !=
                    one.architectures.end();
        if (!found)
            return false;
    }
    return true;
}

std::uint32_t lease_time_s(const Network& network, const Message& request) {
    auto asked = request.number<std::uint32_t>(option::lease_time).value_or(0);
    if (asked == 0)
        return network.lease_time_s;
    auto most = std::max(network.lease_time_s, network.max_lease_time_s);
    return std::min(most, std::max(asked, limits::min_dhcp_lease_s));
}

BuiltReply build_reply(const Network& network, const Message& request, const ReplyForm& form) {
    const Sources from(network, request, form);
    bool bootp = form.type == MessageType::bootp;
    // A BOOTP client without the cookie does not know options.
    ReplyWriter writer(header_of(from), !bootp || request.has_cookie,
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
        if (!bootp)
            add_boot_options(options, from);
        add_settings(options, from, bootp);
    }
    auto left_out = options.write(writer);
    if (bootp && !request.has_cookie)
        left_out.clear(); // it knows of none
    // RFC 3046 §2.2: unchanged and last; the relay agent takes it off.
    if (auto agent = request.find(option::relay_agent);
        agent && agent->size() <= 255 && !request.header.giaddr.is_zero())
        writer.append(option::relay_agent, *agent);
    return {writer.finish(), std::move(left_out)};
}

} // namespace vmhost::dhcp
