// The frame reader, fed in pieces that the input chooses: whatever comes, it must
// not read past its buffer, and what it hands out must be what one piece gives.

#include <cstdlib>
#include <fcntl.h>

#include "ipc/ipc.h"

using namespace vmhost;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2)
        return 0;
    const std::size_t piece_bytes = data[0] % 64 + 1;
    const bool with_fd = data[1] & 1;
    Bytes stream(data + 2, size - 2);
    auto descriptors = [&] {
        std::vector<Fd> fds;
        if (with_fd)
            fds.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        return fds;
    };

    ipc::FrameReader whole;
    auto expected = whole.feed(stream, descriptors());

    ipc::FrameReader pieces;
    std::vector<ipc::Frame> got;
    bool good = true;
    auto rest = stream;
    do {
        auto piece = rest.first(std::min(piece_bytes, rest.size()));
        rest = rest.subspan(piece.size());
        auto frames =
            pieces.feed(piece, got.empty() && piece.data() == stream.data() ? descriptors()
                                                                            : std::vector<Fd>{});
        good = frames.has_value();
        if (good)
            for (auto& frame : *frames)
                got.push_back(std::move(frame));
    } while (good && !rest.empty());

    // In pieces, descriptors in front of a frame that has none are refused earlier.
    if (expected && !with_fd) {
        if (!good || got.size() != expected->size())
            std::abort();
        for (std::size_t i = 0; i < got.size(); ++i)
            if (got[i].type != (*expected)[i].type || got[i].payload != (*expected)[i].payload)
                std::abort();
    }
    return 0;
}
