// One binary, three personalities: vmhost(8), vmctl(8) when called by that name,
// and a role process when the parent executes it again.
#include <cstdio>
#include <string_view>

#include "cli/cli.h"
#include "role/role.h"

using namespace vmhost;

int main(int argc, char** argv) {
    // As host/child.cc starts a role; nobody types this.
    if (argc > 1 && std::string_view(argv[0]) == "vmhost" && std::string_view(argv[1]) == "role")
        return role::run_child(argc, argv);

    auto command = cli::parse(argc, argv);
    if (!command.log_levels.empty()) {
        if (auto levels = log::set_levels(command.log_levels); !levels) {
            std::fprintf(stderr, "vmhost: --log: %s\n", levels.error().message().c_str());
            return 1;
        }
    }
    switch (command.verb) {
    case cli::Command::Verb::done:
        return command.status;
    case cli::Command::Verb::run: {
        auto model = cli::load_config(command);
        if (!model)
            return 1;
        return role::run_parent(std::move(*model), {.keep_going = command.keep_going,
                                                    .debug_exit = command.debug_exit,
                                                    .version = cli::version_text()});
    }
    case cli::Command::Verb::config_check:
    case cli::Command::Verb::config_show:
        return cli::run_config(command);
    case cli::Command::Verb::answers:
        return cli::run_answers(command);
    case cli::Command::Verb::completion:
        return cli::run_completion(command);
    case cli::Command::Verb::net:
        return cli::run_net(command);
    case cli::Command::Verb::upgrade:
        return cli::run_upgrade(command);
    case cli::Command::Verb::reinstall:
        return cli::run_reinstall(command);
    case cli::Command::Verb::import:
        return cli::run_import(command);
    case cli::Command::Verb::plan:
    case cli::Command::Verb::apply:
    case cli::Command::Verb::reload:
        return cli::run_plan(command);
    case cli::Command::Verb::create:
    case cli::Command::Verb::image_check:
    case cli::Command::Verb::image_info:
    case cli::Command::Verb::image_compress:
        return cli::run_image(command);
    case cli::Command::Verb::leases:
        return cli::run_leases(command);
    case cli::Command::Verb::explain:
    case cli::Command::Verb::forget:
    case cli::Command::Verb::audit:
        return cli::run_records(std::move(command));
    case cli::Command::Verb::sets_fetch:
    case cli::Command::Verb::sets_list:
    case cli::Command::Verb::sets_verify:
        return cli::run_sets(command);
    case cli::Command::Verb::deploy:
        return cli::run_deploy(command);
    case cli::Command::Verb::undeploy:
        return cli::run_undeploy(command);
    case cli::Command::Verb::sshfp:
        return cli::run_sshfp(command);
    case cli::Command::Verb::net_trace:
        return cli::run_trace(std::move(command));
    default:
        return cli::run_vmctl(command);
    }
}
