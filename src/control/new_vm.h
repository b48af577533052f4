// A start request that describes a VM which is not in the file (new_vm.cc).
#pragma once

#include <nlohmann/json.hpp>

#include "control/control.h"

namespace vmhost::control {

// object is the request's "new"; names and fds are the descriptors that came along, in their
// order. invalid when they do not fit each other.
Result<NewVm> parse_new_vm(const nlohmann::json& object, const std::vector<std::string>& names,
                           std::vector<Fd>& fds);

} // namespace vmhost::control
