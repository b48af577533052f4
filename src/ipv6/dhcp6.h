// DHCPv6 messages on the wire: RFC 8415 §8, §21; RFC 3646.
//
// Taking apart: everything comes from a guest. What a server has to know of a message is copied or
// pointed at; what it need not know is stepped over. A length that does not fit makes the message
// malformed, and of options beyond limits::max_dhcp6_associations nothing is kept.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace vmhost::ipv6 {

enum class MessageType : std::uint8_t {
    solicit = 1,
    advertise = 2,
    request = 3,
    confirm = 4,
    renew = 5,
    rebind = 6,
    reply = 7,
    release = 8,
    decline = 9,
    reconfigure = 10,
    information_request = 11,
    relay_forward = 12,
    relay_reply = 13,
};
std::string_view name_of(MessageType type);

enum class Status : std::uint16_t {
    success = 0,
    no_addresses = 2,
    no_binding = 3,
    not_on_link = 4,
    use_multicast = 5,
    no_prefix = 6,
};

// What a guest wants addresses or prefixes for.
enum class Association : std::uint16_t { addresses = 3, temporary = 4, prefixes = 25 };

struct Wanted {
    Association kind = Association::addresses;
    std::uint32_t id = 0;        // the guest's own number of it
    std::vector<Ipv6> addresses; // of the first kind: that it has or wishes for
};

struct Message {
    MessageType type = MessageType::solicit;
    std::uint32_t transaction = 0;       // 24 bits
    std::optional<Bytes> client, server; // DUIDs; point into the packet
    bool rapid_commit = false;
    std::vector<Wanted> wanted; // in their order, at most limits::max_dhcp6_associations
};
// The error says what is wrong. A relay's message is only told by its type.
std::expected<Message, std::string_view> parse_message(Bytes payload);

// One answer to a Wanted.
struct Given {
    const Wanted* wanted = nullptr;
    std::optional<Ipv6> address; // with lifetimes; of those that it wished for others get none
    Status status = Status::success;
};

struct ReplyForm {
    MessageType type = MessageType::reply;
    std::uint32_t transaction = 0;
    Bytes client; // empty: the guest did not say
    Bytes server;
    std::optional<Status> status; // of the whole
    bool rapid_commit = false;
    std::vector<Given> given;
    std::uint32_t lease_s = 0;
    std::vector<Ipv6> domain_name_servers;
    std::string_view domain_name;
};
std::vector<std::uint8_t> build_reply(const ReplyForm& form);

// RFC 8415 §11.4: of an Ethernet address.
std::vector<std::uint8_t> duid_of(const Mac& mac);

} // namespace vmhost::ipv6
