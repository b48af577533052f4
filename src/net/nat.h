// Local interfaces and the world: what their guests send beyond this host goes out with this
// host's address, and only answers come in.
//
// A table of this host's own (nft list table ip vmhost-NAME), made anew as a whole: rules of
// others are not looked at, and a firewall of this host's still has its say.
#pragma once

#include "base/base.h"

namespace vmhost::net {

namespace nft {
class Batch;
}

// The steps that make the table's rules those for the prefix, or remove it, whatever is there.
void write_nat(nft::Batch& batch, const Ipv4Prefix& locals);
void erase_nat(nft::Batch& batch);
// invalid when this host forwards no packets at all, and what to do about it.
Result<void> check_forwarding();

} // namespace vmhost::net
