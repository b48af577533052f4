// The firmware inside the binary: SeaBIOS for disk and CD boot, embedded at build
// time by third_party/ from the distribution's package.
#pragma once

#include "base/base.h"

namespace vmhost::machine::boot {

Bytes seabios();

} // namespace vmhost::machine::boot
