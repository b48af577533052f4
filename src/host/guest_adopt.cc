// A guest and the parents that follow each other: what one leaves of it, and how the next takes
// it over. See host/running.h.
#include <fcntl.h>
#include <unistd.h>

#include "host/guest.h"

namespace vmhost::host {

namespace {

using namespace std::chrono_literals;

// For a process to take the connection and say how it is.
constexpr auto hello_timeout = 5s;
// For one that was killed to be gone: its sockets and taps go before it does.
constexpr auto last_moment = 1s;

// Watching something else than an event counter would fail.
bool is_eventfd(const Fd& file) {
    char target[32] = {};
    auto path = fmt::format("/proc/self/fd/{}", file.get());
    auto length = ::readlink(path.c_str(), target, sizeof target - 1);
    return length > 0 && std::string_view(target) == "anon_inode:[eventfd]";
}

} // namespace

void Guest::keep_record() {
    if (context_.running == nullptr)
        return;
    RunningGuest record{.name = vm_.name, .id = id_};
    if (process_) {
        record.pid = process_->pid();
        record.start_ticks = context_.ground->start_ticks(record.pid);
        record.taps = taps_;
        record.lladdrs = lladdrs_;
        if (snapshots_)
            record.snapshot = snapshot_name_;
        record.restarts = restarts_.total();
        record.lease = lease;
        record.in_installer = in_installer_;
        record.temporary = temporary();
        record.to_stop = keep_stopped_;
        for (const auto& disk : disks_) {
            auto& kept = record.disks.emplace_back();
            kept.path = disk.path;
            kept.format = disk.format;
            kept.read_only = disk.read_only;
            kept.base = disk.base;
        }
    }
    if (auto written = context_.running->write(record); !written)
        log::warning("host", "vm {}: a vmhost that follows will not know it: {}", vm_.name,
                     written.error().message());
}

Result<void> Guest::stop_to_stay(Stop how, std::function<void()> ended) {
    auto keep = [this](bool stopped) {
        keep_stopped_ = stopped;
        if (process_)
            keep_record();
    };
    const bool before = keep_stopped_;
    keep(true); // before the guest hears of it
    auto asked = stop(how, std::move(ended));
    if (!asked && !before)
        keep(false);
    return asked;
}

void Guest::adopt(const RunningGuest& record, Fd process, Done done) {
    state_ = GuestState::running;
    note_.clear();
    keep_stopped_ = stop_requested_ = record.to_stop; // should it end before it says a word
    taps_ = record.taps;
    lladdrs_ = record.lladdrs;
    for (const auto& tap : taps_)
        if (context_.network == nullptr)
            log::warning("host", "vm {}: tap {} is not ours any more", vm_.name, tap);
        else if (auto adopted = context_.network->adopt_tap(tap); !adopted)
            log::warning("host", "vm {}: {}", vm_.name, adopted.error().message());
    disks_ = record.disks;
    snapshot_name_ = record.snapshot;
    restarts_.go_on_from(record.restarts);
    lease = record.lease;
    in_installer_ = record.in_installer;
    cgroup_ = Cgroup::adopt(context_.cgroups, context_.cgroup_folder, vm_.name);
    started_ms_ = context_.loop->now_ms();
    adopting_ = std::move(done);
    auto connection = context_.running->connect(vm_.name);
    if (!connection) {
        // It holds the guest's disks: better known than forgotten.
        note_ = fmt::format("its process cannot be reached: it can only be stopped by force: {}",
                            connection.error().message());
    }
    process_ = context_.ground->adopt_role(
        *context_.loop, record.pid, std::move(process), connection ? std::move(*connection) : Fd(),
        {.frame = [this](ipc::Frame&& frame) { took_frame(std::move(frame)); },
         .ended = [this](std::string how) { process_ended(std::move(how)); }});
    adopt_timer_.start(connection ? hello_timeout : last_moment);
    renew_guards();
}

void Guest::took_hello(ipc::VmHello hello) {
    if (!adopting_ && note_.empty())
        return; // it is no time for that
    note_.clear();
    if (hello.protocol != ipc::VmHello::current_protocol) {
        note_ = "it runs in another version of vmhost: it can only be stopped by force";
        log::warning("host", "vm {}: {}", vm_.name, note_);
        process_->close();
        return end_adopting({});
    }
    reboots_ = hello.reboots;
    if (hello.paused)
        state_ = GuestState::paused;
    keep_stopped_ = keep_stopped_ && hello.stopping; // the request may have been lost
    stop_requested_ = hello.stopping;
    if (hello.stopping) {
        state_ = GuestState::stopping;
        kill_timer_.start(stop_limit());
    }
    auto path = console_log_path();
    auto adopted = adopt_console(console_, std::move(hello.console), path);
    if (adopted && hello.virtio_console)
        adopted =
            adopt_console(virtio_console_, std::move(*hello.virtio_console), path + ".virtio");
    if (!adopted)
        log::warning("host", "vm {}: its console is not logged any more: {}", vm_.name,
                     adopted.error().message());
    settle_snapshot(hello.overlaid);
    if (!armed())
        leave_installer(); // that may have been sealed and nobody left to say so
    heartbeat_.start(model_.host.answer_timeout);
    log::notice("host", "vm {} goes on, id {}, pid {}", vm_.name, id_, process_->pid());
    tell("taken over", fmt::format("id {}, pid {}", id_, process_->pid()));
    end_adopting({});
}

Result<void> Guest::adopt_console(ConsoleOutput& console, ipc::VmConsole from,
                                  const std::string& log_path) {
    console.close();
    console.ring =
        TRY(ipc::SharedRingReader::adopt(std::move(from.ring), limits::console_ring_bytes));
    if (!vm_.console_log.enabled || !from.bell)
        return {};
    if (!is_eventfd(*from.bell))
        return fail(ErrorKind::invalid, "its bell is none");
    return open_log(console, log_path, std::move(*from.bell));
}

// One that was being made counts if it was recorded, and is forgotten if it was not.
void Guest::settle_snapshot(bool overlaid) {
    auto name = std::exchange(snapshot_name_, {});
    if (name.empty() && !overlaid)
        return;
    auto stored = Snapshots::load(snapshot_folder());
    const bool made = stored && !name.empty() && stored->find(name);
    if (overlaid)
        process_->send(ipc::VmSnapshotEnd{made});
    if (!made)
        forget_snapshot();
    keep_record();
}

void Guest::end_adopting(Result<void> result) {
    adopt_timer_.stop();
    if (auto done = std::exchange(adopting_, nullptr))
        done(std::move(result));
}

} // namespace vmhost::host
