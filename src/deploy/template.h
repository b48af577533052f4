// What a new VM's first disk begins as: a ready system, as an order or [allocate] names it, and
// what its install table begins with then.
//
// Orders come from strangers, and disks of others lie in the same folder. So an order says no more
// than a file's name, and the file is one that everybody on this host may read, which no disk that
// was made for a VM is, or the one that [allocate] names.
#pragma once

#include "deploy/ledger.h"
#include "deploy/order.h"
#include "deploy/world.h"

namespace vmhost::deploy {

struct DiskTemplate {
    std::string path;  // whole
    std::string named; // as a disk's base names it
    std::uint64_t bytes = 0;
};
// Nothing: the disk is empty. not_found, denied (a VM's disk, or not for everybody), unsupported
// (it needs a file below it), corrupt.
Result<std::optional<DiskTemplate>> template_of(World& world, const config::Model& model,
                                                const Ledger& ledger, const Order& order);

// Of [allocate], as far as it says something to the system that is wanted.
config::VmInstall install_of(const config::Allocate& rules, const Order& order, bool has_template);

std::string_view name_of(config::InstallSystem system);

// Where images lie.
std::string image_path(const config::Model& model, const std::string& name);

} // namespace vmhost::deploy
