// Compares refcounts with references.
#pragma once

#include "disk/disk.h"
#include "disk/storage.h"

namespace vmhost::disk::qcow2 {

Result<CheckReport> check(Storage& file, bool repair_leaks);

} // namespace vmhost::disk::qcow2
