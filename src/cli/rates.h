// vmctl top, without its terminal: what VMs did between two looks at them, and in which order they
// are shown. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace vmhost::cli {

// One look at a VM: sums since its process began, over all disks and interfaces.
struct Sample {
    unsigned id = 0;
    std::string name, state;
    std::optional<unsigned> pid;
    std::uint64_t memory_bytes = 0;
    std::uint64_t cpu_us = 0, exits = 0;
    std::uint64_t disk_read_bytes = 0, disk_written_bytes = 0, disk_operations = 0;
    // As the guest sees the directions.
    std::uint64_t net_received_bytes = 0, net_sent_bytes = 0, net_frames = 0;
};
// Of a row of status; what is missing is 0.
Sample sample_of(const nlohmann::json& row);

// Of one VM; per second.
struct Rates {
    unsigned id = 0;
    std::string name, state;
    std::uint64_t memory_bytes = 0;
    double cpu_pct = 0; // of one processor
    double exits = 0;
    double disk_read_bytes = 0, disk_written_bytes = 0, disk_operations = 0;
    double net_received_bytes = 0, net_sent_bytes = 0, net_frames = 0;
};

// In the order of now. A process that was not there before, or is another one, did all that it has
// counted in this time. seconds > 0.
std::vector<Rates> rates_between(const std::vector<Sample>& before, const std::vector<Sample>& now,
                                 double seconds);

enum class TopOrder : std::uint8_t { cpu, memory, disk, net, name };
// The key or the word's first letter: c, m, d, n; and N for the name.
std::optional<TopOrder> top_order_of(char key);
std::string_view name_of(TopOrder order);
// Greatest first, and by name where that does not decide.
void sort_rates(std::vector<Rates>& rates, TopOrder order);

nlohmann::json as_json(const Rates& rates);
// The table's head and rows; counts in at most 6 characters, sizes as status has them.
std::string top_head();
std::string top_row(const Rates& rates);
// "3 VMs, 2 run; CPU 120%, …" of all of them.
std::string top_summary(const std::vector<Rates>& rates);

} // namespace vmhost::cli
