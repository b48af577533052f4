#include "host/gather.h"

#include <algorithm>
#include <array>
#include <unistd.h>

#include "dhcp/dhcp.h"
#include "host/host.h"
#include "host/usage.h"
#include "http/http.h"

namespace vmhost::host {

using metrics::Metric;
using metrics::Samples;

namespace {

constexpr double ns_per_s = 1e9;

double value_of(std::uint64_t count) {
    return static_cast<double>(count);
}

void add_disk(Samples& out, const std::string& vm, std::size_t index,
              const ipc::VmDiskCounted& counted) {
    auto add = [&](Metric metric, std::uint64_t count) {
        out.add(metric, {vm, std::to_string(index)}, value_of(count));
    };
    add(Metric::vm_disk_reads_total, counted.reads);
    add(Metric::vm_disk_read_bytes_total, counted.read_bytes);
    add(Metric::vm_disk_writes_total, counted.writes);
    add(Metric::vm_disk_written_bytes_total, counted.written_bytes);
    add(Metric::vm_disk_flushes_total, counted.flushes);
    add(Metric::vm_disk_discarded_bytes_total, counted.discarded_bytes);
    add(Metric::vm_disk_zeroed_bytes_total, counted.zeroed_bytes);
    add(Metric::vm_disk_failed_requests_total, counted.failed);
    add(Metric::vm_disk_malformed_requests_total, counted.malformed);
}

// As the guest sees the directions.
void add_interface(Samples& out, const std::string& vm, std::size_t index,
                   const ipc::VmNicCounted& counted) {
    auto add = [&](Metric metric, std::uint64_t count) {
        out.add(metric, {vm, std::to_string(index)}, value_of(count));
    };
    add(Metric::vm_interface_received_frames_total, counted.received_frames);
    add(Metric::vm_interface_received_bytes_total, counted.received_bytes);
    add(Metric::vm_interface_receive_dropped_frames_total, counted.receive_dropped);
    add(Metric::vm_interface_sent_frames_total, counted.sent_frames);
    add(Metric::vm_interface_sent_bytes_total, counted.sent_bytes);
    add(Metric::vm_interface_send_dropped_frames_total, counted.send_dropped);
    add(Metric::vm_interface_malformed_requests_total, counted.malformed);
}

using Taps = std::map<std::string, net::LinkCounters>;

// What the tap has counted of a guest whose frames do not pass by its process: all of them.
ipc::VmNicCounted counted_by(const net::LinkCounters& tap, ipc::VmNicCounted counted) {
    counted.received_frames = tap.tx_packets;
    counted.received_bytes = tap.tx_bytes;
    counted.receive_dropped = tap.tx_dropped;
    counted.sent_frames = tap.rx_packets;
    counted.sent_bytes = tap.rx_bytes;
    counted.send_dropped = tap.rx_dropped;
    return counted;
}

void add_devices(Samples& out, const Guest& guest, const Taps& taps) {
    const auto& counted = guest.counted();
    for (std::size_t i = 0; i < counted.disks.size(); ++i)
        add_disk(out, guest.config().name, i, counted.disks[i]);
    for (std::size_t i = 0; i < counted.nics.size(); ++i) {
        auto nic = counted.nics[i];
        auto tap = i < guest.taps().size() ? taps.find(guest.taps()[i]) : taps.end();
        if (nic.lent && tap != taps.end())
            nic = counted_by(tap->second, nic);
        add_interface(out, guest.config().name, i, nic);
    }
}

void add_guards(Samples& out, const Host& host) {
    const auto plugs = host.plugs();
    for (const auto& count : host.guard_counts())
        if (auto plug = plugs.find(count.port); plug != plugs.end())
            out.add(Metric::vm_interface_guard_dropped_frames_total,
                    {plug->second.vm, std::to_string(plug->second.interface),
                     std::string(name_of(count.reason))},
                    value_of(count.frames));
}

void add_guest(Samples& out, const Guest& guest, const Taps& taps) {
    const std::vector<std::string> vm{guest.config().name};
    auto pid = guest.pid();
    out.add(Metric::vm_up, vm, pid ? 1 : 0);
    out.add(Metric::vm_vcpus, vm, guest.config().vcpus);
    out.add(Metric::vm_memory_bytes, vm, value_of(guest.config().memory_bytes));
    out.add(Metric::vm_restarts_total, vm, guest.restarts());
    if (!pid)
        return; // what it had counted is gone with it
    out.add(Metric::vm_answers, vm, guest.answers() ? 1 : 0);
    out.add(Metric::vm_resident_memory_bytes, vm, value_of(guest.resident_bytes()));
    out.add(Metric::vm_cpu_seconds_total, vm, value_of(cpu_time_ns_of(*pid)) / ns_per_s);
    out.add(Metric::vm_reboots_total, vm, guest.reboots());
    const auto& counted = guest.counted();
    auto exits = [&](const char* kind, std::uint64_t count) {
        out.add(Metric::vm_exits_total, {guest.config().name, kind}, value_of(count));
    };
    exits("port", counted.port_exits);
    exits("memory", counted.memory_exits);
    exits("other", counted.other_exits);
    out.add(Metric::vm_unknown_msr_accesses_total, vm, value_of(counted.unknown_msrs));
    out.add(Metric::vm_unclaimed_accesses_total, vm, value_of(counted.unclaimed_accesses));
    out.add(Metric::vm_malformed_requests_total, vm, value_of(counted.malformed_requests));
    add_devices(out, guest, taps);
}

void add_install(Samples& out, const std::string& vm, const install::Progress& progress) {
    for (std::size_t i = 0; i < install::phases; ++i)
        if (progress.since_s[i])
            out.add(Metric::vm_install_phase_time_seconds,
                    {vm, std::string(name_of(static_cast<install::Phase>(i)))},
                    static_cast<double>(*progress.since_s[i]));
    out.add(Metric::vm_install_failed, {vm}, progress.failed.empty() ? 0 : 1);
    out.add(Metric::vm_install_stalled, {vm}, progress.stalled ? 1 : 0);
}

// A service says what it likes: only what it may count, with names of ours.
void add_counter(Samples& out, std::string_view role, const ipc::ServiceCounter& counter) {
    using ipc::Counted;
    auto add = [&](Metric metric, std::vector<std::string> labels) {
        out.add(metric, std::move(labels), value_of(counter.value));
    };
    const bool known_status = counter.of >= 100 && counter.of < 600;
    if (role == "control" && counter.what == Counted::control_clients)
        return add(Metric::control_clients, {});
    if (role == "dhcp" && counter.what == Counted::dhcp_messages && counter.of < dhcp::event_kinds)
        return add(Metric::dhcp_messages_total,
                   {std::string(name_of(static_cast<dhcp::EventKind>(counter.of)))});
    if (role == "dhcp" && counter.what == Counted::dhcp_drops && counter.of < dhcp::drop_kinds)
        return add(Metric::dhcp_drops_total,
                   {std::string(name_of(static_cast<dhcp::Drop>(counter.of)))});
    if (role == "dhcp" && counter.what == Counted::dhcp_written)
        return add(Metric::dhcp_leases_written_total, {});
    if (role == "dhcp" && counter.what == Counted::dhcp_commits)
        return add(Metric::dhcp_commits_total, {});
    if (role == "ipv6" && counter.what == Counted::ipv6_messages && counter.of < ipv6::event_kinds)
        return add(Metric::ipv6_messages_total,
                   {std::string(name_of(static_cast<ipv6::EventKind>(counter.of)))});
    if (role == "ipv6" && counter.what == Counted::ipv6_drops && counter.of < ipv6::drop_kinds)
        return add(Metric::ipv6_drops_total,
                   {std::string(name_of(static_cast<ipv6::Drop>(counter.of)))});
    if (role == "tftp" && counter.what == Counted::tftp_requests && counter.of < tftp::outcomes)
        return add(Metric::tftp_requests_total,
                   {std::string(name_of(static_cast<tftp::Outcome>(counter.of)))});
    if (role == "tftp" && counter.what == Counted::tftp_bytes)
        return add(Metric::tftp_bytes_total, {});
    if (role == "tftp" && counter.what == Counted::tftp_transfers)
        return add(Metric::tftp_transfers, {});
    if (role != "http")
        return;
    if (counter.what == Counted::http_answers && counter.of < http::answer_outcomes)
        return add(Metric::install_answers_total,
                   {std::string(name_of(static_cast<http::AnswerOutcome>(counter.of)))});
    const bool metrics = counter.what >= Counted::metrics_responses;
    const std::string listener = metrics ? "metrics" : "install";
    switch (counter.what) {
    case Counted::http_responses:
    case Counted::metrics_responses:
        if (known_status)
            add(Metric::http_responses_total, {listener, std::to_string(counter.of)});
        return;
    case Counted::http_bytes:
    case Counted::metrics_bytes:
        return add(Metric::http_response_bytes_total, {listener});
    case Counted::http_connections:
    case Counted::metrics_connections:
        return add(Metric::http_connections, {listener});
    default:
        return;
    }
}

} // namespace

Gatherer::Gatherer(Loop& loop, Sources sources)
    : loop_(loop), sources_(std::move(sources)),
      started_s_(std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
                     .count()) {}

void Gatherer::gather(Done done) {
    if (last_ && loop_.now_ms() - made_ms_ < limits::metrics_interval_ms)
        return done(last_);
    waiting_.push_back(std::move(done));
    if (waiting_.size() > 1)
        return;
    auto left = std::make_shared<std::size_t>(1);
    auto one_said = [this, left] {
        if (--*left == 0)
            collect();
    };
    for (const auto& guest : sources_.host->guests()) {
        ++*left;
        guest->count(one_said);
    }
    for (auto* service : sources_.services()) {
        ++*left;
        service->count(one_said);
    }
    one_said();
}

void Gatherer::collect() {
    auto gathered = std::make_shared<Gathered>();
    auto& out = gathered->samples;
    add_host(out);
    add_own(out);
    for (const auto* service : sources_.services())
        add_role(out, *service);
    const auto taps = sources_.host->counters_of_taps();
    for (const auto& guest : sources_.host->guests())
        add_guest(out, *guest, taps);
    for (const auto& guest : sources_.host->guests())
        if (const auto* progress = sources_.host->install_progress(*guest))
            add_install(out, guest->config().name, *progress);
    add_guards(out, *sources_.host);
    gathered->text = metrics::text(out);
    last_ = std::move(gathered);
    made_ms_ = loop_.now_ms();
    for (auto& done : std::exchange(waiting_, {}))
        done(last_);
}

void Gatherer::add_host(Samples& out) const {
    out.add(Metric::build_info, {sources_.version}, 1);
    out.add(Metric::start_time_seconds, started_s_);
    constexpr std::array states{GuestState::stopped, GuestState::waiting, GuestState::running,
                                GuestState::paused, GuestState::stopping};
    for (auto state : states) // by their words: starting is waiting
        out.add(Metric::vms, {std::string(name_of(state))},
                value_of(static_cast<std::uint64_t>(
                    std::ranges::count_if(sources_.host->guests(), [&](const auto& guest) {
                        return name_of(guest->state()) == name_of(state);
                    }))));
    const auto& asked = *sources_.asked;
    out.add(Metric::control_requests_total, value_of(asked.requests));
    for (const auto& [verb, count] : sources_.refusals())
        out.add(Metric::control_refusals_total, {verb}, value_of(count));
    out.add(Metric::plans_total, value_of(asked.plans));
    out.add(Metric::applies_total, {"done"}, value_of(asked.applied));
    out.add(Metric::applies_total, {"failed"}, value_of(asked.apply_failed));
    out.add(Metric::apply_in_progress, sources_.host->applying() ? 1 : 0);
}

// This very process.
void Gatherer::add_own(Samples& out) const {
    const std::vector<std::string> role{"parent"};
    out.add(Metric::role_up, role, 1);
    out.add(Metric::role_restarts_total, role, 0);
    out.add(Metric::role_cpu_seconds_total, role, value_of(cpu_time_ns_of(::getpid())) / ns_per_s);
    out.add(Metric::role_resident_memory_bytes, role, value_of(resident_bytes_of(::getpid())));
}

void Gatherer::add_role(Samples& out, const Service& service) const {
    const std::vector<std::string> role{service.title()};
    out.add(Metric::role_up, role, service.up() ? 1 : 0);
    out.add(Metric::role_restarts_total, role, service.restarts());
    if (auto pid = service.pid()) {
        out.add(Metric::role_cpu_seconds_total, role, value_of(cpu_time_ns_of(*pid)) / ns_per_s);
        out.add(Metric::role_resident_memory_bytes, role, value_of(resident_bytes_of(*pid)));
    }
    for (const auto& counter : service.counted())
        add_counter(out, service.title(), counter);
}

} // namespace vmhost::host
