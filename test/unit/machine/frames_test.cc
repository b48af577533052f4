#include <catch2/catch.hpp>

#include "machine/console/frames.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

using Frames = std::vector<std::pair<ConsoleFrame, std::string>>;

bool feed(ConsoleFrameReader& reader, Bytes input, Frames& into) {
    return reader.feed(input, [&](ConsoleFrame kind, Bytes data) {
        into.emplace_back(kind, std::string(as_text(data)));
    });
}

} // namespace

TEST_CASE("frames survive any cut of the stream") {
    ByteWriter stream;
    const Frames expected{{ConsoleFrame::data, "hello"},
                          {ConsoleFrame::line_break, ""},
                          {ConsoleFrame::data, ""},
                          {ConsoleFrame::notice, std::string(max_console_frame_bytes, 'n')},
                          {ConsoleFrame::writer, std::string(1, 1)},
                          {ConsoleFrame::ended, ""}};
    for (const auto& [kind, text] : expected)
        stream.bytes(encode_console_frame(kind, as_bytes(text)));
    for (std::size_t step : {1, 2, 3, 4, 5, 7, 4096, 100'000}) {
        ConsoleFrameReader reader;
        Frames seen;
        for (Bytes rest = stream.buffer(); !rest.empty();) {
            auto part = rest.first(std::min(step, rest.size()));
            REQUIRE(feed(reader, part, seen));
            rest = rest.subspan(part.size());
        }
        CHECK(seen == expected);
    }
}

TEST_CASE("what is no frame ends the stream for good") {
    const std::vector<std::vector<std::uint8_t>> bad{
        {0, 0, 0, 0},       // kind 0
        {6, 0, 0, 0},       // kind 6
        {255, 0, 0, 0},     //
        {1, 1, 0, 0},       // the zero is none
        {1, 0, 0x01, 0x10}, // 4097 bytes
        {1, 0, 0xff, 0xff}, //
        {2, 0, 1, 0},       // a BREAK with data
        {4, 0, 0, 0},       // a token without its state
        {4, 0, 2, 0},       //
        {5, 0, 1, 0},       // an end with data
    };
    for (const auto& header : bad) {
        ConsoleFrameReader reader;
        Frames seen;
        CHECK_FALSE(feed(reader, header, seen));
        CHECK_FALSE(feed(reader, encode_console_frame(ConsoleFrame::data, as_bytes("x")), seen));
        CHECK(seen.empty());
    }
}

TEST_CASE("too much data for one frame is cut, not sent as a broken one") {
    auto frame = encode_console_frame(ConsoleFrame::data, std::vector<std::uint8_t>(10'000, 'x'));
    ConsoleFrameReader reader;
    Frames seen;
    CHECK(feed(reader, frame, seen));
    REQUIRE(seen.size() == 1);
    CHECK(seen[0].second.size() == max_console_frame_bytes);
}
