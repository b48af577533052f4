// vmhost leases: who has which address by DHCP, and taking one back.
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "cli/asking.h"

namespace vmhost::cli {

using nlohmann::json;

namespace {

std::string local_time(const json& time_s) {
    if (!time_s.is_number_integer() || time_s == 0)
        return "-";
    std::time_t time = time_s.get<std::int64_t>();
    std::tm parts{};
    char text[32] = {};
    if (::localtime_r(&time, &parts) != nullptr)
        std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
    return text;
}

void print_row(const json& row) {
    auto word = [&](const char* key) {
        auto text = printable(row.value(key, std::string()), 64);
        return text.empty() ? std::string("-") : text;
    };
    bool bound = row.value("state", std::string()) == "bound";
    auto until = row.contains("until_s") ? row["until_s"] : json();
    std::printf("%-12s %-15s %-17s %-8s %-19s %-19s %-12s %s\n", word("switch").c_str(),
                word("address").c_str(), word("lladdr").c_str(), word("state").c_str(),
                bound && until.is_null() ? "for ever" : local_time(until).c_str(),
                local_time(row.value("seen_s", json())).c_str(), word("vm").c_str(),
                word("host_name").c_str());
}

Result<void> run(const Command& command, const std::string& socket) {
    auto client = TRY(control::Client::connect(socket));
    if (!command.release.empty()) {
        TRY(client.request(json{{"verb", "release"}, {"what", command.release}}.dump()));
        return {};
    }
    auto rows = json::array();
    TRY(client.request(json{{"verb", "leases"}}.dump(), [&](control::Client::Answer answer) {
        auto part = json::parse(answer.json, nullptr, false);
        for (auto& row : part.value("leases", json::array()))
            rows.push_back(std::move(row));
    }));
    if (command.json) {
        std::printf("%s\n", rows.dump(4, ' ', false, json::error_handler_t::replace).c_str());
        return {};
    }
    std::printf("%-12s %-15s %-17s %-8s %-19s %-19s %-12s %s\n", "SWITCH", "ADDRESS", "LLADDR",
                "STATE", "UNTIL", "LAST SEEN", "VM", "HOST NAME");
    for (const auto& row : rows)
        print_row(row);
    return {};
}

} // namespace

int run_leases(const Command& command) {
    auto socket = socket_of(command);
    if (!socket)
        return 1;
    auto done = run(command, *socket);
    return done ? 0 : complain("vmhost", done.error());
}

} // namespace vmhost::cli
