// vmhost explain, forget and audit: what is kept across restarts, with a daemon or without one.
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "cli/asking.h"
#include "host/host.h"

namespace vmhost::cli {

using nlohmann::json;

namespace {

std::string local_time(std::int64_t time_s) {
    std::time_t time = time_s;
    std::tm parts{};
    char text[32] = {};
    if (::localtime_r(&time, &parts) != nullptr)
        std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
    return text;
}

// not_found when no daemon is there.
Result<json> ask_daemon(const std::string& socket, const json& request) {
    auto client = control::Client::connect(socket);
    if (!client)
        return fail(ErrorKind::not_found, "{}", client.error().message());
    auto answer = TRY(client->request(compact(request)));
    return json::parse(answer.json, nullptr, false);
}

bool daemon_is_there(const std::string& socket) {
    return control::Client::connect(socket).has_value();
}

// ---- explain --------------------------------------------------------------

std::string source_of(const json& fact) {
    auto word = [&](const char* key) { return fact.value(key, std::string()); };
    auto place = fmt::format("{}:{}", word("file"), fact.value("line", 0U));
    auto behind = [&](std::string text) {
        return word("text").empty() ? text : fmt::format("{}: {}", text, word("text"));
    };
    auto source = word("source");
    if (source == "file")
        return place;
    if (source == "template")
        return fmt::format("{}, of its template {}", place, word("text"));
    if (source == "remembered")
        return behind("remembered since " + local_time(fact.value("since_s", std::int64_t{0})));
    if (source == "command")
        return "vmctl start, by " + word("text");
    return behind(source == "host" ? "now" : source);
}

void print_facts(const json& facts) {
    std::size_t width = 0;
    for (const auto& fact : facts)
        width = std::max(width, fact.value("value", std::string()).size());
    for (const auto& fact : facts)
        std::printf("%-20s %-*s %s\n", fact.value("what", std::string()).c_str(),
                    static_cast<int>(std::min<std::size_t>(width, 40)) + 1,
                    fact.value("value", std::string()).c_str(), source_of(fact).c_str());
}

// Of a VM that no file has, what is kept for its return.
std::vector<host::Fact> facts_of(const store::Machine& machine) {
    using Source = host::Fact::Source;
    std::vector<host::Fact> facts;
    auto add = [&](std::string what, std::string value, std::int64_t since_s) {
        facts.push_back({.what = std::move(what),
                         .value = std::move(value),
                         .source = Source::remembered,
                         .since_s = since_s});
    };
    add("id", std::to_string(machine.id), machine.since_s);
    for (const auto& one : machine.interfaces) {
        if (!one.lladdr.is_zero())
            add(fmt::format("interface[{}].lladdr", one.index), one.lladdr.text(),
                one.lladdr_since_s);
        if (one.ipv4)
            add(fmt::format("interface[{}].ipv4", one.index), one.ipv4->text(), one.ipv4_since_s);
        if (one.ipv6)
            add(fmt::format("interface[{}].ipv6", one.index), one.ipv6->text(), one.ipv6_since_s);
    }
    facts.push_back({.what = "last there",
                     .value = local_time(machine.last_s),
                     .source = Source::host,
                     .text = "it is in no file now, and is forgotten 90 days after that"});
    return facts;
}

Result<std::string> explain_without_daemon(config::Model model, const std::string& name) {
    host::Knowledge known;
    if (auto memory = host::Memory::look(model.host)) {
        auto remembered = TRY(memory->of_file());
        model = TRY(host::first_complaint(config::recall(model, remembered)));
        known.stored = TRY(memory->store().find(name));
    } else {
        known.not_stored_because = memory.error().message();
    }
    const auto* vm = model.find_vm(name);
    if (vm == nullptr && !known.stored)
        return fail(ErrorKind::not_found, "{} has no vm {}, and none is remembered", model.file,
                    name);
    return host::json_of(vm == nullptr ? facts_of(*known.stored)
                                       : host::explain(model, *vm, known));
}

Result<json> explain(const Command& command, const config::Model& model) {
    auto answer = ask_daemon(command.socket, {{"verb", "explain"}, {"vm", command.vm}});
    if (answer)
        return answer->at("facts");
    // Without a daemon, or of a VM that it has not.
    if (answer.error().kind() != ErrorKind::not_found)
        return std::unexpected(std::move(answer).error());
    return json::parse(TRY(explain_without_daemon(model, command.vm)), nullptr, false);
}

int run_explain(const Command& command, const config::Model& model) {
    auto facts = explain(command, model);
    if (!facts)
        return complain("vmhost", facts.error());
    if (command.json)
        std::printf("%s\n", facts->dump(2).c_str());
    else
        print_facts(*facts);
    return 0;
}

// Everybody who has something, also those that are gone: whom to forget.
int run_list(const Command& command, const config::Model& model) {
    auto memory = host::Memory::look(model.host);
    if (!memory)
        return complain("vmhost", memory.error());
    auto all = memory->store().machines();
    if (!all)
        return complain("vmhost", all.error());
    auto list = json::array();
    if (!command.json)
        std::printf("%5s %-19s %-19s %-9s %s\n", "ID", "SINCE", "LAST", "MADE BY",
                    "NAME AND ADDRESSES");
    for (const auto& one : *all) {
        const bool in_file = !one.maker && model.find_vm(one.name) != nullptr;
        auto addresses = json::array();
        for (const auto& interface : one.interfaces) {
            if (!interface.lladdr.is_zero())
                addresses.push_back(interface.lladdr.text());
            if (interface.ipv4)
                addresses.push_back(interface.ipv4->text());
            if (interface.ipv6)
                addresses.push_back(interface.ipv6->text());
        }
        auto maker = one.maker ? fmt::format("uid {}", *one.maker) : std::string("the file");
        if (command.json) {
            list.push_back({{"id", one.id},
                            {"name", one.name},
                            {"since_s", one.since_s},
                            {"last_s", one.last_s},
                            {"maker", one.maker ? json(*one.maker) : json()},
                            {"in_file", in_file},
                            {"addresses", addresses}});
            continue;
        }
        std::string line = one.name;
        for (const auto& address : addresses)
            line += " " + address.get<std::string>();
        std::printf("%5u %-19s %-19s %-9s %s\n", one.id, local_time(one.since_s).c_str(),
                    in_file ? "in the file" : local_time(one.last_s).c_str(), maker.c_str(),
                    line.c_str());
    }
    if (command.json)
        std::printf("%s\n", list.dump(2).c_str());
    return 0;
}

// ---- forget ---------------------------------------------------------------

Result<void> forget(const Command& command, const config::Model& model) {
    if (daemon_is_there(command.socket)) {
        TRY(ask_daemon(command.socket, {{"verb", "forget"}, {"vm", command.vm}}));
        return {};
    }
    TRY(host::Memory::look(model.host)); // not to make one
    auto store = TRY(store::HostStore::open(model.host.state, model.host.name));
    if (TRY(store.forget(command.vm)) == 0)
        return fail(ErrorKind::not_found, "nothing is remembered of a vm {}", command.vm);
    return {};
}

// ---- audit ----------------------------------------------------------------

json json_of(const store::AuditRow& row) {
    return {{"number", row.number},
            {"time_ms", row.time_ms},
            {"uid", row.uid},
            {"gid", row.gid},
            {"user", row.user},
            {"verb", row.verb},
            {"vm", row.vm},
            {"arguments", row.arguments},
            {"outcome", row.outcome.empty() ? "no answer" : row.outcome}};
}

void print_rows(const std::vector<store::AuditRow>& rows) {
    std::printf("%-19s %-12s %-9s %-16s %s\n", "TIME", "USER", "VERB", "VM", "OUTCOME");
    for (const auto& row : rows)
        std::printf("%-19s %-12s %-9s %-16s %s%s%s%s\n", local_time(row.time_ms / 1000).c_str(),
                    row.user.c_str(), row.verb.c_str(), row.vm.empty() ? "-" : row.vm.c_str(),
                    row.outcome.empty() ? "no answer" : row.outcome.c_str(),
                    row.arguments.empty() ? "" : " (", row.arguments.c_str(),
                    row.arguments.empty() ? "" : ")");
}

int run_audit(const Command& command, const config::Model& model) {
    auto memory = host::Memory::look(model.host);
    if (!memory)
        return complain("vmhost", memory.error());
    auto rows = memory->store().audit(command.newest, command.vm);
    if (!rows)
        return complain("vmhost", rows.error());
    // Since the daemon began; null without one.
    auto answer = ask_daemon(command.socket, {{"verb", "refusals"}});
    auto refusals = answer ? answer->at("refusals") : json();
    if (command.json) {
        auto list = json::array();
        for (const auto& row : *rows)
            list.push_back(json_of(row));
        std::printf("%s\n", json{{"rows", list}, {"refusals", refusals}}
                                .dump(2, ' ', false, json::error_handler_t::replace)
                                .c_str());
        return 0;
    }
    print_rows(*rows);
    if (auto total = refusals.is_null() ? 0 : refusals.value("total", std::uint64_t{0}); total > 0)
        std::printf("%llu requests were refused since vmhost began, %llu of them not kept\n",
                    static_cast<unsigned long long>(total),
                    static_cast<unsigned long long>(refusals.value("unlogged", std::uint64_t{0})));
    return 0;
}

} // namespace

int run_records(Command command) {
    // The file says where the store is, and the daemon.
    auto model = load_config(command);
    if (!model)
        return 1;
    if (!command.socket_given)
        command.socket = model->control.socket;
    switch (command.verb) {
    case Command::Verb::explain:
        return command.vm.empty() ? run_list(command, *model) : run_explain(command, *model);
    case Command::Verb::audit:
        return run_audit(command, *model);
    default:
        auto forgotten = forget(command, *model);
        return forgotten ? 0 : complain("vmhost", forgotten.error());
    }
}

} // namespace vmhost::cli
