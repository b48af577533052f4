// A person or a script at a guest's console.
#pragma once

#include "base/base.h"

namespace vmhost::cli {

// Connects standard input and output with the console socket until the guest ends, the
// input ends (a pipe), or ~. is typed at the beginning of a line. On a terminal the line is
// raw while attached. Returns the exit status.
int attach_console(Fd socket, bool read_only);

} // namespace vmhost::cli
