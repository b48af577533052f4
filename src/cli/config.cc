// vmhost config check and show.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/cli.h"
#include "host/host.h"
#include "install/install.h"

namespace vmhost::cli {

namespace {

void print_complaints(const config::Complaints& complaints, bool json) {
    if (!json) {
        for (const auto& complaint : complaints)
            std::fprintf(stderr, "%s\n", complaint.message().c_str());
        return;
    }
    auto list = nlohmann::json::array();
    for (const auto& complaint : complaints)
        list.push_back({{"file", complaint.place().file},
                        {"line", complaint.place().line},
                        {"column", complaint.place().column},
                        {"kind", std::string(name_of(complaint.kind()))},
                        {"error", complaint.text()}});
    auto text = nlohmann::json{{"ok", false}, {"complaints", list}}.dump(
        2, ' ', false, nlohmann::json::error_handler_t::replace);
    std::printf("%s\n", text.c_str());
}

} // namespace

std::optional<config::Model> load_config(const Command& command) {
    auto model = config::load(command.config);
    if (model)
        return std::move(*model);
    print_complaints(model.error(), command.json);
    return std::nullopt;
}

int run_config(const Command& command) {
    auto model = load_config(command);
    if (!model)
        return 1;
    // What run would refuse only after it had begun.
    config::Complaints complaints;
    for (const auto& vm : model->vms)
        if (vm.install && vm.install->file.empty())
            if (auto files = host::try_install_files(*model, vm, host::first_installation(vm));
                !files && files.error().kind() != ErrorKind::denied) // needs no rights
                complaints.push_back(std::move(files).error());
    if (!complaints.empty()) {
        print_complaints(complaints, command.json);
        return 1;
    }
    if (command.verb == Command::Verb::config_show)
        // As the daemon has it, for who may read what it remembers.
        if (auto memory = host::Memory::look(model->host))
            if (auto remembered = memory->of_file()) {
                auto recalled = config::recall(*model, *remembered);
                if (!recalled) {
                    print_complaints(recalled.error(), command.json);
                    return 1;
                }
                *model = std::move(*recalled);
            }
    if (command.verb == Command::Verb::config_show)
        std::fputs((command.json ? config::print_json(*model) : config::print(*model)).c_str(),
                   stdout);
    else if (command.json)
        std::puts("{\"ok\": true}");
    else
        std::puts("configuration OK"); // vmd -n's words
    return 0;
}

} // namespace vmhost::cli
