// The table. Whoever adds a row adds it to vmhost-metrics(5); a test compares the two.
#include <array>
#include <cassert>

#include "metrics/metrics.h"

namespace vmhost::metrics {

namespace {

using enum Metric;
using enum Kind;

constexpr Family table[] = {
    // this host
    {build_info,
     "vmhost_build_info",
     gauge,
     "Always 1; the label is the version that runs.",
     {"version"}},
    {start_time_seconds, "vmhost_start_time_seconds", gauge,
     "When the daemon was started, in seconds since 1970."},
    {vms, "vmhost_vms", gauge, "VMs by their state.", {"state"}},
    {control_requests_total, "vmhost_control_requests_total", counter,
     "Requests on the control socket."},
    {control_refusals_total,
     "vmhost_control_refusals_total",
     counter,
     "Requests on the control socket that the caller was not allowed to make.",
     {"verb"}},
    {plans_total, "vmhost_plans_total", counter, "Plans that were asked for."},
    {applies_total,
     "vmhost_applies_total",
     counter,
     "Changed files that were applied, by how that ended.",
     {"result"}},
    {apply_in_progress, "vmhost_apply_in_progress", gauge,
     "1 while a changed file is being applied."},
    // its processes, but for those of VMs
    {role_up, "vmhost_role_up", gauge, "1 while the process works.", {"role"}},
    {role_restarts_total,
     "vmhost_role_restarts_total",
     counter,
     "Processes that were started again after they ended unasked.",
     {"role"}},
    {role_cpu_seconds_total,
     "vmhost_role_cpu_seconds_total",
     counter,
     "Processor time that the running process has used.",
     {"role"}},
    {role_resident_memory_bytes,
     "vmhost_role_resident_memory_bytes",
     gauge,
     "Memory of the running process.",
     {"role"}},
    {control_clients, "vmhost_control_clients", gauge, "Clients that are connected."},
    {dhcp_messages_total,
     "vmhost_dhcp_messages_total",
     counter,
     "DHCP and BOOTP messages by what came of them.",
     {"outcome"}},
    {dhcp_drops_total,
     "vmhost_dhcp_drops_total",
     counter,
     "DHCP and BOOTP messages without an answer, by reason.",
     {"reason"}},
    {dhcp_leases_written_total, "vmhost_dhcp_leases_written_total", counter,
     "Changes of DHCP leases that are on the disk."},
    {dhcp_commits_total, "vmhost_dhcp_commits_total", counter, "Transactions that they took."},
    {ipv6_messages_total,
     "vmhost_ipv6_messages_total",
     counter,
     "DHCPv6 messages and router solicitations by what came of them.",
     {"outcome"}},
    {ipv6_drops_total,
     "vmhost_ipv6_drops_total",
     counter,
     "DHCPv6 messages and router solicitations without an answer, by reason.",
     {"reason"}},
    {tftp_requests_total,
     "vmhost_tftp_requests_total",
     counter,
     "Requests for files by TFTP, by what came of them.",
     {"outcome"}},
    {tftp_bytes_total, "vmhost_tftp_bytes_total", counter,
     "Bytes of files that TFTP clients have acknowledged."},
    {tftp_transfers, "vmhost_tftp_transfers", gauge, "Transfers by TFTP that are going on."},
    {http_responses_total,
     "vmhost_http_responses_total",
     counter,
     "HTTP responses by listener and status.",
     {"listener", "code"}},
    {http_response_bytes_total,
     "vmhost_http_response_bytes_total",
     counter,
     "Bodies of HTTP responses by listener.",
     {"listener"}},
    {http_connections,
     "vmhost_http_connections",
     gauge,
     "HTTP connections that are open.",
     {"listener"}},
    // each VM
    {vm_up, "vmhost_vm_up", gauge, "1 while the VM has a process.", {"vm"}},
    {vm_answers,
     "vmhost_vm_answers",
     gauge,
     "0 when the process of the VM has not answered for too long.",
     {"vm"}},
    {vm_vcpus, "vmhost_vm_vcpus", gauge, "Processors of the VM.", {"vm"}},
    {vm_memory_bytes, "vmhost_vm_memory_bytes", gauge, "Memory of the VM as configured.", {"vm"}},
    {vm_resident_memory_bytes,
     "vmhost_vm_resident_memory_bytes",
     gauge,
     "Memory of the VM's process, the guest's in use included.",
     {"vm"}},
    {vm_cpu_seconds_total,
     "vmhost_vm_cpu_seconds_total",
     counter,
     "Processor time that the VM's process has used.",
     {"vm"}},
    {vm_restarts_total,
     "vmhost_vm_restarts_total",
     counter,
     "Times that the VM was started again after it ended by itself.",
     {"vm"}},
    {vm_reboots_total,
     "vmhost_vm_reboots_total",
     counter,
     "Reboots of the guest since the VM was started.",
     {"vm"}},
    {vm_exits_total,
     "vmhost_vm_exits_total",
     counter,
     "Exits from the guest to its process, by what it wanted.",
     {"vm", "kind"}},
    {vm_unknown_msr_accesses_total,
     "vmhost_vm_unknown_msr_accesses_total",
     counter,
     "Accesses of the guest to registers of the processor that the VM does not have.",
     {"vm"}},
    {vm_unclaimed_accesses_total,
     "vmhost_vm_unclaimed_accesses_total",
     counter,
     "Accesses of the guest to addresses without a device.",
     {"vm"}},
    {vm_malformed_requests_total,
     "vmhost_vm_malformed_requests_total",
     counter,
     "Requests of the guest to its devices that make no sense.",
     {"vm"}},
    // its disks and interfaces, by their place in the file
    {vm_disk_reads_total,
     "vmhost_vm_disk_reads_total",
     counter,
     "Reads that the guest asked for.",
     {"vm", "disk"}},
    {vm_disk_read_bytes_total,
     "vmhost_vm_disk_read_bytes_total",
     counter,
     "What they read.",
     {"vm", "disk"}},
    {vm_disk_writes_total,
     "vmhost_vm_disk_writes_total",
     counter,
     "Writes that the guest asked for.",
     {"vm", "disk"}},
    {vm_disk_written_bytes_total,
     "vmhost_vm_disk_written_bytes_total",
     counter,
     "What they wrote.",
     {"vm", "disk"}},
    {vm_disk_flushes_total,
     "vmhost_vm_disk_flushes_total",
     counter,
     "Times that the guest asked for what it wrote to be safe.",
     {"vm", "disk"}},
    {vm_disk_discarded_bytes_total,
     "vmhost_vm_disk_discarded_bytes_total",
     counter,
     "What the guest gave back.",
     {"vm", "disk"}},
    {vm_disk_zeroed_bytes_total,
     "vmhost_vm_disk_zeroed_bytes_total",
     counter,
     "What the guest had filled with zeros.",
     {"vm", "disk"}},
    {vm_disk_failed_requests_total,
     "vmhost_vm_disk_failed_requests_total",
     counter,
     "Requests that failed on the host.",
     {"vm", "disk"}},
    {vm_disk_malformed_requests_total,
     "vmhost_vm_disk_malformed_requests_total",
     counter,
     "Requests that make no sense.",
     {"vm", "disk"}},
    {vm_interface_received_frames_total,
     "vmhost_vm_interface_received_frames_total",
     counter,
     "Frames that the guest received.",
     {"vm", "interface"}},
    {vm_interface_received_bytes_total,
     "vmhost_vm_interface_received_bytes_total",
     counter,
     "What was in them.",
     {"vm", "interface"}},
    {vm_interface_receive_dropped_frames_total,
     "vmhost_vm_interface_receive_dropped_frames_total",
     counter,
     "Frames to the guest that were dropped.",
     {"vm", "interface"}},
    {vm_interface_sent_frames_total,
     "vmhost_vm_interface_sent_frames_total",
     counter,
     "Frames that the guest sent.",
     {"vm", "interface"}},
    {vm_interface_sent_bytes_total,
     "vmhost_vm_interface_sent_bytes_total",
     counter,
     "What was in them.",
     {"vm", "interface"}},
    {vm_interface_send_dropped_frames_total,
     "vmhost_vm_interface_send_dropped_frames_total",
     counter,
     "Frames of the guest that were dropped.",
     {"vm", "interface"}},
    {vm_interface_malformed_requests_total,
     "vmhost_vm_interface_malformed_requests_total",
     counter,
     "Requests that make no sense.",
     {"vm", "interface"}},
    {vm_interface_guard_dropped_frames_total,
     "vmhost_vm_interface_guard_dropped_frames_total",
     counter,
     "Frames of the guest that the host's frame guard dropped.",
     {"vm", "interface", "reason"}},
};

consteval bool in_order() {
    std::size_t next = 0;
    for (const auto& family : table)
        if (static_cast<std::size_t>(family.metric) != next++)
            return false;
    return true;
}
static_assert(in_order());

} // namespace

std::span<const Family> families() {
    return table;
}

const Family& family_of(Metric metric) {
    return table[static_cast<std::size_t>(metric)];
}

std::string_view name_of(Kind kind) {
    return kind == counter ? "counter" : "gauge";
}

Samples::Samples() : samples_(std::size(table)) {}

void Samples::add(Metric metric, std::vector<std::string> labels, double value) {
    [[maybe_unused]] const auto& names = family_of(metric).labels;
    assert(labels.size() <= names.size());
    for (std::size_t i = 0; i < names.size(); ++i)
        assert((i < labels.size()) == !names[i].empty());
    samples_[static_cast<std::size_t>(metric)].push_back({std::move(labels), value});
}

} // namespace vmhost::metrics
