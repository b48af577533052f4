// vmctl metrics.
#pragma once

#include "cli/cli.h"
#include "control/control.h"

namespace vmhost::cli {

// Prints what the daemon counts, in the exposition format or as JSON.
Result<void> print_metrics(control::Client& client, const Command& command);

} // namespace vmhost::cli
