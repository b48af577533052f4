#include "tftp/packet.h"

#include <algorithm>
#include <charconv>

namespace vmhost::tftp {

namespace {

// Up to the next NUL, which must be there.
std::optional<std::string_view> take_text(Bytes& rest) {
    auto end = std::ranges::find(rest, std::uint8_t{0});
    if (end == rest.end())
        return {};
    auto text = as_text(rest).substr(0, static_cast<std::size_t>(end - rest.begin()));
    rest = rest.subspan(text.size() + 1);
    return text;
}

bool same_word(std::string_view text, std::string_view word) {
    return std::ranges::equal(text, word, [](char a, char b) {
        return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
    });
}

std::optional<std::uint32_t> number(std::string_view text, std::uint32_t least,
                                    std::uint32_t most) {
    std::uint32_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
        return {};
    return value;
}

} // namespace

std::expected<ReadRequest, std::string_view> parse_read_request(Bytes payload) {
    ReadRequest request;
    auto file = take_text(payload);
    auto mode = file ? take_text(payload) : std::nullopt;
    if (!mode)
        return std::unexpected("the file name or the mode has no end");
    request.file = *file;
    request.mode = *mode;
    std::ranges::transform(request.mode, request.mode.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    // Some ROMs pad the packet: what is no pair is no option.
    while (auto name = take_text(payload)) {
        auto value = take_text(payload);
        if (!value)
            break;
        if (same_word(*name, "blksize"))
            request.block_bytes = number(*value, 8, 65464);
        else if (same_word(*name, "timeout"))
            request.timeout_s = number(*value, 1, 255);
        else if (same_word(*name, "windowsize"))
            request.window_blocks = number(*value, 1, 65535);
        else if (same_word(*name, "tsize"))
            request.wants_size = number(*value, 0, UINT32_MAX).has_value();
    }
    return request;
}

std::vector<std::uint8_t> build_data(std::uint16_t block, Bytes data) {
    ByteWriter out;
    out.be(static_cast<std::uint16_t>(Opcode::data));
    out.be(block);
    out.bytes(data);
    return out.take();
}

std::vector<std::uint8_t> build_error(ErrorCode code, std::string_view text) {
    ByteWriter out;
    out.be(static_cast<std::uint16_t>(Opcode::error));
    out.be(static_cast<std::uint16_t>(code));
    out.bytes(as_bytes(text));
    out.be(std::uint8_t{0});
    return out.take();
}

std::vector<std::uint8_t> build_options(const Options& options) {
    ByteWriter out;
    out.be(static_cast<std::uint16_t>(Opcode::options));
    for (const auto& [name, value] : options) {
        out.bytes(as_bytes(name));
        out.be(std::uint8_t{0});
        out.bytes(as_bytes(fmt::format("{}", value)));
        out.be(std::uint8_t{0});
    }
    return out.take();
}

} // namespace vmhost::tftp
