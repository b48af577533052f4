// ConsoleFrameReader under arbitrary streams. The first byte says how the stream is
// cut; every cut must give the same frames, and every frame must encode back to the
// bytes that it came from.
#include <algorithm>
#include <cstdlib>

#include "machine/console/frames.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

struct Outcome {
    bool ok = true;
    std::vector<std::uint8_t> encoded;
    bool operator==(const Outcome&) const = default;
};

Outcome run(Bytes stream, std::size_t step) {
    ConsoleFrameReader reader;
    Outcome outcome;
    while (!stream.empty() && outcome.ok) {
        auto part = stream.first(std::min(step, stream.size()));
        stream = stream.subspan(part.size());
        outcome.ok = reader.feed(part, [&](ConsoleFrame kind, Bytes data) {
            auto frame = encode_console_frame(kind, data);
            outcome.encoded.insert(outcome.encoded.end(), frame.begin(), frame.end());
        });
    }
    return outcome;
}

void require(bool condition) {
    if (!condition)
        std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes input(data, size);
    if (input.empty())
        return 0;
    auto stream = input.subspan(1);
    auto whole = run(stream, stream.size() + 1);
    require(whole == run(stream, std::size_t{1} + input[0]));
    require(whole.encoded.size() <= stream.size());
    require(std::ranges::equal(whole.encoded, stream.first(whole.encoded.size())));
    return 0;
}
