// The variables of texts: what the configuration says of a VM.
#pragma once

#include "config/model.h"
#include "install/template.h"

namespace vmhost::install {

// "puffy-2": stays as long as the installation, as cloud-init begins anew with another.
std::string instance_id(const config::Vm& vm, std::uint32_t number);

// Those that are no secrets, empty where there is nothing to say; number: of the installation.
Values plain_values(const config::Model& model, const config::Vm& vm, std::uint32_t number);

// All that there are. more: those that the configuration does not know, and in whose place nothing
// is made, as a hash costs milliseconds.
Result<Values> all_values(const config::Model& model, const config::Vm& vm, std::uint32_t number,
                          const Values& more);

} // namespace vmhost::install
