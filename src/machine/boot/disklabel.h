// The identifier (DUID) of a disk that OpenBSD has labelled, so that a kernel that is
// loaded directly finds its root disk whatever number it gets.
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <optional>

#include "base/base.h"

namespace vmhost::machine::boot {

using Duid = std::array<std::uint8_t, 8>;
inline constexpr std::size_t sector_bytes = 512;

// Reads one sector; empty when it cannot be read.
using ReadSector =
    std::function<std::optional<std::array<std::uint8_t, sector_bytes>>(std::uint64_t sector)>;

// Looks for disklabel(5) in sector 1 of the disk's OpenBSD area: of the first MBR entry of
// type 0xa6, or of the whole disk when it has no MBR. None when there is no label, its
// checksum is wrong, or it has no identifier.
std::optional<Duid> find_duid(const ReadSector& read);

} // namespace vmhost::machine::boot
