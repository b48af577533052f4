// Unpacks a gzip'd kernel (RFC 1952) into memory.
#pragma once

#include <vector>

#include "base/base.h"

namespace vmhost::machine::boot {

bool is_gzip(Bytes image);

// The first member; what follows it is ignored, as boot loaders do. A stream that ends early,
// fails its checksum or unpacks to more than limit_bytes is an error.
Result<std::vector<std::uint8_t>> gunzip(Bytes image, std::uint64_t limit_bytes);

} // namespace vmhost::machine::boot
