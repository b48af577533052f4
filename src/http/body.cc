#include "http/body.h"

#include <algorithm>

namespace vmhost::http {

namespace {

// RFC 9112 §7.1: hexadecimal digits, and extensions, which are ignored. No white space before
// those: some readers take it for the end of the number, others for its middle.
std::optional<std::uint64_t> chunk_size(std::string_view line) {
    auto digits = line.substr(0, line.find(';'));
    std::uint64_t size = 0;
    if (digits.empty() || digits.size() > 8)
        return std::nullopt;
    for (char c : digits) {
        int digit = hex_digit(c);
        if (digit < 0)
            return std::nullopt;
        size = size * 16 + static_cast<unsigned>(digit);
    }
    return size;
}

} // namespace

BodyReader::BodyReader(const Head& head)
    : chunked_(head.chunked), part_(head.chunked ? Part::size_line : Part::content),
      left_bytes_(head.body_bytes), whole_(!head.has_body) {}

BodyReader::Taken BodyReader::take(std::string_view buffer) {
    Taken taken;
    auto rest = buffer;
    while (!whole_) {
        if (part_ == Part::content) {
            const auto count = std::min<std::uint64_t>(left_bytes_, rest.size());
            rest.remove_prefix(count);
            left_bytes_ -= count;
            if (left_bytes_ > 0)
                break;
            whole_ = !chunked_;
            part_ = Part::content_end;
            continue;
        }
        const auto end = rest.find('\n');
        const auto line = rest.substr(0, std::min(end, rest.size()));
        if (line.size() >= limits::max_http_chunk_line_bytes) {
            taken.refusal = Refusal{400, "line of a chunk is too long"};
            break;
        }
        if (end == std::string_view::npos)
            break;
        rest.remove_prefix(end + 1);
        taken.refusal = line.ends_with('\r') ? take_line(line.substr(0, line.size() - 1))
                                             : Refusal{400, "line does not end in CRLF"};
        if (taken.refusal)
            break;
    }
    taken.used_bytes = buffer.size() - rest.size();
    taken.whole = whole_;
    return taken;
}

std::optional<Refusal> BodyReader::take_line(std::string_view line) {
    if (std::ranges::any_of(line, [](char c) {
            return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
        }))
        return Refusal{400, "line of a chunk has a control character"};
    if (part_ == Part::content_end) {
        part_ = Part::size_line;
        return line.empty() ? std::nullopt
                            : std::optional(Refusal{400, "chunk is longer than it says"});
    }
    if (part_ == Part::trailers) { // thrown away (RFC 9112 §7.1.2)
        whole_ = line.empty();
        trailer_bytes_ += line.size() + 2;
        if (trailer_bytes_ > limits::max_http_head_bytes)
            return Refusal{431, "trailers are too long"};
        return std::nullopt;
    }
    auto size = chunk_size(line);
    if (!size)
        return Refusal{400, "size of a chunk is no number"};
    total_bytes_ += *size;
    if (total_bytes_ > limits::max_http_body_bytes)
        return Refusal{413, "body is too large"};
    left_bytes_ = *size;
    part_ = *size == 0 ? Part::trailers : Part::content;
    return std::nullopt;
}

} // namespace vmhost::http
