#include "dhcp/packet.h"

#include <algorithm>

namespace vmhost::dhcp {

namespace {

constexpr std::uint32_t cookie = 0x63825363;
constexpr std::size_t sname_offset = 44, sname_bytes = 64;
constexpr std::size_t file_offset = 108, file_bytes = 128;
constexpr std::size_t options_offset = header_bytes + 4;

std::string text_field(Bytes field) {
    auto end = std::find(field.begin(), field.end(), 0);
    return std::string(as_text(field.first(static_cast<std::size_t>(end - field.begin()))));
}

// Calls visit(code, data) for each option instance of a region.
template <class Visit>
std::expected<void, std::string_view> walk(Bytes region, Visit visit) {
    ByteReader reader(region);
    while (reader.remaining() > 0) {
        auto code = reader.be<std::uint8_t>();
        if (code == option::pad)
            continue;
        if (code == option::end)
            return {};
        if (reader.remaining() == 0)
            return std::unexpected("the last option has no length");
        auto length = reader.be<std::uint8_t>();
        if (length > reader.remaining())
            return std::unexpected("an option is longer than the message");
        visit(code, reader.bytes(length));
    }
    return {}; // some old clients leave END out
}

Header parse_header(Bytes payload) {
    ByteReader reader(payload);
    Header header;
    header.op = reader.be<std::uint8_t>();
    header.htype = reader.be<std::uint8_t>();
    header.hlen = reader.be<std::uint8_t>();
    header.hops = reader.be<std::uint8_t>();
    header.xid = reader.be<std::uint32_t>();
    header.secs = reader.be<std::uint16_t>();
    header.flags = reader.be<std::uint16_t>();
    for (auto* address : {&header.ciaddr, &header.yiaddr, &header.siaddr, &header.giaddr})
        address->value = reader.be<std::uint32_t>();
    auto chaddr = reader.bytes(header.chaddr.size());
    std::copy(chaddr.begin(), chaddr.end(), header.chaddr.begin());
    return header;
}

} // namespace

std::optional<Bytes> Message::find(std::uint8_t code) const {
    for (const auto& entry : entries_)
        if (entry.code == code)
            return Bytes(data_).subspan(entry.offset, entry.length);
    return std::nullopt;
}

std::optional<Ipv4> Message::address(std::uint8_t code) const {
    auto value = number<std::uint32_t>(code);
    return value ? std::optional(Ipv4{*value}) : std::nullopt;
}

bool Message::has_other_length(std::uint8_t code, std::size_t length) const {
    auto data = find(code);
    return data && data->size() != length;
}

std::expected<Message, std::string_view> parse(Bytes payload) {
    if (payload.size() < header_bytes)
        return std::unexpected("shorter than a BOOTP header");
    if (payload.size() > limits::max_dhcp_packet_bytes)
        return std::unexpected("longer than an Ethernet frame carries");
    Message message;
    message.size_bytes = payload.size();
    message.header = parse_header(payload);
    auto sname = payload.subspan(sname_offset, sname_bytes);
    auto file = payload.subspan(file_offset, file_bytes);
    message.has_cookie = payload.size() >= options_offset &&
                         load_be<std::uint32_t>(payload.subspan(header_bytes)) == cookie;
    std::vector<Bytes> regions;
    std::uint8_t overload = 0;
    if (message.has_cookie) {
        regions.push_back(payload.subspan(options_offset));
        auto walked = walk(regions[0], [&](std::uint8_t code, Bytes data) {
            if (code == option::overload && data.size() == 1)
                overload = data[0];
        });
        if (!walked)
            return std::unexpected(walked.error());
    }
    // RFC 2131 §4.1: file before sname.
    if (overload & 1)
        regions.push_back(file);
    else
        message.header.file = text_field(file);
    if (overload & 2)
        regions.push_back(sname);
    else
        message.header.sname = text_field(sname);

    // First the total of each code, so that every option gets one place for all its instances.
    std::array<std::uint16_t, 256> total{}, filled{};
    std::array<bool, 256> seen{};
    for (auto region : regions) {
        auto walked = walk(region, [&](std::uint8_t code, Bytes data) {
            if (!seen[code])
                message.entries_.push_back({code, 0, 0});
            seen[code] = true;
            total[code] = static_cast<std::uint16_t>(total[code] + data.size());
        });
        if (!walked)
            return std::unexpected(walked.error());
    }
    std::array<std::uint16_t, 256> offset{};
    std::uint16_t end = 0;
    for (auto& entry : message.entries_) {
        entry.offset = offset[entry.code] = end;
        entry.length = total[entry.code];
        end = static_cast<std::uint16_t>(end + entry.length);
    }
    message.data_.resize(end);
    for (auto region : regions)
        (void)walk(region, [&](std::uint8_t code, Bytes data) {
            std::copy(data.begin(), data.end(),
                      message.data_.begin() + offset[code] + filled[code]);
            filled[code] = static_cast<std::uint16_t>(filled[code] + data.size());
        });
    return message;
}

ReplyWriter::ReplyWriter(const Header& header, bool with_cookie, std::size_t max_bytes)
    : max_bytes_(std::max(max_bytes, min_reply_bytes)), with_cookie_(with_cookie) {
    ByteWriter writer;
    for (auto byte : {header.op, header.htype, header.hlen, header.hops})
        writer.be(byte);
    writer.be(header.xid);
    writer.be(header.secs);
    writer.be(header.flags);
    for (auto address : {header.ciaddr, header.yiaddr, header.siaddr, header.giaddr})
        writer.be(address.value);
    writer.bytes(header.chaddr);
    // One byte stays for the NUL. Whoever fills the header checks that names fit.
    writer.bytes(as_bytes(header.sname).first(std::min(header.sname.size(), sname_bytes - 1)));
    writer.pad_to(file_offset);
    writer.bytes(as_bytes(header.file).first(std::min(header.file.size(), file_bytes - 1)));
    writer.pad_to(header_bytes);
    if (with_cookie)
        writer.be(cookie);
    buffer_ = writer.take();
}

std::size_t ReplyWriter::room_bytes() const {
    return with_cookie_ ? max_bytes_ - buffer_.size() - 1 : 0; // END
}

bool ReplyWriter::add(std::uint8_t code, Bytes data) {
    if (data.empty() || wire_bytes(data.size()) > room_bytes())
        return false;
    while (!data.empty()) {
        auto piece = data.first(std::min<std::size_t>(data.size(), 255));
        buffer_.push_back(code);
        buffer_.push_back(static_cast<std::uint8_t>(piece.size()));
        buffer_.insert(buffer_.end(), piece.begin(), piece.end());
        data = data.subspan(piece.size());
    }
    return true;
}

void ReplyWriter::append(std::uint8_t code, Bytes data) {
    max_bytes_ += wire_bytes(data.size());
    add(code, data);
}

std::vector<std::uint8_t> ReplyWriter::finish() {
    if (with_cookie_)
        buffer_.push_back(option::end);
    if (buffer_.size() < min_reply_bytes)
        buffer_.resize(min_reply_bytes);
    return std::move(buffer_);
}

} // namespace vmhost::dhcp
