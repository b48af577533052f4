// vmhost reinstall: a VM is armed for another unattended installation, or an upgrade.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/asking.h"

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
    if (command.json) {
        std::printf("%s\n", armed->dump(4, ' ', false, json::error_handler_t::replace).c_str());
        return 0;
    }
    const auto& install = armed->at("install");
    const bool upgrade = install.at("mode") == "upgrade";
    std::printf("%s is armed for %s %u, which begins at its next start\n",
                printable(command.vm, 64).c_str(), upgrade ? "upgrade" : "installation",
                install.at("number").get<unsigned>());
    return 0;
}

} // namespace vmhost::cli
