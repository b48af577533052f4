// The door of role/: each process's story from start to loop. A role composes
// the rooms below and decides nothing itself.
#pragma once

#include <string>

#include "config/config.h"

namespace vmhost::role {

struct ParentOptions {
    bool keep_going = false; // a VM that cannot start does not end the run
    bool debug_exit = false; // give every guest the debug-exit device
    std::string version;     // of this program
};

// vmhost run: the privileged parent. Returns the exit status.
int run_parent(config::Model model, const ParentOptions& options);

// vmhost role …: a child of run_parent. Returns the exit status.
int run_child(int argc, char** argv);

} // namespace vmhost::role
