#include "ipv6/dhcp6.h"

#include <algorithm>

#include "ipv6/neighbour.h"

namespace vmhost::ipv6 {

namespace {

constexpr std::uint16_t option_client = 1, option_server = 2, option_address = 5,
                        option_preference = 7, option_status = 13, option_rapid_commit = 14,
                        option_dns_servers = 23, option_domain_list = 24;
// RFC 8415 §11.1: a type and up to 128 bytes.
constexpr std::size_t min_duid_bytes = 3, max_duid_bytes = 130;
constexpr std::size_t address_bytes = 24; // address and two lifetimes, before options

struct Option {
    std::uint16_t code = 0;
    Bytes body;
};

// The next of a row of options. Nothing: the end, or a length that does not fit, which the
// reader tells apart.
std::optional<Option> next_option(ByteReader& reader) {
    if (reader.remaining() == 0)
        return {};
    Option option;
    option.code = reader.be<std::uint16_t>();
    option.body = reader.bytes(reader.be<std::uint16_t>());
    if (!reader.ok())
        return {};
    return option;
}

constexpr std::string_view cut_off = "an option goes past the end";

std::expected<Wanted, std::string_view> parse_wanted(const Option& option) {
    Wanted wanted;
    wanted.kind = static_cast<Association>(option.code);
    ByteReader reader(option.body);
    wanted.id = reader.be<std::uint32_t>();
    if (wanted.kind != Association::temporary)
        reader.skip(8); // T1 and T2, which are the server's to say
    if (!reader.ok())
        return std::unexpected("an identity association is too short");
    while (auto inner = next_option(reader)) {
        if (inner->code != option_address || wanted.kind != Association::addresses)
            continue;
        if (inner->body.size() < address_bytes)
            return std::unexpected("an address option is too short");
        if (wanted.addresses.size() < limits::max_dhcp6_associations)
            wanted.addresses.push_back(Ipv6::from(inner->body));
    }
    if (!reader.ok())
        return std::unexpected(cut_off);
    return wanted;
}

std::expected<void, std::string_view> take_option(const Option& option, Message& message) {
    switch (option.code) {
    case option_client:
    case option_server: {
        auto& duid = option.code == option_client ? message.client : message.server;
        if (duid)
            return std::unexpected("two identifiers of one side");
        if (option.body.size() < min_duid_bytes || option.body.size() > max_duid_bytes)
            return std::unexpected("an identifier has no such length");
        duid = option.body;
        return {};
    }
    case option_rapid_commit:
        message.rapid_commit = true;
        return {};
    case static_cast<std::uint16_t>(Association::addresses):
    case static_cast<std::uint16_t>(Association::temporary):
    case static_cast<std::uint16_t>(Association::prefixes): {
        auto wanted = parse_wanted(option);
        if (!wanted)
            return std::unexpected(wanted.error());
        if (message.wanted.size() < limits::max_dhcp6_associations)
            message.wanted.push_back(*std::move(wanted));
        return {};
    }
    default:
        return {};
    }
}

// Code, a length that is filled in by close(), body.
class OptionWriter {
public:
    explicit OptionWriter(ByteWriter& out, std::uint16_t code) : out_(out) {
        out_.be(code);
        out_.be(std::uint16_t{0});
        start_ = out_.size();
    }
    ~OptionWriter() {
        store_be(MutableBytes(out_.buffer()).subspan(start_ - 2),
                 static_cast<std::uint16_t>(out_.size() - start_));
    }
    OptionWriter(const OptionWriter&) = delete;
    OptionWriter& operator=(const OptionWriter&) = delete;

private:
    ByteWriter& out_;
    std::size_t start_ = 0;
};

void write_option(ByteWriter& out, std::uint16_t code, Bytes body) {
    OptionWriter option(out, code);
    out.bytes(body);
}

void write_status(ByteWriter& out, Status status) {
    OptionWriter option(out, option_status);
    out.be(static_cast<std::uint16_t>(status));
}

void write_address(ByteWriter& out, const Ipv6& address, std::uint32_t lease_s) {
    OptionWriter option(out, option_address);
    out.bytes(address.octets());
    out.be(lease_s); // preferred
    out.be(lease_s); // valid
}

void write_given(ByteWriter& out, const Given& given, const ReplyForm& form) {
    OptionWriter option(out, static_cast<std::uint16_t>(given.wanted->kind));
    out.be(given.wanted->id);
    if (given.wanted->kind != Association::temporary) {
        // RFC 8415 §14.2; never, when nothing was given.
        const std::uint64_t lease_s = given.address ? form.lease_s : 0;
        out.be(static_cast<std::uint32_t>(lease_s / 2));
        out.be(static_cast<std::uint32_t>(lease_s * 4 / 5));
    }
    if (given.address) {
        write_address(out, *given.address, form.lease_s);
        for (const auto& other : given.wanted->addresses)
            if (other != *given.address)
                write_address(out, other, 0); // not, or no longer, its
    }
    if (given.status != Status::success)
        write_status(out, given.status);
}

} // namespace

std::string_view name_of(MessageType type) {
    constexpr std::string_view names[] = {
        "type 0",     "SOLICIT",   "ADVERTISE", "REQUEST", "CONFIRM",     "RENEW",
        "REBIND",     "REPLY",     "RELEASE",   "DECLINE", "RECONFIGURE", "INFORMATION-REQUEST",
        "RELAY-FORW", "RELAY-REPL"};
    auto number = static_cast<std::size_t>(type);
    return number < std::size(names) ? names[number] : "unknown type";
}

std::expected<Message, std::string_view> parse_message(Bytes payload) {
    ByteReader reader(payload);
    Message message;
    auto head = reader.be<std::uint32_t>();
    if (!reader.ok())
        return std::unexpected("shorter than its header");
    message.type = static_cast<MessageType>(head >> 24);
    message.transaction = head & 0xff'ffff;
    if (message.type == MessageType::relay_forward || message.type == MessageType::relay_reply)
        return message;
    while (auto option = next_option(reader))
        if (auto taken = take_option(*option, message); !taken)
            return std::unexpected(taken.error());
    if (!reader.ok())
        return std::unexpected(cut_off);
    return message;
}

std::vector<std::uint8_t> build_reply(const ReplyForm& form) {
    ByteWriter out;
    out.be(static_cast<std::uint32_t>(form.type) << 24 | form.transaction);
    if (!form.client.empty())
        write_option(out, option_client, form.client);
    write_option(out, option_server, form.server);
    if (form.type == MessageType::advertise) {
        const std::uint8_t highest = 255; // RFC 8415 §18.2.1: the client waits for no other server
        write_option(out, option_preference, {&highest, 1});
    }
    if (form.status)
        write_status(out, *form.status);
    if (form.rapid_commit)
        write_option(out, option_rapid_commit, {});
    for (const auto& given : form.given)
        write_given(out, given, form);
    if (!form.domain_name_servers.empty()) {
        OptionWriter option(out, option_dns_servers);
        for (const auto& server : form.domain_name_servers)
            out.bytes(server.octets());
    }
    if (auto name = wire_name(form.domain_name); !name.empty())
        write_option(out, option_domain_list, name);
    return out.take();
}

std::vector<std::uint8_t> duid_of(const Mac& mac) {
    ByteWriter out;
    out.be(std::uint16_t{3}); // DUID-LL
    out.be(std::uint16_t{1}); // Ethernet
    out.bytes(mac.octets);
    return out.take();
}

} // namespace vmhost::ipv6
