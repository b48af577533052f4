// Steps between reading a file and handing out the model (assign.cc, check.cc).
#pragma once

#include <initializer_list>

#include "config/reader.h"
#include "config/recall.h"

namespace vmhost::config {

// Fills in what depends on other values: names, bridge devices, DHCP, serial numbers.
void fill_defaults(Model& model, const Findings& findings);
// The same for one VM, whose switches are filled in already.
void fill_vm(const Model& model, Vm& vm, const Findings& findings);
// Complains about values that are right alone and wrong together.
void check_model(const Model& model, Findings& findings);
// A key of a switch, for complaints.
std::string switch_path(const Switch& sw, std::string_view key);
// Its part about site sets (check_site.cc).
void check_sites(const Model& model, Findings& findings);
void check_installs(const Model& model, Findings& findings);
// Its part about IPv6 (check_ipv6.cc).
void check_ipv6(const Model& model, Findings& findings);
// Gives every interface an Ethernet address and, where its switch has a subnet, an IPv4
// address, unless they were given: what it had before, or one by the rules of assign.cc.
void assign_addresses(Model& model, Findings& findings, const Remembered& remembered = {});
// Gives every local interface a pair of addresses and a switch, unless it has them (local.cc).
// Switches are added behind the others: pointers to them do not stay.
void assign_local(Model& model, Findings& findings, const Recall& recall);

// Gives every interface of a switch with ipv6 an address there, and local ones the pair that
// host.local.ipv6 wants (assign_ipv6.cc). After the two above.
void assign_ipv6(Model& model, Findings& findings, const Recall& recall);

// Where local interfaces of a host of that name have their IPv6 addresses from: RFC 4193's
// fd00::/8, with a hash in place of chance.
Ipv6Prefix local_ipv6_of(std::string_view host_name);

// The hash that derived values come from; part of the interface, see assign.cc.
std::uint64_t stable_hash(std::initializer_list<std::string_view> texts, std::size_t index);

} // namespace vmhost::config
