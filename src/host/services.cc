#include "host/services.h"

#include <algorithm>
#include <map>

#include "host/files.h"
#include "install/install.h"

namespace vmhost::host {

using namespace std::chrono_literals;

Service::Service(Loop& loop, Plan plan)
    : loop_(loop), plan_(std::move(plan)), restart_(loop,
                                                    [this] {
                                                        ++restarts_;
                                                        launch();
                                                    }),
      kill_(loop,
            [this] {
                log::warning("host", "{} did not end when told to: killing it", title());
                if (process_)
                    process_->kill();
            }),
      count_timer_(loop, [this] { end_counting(); }),
      heartbeat_(
          loop, [this] { send(ipc::encode(ipc::Ping{})); },
          [this](bool answers) {
              if (answers || !process_)
                  return;
              failure_ = Error(ErrorKind::busy, "its process does not answer");
              process_->kill();
          }) {}

Service::~Service() = default;

void Service::start(std::function<void(Result<void>)> up) {
    up_ = std::move(up);
    launch();
}

void Service::report(Result<void> result) {
    if (auto up = std::exchange(up_, nullptr)) {
        const bool again = !result && renewed_;
        up(std::move(result));
        if (again && !stopping_)
            launch_later();
    } else if (!result && !stopping_) {
        log::error("host", "{}: {}; starting it again", title(), result.error().message());
        if (plan_.died)
            plan_.died(result.error().message());
        launch_later();
    }
}

void Service::launch_later() {
    restart_.start(backoff_.after_end(std::exchange(worked_ms_, 0)));
}

void Service::launch() {
    if (stopping_)
        return;
    failure_.reset();
    auto setup = plan_.prepare();
    if (!setup) {
        report(std::unexpected(std::move(setup).error()));
        return;
    }
    auto process = plan_.ground.start_role(
        loop_, plan_.launch,
        {.frame = [this](ipc::Frame&& frame) { took_frame(std::move(frame)); },
         .ended = [this](std::string how) { process_ended(std::move(how)); }});
    if (!process) {
        report(std::unexpected(std::move(process).error()));
        return;
    }
    process_ = std::move(*process);
    for (auto& frame : *setup)
        process_->send_frame(std::move(frame));
    process_->send(ipc::Begin{});
    if (plan_.answer_timeout)
        heartbeat_.start(plan_.answer_timeout());
}

void Service::took_frame(ipc::Frame&& frame) {
    switch (frame.type) {
    case ipc::Ready::type:
        if (!std::exchange(ready_, true))
            ready_ms_ = loop_.now_ms();
        report({});
        return;
    case ipc::Failed::type:
        if (auto failed = ipc::decode<ipc::Failed>(std::move(frame)))
            failure_ = Error(static_cast<ErrorKind>(failed->kind), failed->text);
        return;
    case ipc::Pong::type:
        heartbeat_.answered();
        return;
    case ipc::ServiceCounted::type:
        if (auto counted = ipc::decode<ipc::ServiceCounted>(std::move(frame))) {
            // The process may say what it likes: no more than this, and each once.
            counted->counters.resize(
                std::min(counted->counters.size(), limits::max_service_counters));
            std::map<std::pair<ipc::Counted, std::uint16_t>, ipc::ServiceCounter> by_name;
            for (const auto& counter : counted->counters)
                by_name.insert_or_assign({counter.what, counter.of}, counter);
            counted_.clear();
            for (const auto& [name, counter] : by_name)
                counted_.push_back(counter);
        }
        end_counting();
        return;
    default:
        plan_.frame(std::move(frame));
    }
}

void Service::process_ended(std::string how) {
    auto gone = std::move(process_);
    kill_.stop();
    heartbeat_.stop();
    if (std::exchange(ready_, false))
        worked_ms_ = loop_.now_ms() - ready_ms_;
    counted_.clear();
    end_counting();
    if (stopping_) {
        if (auto down = std::exchange(down_, nullptr))
            down();
        return;
    }
    if (std::exchange(renewing_, false)) {
        launch();
        return;
    }
    report(std::unexpected(failure_ ? std::move(*failure_)
                                    : Error(ErrorKind::internal, "its process ended: " + how)));
}

void Service::renew(std::function<void(Result<void>)> up) {
    // Who waits for the one before waits for this one: the start of a host may.
    if (up_)
        up_ = [before = std::move(up_), up = std::move(up)](const Result<void>& result) {
            before(result);
            up(result);
        };
    else
        up_ = std::move(up);
    renewed_ = true;
    stopping_ = false; // it may have been stopped for good, and be wanted again
    backoff_.begin_anew();
    restart_.stop();
    if (!process_) {
        launch();
        return;
    }
    if (ready_ && !renewing_ && change())
        return;
    renewing_ = true;
    process_->close();
    kill_.start(5s);
}

// It answers with Ready once more, or ends, which is told as any end.
bool Service::change() {
    if (!plan_.change)
        return false;
    auto changed = plan_.change();
    if (!changed) {
        log::debug("host", "{} is started anew: {}", title(), changed.error().message());
        return false;
    }
    for (auto& frame : *changed)
        process_->send_frame(std::move(frame));
    process_->send(ipc::Begin{});
    return true;
}

void Service::stop(std::function<void()> down) {
    stopping_ = true;
    restart_.stop();
    heartbeat_.stop();
    if (!process_) {
        down();
        return;
    }
    down_ = std::move(down);
    process_->close();
    kill_.start(5s);
}

void Service::send(ipc::Frame frame) {
    if (process_)
        process_->send_frame(std::move(frame));
}

void Service::count(std::function<void()> done) {
    if (!ready_)
        return done();
    counting_.push_back(std::move(done));
    if (counting_.size() > 1)
        return;
    send(ipc::encode(ipc::ServiceCount{}));
    count_timer_.start(std::chrono::milliseconds(limits::count_timeout_ms));
}

void Service::end_counting() {
    count_timer_.stop();
    for (auto& done : std::exchange(counting_, {}))
        done();
}

std::optional<pid_t> Service::pid() const {
    return process_ ? std::optional(process_->pid()) : std::nullopt;
}

bool wants_dhcp(const config::Model& model) {
    for (const auto& one : model.switches)
        if (one.enabled && one.dhcp.enabled && one.ipv4)
            return true;
    return false;
}

namespace {

std::vector<ipc::DhcpOption> options_of(const std::vector<config::DhcpOption>& options) {
    std::vector<ipc::DhcpOption> out;
    for (const auto& option : options)
        out.push_back({option.code, option.data});
    return out;
}

std::uint32_t seconds_of(std::chrono::milliseconds time) {
    return static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::seconds>(time).count());
}

// The name of a boot file with the mode that the VM is armed for; others stay as they are.
std::optional<std::string> with_mode(std::string_view filename, bool upgrade) {
    auto name = filename.substr(filename.rfind('/') + 1);
    if (name != "auto_install" && name != "auto_upgrade")
        return std::nullopt;
    return std::string(filename.substr(0, filename.size() - name.size())) +
           (upgrade ? "auto_upgrade" : "auto_install");
}

// iPXE takes its script by URL, where nobody has told it another boot file.
ipc::DhcpGuest with_script(const config::Model& model, const config::Switch& one,
                           const config::Vm& vm, ipc::DhcpGuest guest, bool armed) {
    if (!armed || vm.install->system != config::InstallSystem::ipxe || guest.filename ||
        guest.installing || std::ranges::any_of(one.dhcp.classes, [](const auto& each) {
            return each.filename.has_value();
        }))
        return guest;
    if (auto server = install::own_server(model, vm, "boot.ipxe"))
        guest.filename = *server + "/boot.ipxe";
    return guest;
}

ipc::DhcpNetwork dhcp_network(const config::Model& model, const config::Switch& one,
                              const InstallStates& installs) {
    const auto& dhcp = one.dhcp;
    ipc::DhcpNetwork network;
    network.name = one.name;
    network.address = *one.ipv4;
    network.mtu = one.mtu;
    network.routers = dhcp.routers.empty() ? std::vector{one.ipv4->address} : dhcp.routers;
    network.domain_name_servers = dhcp.domain_name_servers;
    network.domain_name = dhcp.domain_name.empty() ? model.host.domain : dhcp.domain_name;
    network.lease_seconds = seconds_of(dhcp.lease_time);
    network.max_lease_seconds = seconds_of(dhcp.max_lease_time.value_or(dhcp.lease_time));
    network.next_server = dhcp.next_server.value_or(one.ipv4->address);
    network.filename = dhcp.filename;
    for (const auto& range : dhcp.ranges)
        network.ranges.push_back({range.first, range.last});
    network.relays = dhcp.relays;
    network.ping_check = dhcp.ping_check;
    network.options = options_of(dhcp.options);
    for (const auto& each : dhcp.classes) {
        auto& out = network.classes.emplace_back();
        out.name = each.name;
        out.vendor = each.vendor_class;
        out.user = each.user_class;
        out.architectures.assign(each.architecture.begin(), each.architecture.end());
        out.filename = each.filename;
        out.next_server = each.next_server;
        out.options = options_of(each.options);
    }
    for (const auto& vm : model.vms)
        for (const auto& interface : vm.interfaces)
            if (interface.switch_name == one.name && interface.ipv4) {
                const auto install = installs(vm);
                network.guests.push_back(with_script(
                    model, one, vm, dhcp_guest(one, vm, interface, install), install.armed));
            }
    return network;
}

// A host that has nowhere to write serves all the same: its leases end with it.
Result<std::optional<ipc::DhcpStore>> dhcp_store(Ground& ground, const config::Model& model) {
    ground.changing("leases.db");
    // The process before may not have ended yet.
    auto files = once_free([&] { return store::open_lease_files(model.host.state); });
    if (files)
        return ipc::DhcpStore{std::move(files->database), std::move(files->wal),
                              std::move(files->journal)};
    auto kind = files.error().kind();
    if (kind != ErrorKind::denied && kind != ErrorKind::io)
        return std::unexpected(std::move(files).error());
    log::warning("host", "DHCP leases are lost when the daemon ends: {}", files.error().message());
    return std::nullopt;
}

} // namespace

ipc::DhcpGuest dhcp_guest(const config::Switch& one, const config::Vm& vm,
                          const config::Interface& interface, const InstallState& install) {
    ipc::DhcpGuest guest;
    guest.vm = vm.name;
    guest.mac = interface.lladdr;
    guest.address = *interface.ipv4;
    guest.host_name = vm.install && !vm.install->hostname.empty() ? vm.install->hostname : vm.name;
    // The names of OpenBSD's installer are no boot file of another.
    const bool openbsd = !vm.install || vm.install->system == config::InstallSystem::openbsd;
    guest.installing = install.armed && (openbsd || !with_mode(one.dhcp.filename, false));
    guest.installed = vm.install && !install.armed;
    if (vm.dhcp) {
        guest.filename = vm.dhcp->filename;
        guest.next_server = vm.dhcp->next_server;
        guest.options = options_of(vm.dhcp->options);
    }
    // The VM's own boot file is told always, except one that would make it install again.
    auto named = openbsd ? with_mode(guest.filename.value_or(one.dhcp.filename), install.upgrade)
                         : std::nullopt;
    if (install.armed && named && *named != one.dhcp.filename)
        guest.filename = named;
    else if (!install.armed && named && vm.install)
        guest.filename.reset();
    return guest;
}

Result<std::vector<ipc::Frame>> describe_dhcp(Ground& ground, const config::Model& model,
                                              const std::vector<BridgeLink>& bridges,
                                              const InstallStates& installs, DhcpHas& has,
                                              bool anew) {
    std::vector<ipc::Frame> frames;
    DhcpHas next;
    if (anew) {
        has.clear();
        if (auto store = TRY(dhcp_store(ground, model)))
            frames.push_back(ipc::encode(*std::move(store)));
    }
    for (const auto& bridge : bridges) {
        const auto* one = model.find_switch(bridge.switch_name);
        if (one == nullptr || !one->dhcp.enabled || !one->ipv4)
            continue;
        auto network = dhcp_network(model, *one, installs);
        auto held = has.find(one->name);
        if (held == has.end() || held->second != bridge.index) {
            auto opened = ground.open_dhcp(one->interface, bridge.index, one->ipv4->address);
            if (!opened)
                return std::unexpected(std::move(opened).error().at(one->place));
            auto& sockets = network.sockets.emplace();
            sockets.packet = std::move(opened->packet);
            sockets.udp = std::move(opened->udp);
            if (opened->icmp)
                sockets.icmp = std::move(opened->icmp);
            sockets.mac = opened->mac;
        }
        next.emplace(one->name, bridge.index);
        frames.push_back(ipc::encode(std::move(network)));
    }
    has = std::move(next);
    return frames;
}

} // namespace vmhost::host
