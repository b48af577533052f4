// The commands of vmhost(8) that bring systems onto VMs: orders, sets, installations.
#pragma once

#include <functional>

#include "cli/cli.h"

namespace CLI {
class App;
}

namespace vmhost::cli {

// Adds an option that many commands have, such as -f.
using AddOption = std::function<void(CLI::App*)>;

void add_sets(CLI::App& app, Command& command, const AddOption& add_file);
// reinstall, answers
void add_reinstall(CLI::App& app, Command& command, const AddOption& add_file,
                   const AddOption& add_socket);
// deploy, undeploy, sshfp
void add_deploy(CLI::App& app, Command& command, const AddOption& add_file,
                const AddOption& add_socket);

} // namespace vmhost::cli
