// Random bytes from the kernel.
#pragma once

#include "base/bytes.h"

namespace vmhost {

// Fills the span; getrandom(2) cannot fail for a sane kernel, a failure aborts.
void fill_random(MutableBytes bytes);

template <WireInteger T>
T random_number() {
    T value{};
    fill_random({reinterpret_cast<std::uint8_t*>(&value), sizeof(value)});
    return value;
}

} // namespace vmhost
