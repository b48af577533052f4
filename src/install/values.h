// The variables of texts: what the configuration says of a VM.
#pragma once

#include "config/model.h"
#include "install/template.h"

namespace vmhost::install {

// "puffy-2": stays as long as the installation, as cloud-init begins anew with another.
std::string instance_id(const config::Vm& vm, std::uint32_t number);

// All that there are, empty where there is nothing to say; number: of the installation.
Result<Values> values_of(const config::Model& model, const config::Vm& vm, std::uint32_t number);

} // namespace vmhost::install
