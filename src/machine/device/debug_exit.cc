#include "machine/device/debug_exit.h"

#include <algorithm>

namespace vmhost::machine {

void DebugExit::read(std::uint64_t, MutableBytes data) {
    std::ranges::fill(data, std::uint8_t{0xff});
}

void DebugExit::write(std::uint64_t, Bytes data) {
    if (ended_)
        ended_(data[0]);
}

} // namespace vmhost::machine
