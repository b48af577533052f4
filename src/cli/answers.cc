// vmhost answers: what a VM would be served to install itself with, made as the daemon makes it,
// without one.
#include <cstdio>

#include "cli/cli.h"
#include "host/host.h"
#include "install/install.h"

namespace vmhost::cli {

namespace {

// With the number of the installation that it is, or was, armed for, where one was.
host::InstallState state_of(const config::Model& model, const config::Vm& vm, bool secrets) {
    auto state = host::first_installation(vm);
    auto memory = host::Memory::look(model.host);
    if (!memory)
        return state;
    auto machine = memory->store().find(vm.name);
    if (!machine || !*machine)
        return state;
    if (const auto* last = memory->installation((*machine)->id))
        state = {last->armed(), last->upgrade, last->number};
    if (const auto* key = memory->host_key((*machine)->id)) {
        state.host_key.public_line = key->public_line;
        if (!key->private_text.empty())
            state.host_key.private_text = secrets ? key->private_text : "masked";
    }
    return state;
}

// What the model derives of addresses is what the daemon remembers, for who may read that.
Result<config::Model> as_remembered(config::Model model) {
    if (auto memory = host::Memory::look(model.host))
        if (auto remembered = memory->of_file()) {
            auto recalled = config::recall(model, *remembered);
            if (!recalled)
                return std::unexpected(recalled.error().front());
            return std::move(*recalled);
        }
    return model;
}

Result<std::string> answers(const config::Model& model, const Command& command) {
    const auto* found = model.find_vm(command.vm);
    if (found == nullptr)
        return fail(ErrorKind::not_found, "{} has no vm {}", model.file, command.vm);
    if (!found->install)
        return fail(ErrorKind::invalid, "vm {} has no install table", command.vm);
    auto state = state_of(model, *found, command.secrets);
    if (command.upgrade)
        state.upgrade = true;
    auto vm = command.secrets ? *found : install::without_secrets(*found);
    auto name = command.file_name;
    if (name.empty())
        name = install::install_files(vm, state.upgrade).front().name;
    auto file = install::find_file(vm, state.upgrade, name);
    if (!file) {
        std::string names;
        for (const auto& one : install::install_files(vm, state.upgrade))
            names += (names.empty() ? "" : ", ") + one.name;
        return fail(ErrorKind::not_found, "vm {} is served no {}, but {}", vm.name,
                    printable(name, 80), names);
    }
    // Nobody knows what is a secret in a text that is served as it is.
    if (!command.secrets && file->use == install::FileUse::once && !vm.install->file.empty())
        return fail(ErrorKind::invalid, "vm {} is served {} as it is: --secrets prints it", vm.name,
                    vm.install->file);
    return host::install_file(model, vm, state, name);
}

} // namespace

int run_answers(const Command& command) {
    auto model = load_config(command);
    if (!model)
        return 1;
    auto recalled = as_remembered(std::move(*model));
    auto text = recalled ? answers(*recalled, command)
                         : Result<std::string>(std::unexpected(recalled.error()));
    if (!text) {
        std::fprintf(stderr, "vmhost: %s\n", text.error().message().c_str());
        return 1;
    }
    std::fwrite(text->data(), 1, text->size(), stdout);
    return 0;
}

} // namespace vmhost::cli
