#include "machine/boot/firmware.h"

// third_party/firmware.S.in
extern "C" {
[[gnu::visibility("hidden")]] extern const std::uint8_t vmhost_seabios_start[];
[[gnu::visibility("hidden")]] extern const std::uint8_t vmhost_seabios_end[];
}

namespace vmhost::machine::boot {

Bytes seabios() {
    return {vmhost_seabios_start, vmhost_seabios_end};
}

} // namespace vmhost::machine::boot
