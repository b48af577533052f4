#include "machine/device/debug_console.h"

#include <algorithm>

namespace vmhost::machine {

void DebugConsole::read(std::uint64_t, MutableBytes data) {
    std::ranges::fill(data, std::uint8_t{0xff});
    data[0] = 0xe9;
}

void DebugConsole::write(std::uint64_t, Bytes data) {
    if (output_)
        output_(data.first(1));
}

} // namespace vmhost::machine
