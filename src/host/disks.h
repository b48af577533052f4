// The files of a VM's disk: made where the configuration says so, opened, locked, and
// passed on unread. Which format a file has is the configuration's word or its name's; what a
// guest wrote is taken apart in the guest's own process, which also compares the names of
// backing files inside an image with those of the configuration.
#pragma once

#include <sys/types.h>

#include "config/config.h"
#include "host/files.h"
#include "host/ground.h"
#include "ipc/messages.h"

namespace vmhost::host {

// Relative paths start at directory, which is absolute. See open_file_of() about the owner.
// created: the image was missing and has been made.
Result<ipc::VmDisk> open_disk(Ground& ground, const config::Disk& disk, uid_t owner,
                              const std::string& directory, bool& created);

// A disk that begins as its base again: what it is now, which nobody may use, stays until this
// takes its place. Nothing: it is not there, and begins so by itself.
Result<std::optional<NewFileOf>> renew_disk(Ground& ground, const config::Disk& disk, uid_t owner,
                                            const std::string& directory);

// A disk whose files a client opened, with what it may do to them.
Result<ipc::VmDisk> open_given_disk(const config::Disk& disk, const Fd& image,
                                    const std::vector<Fd>& bases);

} // namespace vmhost::host
