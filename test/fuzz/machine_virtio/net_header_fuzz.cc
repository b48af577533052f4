// What a guest says of a frame, and the frame's first bytes: whatever it is, the kernel is asked
// only for what lies inside the frame.
#include <algorithm>
#include <cstdlib>

#include "machine/virtio/net_header.h"

using namespace vmhost;
using namespace vmhost::machine::virtio;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto must = [](bool holds) {
        if (!holds)
            std::abort();
    };
    ByteReader input{Bytes(data, size)};
    constexpr std::uint64_t all = net_csum | net_host_tso4 | net_host_tso6 | net_host_ecn;
    std::uint64_t features = all & ~std::uint64_t{input.le<std::uint16_t>()};
    std::uint64_t beyond = input.le<std::uint16_t>();
    auto header = input.bytes(std::min<std::size_t>(input.remaining(), net_header_bytes));
    auto start = input.bytes(std::min<std::size_t>(input.remaining(), net_examined_bytes));
    auto frame_bytes = std::max<std::uint64_t>(ethernet_header_bytes, start.size()) + beyond;
    auto made = header_for_kernel(header, features, start, frame_bytes);
    if (!made)
        return 0;
    ByteReader kernel{Bytes(*made)};
    auto flags = kernel.le<std::uint8_t>(), type = kernel.le<std::uint8_t>();
    auto header_bytes = kernel.le<std::uint16_t>(), segment = kernel.le<std::uint16_t>();
    auto at = kernel.le<std::uint16_t>(), offset = kernel.le<std::uint16_t>();
    must(flags <= 1 && (flags == 0 || features & net_csum));
    must(flags == 1 || (type == 0 && at == 0 && offset == 0));
    must(flags == 0 || (at >= ethernet_header_bytes && at + offset + 2U <= frame_bytes));
    must((type == 0) == (segment == 0) && (type == 0) == (header_bytes == 0));
    must(type == 0 || (header_bytes < frame_bytes && segment >= limits::min_segment_bytes));
    return 0;
}
