#include "cli/provision_commands.h"

#include <CLI/CLI.hpp>

namespace vmhost::cli {

void add_sets(CLI::App& app, Command& command, const AddOption& add_file) {
    auto* sets = app.add_subcommand("sets", "fetch and verify installation sets; needs no daemon");
    sets->require_subcommand(1);
    auto add = [&](const char* name, const char* help, Command::Verb verb) {
        auto* to = sets->add_subcommand(name, help);
        add_file(to);
        to->add_flag("--json", command.json, "as JSON");
        to->callback([&command, verb] { command.verb = verb; });
        return to;
    };
    auto add_which = [&](CLI::App* to) {
        auto* version = to->add_option("version", command.release_version, "7.8, or snapshots");
        auto* arch = to->add_option("arch", command.arch, "amd64, or another architecture");
        version->type_name("VERSION");
        arch->type_name("ARCH");
        return std::pair(version, arch);
    };
    auto* fetch = add("fetch", "fetch what a mirror has of a release", Command::Verb::sets_fetch);
    auto [version, arch] = add_which(fetch);
    version->required();
    arch->required();
    fetch->add_option("-m,--mirror", command.mirror, "in place of the file's")->type_name("URL");
    fetch->add_flag("-a,--all", command.all, "images of media too");
    add("list", "list what is there", Command::Verb::sets_list);
    add_which(add("verify", "compare it with what was signed", Command::Verb::sets_verify));
}

void add_reinstall(CLI::App& app, Command& command, const AddOption& add_file,
                   const AddOption& add_socket) {
    auto* reinstall =
        app.add_subcommand("reinstall", "arm a VM for another unattended installation");
    add_file(reinstall);
    add_socket(reinstall);
    reinstall->add_flag("--upgrade", command.upgrade, "renew the system on its disk instead");
    reinstall->add_flag("-y,--yes", command.yes, "do not ask");
    reinstall->add_flag("--json", command.json, "as JSON");
    reinstall->add_option("vm", command.vm, "name or id of a VM")->type_name("VM")->required();
    reinstall->callback([&command] { command.verb = Command::Verb::reinstall; });

    auto* answers = app.add_subcommand(
        "answers", "print what a VM is served to install itself with; needs no daemon");
    add_file(answers);
    answers->add_flag("--upgrade", command.upgrade, "as if it were armed for an upgrade");
    answers->add_flag("--secrets", command.secrets, "with its passwords");
    answers->add_option("vm", command.vm, "name of a VM")->type_name("VM")->required();
    answers->add_option("name", command.file_name, "one of its files, such as user-data")
        ->type_name("NAME");
    answers->callback([&command] { command.verb = Command::Verb::answers; });
}

void add_deploy(CLI::App& app, Command& command, const AddOption& add_file,
                const AddOption& add_socket) {
    auto add = [&](const char* name, const char* help, Command::Verb verb) {
        auto* to = app.add_subcommand(name, help);
        add_file(to);
        add_socket(to);
        to->add_flag("-n,--dry-run", command.dry_run, "say what would be done, and do nothing");
        to->add_flag("-y,--yes", command.yes, "do not ask");
        to->add_flag("--json", command.json, "as JSON");
        to->callback([&command, verb] { command.verb = verb; });
        return to;
    };
    auto* deploy = add("deploy", "make VMs of orders: file, image, account, and running",
                       Command::Verb::deploy);
    deploy->add_flag("--update", command.update, "change VMs whose orders say something else");
    deploy->add_flag("--due", command.due, "only list orders that are older than a year");
    deploy->add_option("order", command.names, "order files, or directories of them")
        ->type_name("PATH")
        ->required();
    auto* undeploy = add("undeploy", "end VMs, take them out of the file and put their images away",
                         Command::Verb::undeploy);
    undeploy->add_flag("--account", command.remove_account,
                       "remove the accounts of owners who have no other VM");
    undeploy->add_option("vm", command.names, "names of VMs")->type_name("VM")->required();

    auto* sshfp = app.add_subcommand("sshfp", "print SSHFP records of host keys for a DNS zone");
    add_file(sshfp);
    sshfp->add_option("-k,--key", command.key_files, "public keys, or what ssh-keyscan(1) printed")
        ->type_name("FILE")
        ->allow_extra_args(false);
    sshfp->add_flag("--send", command.send, "to the DNS, by [install] sshfp_command");
    sshfp->add_flag("--sha1", command.sha1, "with SHA-1 too, for old clients");
    sshfp->add_flag("--generic", command.generic, "as TYPE44, for old name servers");
    sshfp->add_option("vm", command.names, "VMs of the file, or with keys the name of a host")
        ->type_name("VM")
        ->required();
    sshfp->callback([&command] { command.verb = Command::Verb::sshfp; });
}

} // namespace vmhost::cli
