// SSHFP records of the host keys that this host made for its guests (cli/ only).
#pragma once

#include <string>
#include <vector>

#include "cli/cli.h"
#include "config/model.h"
#include "deploy/deploy.h"

namespace vmhost::cli {

// As the DNS has it, with a dot at its end.
std::string dns_name(const config::Model& model, const config::Vm& vm);
// Of those of the VMs whose keys are made here: brings their records into the DNS, or takes them
// out of it, by [install] sshfp_command. What fails is told as a warning. False: something did.
bool publish_host_keys(const config::Model& model, const std::vector<std::string>& vms,
                       deploy::Publish what);

} // namespace vmhost::cli
