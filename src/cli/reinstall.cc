// vmhost reinstall: a VM is armed for another unattended installation, or an upgrade. The records
// of a host key that this host made for it are published anew.
#include <cstdio>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/asking.h"
#include "cli/host_keys.h"
#include "store/store.h"

namespace vmhost::cli {

using nlohmann::json;

namespace {

// What comes of it, for who is asked and who is told.
std::string question(const Command& command) {
    auto vm = printable(command.vm, 64);
    return command.upgrade
               ? fmt::format("arm {} for an upgrade of the system on its disk?", vm)
               : fmt::format("arm {} for another installation, which takes its disk?", vm);
}

Result<json> arm(const Command& command, const std::string& socket) {
    auto client = TRY(control::Client::connect(socket));
    return ask(client, {{"verb", "reinstall"}, {"vm", command.vm}, {"upgrade", command.upgrade}});
}

// Its host key is another one from now on. False: its records are not published.
bool publish(const Command& command) {
    auto model = config::load(command.config);
    if (!model)
        return true; // an owner who may not read the file
    const auto* vm = model->find_vm(command.vm);
    if (is_number(command.vm))
        if (auto store = store::HostStore::open_to_look(model->host.state, model->host.name))
            for (const auto& machine : store->machines().value_or(std::vector<store::Machine>{}))
                if (std::to_string(machine.id) == command.vm && !machine.maker)
                    vm = model->find_vm(machine.name);
    if (vm == nullptr || !vm->install || !vm->install->host_keys ||
        model->install.sshfp_command.empty())
        return true;
    if (::geteuid() == 0)
        return publish_host_keys(*model, {vm->name}, deploy::Publish::update);
    std::fprintf(
        stderr,
        "vmhost: its host key is another one: root publishes its records by \"vmhost sshfp "
        "--send %s\"\n",
        vm->name.c_str());
    return true;
}

} // namespace

int run_reinstall(const Command& command) {
    auto socket = socket_of(command);
    if (!socket)
        return 1;
    if (!command.yes) {
        auto yes = agreed(question(command), "arms it");
        if (!yes)
            return complain("vmhost", yes.error());
        if (!*yes) {
            std::puts("nothing was changed");
            return 1;
        }
    }
    auto armed = arm(command, *socket);
    if (!armed)
        return complain("vmhost", std::move(armed).error().in("reinstall"));
    const auto& install = armed->at("install");
    const bool upgrade = install.at("mode") == "upgrade";
    if (command.json)
        std::printf("%s\n", armed->dump(4, ' ', false, json::error_handler_t::replace).c_str());
    else
        std::printf("%s is armed for %s %u, which begins at its next start\n",
                    printable(command.vm, 64).c_str(), upgrade ? "upgrade" : "installation",
                    install.at("number").get<unsigned>());
    return upgrade || publish(command) ? 0 : 1;
}

} // namespace vmhost::cli
