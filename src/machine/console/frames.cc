#include "machine/console/frames.h"

#include <algorithm>

namespace vmhost::machine {

namespace {

constexpr std::size_t header_bytes = 4;

struct Header {
    std::uint8_t kind = 0, zero = 0;
    std::uint16_t length = 0;
};

Header parse_header(Bytes bytes) {
    ByteReader reader(bytes);
    Header header;
    header.kind = reader.le<std::uint8_t>();
    header.zero = reader.le<std::uint8_t>();
    header.length = reader.le<std::uint16_t>();
    return header;
}

bool valid(const Header& header) {
    if (header.zero != 0 || header.length > max_console_frame_bytes)
        return false;
    switch (static_cast<ConsoleFrame>(header.kind)) {
    case ConsoleFrame::data:
    case ConsoleFrame::notice:
        return true;
    case ConsoleFrame::line_break:
    case ConsoleFrame::ended:
    case ConsoleFrame::closed:
        return header.length == 0;
    case ConsoleFrame::size:
        return header.length == 4;
    case ConsoleFrame::writer:
        return header.length == 1;
    }
    return false;
}

} // namespace

std::vector<std::uint8_t> encode_console_frame(ConsoleFrame kind, Bytes data) {
    data = data.first(std::min(data.size(), max_console_frame_bytes));
    ByteWriter writer;
    writer.le(static_cast<std::uint8_t>(kind));
    writer.le(std::uint8_t{0});
    writer.le(static_cast<std::uint16_t>(data.size()));
    writer.bytes(data);
    return writer.take();
}

// pending_ never holds more than one frame: it is filled up to the next boundary only.
bool ConsoleFrameReader::feed(Bytes input, const Take& take) {
    while (!broken_ && !input.empty()) {
        std::size_t wanted = header_bytes;
        if (pending_.size() >= header_bytes)
            wanted += parse_header(pending_).length;
        auto part = input.first(std::min(input.size(), wanted - pending_.size()));
        pending_.insert(pending_.end(), part.begin(), part.end());
        input = input.subspan(part.size());
        if (pending_.size() < header_bytes)
            continue;
        Header header = parse_header(pending_);
        broken_ = !valid(header);
        if (broken_ || pending_.size() < header_bytes + header.length)
            continue;
        auto frame = std::move(pending_);
        pending_.clear();
        take(static_cast<ConsoleFrame>(header.kind), Bytes(frame).subspan(header_bytes));
    }
    return !broken_;
}

} // namespace vmhost::machine
