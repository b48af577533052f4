// What an instance of a VM has from it (instance.cc).
#pragma once

#include "config/model.h"

namespace vmhost::config {

// The VM that an instance is before it says anything itself; its name is still the template's.
Vm as_instance(const Vm& parent);

} // namespace vmhost::config
