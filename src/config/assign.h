// Steps between reading a file and handing out the model (assign.cc, check.cc).
#pragma once

#include <initializer_list>

#include "config/reader.h"

namespace vmhost::config {

// Fills in what depends on other values: names, bridge devices, DHCP, serial numbers.
void fill_defaults(Model& model, const Findings& findings);
// The same for one VM, whose switches are filled in already.
void fill_vm(const Model& model, Vm& vm, const Findings& findings);
// Complains about values that are right alone and wrong together.
void check_model(const Model& model, Findings& findings);
// Gives every interface an Ethernet address and, where its switch has a subnet, an IPv4
// address, unless they were given.
void assign_addresses(Model& model, Findings& findings);
// Gives every local interface a pair of addresses and a switch, unless it has them (local.cc).
// Switches are added behind the others: pointers to them do not stay.
void assign_local(Model& model, Findings& findings);

// The hash that derived values come from; part of the interface, see assign.cc.
std::uint64_t stable_hash(std::initializer_list<std::string_view> texts, std::size_t index);

} // namespace vmhost::config
