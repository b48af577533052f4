// Site sets as the http process is told of them: with what is in them, or, of one that has a
// private host key, by its name alone; that one is made when it is claimed.
#pragma once

#include "host/services.h"

namespace vmhost::host {

// That of all, and those of VMs that have their own.
Result<void> describe_site_sets(const config::Model& model, const InstallStates& installs,
                                std::vector<ipc::Frame>& frames);
// The bytes of the one that install::keyed_set_name() names. not_found: there is no key.
Result<std::string> keyed_site_set(const config::Model& model, const config::Vm& vm,
                                   const InstallState& state);

} // namespace vmhost::host
