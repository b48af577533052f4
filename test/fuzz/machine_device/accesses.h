// Turns fuzzer input into accesses of a bus: each is {kind and size, address, data}.
#pragma once

#include <cstdlib>

#include "machine/bus.h"

namespace vmhost::machine {

inline void require(bool promise) {
    if (!promise)
        std::abort();
}

// One access to a port of [first, first + count). False when the input is used up.
inline bool access_port(Bus& bus, ByteReader& input, std::uint64_t first, std::uint64_t count) {
    auto kind = input.le<std::uint8_t>();
    auto port = first + input.le<std::uint8_t>() % count;
    std::size_t size = std::size_t{1} << (kind & 3);
    std::uint8_t data[8] = {};
    if (kind & 4) {
        auto from = input.bytes(std::min(size, input.remaining()));
        std::copy(from.begin(), from.end(), data);
        bus.write(Space::port, port, Bytes(data, size));
    } else {
        bus.read(Space::port, port, MutableBytes(data, size));
    }
    return input.ok() && input.remaining() != 0;
}

} // namespace vmhost::machine
