// vmhost sshfp, and what deploy, reinstall and undeploy do about the records of host keys.
//
// The keys are read from host.db, which the daemon writes: so this is for root, as the program is
// that brings records into the DNS. A name has those of one installation: an update takes all
// others away.
#include <cstdio>

#include "cli/asking.h"
#include "cli/host_keys.h"
#include "store/store.h"

namespace vmhost::cli {

namespace {

std::string with_dot(std::string name) {
    return name.ends_with('.') ? name : name + '.';
}

// The host key that this host made for a VM of its file.
Result<deploy::SshKey> made_key(const config::Model& model, const std::string& vm) {
    auto opened = store::HostStore::open_to_look(model.host.state, model.host.name);
    if (!opened && opened.error().kind() == ErrorKind::not_found)
        return fail(
            ErrorKind::not_found,
            "vm {}: this host has made no host key for it, as {} holds nothing of any VM yet",
            printable(vm, 64), printable(model.host.state));
    auto store = TRY(std::move(opened));
    auto machines = TRY(store.machines());
    auto keys = TRY(store.host_keys());
    auto installations = TRY(store.installations());
    // An upgrade keeps the key of the installation before it.
    auto is_older = [&](const store::HostKey& key) {
        return std::ranges::any_of(installations, [&](const auto& last) {
            return last.machine == key.machine && last.number != key.installation && !last.upgrade;
        });
    };
    for (const auto& machine : machines)
        for (const auto& key : keys)
            if (machine.name == vm && !machine.maker && key.machine == machine.id) {
                if (is_older(key))
                    return fail(ErrorKind::not_found,
                                "vm {}: this host has made no host key for its last installation",
                                printable(vm, 64));
                return deploy::parse_ssh_key(key.public_line);
            }
    return fail(
        ErrorKind::not_found,
        "vm {}: this host has made no host key for it: with [vm.{}.install] host_keys it does "
        "when the VM is armed, and --key takes one from a file",
        printable(vm, 64), printable(vm, 64));
}

Result<std::string> records_of(const config::Model& model, const config::Vm& vm,
                               const deploy::SshfpOptions& options) {
    auto key = TRY(made_key(model, vm.name));
    return deploy::sshfp_records(dns_name(model, vm), key, options);
}

Result<std::string> records_of_files(const Command& command, const std::string& name,
                                     const deploy::SshfpOptions& options) {
    std::string out;
    for (const auto& file : command.key_files) {
        auto text = TRY(config::read_config_file(file));
        for (const auto& key : TRY(deploy::parse_host_keys(text, file))) {
            auto records = deploy::sshfp_records(name, key, options);
            if (!records)
                return std::unexpected(std::move(records).error().in(file));
            out += *records;
        }
    }
    return out;
}

} // namespace

std::string dns_name(const config::Model& model, const config::Vm& vm) {
    auto name = vm.install && !vm.install->hostname.empty() ? vm.install->hostname : vm.name;
    if (name.find('.') == std::string::npos && !model.host.domain.empty())
        name += "." + model.host.domain;
    return with_dot(std::move(name));
}

bool publish_host_keys(const config::Model& model, const std::vector<std::string>& vms,
                       deploy::Publish what) {
    bool good = true;
    for (const auto& name : vms) {
        const auto* vm = model.find_vm(name);
        if (vm == nullptr || !vm->install || !vm->install->host_keys ||
            model.install.sshfp_command.empty())
            continue;
        auto records = what == deploy::Publish::update ? records_of(model, *vm, {})
                                                       : Result<std::string>(std::string());
        auto done = records ? deploy::publish_records(model.install.sshfp_command, what,
                                                      dns_name(model, *vm), *records)
                            : std::unexpected(std::move(records).error());
        if (done)
            continue;
        good = false;
        std::fprintf(stderr, "vmhost: warning: vm %s: its SSHFP records are not %s: %s\n",
                     printable(name, 64).c_str(),
                     what == deploy::Publish::update ? "published" : "withdrawn",
                     done.error().message().c_str());
        if (what == deploy::Publish::update)
            std::fprintf(stderr, "vmhost: \"vmhost sshfp --send %s\" tries it again\n",
                         printable(name, 64).c_str());
    }
    return good;
}

int run_sshfp(const Command& command) {
    const deploy::SshfpOptions options{.sha1 = command.sha1, .generic = command.generic};
    auto model = config::load(command.config);
    // Keys from files are of any host, and need no file of ours.
    if (!model && (command.key_files.empty() || command.send))
        return load_config(command) ? 0 : 1; // which tells all that is wrong
    if (!command.key_files.empty() && command.names.size() != 1)
        return complain("vmhost", Error(ErrorKind::invalid,
                                        "sshfp: keys of files are of one host: name it alone"));
    if (command.send && model->install.sshfp_command.empty())
        return complain("vmhost", Error(ErrorKind::invalid, "sshfp: there is no [install] "
                                                            "sshfp_command to send them by"));
    std::string out;
    for (const auto& named : command.names) {
        const auto* vm = model ? model->find_vm(named) : nullptr;
        // A VM is known by the name that it was installed with.
        const auto name = vm != nullptr ? dns_name(*model, *vm) : with_dot(named);
        if (vm == nullptr && command.key_files.empty())
            return complain(
                "vmhost", Error(ErrorKind::not_found,
                                fmt::format("{} has no vm {}", model->file, printable(named, 64))));
        auto records = command.key_files.empty() ? records_of(*model, *vm, options)
                                                 : records_of_files(command, name, options);
        if (records && command.send)
            if (auto sent = deploy::publish_records(model->install.sshfp_command,
                                                    deploy::Publish::update, name, *records);
                !sent)
                records = std::unexpected(std::move(sent).error());
        if (!records)
            return complain("vmhost", records.error());
        out += *records;
    }
    std::fputs(out.c_str(), stdout);
    return std::fflush(stdout) == 0 ? 0 : 1;
}

} // namespace vmhost::cli
