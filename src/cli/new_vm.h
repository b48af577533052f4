// vmctl start of a VM that is not in the file (new_vm.cc).
#pragma once

#include "cli/cli.h"
#include "control/control.h"

namespace vmhost::cli {

// A regular file, opened with our caller's rights; the daemon gets the descriptor and never
// the path. mode is O_RDONLY or O_RDWR.
Result<Fd> open_for_daemon(const std::string& path, int mode);

// Whether the command describes a VM instead of naming one.
bool describes_vm(const Command& command);
// The daemon's answer.
Result<control::Client::Answer> start_new_vm(control::Client& client, const Command& command);

} // namespace vmhost::cli
