// vmhost upgrade: the daemon goes on as the program that is now in its place, and its guests do
// not notice.
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/asking.h"

namespace vmhost::cli {

using nlohmann::json;

namespace {

using namespace std::chrono_literals;

constexpr auto upgrade_timeout = 60s;
constexpr auto between_tries = 100ms;

Result<std::size_t> running_guests(control::Client& client) {
    auto reply = TRY(ask(client, {{"verb", "status"}, {"vm", ""}}));
    std::size_t running = 0;
    for (const auto& row : reply.at("vms"))
        running += row.at("pid").is_number() ? 1 : 0;
    return running;
}

Result<std::size_t> running_guests(const std::string& socket) {
    auto client = TRY(control::Client::connect(socket));
    return running_guests(client);
}

} // namespace

int run_upgrade(const Command& command) {
    auto socket = socket_of(command);
    if (!socket)
        return 1;
    auto client = control::Client::connect(*socket);
    if (!client)
        return complain("vmhost", client.error());
    auto before = running_guests(*client);
    if (!before)
        return complain("vmhost", before.error());
    if (auto asked = client->request(R"({"verb":"upgrade"})"); !asked)
        return complain("vmhost", std::move(asked).error().in("upgrade"));
    // The old daemon is gone when it hangs up; the new one is there when it answers.
    while (running_guests(*client))
        std::this_thread::sleep_for(between_tries);
    const auto end = std::chrono::steady_clock::now() + upgrade_timeout;
    for (;;) {
        if (auto after = running_guests(*socket)) {
            std::printf("upgraded; %zu of %zu guests run\n", *after, *before);
            return *after >= *before ? 0 : 1;
        } else if (std::chrono::steady_clock::now() > end) {
            return complain("vmhost",
                            std::move(after).error().in("the new daemon does not answer"));
        }
        std::this_thread::sleep_for(between_tries);
    }
}

} // namespace vmhost::cli
