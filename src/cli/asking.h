// What the files of commands share that ask the daemon: finding it, asking, and complaining. No
// door.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/cli.h"
#include "control/control.h"

namespace vmhost::cli {

// Exit status.
inline int complain(const char* program, const Error& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.message().c_str());
    return 1;
}
inline int complain(const Error& error) {
    return complain("vmctl", error);
}

// By -s, else the file says where its daemon is; nothing when the file is wrong, which is told.
inline std::optional<std::string> socket_of(const Command& command) {
    if (command.socket_given)
        return command.socket;
    auto model = load_config(command);
    return model ? std::optional(model->control.socket) : std::nullopt;
}

inline std::string compact(const nlohmann::json& object) {
    return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

inline Result<nlohmann::json> ask(control::Client& client, const nlohmann::json& request) {
    return nlohmann::json::parse(TRY(client.request(compact(request))).json, nullptr, false);
}

// Of who sits at the terminal; refused when nobody does, with what -y would do then.
Result<bool> agreed(const std::string& question, const std::string& what);

inline bool is_number(const std::string& vm) {
    return vm.find_first_not_of("0123456789") == std::string::npos;
}

// The verbs with files of their own. Exit status.
int run_top(control::Client& client, const Command& command);
int run_stop(control::Client& client, const Command& command);
int run_events(control::Client& client, const Command& command);
int run_log(control::Client& client, const Command& command);

} // namespace vmhost::cli
