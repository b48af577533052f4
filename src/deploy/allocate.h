// What the VM with a number gets by the rules of [allocate] (vmhost.toml(5)).
#pragma once

#include <optional>
#include <set>

#include "config/config.h"

namespace vmhost::deploy {

// prefix is one that the schema takes. limit: it has none for that number.
Result<Mac> mac_of(std::string_view prefix, unsigned number);
// limit: past the last address. invalid: outside of the switch's subnet, or no guest's address.
Result<Ipv4> ipv4_of(const config::Model& model, unsigned number);
// PREFIX:DDDD::dd, both groups in decimal digits; last is the last octet of the IPv4 address.
Result<Ipv6> ipv6_of(const config::Allocate& allocate, unsigned number, unsigned last);
// A number that is not among those.
Result<unsigned> free_number(const std::set<unsigned>& used);

// The number at the end of a VM's name.
std::optional<unsigned> number_of(std::string_view name);

// Whether a guest can have it on the switch of [allocate].
Result<void> check_guest_address(const config::Model& model, Ipv4 address);

} // namespace vmhost::deploy
