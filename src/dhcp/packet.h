// DHCP and BOOTP messages on the wire: RFC 951, 1497, 2131 §2, 2132, 3396.
//
// Taking apart: everything comes from a guest. Option instances of one code are
// concatenated (RFC 3396), options in overloaded file and sname fields are read,
// nothing after END counts, and a length that does not fit is a malformed message.
//
// Putting together: never overloaded (dhcpleased does not read it), END last,
// no pad byte before it (pxeboot does not skip one), at least 300 bytes.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "base/base.h"

namespace vmhost::dhcp {

inline constexpr std::uint16_t bootps_port = 67, bootpc_port = 68; // UDP

namespace option {
inline constexpr std::uint8_t pad = 0, subnet_mask = 1, routers = 3, domain_name_servers = 6,
                              host_name = 12, domain_name = 15, interface_mtu = 26,
                              broadcast_address = 28, requested_address = 50, lease_time = 51,
                              overload = 52, message_type = 53, server_identifier = 54,
                              parameter_request_list = 55, message = 56, max_message_size = 57,
                              renewal_time = 58, rebinding_time = 59, vendor_class = 60,
                              client_identifier = 61, tftp_server_name = 66, bootfile_name = 67,
                              user_class = 77, relay_agent = 82, architecture = 93,
                              classless_routes = 121, end = 255;
} // namespace option

enum class MessageType : std::uint8_t {
    bootp = 0, // no option 53
    discover = 1,
    offer = 2,
    request = 3,
    decline = 4,
    ack = 5,
    nak = 6,
    release = 7,
    inform = 8,
};

inline constexpr std::uint8_t boot_request = 1, boot_reply = 2;
inline constexpr std::uint16_t broadcast_flag = 0x8000;
inline constexpr std::size_t header_bytes = 236; // before the cookie
inline constexpr std::size_t min_reply_bytes = 300;
inline constexpr std::size_t default_reply_bytes = 548; // 576 less IP and UDP headers

struct Header {
    std::uint8_t op = 0, htype = 0, hlen = 0, hops = 0;
    std::uint32_t xid = 0;
    std::uint16_t secs = 0, flags = 0;
    Ipv4 ciaddr, yiaddr, siaddr, giaddr;
    std::array<std::uint8_t, 16> chaddr{};
    std::string sname, file; // as far as the first NUL; empty when overloaded

    Mac hardware_address() const { return Mac::from(chaddr); }
};

class Message {
public:
    Header header;
    bool has_cookie = false;
    std::size_t size_bytes = 0; // of the whole message

    // The option's data, all instances concatenated; nothing when it was not sent.
    std::optional<Bytes> find(std::uint8_t code) const;
    // Options of a fixed form. Nothing when absent or of another length.
    std::optional<Ipv4> address(std::uint8_t code) const;
    template <WireInteger T>
    std::optional<T> number(std::uint8_t code) const {
        auto data = find(code);
        if (!data || data->size() != sizeof(T))
            return std::nullopt;
        return load_be<T>(*data);
    }
    // True when the option was sent, but not with this length.
    bool has_other_length(std::uint8_t code, std::size_t length) const;

private:
    friend std::expected<Message, std::string_view> parse(Bytes payload);
    struct Entry {
        std::uint8_t code;
        std::uint16_t offset, length; // into data_
    };
    std::vector<Entry> entries_; // in the order of first appearance
    std::vector<std::uint8_t> data_;
};

// The error says what is malformed.
std::expected<Message, std::string_view> parse(Bytes payload);

// Builds one reply. Options that do not fit into the limit are left out.
class ReplyWriter {
public:
    // max_bytes is raised to 300 if it is less. Without cookie there are no options.
    ReplyWriter(const Header& header, bool with_cookie, std::size_t max_bytes);

    // Bytes that the option takes on the wire; longer than 255 is split (RFC 3396).
    static std::size_t wire_bytes(std::size_t data_bytes) {
        return data_bytes + 2 * ((data_bytes + 254) / 255);
    }
    std::size_t room_bytes() const;
    // False and nothing written when it does not fit or is empty.
    bool add(std::uint8_t code, Bytes data);
    // Beyond the limit, for what is taken off again on the way: at most 255 bytes.
    void append(std::uint8_t code, Bytes data);
    std::vector<std::uint8_t> finish();

private:
    std::vector<std::uint8_t> buffer_;
    std::size_t max_bytes_;
    bool with_cookie_;
};

} // namespace vmhost::dhcp
