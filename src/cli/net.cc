// vmhost net: the switches of the running host, a line for each port.
#include <algorithm>
#include <cstdio>

#include "cli/asking.h"

namespace vmhost::cli {

using nlohmann::json;

namespace {

std::string text_or(const json& row, const char* key, const std::string& otherwise) {
    auto found = row.find(key);
    if (found == row.end())
        return otherwise;
    return found->is_string() ? found->get<std::string>() : found->dump();
}

std::string scaled(std::uint64_t count) {
    constexpr std::uint64_t step = 1024;
    const char* unit = "";
    auto value = static_cast<double>(count);
    for (const char* next : {"K", "M", "G", "T"})
        if (value >= step) {
            value /= step;
            unit = next;
        }
    return *unit == 0 ? fmt::format("{}", count) : fmt::format("{:.1f}{}", value, unit);
}

// "fe:e1:bb:d1:00:01", and how many more there are.
std::string addresses_of(const json& port) {
    const auto& all = port.at("addresses");
    if (all.empty())
        return "-";
    auto text = all.front().at("mac").get<std::string>();
    return all.size() == 1 ? text : fmt::format("{} +{}", text, all.size() - 1);
}

std::string drops_of(const json& port) {
    std::string text;
    for (const auto& [reason, count] : port.at("drops").items())
        if (count.get<std::uint64_t>() != 0)
            text += fmt::format("{}{} {}", text.empty() ? "" : ", ", reason, count.dump());
    return text.empty() ? "-" : text;
}

std::string state_of(const json& port) {
    std::string text = port.at("up").get<bool>() ? "up" : "down";
    for (const char* option : {"locked", "isolated"})
        if (port.at(option).get<bool>())
            text += fmt::format(",{}", option);
    return text;
}

void print_switch(const json& one) {
    auto line = fmt::format("{}: {}", text_or(one, "switch", ""), text_or(one, "interface", ""));
    if (!one.at("there").get<bool>()) {
        std::printf("%s, not there\n", line.c_str());
        return;
    }
    line += one.at("up").get<bool>() ? ", up" : ", down";
    for (const char* key : {"ipv4", "ipv6", "mtu", "vlan", "vxlan", "rdomain"})
        if (one.contains(key))
            line += fmt::format(", {} {}", key, text_or(one, key, ""));
    std::printf("%s\n", line.c_str());
    if (one.at("ports").empty())
        return;
    std::printf("  %-15s %-15s %-18s %-21s %10s %8s %11s %9s  %s\n", "PORT", "VM", "STATE",
                "ADDRESS", "IN-PACKETS", "IN-BYTES", "OUT-PACKETS", "OUT-BYTES", "DROPPED");
    for (const auto& port : one.at("ports"))
        std::printf(
            "  %-15s %-15s %-18s %-21s %10s %8s %11s %9s  %s\n", text_or(port, "port", "").c_str(),
            text_or(port, "vm", "-").c_str(), state_of(port).c_str(), addresses_of(port).c_str(),
            text_or(port, "in_packets", "").c_str(),
            scaled(port.at("in_bytes").get<std::uint64_t>()).c_str(),
            text_or(port, "out_packets", "").c_str(),
            scaled(port.at("out_bytes").get<std::uint64_t>()).c_str(), drops_of(port).c_str());
}

} // namespace

int run_net(const Command& command) {
    auto socket = socket_of(command);
    if (!socket)
        return 1;
    auto client = control::Client::connect(*socket);
    if (!client)
        return complain("vmhost", client.error());
    auto reply = ask(*client, {{"verb", "net"}});
    if (!reply)
        return complain("vmhost", std::move(reply).error().in("net"));
    const auto& switches = reply->at("switches");
    if (command.json) {
        std::printf("%s\n", switches.dump(2, ' ', false, json::error_handler_t::replace).c_str());
        return 0;
    }
    for (const auto& one : switches)
        print_switch(one);
    return 0;
}

} // namespace vmhost::cli
