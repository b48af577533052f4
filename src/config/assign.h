// Steps between reading a file and handing out the model (assign.cc, check.cc).
#pragma once

#include "config/reader.h"

namespace vmhost::config {

// Fills in what depends on other values: names, bridge devices, DHCP, serial numbers.
void fill_defaults(Model& model, const Findings& findings);
// Complains about values that are right alone and wrong together.
void check_model(const Model& model, Findings& findings);
// Gives every interface an Ethernet address and, where its switch has a subnet, an IPv4
// address, unless they were given.
void assign_addresses(Model& model, Findings& findings);

} // namespace vmhost::config
