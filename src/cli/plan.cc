// vmhost plan and apply: what a changed file would do to the running host, and doing it.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/asking.h"

namespace vmhost::cli {

using nlohmann::json;

namespace {

const std::string& text(const json& row, const char* key) {
    return row.at(key).get_ref<const std::string&>();
}

// "vm a", of the key "vm.a.memory": what is left to say is "memory".
std::string key_below(const json& row) {
    const auto& key = text(row, "key");
    auto below = text(row, "subject").size() + 1;
    return key.size() > below ? key.substr(below) : std::string();
}

std::string what(const json& row) {
    auto key = key_below(row);
    const auto &before = text(row, "before"), &after = text(row, "after");
    if (key.empty())
        return after.empty() ? text(row, "change") : after; // "its switch lan is made anew"
    if (text(row, "change") == "added")
        return after.empty() ? key + " added" : fmt::format("{} = {}", key, after);
    if (text(row, "change") == "removed")
        return before.empty() ? key + " removed" : fmt::format("{} = {} removed", key, before);
    return fmt::format("{} {} -> {}", key, before, after);
}

// "~ vm a: memory "512M" -> "1G" (restart)  vmhost.toml:8"
void print_change(const json& row, bool colours) {
    const auto &change = text(row, "change"), &effect = text(row, "effect");
    char sign = change == "added" ? '+' : change == "removed" ? '-' : '~';
    bool down = effect == "restart" || effect == "stop" || effect == "new daemon";
    auto line = row.at("line").get<unsigned>();
    auto place = line > 0 ? fmt::format("  {}:{}", text(row, "file"), line) : std::string();
    if (const auto& reason = text(row, "reason"); !reason.empty())
        place = "  " + reason;
    auto effect_text = effect == "none" ? std::string() : fmt::format(" ({})", effect);
    if (colours && down)
        effect_text = "\033[31m" + effect_text + "\033[0m";
    std::printf("%c %s: %s%s%s\n", sign, text(row, "subject").c_str(), what(row).c_str(),
                effect_text.c_str(), place.c_str());
}

void print_plan(const json& plan) {
    const auto& changes = plan.at("changes");
    bool colours = ::isatty(STDOUT_FILENO) != 0;
    for (const auto& row : changes)
        print_change(row, colours);
    if (changes.empty()) {
        std::puts("nothing to do: the host is as the file says");
        return;
    }
    std::size_t restarts = 0, stops = 0;
    std::string last;
    for (const auto& row : changes) {
        bool again = std::exchange(last, text(row, "subject")) == text(row, "subject");
        restarts += !again && text(row, "effect") == "restart" && last.starts_with("vm ") ? 1 : 0;
        stops += text(row, "effect") == "stop" ? 1 : 0;
    }
    std::printf("%zu changes; guests that restart: %zu, that stop: %zu\n", changes.size(), restarts,
                stops);
    if (const auto& refused = text(plan, "refused"); !refused.empty())
        std::printf("this plan cannot be applied: %s\n", refused.c_str());
}

std::string absolute_path(const std::string& path) {
    std::error_code error;
    auto full = std::filesystem::absolute(path, error);
    return error ? path : full.string();
}

Result<void> apply(control::Client& client, const json& request, bool quiet) {
    TRY(client.request(compact(request), [&](const control::Client::Answer& reply) {
        auto step = json::parse(reply.json, nullptr, false);
        if (!quiet && step.is_object() && step.contains("text"))
            std::printf("%s\n", step["text"].get<std::string>().c_str());
    }));
    return {};
}

} // namespace

Result<bool> agreed(const std::string& question, const std::string& what) {
    if (!::isatty(STDIN_FILENO))
        return fail(ErrorKind::invalid, "nobody is there to be asked: -y {} without a question",
                    what);
    std::fprintf(stdout, "%s [y/N] ", question.c_str());
    std::fflush(stdout);
    char answer[16] = {};
    if (std::fgets(answer, sizeof(answer), stdin) == nullptr)
        return false;
    return answer[0] == 'y' || answer[0] == 'Y';
}

int run_plan(const Command& command) {
    auto socket = command.socket;
    json request{{"verb", "plan"}};
    if (command.verb != Command::Verb::reload) {
        // The file's own complaints are for the person in front of it, all of them; and it says
        // where its daemon is.
        auto model = load_config(command);
        if (!model)
            return 1;
        if (!command.socket_given)
            socket = model->control.socket;
        request["file"] = absolute_path(command.config);
    } else if (!command.target.empty()) {
        request["file"] = absolute_path(command.target);
    }
    auto client = control::Client::connect(socket);
    if (!client)
        return complain("vmhost", client.error());
    if (command.verb == Command::Verb::reload) {
        request["verb"] = "apply";
        request["restart"] = false;
        auto applied = apply(*client, request, true);
        return applied ? 0 : complain("vmhost", applied.error());
    }
    auto answer = client->request(compact(request));
    if (!answer)
        return complain("vmhost", answer.error());
    auto plan = json::parse(answer->json, nullptr, false);
    if (command.json)
        std::printf("%s\n", plan.dump(2, ' ', false, json::error_handler_t::replace).c_str());
    else
        print_plan(plan);
    if (command.verb == Command::Verb::plan || plan.at("changes").empty())
        return 0;
    if (!text(plan, "refused").empty())
        return 1;
    if (!command.yes) {
        auto yes = agreed("apply this?", "applies the plan");
        if (!yes)
            return complain("vmhost", yes.error());
        if (!*yes) {
            std::puts("nothing was changed");
            return 1;
        }
    }
    request["verb"] = "apply";
    request["digest"] = plan.at("digest");
    request["restart"] = !command.keep_guests;
    auto applied = apply(*client, request, command.json);
    return applied ? 0 : complain("vmhost", std::move(applied).error().in("apply"));
}

} // namespace vmhost::cli
