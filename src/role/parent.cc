// The parent: the one process with rights. It holds the model, opens, spawns and
// passes on; it parses nothing that comes from a guest or the network.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <linux/close_range.h>
#include <memory>
#include <set>
#include <unistd.h>

#include "control/control.h"
#include "host/host.h"
#include "role/confine.h"
#include "role/records.h"
#include "role/role.h"

namespace vmhost::role {

namespace {

// What a client wishes, as the model has it; the files go into files.
config::NewVm describe(control::NewVm wish, host::GivenFiles& files) {
    config::NewVm out;
    out.name = wish.name;
    out.parent = wish.parent;
    out.memory_bytes = wish.memory_bytes;
    out.interfaces_min = wish.interfaces_min;
    if (wish.kernel)
        out.boot = wish.kernel_name.empty() ? "kernel" : wish.kernel_name;
    if (wish.cdrom)
        out.cdrom = ""; // the drive; the medium is given
    files.kernel = std::move(wish.kernel);
    files.cdrom = std::move(wish.cdrom);
    for (auto& disk : wish.disks) {
        auto& described = out.disks.emplace_back();
        auto& given = files.disks.emplace_back();
        described.path = disk.path;
        described.format = disk.format == "raw"     ? config::ImageFormat::raw
                           : disk.format == "qcow2" ? config::ImageFormat::qcow2
                           : disk.format == "zst"   ? config::ImageFormat::zst
                                                    : config::ImageFormat::automatic;
        described.read_only = disk.path.ends_with(".zst"); // as vmctl opened it
        given.image = std::move(disk.image);
        for (auto& base : disk.bases) {
            described.base.push_back(base.path);
            given.bases.push_back(std::move(base.file));
        }
    }
    for (const auto& interface : wish.interfaces) {
        auto& described = out.interfaces.emplace_back();
        described.switch_name = interface.switch_name;
        described.local = interface.local;
    }
    return out;
}

// The verbs of control/ act on the guests of host/.
class HostOperations final : public control::Operations {
public:
    HostOperations(host::Host& host, std::function<void(std::function<void(Result<void>)>)> upgrade)
        : host_(host), upgrade_(std::move(upgrade)) {}

    std::vector<control::VmRow> list() override {
        std::vector<control::VmRow> rows;
        for (const auto& guest : host_.guests())
            rows.push_back(row_of(*guest));
        return rows;
    }
    Result<control::VmRow> find(std::string_view vm) override {
        return row_of(*TRY(host_.find(vm)));
    }
    bool may_control(const control::Caller& caller, std::string_view vm) override {
        auto guest = host_.find(vm);
        if (!guest)
            return false;
        const auto& owner = (*guest)->owner();
        return may_change_host(caller) || caller.uid == owner.uid || is_in(caller, owner.gid);
    }
    bool may_change_host(const control::Caller& caller) override {
        return caller.uid == 0 || caller.uid == ::geteuid();
    }
    Result<control::PlanRows> plan(const std::string& file) override {
        ++asked.plans;
        auto plan = host_.plan(TRY(host_.load(file)));
        control::PlanRows rows;
        rows.digest = plan.digest();
        if (const auto* refused = plan.refused())
            rows.refused = refused->difference.key + " cannot change while vmhost runs";
        for (auto& change : plan.changes) {
            auto& of = change.difference;
            using Kind = config::Difference::Kind;
            rows.changes.push_back({.subject = change.subject,
                                    .key = of.key,
                                    .kind = of.kind == Kind::added     ? "added"
                                            : of.kind == Kind::removed ? "removed"
                                                                       : "changed",
                                    .before = of.before,
                                    .after = of.after,
                                    .effect = std::string(host::name_of(change.effect)),
                                    .reason = change.foreign ? "changed on this machine" : "",
                                    .place = of.place});
        }
        return rows;
    }
    Result<std::string> net() override { return host_.net_view(); }
    void apply(control::ApplyOrder order) override {
        auto file = host_.load(order.file);
        if (!file)
            return order.done(std::unexpected(std::move(file).error()));
        if (!order.digest.empty() && host_.plan(*file).digest() != order.digest)
            return order.done(fail(ErrorKind::busy, "the file or the host has changed since the "
                                                    "plan was made: look at it again"));
        if (!host_.applying() && on_apply)
            on_apply(true);
        host_.apply({.file = std::move(*file),
                     .restart_guests = order.restart_guests,
                     .told = std::move(order.told),
                     .done = [this, done = std::move(order.done)](Result<void> result) {
                         ++(result ? asked.applied : asked.apply_failed);
                         if (!host_.applying() && on_apply)
                             on_apply(false);
                         done(std::move(result));
                     }});
    }
    void start(std::string_view vm, control::StartOnce once,
               std::function<void(Result<void>)> done) override {
        if (host_.applying())
            return done(fail(ErrorKind::busy, "a change is being applied: try again after it"));
        auto guest = host_.find(vm);
        if (!guest)
            return done(std::unexpected(std::move(guest).error()));
        host::StartOnce wanted;
        wanted.boot_device = boot_device_of(once.boot_device);
        wanted.kernel = std::move(once.kernel);
        wanted.kernel_name = std::move(once.kernel_name);
        wanted.cdrom = std::move(once.cdrom);
        wanted.snapshot = std::move(once.snapshot);
        (*guest)->start(std::move(done), std::move(wanted));
    }
    void start_new(const control::Caller& caller, control::NewVm wish,
                   std::function<void(Result<std::uint32_t>)> done) override {
        const bool root = caller.uid == 0 || caller.uid == ::geteuid();
        const auto* parent = host_.model().find_vm(wish.parent);
        if (!root && parent && !may_make_instances(caller, *parent))
            return done(fail(ErrorKind::denied,
                             "vm {}: instances of {} are for root and the owner in its "
                             "allow_instance",
                             printable(wish.name, 64), parent->name));
        host::StartOnce once;
        once.boot_device = boot_device_of(wish.boot_device);
        host::GivenFiles files;
        auto described = describe(std::move(wish), files);
        described.anything_allowed = root;
        if (!root)
            described.owner = config::Owner{fmt::format("{}", caller.uid), ""};
        host_.start_new(described, std::move(files), std::move(once), std::move(done));
    }
    void set_memory(std::string_view vm, std::uint64_t bytes,
                    std::function<void(Result<void>)> done) override {
        auto guest = host_.find(vm);
        if (!guest)
            return done(std::unexpected(std::move(guest).error()));
        (*guest)->set_memory_target(bytes, std::move(done));
    }
    void change_medium(std::string_view vm, std::optional<Fd> medium, bool force,
                       std::function<void(Result<void>)> done) override {
        auto guest = host_.find(vm);
        if (!guest)
            return done(std::unexpected(std::move(guest).error()));
        (*guest)->change_medium(std::move(medium), force, std::move(done));
    }
    Result<void> stop(std::string_view vm, bool force, std::function<void()> ended) override {
        using Stop = host::Guest::Stop;
        auto* guest = TRY(host_.find(vm));
        return guest->stop_to_stay(force ? Stop::force : Stop::orderly, std::move(ended));
    }
    void upgrade(std::function<void(Result<void>)> done) override { upgrade_(std::move(done)); }
    Result<control::InstallRow> reinstall(std::string_view vm, bool upgrade) override {
        return row_of(TRY(host_.reinstall(vm, upgrade)), nullptr);
    }
    void count(std::function<void()> done) override {
        auto left = std::make_shared<std::size_t>(1);
        auto one = [left, done = std::move(done)] {
            if (--*left == 0)
                done();
        };
        for (const auto& guest : host_.guests()) {
            ++*left;
            guest->count(one);
        }
        one();
    }
    void pause(std::string_view vm, std::function<void(Result<void>)> done) override {
        auto guest = host_.find(vm);
        if (!guest)
            done(std::unexpected(std::move(guest).error()));
        else
            (*guest)->pause(std::move(done));
    }
    void send(std::string_view vm, Fd out, std::function<void(Result<void>)> done) override {
        auto guest = host_.find(vm);
        if (!guest)
            done(std::unexpected(std::move(guest).error()));
        else
            (*guest)->save(std::move(out), std::move(done));
    }
    void receive(std::string_view vm, Fd state, std::function<void(Result<void>)> done) override {
        if (host_.applying())
            return done(fail(ErrorKind::busy, "a change is being applied: try again after it"));
        auto guest = host_.find(vm);
        if (!guest)
            done(std::unexpected(std::move(guest).error()));
        else
            (*guest)->restore(std::move(state), std::move(done));
    }
    void make_snapshot(std::string_view vm, const std::string& name,
                       std::function<void(Result<void>)> done) override {
        auto guest = host_.find(vm);
        if (!guest)
            done(std::unexpected(std::move(guest).error()));
        else
            (*guest)->snapshot(name, std::move(done));
    }
    Result<std::vector<control::SnapshotRow>> snapshots(std::string_view vm) override {
        std::vector<control::SnapshotRow> rows;
        auto* guest = TRY(host_.find(vm));
        for (const auto& one : TRY(guest->snapshots()))
            rows.push_back({one.name, one.time_s, one.state_bytes});
        return rows;
    }
    Result<void> remove_snapshot(std::string_view vm, const std::string& name) override {
        return TRY(host_.find(vm))->remove_snapshot(name);
    }
    Result<void> unpause(std::string_view vm) override { return TRY(host_.find(vm))->unpause(); }
    Result<void> wait(std::string_view vm, std::function<void()> ended) override {
        return TRY(host_.find(vm))->wait(std::move(ended));
    }
    Result<Fd> console(std::string_view vm, bool want_writer, bool virtio) override {
        return TRY(host_.find(vm))->attach_console(want_writer, virtio);
    }
    void metrics(std::function<void(Samples)> done) override {
        gatherer->gather([done = std::move(done)](auto gathered) {
            done(Samples(gathered, &gathered->samples));
        });
    }

    host::Asked asked;
    host::Gatherer* gatherer = nullptr; // of the same process
    std::function<void(bool)> on_apply; // begins, or is over
    Result<control::ConsoleFiles> console_log(std::string_view vm, bool virtio) override {
        const auto* guest = TRY(host_.find(vm));
        auto found = TRY(guest->console_log(virtio));
        return control::ConsoleFiles{found.kept, std::move(found.files)};
    }
    Result<Traced> trace(std::string_view vm, std::size_t interface) override {
        const auto* guest = TRY(host_.find(vm));
        const auto& taps = guest->taps();
        if (!guest->pid())
            return vmhost::fail(ErrorKind::not_found, "vm {}: not running", vm);
        if (interface >= taps.size())
            return vmhost::fail(ErrorKind::not_found, "vm {}: has no interface {}", vm, interface);
        return Traced{taps[interface], TRY(net::open_trace(taps[interface]))};
    }
    std::vector<control::EventRow> events() override {
        std::vector<control::EventRow> rows;
        for (const auto& event : host_.events().kept())
            rows.push_back(row_of(event));
        return rows;
    }
    Result<void> follow_events(std::function<bool(const control::EventRow&)> take,
                               std::function<bool()> active) override {
        return host_.events().follow(
            [take = std::move(take)](const host::Event& event) { return take(row_of(event)); },
            std::move(active));
    }
    void leases(std::function<void(Result<std::vector<control::LeaseRow>>)> done) override {
        host_.list_leases(
            [done = std::move(done)](auto rows) { done(lease_rows(std::move(rows))); });
    }
    void release_lease(Ipv4 address, std::function<void(Result<void>)> done) override {
        host_.release_lease(address, std::move(done));
    }
    void log_verbosely(bool verbose) override {
        host_.log_verbosely(verbose);
        if (on_log_levels)
            on_log_levels();
    }
    std::function<void()> on_log_levels; // tells the control process, which is none of the host's
    void reset(bool switches, bool vms, std::function<void(Result<void>)> done) override {
        using Reset = host::Host::Reset;
        host_.reset(!vms ? Reset::switches : !switches ? Reset::vms : Reset::all, std::move(done));
    }

private:
    static config::BootDevice boot_device_of(std::string_view word) {
        return word == "disk"    ? config::BootDevice::disk
               : word == "cdrom" ? config::BootDevice::cdrom
               : word == "net"   ? config::BootDevice::net
                                 : config::BootDevice::automatic;
    }
    bool may_make_instances(const control::Caller& caller, const config::Vm& parent) {
        if (!parent.allow_instance)
            return false;
        auto owner = host::resolve(host_.users(), parent.allow_instance->owner);
        return owner && (caller.uid == owner->uid || is_in(caller, owner->gid));
    }
    static bool is_in(const control::Caller& caller, std::optional<gid_t> group) {
        return group && (caller.gid == *group ||
                         std::ranges::find(caller.groups, *group) != caller.groups.end());
    }
    static control::EventRow row_of(const host::Event& event) {
        return {event.number, event.time_us, event.vm, event.id, event.kind, event.text};
    }
    // progress may be null.
    static control::InstallRow row_of(const store::Installation& installation,
                                      const install::Progress* progress) {
        control::InstallRow row;
        row.number = installation.number;
        row.upgrade = installation.upgrade;
        row.armed_s = installation.armed_s;
        row.sealed_s = installation.sealed_s;
        if (progress == nullptr)
            return row;
        for (std::size_t i = 0; i < install::phases; ++i)
            if (progress->since_s[i])
                row.phases.emplace_back(name_of(static_cast<install::Phase>(i)),
                                        *progress->since_s[i]);
        row.percent = progress->percent();
        row.set = progress->set;
        row.failed = progress->failed;
        row.stalled = progress->stalled;
        return row;
    }
    control::VmRow row_of(const host::Guest& guest) {
        control::VmRow row;
        row.id = guest.id();
        if (auto pid = guest.pid())
            row.pid = static_cast<std::uint32_t>(*pid);
        row.vcpus = guest.config().vcpus;
        row.max_memory_bytes = guest.config().memory_bytes;
        row.current_memory_bytes = guest.resident_bytes();
        row.suspended = guest.config().suspended;
        row.owner = host_.users().user_name(guest.owner().uid);
        if (guest.owner().gid)
            row.owner += ":" + host_.users().group_name(*guest.owner().gid);
        row.state = host::name_of(guest.state());
        row.name = guest.config().name;
        row.note = guest.answers() ? guest.note() : "its process does not answer";
        if (guest.lease)
            row.lease = guest.lease->text();
        if (const auto* installation = guest.installation())
            row.install = row_of(*installation, host_.install_progress(guest));
        row.last_lines = guest.last_lines();
        row.restarts = guest.restarts();
        row.reboots = guest.reboots();
        const auto& counted = guest.counted();
        row.counters = {{"port_exits", counted.port_exits},
                        {"memory_exits", counted.memory_exits},
                        {"other_exits", counted.other_exits},
                        {"unknown_msrs", counted.unknown_msrs},
                        {"unclaimed_accesses", counted.unclaimed_accesses},
                        {"malformed_requests", counted.malformed_requests}};
        row.cpu_us = guest.cpu_time_us();
        for (const auto& disk : counted.disks)
            row.disks.push_back({{"reads", disk.reads},
                                 {"read_bytes", disk.read_bytes},
                                 {"writes", disk.writes},
                                 {"written_bytes", disk.written_bytes},
                                 {"flushes", disk.flushes},
                                 {"discarded_bytes", disk.discarded_bytes},
                                 {"zeroed_bytes", disk.zeroed_bytes},
                                 {"failed", disk.failed},
                                 {"malformed_requests", disk.malformed}});
        for (const auto& nic : counted.nics)
            row.interfaces.push_back({{"received_frames", nic.received_frames},
                                      {"received_bytes", nic.received_bytes},
                                      {"receive_dropped", nic.receive_dropped},
                                      {"sent_frames", nic.sent_frames},
                                      {"sent_bytes", nic.sent_bytes},
                                      {"send_dropped", nic.send_dropped},
                                      {"malformed_requests", nic.malformed}});
        return row;
    }
    host::Host& host_;
    std::function<void(std::function<void(Result<void>)>)> upgrade_;
};

std::string own_program() {
    std::error_code error;
    return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

std::vector<std::string> own_arguments() {
    std::ifstream file("/proc/self/cmdline");
    std::vector<std::string> arguments;
    for (std::string argument; std::getline(file, argument, '\0');)
        arguments.push_back(argument);
    return arguments;
}

class ParentProcess {
public:
    ParentProcess(config::Model file, const ParentOptions& options)
        : options_(options),
          host_(loop_, *ground_, host::model_to_start_with(*ground_, std::move(file)),
                host::Options{options.keep_going, options.debug_exit}),
          operations_(host_, [this](auto done) { upgrade(std::move(done)); }), records_(host_),
          verbs_(operations_),
          gatherer_(loop_, {.host = &host_,
                            .services = [this] { return services(); },
                            .asked = &operations_.asked,
                            .refusals = [this] { return verbs_.refusals().by_verb; },
                            .version = options.version}) {
        verbs_.use(records_);
        operations_.gatherer = &gatherer_;
        operations_.on_apply = [this](bool begins) {
            if (!up_ || ending_)
                return;
            if (begins)
                manager_.reloading();
            else
                manager_.ready(status_line());
        };
        operations_.on_log_levels = [this] {
            control_->send(ipc::encode(ipc::LogLevels{log::levels()}));
        };
        host_.on_metrics_wanted = [this] {
            gatherer_.gather([this](const auto& gathered) { host_.give_metrics(gathered->text); });
        };
        host_.on_progress = [](host::Guest& guest, std::string_view what) {
            if (what == "lease")
                log::notice("host", "vm {} has its lease: {}", guest.config().name,
                            guest.lease->text());
            else
                log::notice("host", "vm {} has fetched its answer file", guest.config().name);
        };
    }

    int run() {
        begin_.start(std::chrono::milliseconds(0));
        loop_.run();
        return status_;
    }

private:
    void begin() {
        if (auto prepared = host_.prepare(); !prepared) {
            fail(prepared.error());
            return;
        }
        log::info("host", "{}", confinement_of_this_host());
        if (auto doubts =
                host::text_of(host::kernel_advice(host_.model(), host::read_kernel_setting)))
            log::warning("host", "{}", *doubts);
        manager_.starting();
        // The socket first: a second daemon must not get as far as links and guests.
        open_control([this] {
            host_.start([this](Result<void> up) {
                if (!up)
                    return fail(up.error());
                log::notice("host", "up: {} VMs, control socket {}", host_.guests().size(),
                            host_.model().control.socket);
                up_ = true;
                manager_.ready(status_line());
            });
        });
    }

    void open_control(std::function<void()> open) {
        const auto& config = host_.model().control;
        auto owner = host::resolve(host_.users(), config.owner);
        if (!owner) {
            fail(std::move(owner).error().in("[control] owner"));
            return;
        }
        auto uid = ::geteuid() == 0 ? owner->uid : ::geteuid();
        auto gid = ::geteuid() == 0 ? owner->gid.value_or(0) : ::getegid();
        // Refuses when another daemon listens; from here on the socket is ours to remove.
        control_ = std::make_unique<host::Service>(
            loop_, host::Service::Plan{
                       .ground = *ground_,
                       .launch = {.role = "control", .title = "control", .user = host_.role_user()},
                       .prepare = [this, uid, gid]() -> Result<std::vector<ipc::Frame>> {
                           // A new process numbers its clients anew.
                           clients_.clear();
                           ++epoch_;
                           if (socket_bound_)
                               ::unlink(host_.model().control.socket.c_str());
                           auto listener = TRY(host::once_free([&] {
                               return control::open_listener(host_.model().control.socket, uid,
                                                             gid);
                           }));
                           socket_bound_ = true;
                           std::vector<ipc::Frame> frames;
                           frames.push_back(ipc::encode(ipc::ControlSetup{std::move(listener)}));
                           return frames;
                       },
                       .frame = [this](ipc::Frame frame) { took_control(std::move(frame)); },
                       .died = [this](const std::string& why) { host_.role_died("control", why); },
                       .answer_timeout = [this] { return host_.model().host.answer_timeout; }});
        control_->start([this, open](Result<void> up) {
            if (!up)
                fail(up.error());
            else
                open();
        });
    }

    void took_control(ipc::Frame frame) {
        if (frame.type == ipc::ControlClientGone::type) {
            if (auto gone = ipc::decode<ipc::ControlClientGone>(std::move(frame)))
                clients_.erase(gone->client);
            return;
        }
        auto request = ipc::decode<ipc::ControlRequest>(std::move(frame));
        if (!request)
            return;
        ++operations_.asked.requests;
        auto client = request->client;
        clients_.insert(client);
        verbs_.handle(
            {request->uid, request->gid, std::move(request->groups)}, request->json,
            std::move(request->fds),
            [this, client, epoch = epoch_](control::Reply reply) {
                if (epoch == epoch_ && clients_.contains(client))
                    control_->send(ipc::encode(ipc::ControlReply{client, std::move(reply.json),
                                                                 reply.last, std::move(reply.fd)}));
            },
            [this, client, epoch = epoch_] {
                return epoch == epoch_ && clients_.contains(client);
            });
    }

    void fail(const Error& error) {
        std::fprintf(stderr, "vmhost: %s\n", error.message().c_str());
        status_ = 1;
        if (host_.took_over() && !ending_) {
            log::warning("host", "the guests of an earlier vmhost go on without this one");
            ending_ = true;
            return leave([this] { loop_.stop(); });
        }
        end();
    }

    void leave(std::function<void()> gone) {
        auto host_left = [this, gone] { host_.leave(gone); };
        if (control_)
            control_->stop(host_left);
        else
            host_left();
    }

    // The program that is now where ours was goes on in this very process; the guests' processes do
    // not notice more than a parent that is gone and another one that comes. First the new program
    // must take the file.
    void upgrade(std::function<void(Result<void>)> done) {
        if (ending_ || trial_ || host_.applying())
            return done(vmhost::fail(ErrorKind::busy, "vmhost is changing already"));
        Child::Command command{.path = program_,
                               .arguments = {"vmhost", "config", "check", "-f", host_.model().file},
                               .environment = {},
                               .fds = {-1, -1, STDERR_FILENO},
                               .new_session = true};
        auto started = Child::start(loop_, command, [this, done](Child::Exit exit) {
            trial_.reset();
            if (exit.status != 0 || exit.signal != 0)
                return done(vmhost::fail(ErrorKind::invalid,
                                         "{} does not take {}: nothing was changed; see vmhost's "
                                         "log",
                                         program_, host_.model().file));
            log::notice("host", "going on as {}", program_);
            ending_ = true;
            done({});
            replace_.start(std::chrono::milliseconds(200)); // for the answer to reach its client
        });
        if (!started)
            return done(std::unexpected(std::move(started).error()));
        trial_ = std::move(*started);
    }

    void replace() {
        leave([this] {
            std::vector<char*> pointers;
            for (auto& argument : arguments_)
                pointers.push_back(argument.data());
            pointers.push_back(nullptr);
            ::execv(program_.c_str(), pointers.data());
            // The guests wait for a vmhost that somebody starts.
            log::error("host", "{}", Error::system(errno, "start " + program_).text());
            status_ = 1;
            loop_.stop();
        });
    }

    void end() {
        if (std::exchange(ending_, true))
            return host_.hurry();
        manager_.stopping();
        host_.stop_starting();
        auto host_down = [this] { host_.shut_down([this] { loop_.stop(); }); };
        if (socket_bound_)
            ::unlink(host_.model().control.socket.c_str());
        if (control_)
            control_->stop(host_down);
        else
            host_down();
    }

    // As vmctl reload, by whoever runs us: nobody watches, so no guest is taken down for it.
    void reload() {
        log::notice("host", "SIGHUP: reading {} again", host_.model().file);
        verbs_.handle({::geteuid(), ::getegid()}, R"({"verb": "apply", "restart": false})", {},
                      log_of_reload);
    }

    void asked_to_end(const char* by) {
        log::notice("host", "ending: {}", by);
        end();
    }

    std::vector<host::Service*> services() {
        auto all = host_.services();
        if (control_)
            all.insert(all.begin(), control_.get());
        return all;
    }

    std::string status_line() const { return fmt::format("{} VMs", host_.guests().size()); }

    ParentOptions options_;
    Loop loop_;
    std::unique_ptr<host::Ground> ground_ = host::open_ground();
    host::Host host_;
    HostOperations operations_;
    HostRecords records_;
    control::Verbs verbs_;
    host::Gatherer gatherer_;
    host::ServiceManager manager_{loop_, host::ServiceManager::Environment::of_this_process()};
    std::unique_ptr<host::Service> control_;
    std::set<std::uint64_t> clients_;
    unsigned epoch_ = 0;                  // of the control process
    std::string program_ = own_program(); // the file, also when it is another by now
    std::vector<std::string> arguments_ = own_arguments();
    std::unique_ptr<Child> trial_; // of the next program
    Timer replace_{loop_, [this] { replace(); }};
    bool socket_bound_ = false;
    bool up_ = false;
    bool ending_ = false;
    int status_ = 0;
    Timer begin_{loop_, [this] { begin(); }};
    SignalWatch terminate_{loop_, SIGTERM, [this] { asked_to_end("SIGTERM"); }};
    SignalWatch interrupt_{loop_, SIGINT, [this] { asked_to_end("SIGINT"); }};
    SignalWatch hangup_{loop_, SIGHUP, [this] { reload(); }};
};

} // namespace

// Whatever our caller left open must not reach the role processes; and a closed standard
// descriptor must not become the number of an image or a tap.
static void keep_descriptors_to_ourselves() {
    for (int number = 0; number <= 2; ++number)
        if (::fcntl(number, F_GETFD) < 0)
            (void)::open("/dev/null", O_RDWR);
    ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
}

int run_parent(config::Model model, const ParentOptions& options) {
    log::set_role("parent");
    keep_descriptors_to_ourselves();
    std::signal(SIGPIPE, SIG_IGN);
    if (::geteuid() == 0)
        if (auto reduced = reduce_capabilities(); !reduced)
            log::warning("role", "the parent keeps every right of root: {}",
                         reduced.error().message());
    return ParentProcess(std::move(model), options).run();
}

} // namespace vmhost::role
