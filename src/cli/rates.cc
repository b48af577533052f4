#include "cli/rates.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>

#include "base/base.h"

namespace vmhost::cli {

using nlohmann::json;

namespace {

std::uint64_t number(const json& object, const char* key) {
    auto found = object.find(key);
    return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

std::uint64_t sum(const json& row, const char* devices, std::initializer_list<const char*> keys) {
    std::uint64_t total = 0;
    if (auto found = row.find(devices); found != row.end() && found->is_array())
        for (const auto& device : *found)
            for (const auto* key : keys)
                total += number(device, key);
    return total;
}

double disk_bytes(const Rates& rates) {
    return rates.disk_read_bytes + rates.disk_written_bytes;
}

double net_bytes(const Rates& rates) {
    return rates.net_received_bytes + rates.net_sent_bytes;
}

double key_of(const Rates& rates, TopOrder order) {
    switch (order) {
    case TopOrder::cpu:
        return rates.cpu_pct;
    case TopOrder::memory:
        return static_cast<double>(rates.memory_bytes);
    case TopOrder::disk:
        return disk_bytes(rates);
    case TopOrder::net:
        return net_bytes(rates);
    case TopOrder::name:
        break;
    }
    return 0;
}

std::string size(double bytes) {
    return format_size(static_cast<std::uint64_t>(bytes + 0.5));
}

// "17", "99999", "120k", "35M".
std::string count(double value) {
    constexpr double most_digits = 99'999.5, thousand = 1000;
    if (value < most_digits)
        return fmt::format("{:.0f}", value);
    if (value < most_digits * thousand)
        return fmt::format("{:.0f}k", value / thousand);
    return fmt::format("{:.0f}M", value / thousand / thousand);
}

} // namespace

Sample sample_of(const json& row) {
    Sample sample;
    sample.id = static_cast<unsigned>(number(row, "id"));
    sample.name = row.value("name", std::string());
    sample.state = row.value("state", std::string());
    if (auto pid = row.find("pid"); pid != row.end() && pid->is_number_unsigned())
        sample.pid = pid->get<unsigned>();
    sample.memory_bytes = number(row, "current_memory_bytes");
    sample.cpu_us = number(row, "cpu_us");
    if (auto counters = row.find("counters"); counters != row.end() && counters->is_object())
        for (const auto* key : {"port_exits", "memory_exits", "other_exits"})
            sample.exits += number(*counters, key);
    sample.disk_read_bytes = sum(row, "disks", {"read_bytes"});
    sample.disk_written_bytes = sum(row, "disks", {"written_bytes"});
    sample.disk_operations = sum(row, "disks", {"reads", "writes", "flushes"});
    sample.net_received_bytes = sum(row, "interfaces", {"received_bytes"});
    sample.net_sent_bytes = sum(row, "interfaces", {"sent_bytes"});
    sample.net_frames = sum(row, "interfaces", {"received_frames", "sent_frames"});
    return sample;
}

std::vector<Rates> rates_between(const std::vector<Sample>& before, const std::vector<Sample>& now,
                                 double seconds) {
    std::map<unsigned, const Sample*> earlier;
    for (const auto& sample : before)
        earlier[sample.id] = &sample;
    std::vector<Rates> rates;
    const Sample nothing;
    for (const auto& sample : now) {
        auto found = earlier.find(sample.id);
        const bool same = found != earlier.end() && found->second->pid == sample.pid;
        const auto& was = same ? *found->second : nothing;
        // Counters that a VM process could not tell in time are those of before.
        auto rate = [&](std::uint64_t Sample::*counter) {
            auto difference = sample.*counter - std::min(was.*counter, sample.*counter);
            return static_cast<double>(difference) / seconds;
        };
        constexpr double us_per_pct = 10'000;
        rates.push_back({.id = sample.id,
                         .name = sample.name,
                         .state = sample.state,
                         .memory_bytes = sample.memory_bytes,
                         .cpu_pct = rate(&Sample::cpu_us) / us_per_pct,
                         .exits = rate(&Sample::exits),
                         .disk_read_bytes = rate(&Sample::disk_read_bytes),
                         .disk_written_bytes = rate(&Sample::disk_written_bytes),
                         .disk_operations = rate(&Sample::disk_operations),
                         .net_received_bytes = rate(&Sample::net_received_bytes),
                         .net_sent_bytes = rate(&Sample::net_sent_bytes),
                         .net_frames = rate(&Sample::net_frames)});
    }
    return rates;
}

std::optional<TopOrder> top_order_of(char key) {
    switch (key) {
    case 'c':
        return TopOrder::cpu;
    case 'm':
        return TopOrder::memory;
    case 'd':
        return TopOrder::disk;
    case 'n':
        return TopOrder::net;
    case 'N':
        return TopOrder::name;
    default:
        return std::nullopt;
    }
}

std::string_view name_of(TopOrder order) {
    constexpr std::string_view names[] = {"CPU", "memory", "disk", "network", "name"};
    return names[static_cast<std::size_t>(order)];
}

void sort_rates(std::vector<Rates>& rates, TopOrder order) {
    std::ranges::sort(rates, [order](const Rates& a, const Rates& b) {
        auto left = key_of(a, order), right = key_of(b, order);
        return left != right ? left > right : a.name < b.name;
    });
}

json as_json(const Rates& rates) {
    return {{"id", rates.id},
            {"name", rates.name},
            {"state", rates.state},
            {"cpu_pct", rates.cpu_pct},
            {"memory_bytes", rates.memory_bytes},
            {"disk_read_bytes_per_s", rates.disk_read_bytes},
            {"disk_written_bytes_per_s", rates.disk_written_bytes},
            {"disk_operations_per_s", rates.disk_operations},
            {"net_received_bytes_per_s", rates.net_received_bytes},
            {"net_sent_bytes_per_s", rates.net_sent_bytes},
            {"net_frames_per_s", rates.net_frames},
            {"exits_per_s", rates.exits}};
}

std::string top_head() {
    return fmt::format("{:>8} {:>6} {:>6} {:>6} {:>7} {:>6} {:>6} {:>6} {:>6} {:>6} {}", "STATE",
                       "%CPU", "CURMEM", "READ/s", "WRITE/s", "DISK/s", "IN/s", "OUT/s", "NET/s",
                       "EXIT/s", "NAME");
}

std::string top_row(const Rates& rates) {
    if (rates.memory_bytes == 0) // no process
        return fmt::format("{:>8} {:>6} {:>6} {:>6} {:>7} {:>6} {:>6} {:>6} {:>6} {:>6} {}",
                           rates.state, "-", "-", "-", "-", "-", "-", "-", "-", "-", rates.name);
    return fmt::format("{:>8} {:>6.1f} {:>6} {:>6} {:>7} {:>6} {:>6} {:>6} {:>6} {:>6} {}",
                       rates.state, rates.cpu_pct, format_size(rates.memory_bytes),
                       size(rates.disk_read_bytes), size(rates.disk_written_bytes),
                       count(rates.disk_operations), size(rates.net_received_bytes),
                       size(rates.net_sent_bytes), count(rates.net_frames), count(rates.exits),
                       rates.name);
}

std::string top_summary(const std::vector<Rates>& rates) {
    double cpu = 0, disk = 0, net = 0;
    std::uint64_t memory = 0;
    std::size_t run = 0;
    for (const auto& one : rates) {
        cpu += one.cpu_pct;
        memory += one.memory_bytes;
        disk += disk_bytes(one);
        net += net_bytes(one);
        run += one.memory_bytes != 0 ? 1 : 0;
    }
    return fmt::format("{} VMs, {} run; CPU {:.1f}%, memory {}, disks {}/s, network {}/s",
                       rates.size(), run, cpu, format_size(memory), size(disk), size(net));
}

} // namespace vmhost::cli
