// vmctl stop: of one VM, or of all of them at once.
#include <cstdio>
#include <set>
#include <unistd.h>

#include "cli/asking.h"

namespace vmhost::cli {

using nlohmann::json;

namespace {

std::string beginning(const std::string& vm) {
    return is_number(vm) ? "stopping vm: " : fmt::format("stopping vm {}: ", vm);
}

int stop_one(control::Client& client, const Command& command) {
    std::fputs(beginning(command.vm).c_str(), stderr);
    auto answer = client.request(compact(
        {{"verb", "stop"}, {"vm", command.vm}, {"force", command.force}, {"wait", command.wait}}));
    if (!answer) {
        std::fprintf(stderr, "%s\n",
                     answer.error().kind() == ErrorKind::not_found
                         ? "vm not found"
                         : ("failed: " + answer.error().message()).c_str());
        return 1;
    }
    auto last = json::parse(answer->json, nullptr, false);
    std::fprintf(stderr, "%s vm %u\n",
                 last["event"] == "terminated" ? "terminated" : "requested to shutdown",
                 last["id"].get<unsigned>());
    return 0;
}

// One line for each VM when something is known of it; on a terminal a line below them counts
// those that are waited for.
class Progress {
public:
    explicit Progress(bool wait) : wait_(wait), counts_(wait && ::isatty(STDERR_FILENO) != 0) {}

    void took(const json& reply) {
        auto event = reply.value("event", std::string());
        auto name = reply.value("name", std::string());
        auto id = reply.value("id", 0U);
        if (event == "requested" && wait_)
            waited_.insert(name);
        else if (event == "requested")
            say(name, fmt::format("requested to shutdown vm {}", id));
        else if (event == "terminated")
            say(name, fmt::format("terminated vm {}", id));
        else if (event == "failed")
            say(name, "failed: " + reply.value("error", std::string()));
        count();
    }
    void end() { erase_count(); }

private:
    void say(const std::string& name, const std::string& what) {
        waited_.erase(name);
        erase_count();
        std::fprintf(stderr, "%s%s\n", beginning(name).c_str(), what.c_str());
    }
    void erase_count() {
        if (counts_)
            std::fputs("\r\033[K", stderr);
    }
    void count() {
        if (counts_ && !waited_.empty())
            std::fprintf(stderr, "\r\033[K%zu left", waited_.size());
    }

    bool wait_, counts_;
    std::set<std::string> waited_;
};

int stop_all(control::Client& client, const Command& command) {
    Progress progress(command.wait);
    auto answer = client.request(
        compact(
            {{"verb", "stop"}, {"all", true}, {"force", command.force}, {"wait", command.wait}}),
        [&](const control::Client::Answer& reply) {
            if (auto said = json::parse(reply.json, nullptr, false); said.is_object())
                progress.took(said);
        });
    progress.end();
    if (!answer)
        return complain(answer.error());
    return json::parse(answer->json, nullptr, false).value("failed", 0U) == 0 ? 0 : 1;
}

} // namespace

int run_stop(control::Client& client, const Command& command) {
    return command.all ? stop_all(client, command) : stop_one(client, command);
}

} // namespace vmhost::cli
