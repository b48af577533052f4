// The door of metrics/: the one registry of what this host counts, and the forms in which it is
// read. A metric is a row of the table in registry.cc: its name, unit and labels are part of what
// users build on, so they stand in one place and vmhost-metrics(5) has the same rows.
//
// Names follow the conventions of Prometheus: the prefix vmhost_, base units (seconds, bytes) last,
// _total on what only grows. The text is its exposition format, version 0.0.4.
//
// Values only: nothing here gathers, opens or waits. Any thread, one at a time.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace vmhost::metrics {

enum class Metric : std::uint8_t {
    build_info,
    start_time_seconds,
    vms,
    control_requests_total,
    control_refusals_total,
    plans_total,
    applies_total,
    apply_in_progress,
    role_up,
    role_restarts_total,
    role_cpu_seconds_total,
    role_resident_memory_bytes,
    control_clients,
    dhcp_messages_total,
    dhcp_drops_total,
    dhcp_leases_written_total,
    dhcp_commits_total,
    ipv6_messages_total,
    ipv6_drops_total,
    install_answers_total,
    vm_install_phase_time_seconds,
    vm_install_failed,
    vm_install_stalled,
    tftp_requests_total,
    tftp_bytes_total,
    tftp_transfers,
    http_responses_total,
    http_response_bytes_total,
    http_connections,
    vm_up,
    vm_answers,
    vm_vcpus,
    vm_memory_bytes,
    vm_resident_memory_bytes,
    vm_cpu_seconds_total,
    vm_restarts_total,
    vm_reboots_total,
    vm_exits_total,
    vm_unknown_msr_accesses_total,
    vm_unclaimed_accesses_total,
    vm_malformed_requests_total,
    vm_disk_reads_total,
    vm_disk_read_bytes_total,
    vm_disk_writes_total,
    vm_disk_written_bytes_total,
    vm_disk_flushes_total,
    vm_disk_discarded_bytes_total,
    vm_disk_zeroed_bytes_total,
    vm_disk_failed_requests_total,
    vm_disk_malformed_requests_total,
    vm_interface_received_frames_total,
    vm_interface_received_bytes_total,
    vm_interface_receive_dropped_frames_total,
    vm_interface_sent_frames_total,
    vm_interface_sent_bytes_total,
    vm_interface_send_dropped_frames_total,
    vm_interface_malformed_requests_total,
    vm_interface_guard_dropped_frames_total,
};

enum class Kind : std::uint8_t {
    counter, // only grows, and begins anew at zero
    gauge,
};

struct Family {
    Metric metric;
    std::string_view name; // "vmhost_vm_exits_total"
    Kind kind;
    std::string_view help;                       // one sentence
    std::array<std::string_view, 3> labels = {}; // in the order of Sample::labels; empty = no more
};

std::span<const Family> families(); // by Metric
const Family& family_of(Metric metric);
std::string_view name_of(Kind kind); // "counter"

struct Sample {
    std::vector<std::string> labels; // a value for each label of the family
    double value = 0;
};

// What was counted at one moment, in the order of the table.
class Samples {
public:
    Samples();
    // As many labels as the family has.
    void add(Metric metric, std::vector<std::string> labels, double value);
    void add(Metric metric, double value) { add(metric, {}, value); }
    std::span<const Sample> of(Metric metric) const {
        return samples_[static_cast<std::size_t>(metric)];
    }

private:
    std::vector<std::vector<Sample>> samples_; // by Metric
};

// In the exposition format; ends with a line feed unless there is nothing.
std::string text(const Samples& samples);
inline constexpr std::string_view text_type = "text/plain; version=0.0.4; charset=utf-8";

// The lines before the samples of a family, and one line of a sample.
void append_head(std::string& out, const Family& family);
void append_sample(std::string& out, const Family& family, const Sample& sample);
// A number as both forms have it: whole ones without a fraction, others with as many digits as
// they need.
std::string number(double value);

} // namespace vmhost::metrics
