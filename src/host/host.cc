#include "host/host.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <memory>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/messages.h"

namespace vmhost::host {

Host::Host(Loop& loop, config::Model model, Options options)
    : loop_(loop), model_(std::move(model)), options_(options), users_(Users::of_this_host()),
      step_(loop, [this] { next_step(); }), stagger_(loop, [this] { start_wave(); }),
      hurry_(loop, [this] { hurry(); }), sweep_(loop, [this] { remove_ended(); }) {}

Host::~Host() = default;

namespace {

// Links are told apart by the host's name, so only one daemon of a name may be at work in a
// network namespace. An abstract socket is such a lock: it goes with the process.
Result<Fd> lock_links(const std::string& host_name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    auto name = "vmhost:" + host_name;
    name.copy(address.sun_path + 1, sizeof(address.sun_path) - 1);
    Fd lock(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 +
                                       std::min(name.size(), sizeof(address.sun_path) - 1));
    if (!lock || ::bind(lock.get(), reinterpret_cast<sockaddr*>(&address), size) < 0) {
        if (errno == EADDRINUSE)
            return fail(ErrorKind::busy,
                        "another vmhost with the name \"{}\" is at work on this machine: give one "
                        "of them another name in [host]",
                        printable(host_name));
        return fail_errno(errno, "lock the links of \"{}\"", printable(host_name));
    }
    return lock;
}

} // namespace

Result<void> Host::prepare() {
    if (::geteuid() == 0) {
        auto user = users_.user(model_.host.user);
        if (!user)
            return fail(ErrorKind::not_found,
                        "{}: user \"{}\" does not exist; the unprivileged roles run as it: add it "
                        "with useradd --system {}, or name another with user in [host]",
                        model_.file, printable(model_.host.user), printable(model_.host.user));
        if (user->uid == 0)
            return fail(ErrorKind::invalid,
                        "{}: user in [host] must not be root: it is for the unprivileged roles",
                        model_.file);
        role_user_ = *user;
    }
    context_ = {.loop = &loop_,
                .state_directory = model_.host.state,
                .config_file = model_.file,
                .accel = model_.host.accel,
                .cgroups = CgroupMounts::of_this_host(),
                .cgroup_folder = "vmhost-" + model_.host.name,
                .debug_exit = options_.debug_exit};
    const bool plugs = std::ranges::any_of(
        model_.vms, [](const config::Vm& vm) { return !vm.interfaces.empty(); });
    if (!model_.switches.empty() || plugs)
        TRY(open_network());
    for (const auto& vm : model_.vms)
        TRY(add_guest(vm));
    return {};
}

Result<void> Host::open_network() {
    if (!network_lock_)
        network_lock_ = TRY(lock_links(model_.host.name));
    network_ = TRY(net::Network::open(model_.host.name));
    context_.network = network_.get();
    for (auto& guest : guests_)
        guest->use_network(network_.get());
    return {};
}

Result<void> Host::add_guest(const config::Vm& vm) {
    auto owner = resolve(users_, vm.owner);
    if (!owner)
        return std::unexpected(
            std::move(owner).error().in(fmt::format("vm {}: owner", vm.name)).at(vm.place));
    auto user = TRY(user_of_vm(last_id_ + 1));
    guests_.push_back(
        std::make_unique<Guest>(context_, vm, model_, ++last_id_, *owner, std::move(user)));
    return {};
}

// Nobody else's, so that no VM can signal, trace or use up the limits of another.
Result<std::optional<User>> Host::user_of_vm(std::uint32_t id) const {
    if (!role_user_)
        return std::nullopt;
    auto number = model_.host.vm_uids + id;
    auto name = std::to_string(number);
    if (auto known = users_.user_name(number); known != name)
        return fail(ErrorKind::busy,
                    "{}: vm_uids in [host]: the VM with id {} would run as uid {}, which is user "
                    "\"{}\"",
                    model_.file, id, number, printable(known));
    return User{name, number, number};
}

// Made, or made like this when it is there; or not there when it is disabled.
Result<void> Host::make_switch(const config::Switch& one) {
    if (!one.enabled)
        return remove_switch(one);
    net::BridgeSpec spec;
    spec.name = one.interface;
    spec.ipv4 = one.ipv4;
    spec.mtu = one.mtu;
    spec.ports = one.ports;
    spec.up = one.up;
    auto blamed = [&](Error error) {
        return std::unexpected(
            std::move(error).in(fmt::format("switch {}", one.name)).at(one.place));
    };
    bool there = std::ranges::find(bridges_, one.name, &BridgeLink::switch_name) != bridges_.end();
    if (there) {
        if (auto changed = network_->change_bridge(spec); !changed)
            return blamed(std::move(changed).error());
    } else {
        auto index = network_->make_bridge(spec);
        if (!index)
            return blamed(std::move(index).error());
        bridges_.push_back({one.name, *index});
    }
    log::info("host", "switch {}: bridge {}{}", one.name, one.interface,
              one.ipv4 ? " with " + one.ipv4->text() : "");
    return {};
}

Result<void> Host::remove_switch(const config::Switch& one) {
    auto bridge = std::ranges::find(bridges_, one.name, &BridgeLink::switch_name);
    if (bridge == bridges_.end())
        return {};
    TRY(network_->remove_bridge(one.interface));
    bridges_.erase(bridge);
    return {};
}

Result<void> Host::make_links() {
    for (const auto& one : model_.switches)
        TRY(make_switch(one));
    if (network_)
        return network_->remove_stale_bridges();
    return {};
}

void Host::start(Done done) {
    if (auto made = make_links(); !made) {
        done(std::move(made));
        return;
    }
    start_services([this, done](Result<void> services) {
        if (!services) {
            done(std::move(services));
            return;
        }
        for (auto& guest : guests_)
            if (guest->config().enabled)
                guest->mark_waiting();
        started_ = done;
        start_wave();
    });
}

std::unique_ptr<Service> Host::make_dhcp() {
    if (!wants_dhcp(model_))
        return nullptr;
    return std::make_unique<Service>(
        loop_, Service::Plan{.launch = {.role = "dhcp", .title = "dhcp", .user = role_user_},
                             .prepare = [this] { return describe_dhcp(model_, bridges_); },
                             .frame = [this](ipc::Frame&& frame) { took_dhcp(std::move(frame)); }});
}

std::unique_ptr<Service> Host::make_http() {
    if (!wants_http(model_))
        return nullptr;
    return std::make_unique<Service>(
        loop_, Service::Plan{.launch = {.role = "http", .title = "http", .user = role_user_},
                             .prepare = [this] { return describe_http(model_); },
                             .frame = [this](ipc::Frame&& frame) { took_http(std::move(frame)); }});
}

void Host::start_services(Done done) {
    dhcp_ = make_dhcp();
    http_ = make_http();
    auto waiting = std::make_shared<std::size_t>(1);
    auto failed = std::make_shared<bool>(false);
    auto one_up = [waiting, failed, done](Result<void> up) {
        --*waiting;
        if (*failed)
            return;
        *failed = !up;
        if (!up || *waiting == 0)
            done(std::move(up));
    };
    for (auto* service : {dhcp_.get(), http_.get()})
        if (service != nullptr) {
            ++*waiting;
            service->start(one_up);
        }
    one_up({});
}

// Waves of [host] start: as many at once as parallel says, the next wave a delay after the
// last one is up.
void Host::start_wave() {
    auto parallel = model_.host.start_parallel != 0
                        ? model_.host.start_parallel
                        : static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
    std::vector<Guest*> wave;
    for (const auto& guest : guests_)
        if (guest->in_line() && wave.size() < parallel && !ending_)
            wave.push_back(guest.get());
    in_wave_ = wave.size();
    if (wave.empty()) {
        up_ = true;
        auto failure = std::exchange(start_failure_, std::nullopt);
        if (auto done = std::exchange(started_, nullptr))
            done(failure ? Result<void>(std::unexpected(std::move(*failure))) : Result<void>());
        return;
    }
    for (auto* guest : wave) {
        if (ending_)
            return; // one before it failed
        guest->start(
            [this, guest](Result<void> started) { one_started(*guest, std::move(started)); });
    }
}

void Host::one_started(Guest& guest, Result<void> started) {
    --in_wave_;
    if (!started && !guest.stop_requested()) {
        if (!options_.keep_going && !up_) {
            ending_ = true;
            if (auto done = std::exchange(started_, nullptr))
                done(std::move(started));
            return;
        }
        log::error("host", "{}", started.error().message());
        if (up_ && !start_failure_)
            start_failure_ = std::move(started).error();
    }
    bool more =
        std::any_of(guests_.begin(), guests_.end(), [](const auto& one) { return one->in_line(); });
    if (in_wave_ == 0)
        stagger_.start(more ? model_.host.start_delay : std::chrono::milliseconds(0));
}

void Host::shut_down(std::function<void()> done) {
    ending_ = true;
    stagger_.stop();
    step_.stop();
    sweep_.stop();
    auto services_down = std::make_shared<std::size_t>(1);
    auto one_down = [this, services_down, done] {
        if (--*services_down != 0)
            return;
        network_.reset(); // removes the links
        done();
    };
    auto guests_down = std::make_shared<std::size_t>(1);
    auto guest_down = [this, guests_down, services_down, one_down] {
        if (--*guests_down != 0)
            return;
        hurry_.stop();
        for (auto* service : {dhcp_.get(), http_.get()})
            if (service != nullptr) {
                ++*services_down;
                service->stop(one_down);
            }
        one_down();
    };
    for (auto& guest : guests_) {
        ++*guests_down;
        (void)guest->stop(Guest::Stop::orderly, nullptr); // one that waits does so no more
        guest->when_gone(guest_down);
    }
    hurry_.start(model_.host.stop_timeout);
    guest_down();
}

void Host::hurry() {
    for (auto& guest : guests_)
        if (guest->pid()) {
            log::warning("host", "vm {} has not ended yet: it is ended by force",
                         guest->config().name);
            (void)guest->stop(Guest::Stop::force, nullptr);
        }
}

Result<Guest*> Host::find(std::string_view wanted) const {
    std::uint32_t id = 0;
    auto [end, error] = std::from_chars(wanted.data(), wanted.data() + wanted.size(), id);
    bool numeric = error == std::errc() && end == wanted.data() + wanted.size();
    for (const auto& guest : guests_)
        if (numeric ? guest->id() == id : guest->config().name == wanted)
            return guest.get();
    return fail(ErrorKind::not_found, "vm {} not found", printable(wanted, 64));
}

void Host::took_dhcp(ipc::Frame&& frame) {
    auto lease = ipc::decode<ipc::DhcpLease>(std::move(frame));
    if (!lease)
        return;
    // A guest may ask as often as it likes: only news is told.
    if (auto guest = find(lease->vm); guest && (*guest)->lease != lease->address) {
        (*guest)->lease = lease->address;
        if (on_progress)
            on_progress(**guest, "lease");
    }
}

void Host::took_http(ipc::Frame&& frame) {
    auto served = ipc::decode<ipc::HttpAnswerServed>(std::move(frame));
    if (!served)
        return;
    if (auto guest = find(served->vm); guest && !(*guest)->answer_served) {
        (*guest)->answer_served = true;
        if (on_progress)
            on_progress(**guest, "answer file");
    }
}

} // namespace vmhost::host
