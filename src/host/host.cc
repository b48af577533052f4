#include "host/host.h"

#include <algorithm>
#include <charconv>
#include <memory>

#include "host/links.h"
#include "ipc/messages.h"

namespace vmhost::host {

Host::Host(Loop& loop, Ground& ground, config::Model model, Options options)
    : loop_(loop), ground_(ground), model_(std::move(model)), options_(options),
      users_(ground.users()), leases_(loop,
                                      [this](ipc::Frame frame) {
                                          if (dhcp_)
                                              dhcp_->send(std::move(frame));
                                          return dhcp_ != nullptr;
                                      }),
      step_(loop, [this] { next_step(); }), stagger_(loop, [this] { start_wave(); }),
      answers_(loop, [this] { look_for_answers(); }), slow_(loop, [this] { let_slow_ones_be(); }),
      hurry_(loop, [this] { hurry(); }), mend_(loop, [this] { mend_guards(); }),
      sweep_(loop, [this] { remove_ended(); }) {}

Host::~Host() = default;

Result<void> Host::prepare() {
    if (ground_.is_root()) {
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
    TRY(open_memory());
    watch_installs();
    context_ = {.loop = &loop_,
                .ground = &ground_,
                .events = &events_,
                .state_directory = model_.host.state,
                .config_file = model_.file,
                .memory = &*memory_,
                .installs = &*installs_,
                .accel = model_.host.accel,
                .cgroups = ground_.cgroups(),
                .cgroup_folder = "vmhost-" + model_.host.name,
                .debug_exit = options_.debug_exit};
    const bool plugs = std::ranges::any_of(
        model_.vms, [](const config::Vm& vm) { return !vm.interfaces.empty(); });
    open_running();
    const bool left = running_ && running_->links_noted(); // whatever the file says by now
    if (!model_.switches.empty() || plugs || left)
        TRY(open_network());
    find_running();
    TRY(know_makers());
    auto ids = TRY(note(model_));
    for (std::size_t i = 0; i < ids.size(); ++i)
        TRY(add_guest(model_.vms[i], ids[i]));
    renew_host_keys();
    return memory_->forget_old();
}

Result<void> Host::open_network() {
    if (!network_lock_)
        network_lock_ = TRY(ground_.lock_links(model_.host.name));
    auto links = TRY(ground_.open_links());
    if (running_)
        if (auto noted = running_->note_links(); !noted)
            log::warning("host", "a vmhost that follows may leave links behind: {}",
                         noted.error().message());
    network_ = TRY(net::Network::open(model_.host.name, std::move(links)));
    context_.network = network_.get();
    for (auto& guest : guests_)
        guest->use_network(network_.get());
    return watch_guards();
}

Result<void> Host::add_guest(const config::Vm& vm, std::uint32_t id) {
    auto owner = resolve(users_, vm.owner);
    if (!owner)
        return std::unexpected(
            std::move(owner).error().in(fmt::format("vm {}: owner", vm.name)).at(vm.place));
    auto user = TRY(user_of_vm(id));
    guests_.push_back(std::make_unique<Guest>(context_, vm, model_, id, *owner, std::move(user)));
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
    const auto spec = bridge_of(one);
    auto blamed = [&](Error error) {
        return std::unexpected(
            std::move(error).in(fmt::format("switch {}", one.name)).at(one.place));
    };
    auto there = std::ranges::find(bridges_, one.name, &BridgeLink::switch_name);
    auto index =
        there != bridges_.end() ? network_->change_bridge(spec) : network_->make_bridge(spec);
    if (!index)
        return blamed(std::move(index).error());
    if (there != bridges_.end())
        there->index = *index; // another one, if somebody had removed it
    else
        bridges_.push_back({one.name, *index});
    log::info("host", "switch {}: bridge {}{}{}", one.name, one.interface,
              one.ipv4 ? " with " + one.ipv4->text() : "",
              one.ipv6 ? " with " + one.ipv6->text() : "");
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
    if (!network_)
        return {};
    TRY(network_->translate(model_.host.local_nat ? std::optional(model_.host.local_ipv4)
                                                  : std::nullopt));
    return network_->remove_stale_bridges();
}

// All of them, also those that a start which failed has not come to.
void Host::remove_links() {
    if (!network_)
        return;
    auto removed = network_->remove_stale_bridges();
    if (removed)
        removed = network_->translate({});
    if (!removed)
        log::warning("host", "{}", removed.error().message());
    forget_guards();
    network_.reset();
    if (running_ && removed)
        running_->forget_links();
}

void Host::start(Done done) {
    if (auto made = make_links(); !made) {
        done(std::move(made));
        return;
    }
    keep_model();
    // In line from the beginning, so that who stops one now has it stopped.
    for (auto& guest : guests_)
        if (starts_with_host(guest->config()) && !was_found(guest->config().name))
            guest->mark_waiting();
    take_over([this, done] {
        // Those that ended while they were taken over.
        for (const auto& one : found_)
            if (auto guest = find_by_name(one.record.name);
                guest != nullptr && one.record.pid != 0 && starts_with_host(guest->config()) &&
                !guest->stop_requested() && !guest->temporary())
                guest->mark_waiting();
        found_.clear();
        installs_->wake();
        start_services([this, done](Result<void> services) {
            if (!services) {
                done(std::move(services));
                return;
            }
            started_ = done;
            start_wave();
        });
    });
}

// It runs, or was stopped by hand.
bool Host::was_found(const std::string& name) const {
    return std::ranges::any_of(found_, [&](const Found& one) { return one.record.name == name; });
}

std::unique_ptr<Service> Host::make_dhcp() {
    if (!wants_dhcp(model_))
        return nullptr;
    return std::make_unique<Service>(
        loop_, Service::Plan{.ground = ground_,
                             .launch = {.role = "dhcp", .title = "dhcp", .user = role_user_},
                             .prepare =
                                 [this] {
                                     return describe_dhcp(ground_, model_, bridges_,
                                                          install_states(), dhcp_has_, true);
                                 },
                             .frame = [this](ipc::Frame&& frame) { took_dhcp(std::move(frame)); },
                             .change =
                                 [this] {
                                     return describe_dhcp(ground_, model_, bridges_,
                                                          install_states(), dhcp_has_, false);
                                 },
                             .died = [this](const std::string& why) { role_died("dhcp", why); },
                             .answer_timeout = [this] { return model_.host.answer_timeout; }});
}

std::unique_ptr<Service> Host::make_ipv6() {
    if (!wants_ipv6(model_))
        return nullptr;
    auto describe = [this] {
        advertised_ = advertised_by(model_);
        return describe_ipv6(ground_, model_, bridges_);
    };
    return std::make_unique<Service>(
        loop_, Service::Plan{.ground = ground_,
                             .launch = {.role = "ipv6", .title = "ipv6", .user = role_user_},
                             .prepare = describe,
                             .frame = [](ipc::Frame&&) {},
                             .died = [this](const std::string& why) { role_died("ipv6", why); },
                             .answer_timeout = [this] { return model_.host.answer_timeout; }});
}

std::unique_ptr<Service> Host::make_http() {
    if (!wants_http(model_))
        return nullptr;
    return std::make_unique<Service>(
        loop_, Service::Plan{.ground = ground_,
                             .launch = {.role = "http", .title = "http", .user = role_user_},
                             .prepare =
                                 [this] {
                                     return describe_http(ground_, model_, install_states(),
                                                          http_has_, true);
                                 },
                             .frame = [this](ipc::Frame&& frame) { took_http(std::move(frame)); },
                             .change =
                                 [this] {
                                     return describe_http(ground_, model_, install_states(),
                                                          http_has_, false);
                                 },
                             .died = [this](const std::string& why) { role_died("http", why); },
                             .answer_timeout = [this] { return model_.host.answer_timeout; }});
}

std::unique_ptr<Service> Host::make_tftp() {
    if (!wants_tftp(model_))
        return nullptr;
    return std::make_unique<Service>(
        loop_, Service::Plan{.ground = ground_,
                             .launch = {.role = "tftp", .title = "tftp", .user = role_user_},
                             .prepare = [this] { return describe_tftp(ground_, model_); },
                             .frame = [](ipc::Frame&&) {},
                             .died = [this](const std::string& why) { role_died("tftp", why); },
                             .answer_timeout = [this] { return model_.host.answer_timeout; }});
}

void Host::start_services(Done done) {
    dhcp_ = make_dhcp();
    ipv6_ = make_ipv6();
    http_ = make_http();
    tftp_ = make_tftp();
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
    for (auto* service : {dhcp_.get(), ipv6_.get(), http_.get(), tftp_.get()})
        if (service != nullptr) {
            ++*waiting;
            service->start(one_up);
        }
    one_up({});
}

void Host::shut_down(std::function<void()> done) {
    ending_ = true;
    if (memory_ && !guests_.empty())
        if (auto noted = note(model_); !noted) // until when they were there
            log::warning("host", "{}", noted.error().message());
    stagger_.stop();
    slow_.stop();
    answers_.stop();
    step_.stop();
    sweep_.stop();
    forget_guards();
    auto guests_down = std::make_shared<std::size_t>(1);
    auto guest_down = [this, guests_down, done] {
        if (--*guests_down != 0)
            return;
        hurry_.stop();
        stop_services([this, done] {
            remove_links();
            if (running_) {
                for (const auto& guest : guests_)
                    running_->remove(guest->config().name);
                running_->remove_model();
            }
            done();
        });
    };
    for (auto& guest : guests_) {
        ++*guests_down;
        (void)guest->stop(Guest::Stop::orderly, nullptr); // one that waits does so no more
        guest->when_gone(guest_down);
    }
    hurry_.start(model_.host.stop_timeout);
    guest_down();
}

void Host::stop_services(std::function<void()> done) {
    auto left = std::make_shared<std::size_t>(1);
    auto one_down = [left, done] {
        if (--*left == 0)
            done();
    };
    for (auto* service : {dhcp_.get(), ipv6_.get(), http_.get(), tftp_.get()})
        if (service != nullptr) {
            ++*left;
            service->stop(one_down);
        }
    one_down();
}

void Host::hurry() {
    for (auto& guest : guests_)
        if (guest->pid()) {
            log::warning("host", "vm {} has not ended yet: it is ended by force",
                         guest->config().name);
            (void)guest->stop(Guest::Stop::force, nullptr);
        }
}

Guest* Host::find_by_name(std::string_view name) const {
    for (const auto& guest : guests_)
        if (guest->config().name == name)
            return guest.get();
    return nullptr;
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

void Host::log_verbosely(bool verbose) {
    auto levels = verbose ? std::string("debug") : log_levels_;
    (void)log::set_levels(levels); // was good once
    for (const auto& guest : guests_)
        guest->send_to_process(ipc::encode(ipc::LogLevels{levels}));
    for (auto* service : {dhcp_.get(), ipv6_.get(), http_.get(), tftp_.get()})
        if (service != nullptr)
            service->send(ipc::encode(ipc::LogLevels{levels}));
}

void Host::role_died(std::string_view role, std::string_view why) {
    events_.tell("role died", fmt::format("{}: {}; it is started again", role, why));
}

void Host::took_dhcp(ipc::Frame&& frame) {
    if (leases_.took(frame))
        return;
    auto lease = ipc::decode<ipc::DhcpLease>(std::move(frame));
    if (!lease)
        return;
    auto guest = find(lease->vm);
    if (guest)
        installs_->reached(**guest, install::Phase::lease, lease->address.text());
    // A guest may ask as often as it likes: only news is told.
    if (guest && (*guest)->lease != lease->address) {
        (*guest)->lease = lease->address;
        (*guest)->tell("lease", lease->address.text());
        (*guest)->keep_record();
        if (on_progress)
            on_progress(**guest, "lease");
    }
}

std::vector<Service*> Host::services() const {
    std::vector<Service*> out;
    for (const auto* service : {&dhcp_, &ipv6_, &http_, &tftp_})
        if (*service)
            out.push_back(service->get());
    return out;
}

void Host::give_metrics(const std::string& text) {
    if (!http_)
        return;
    for (std::size_t at = 0;; at += limits::metrics_part_bytes) {
        const bool last = at + limits::metrics_part_bytes >= text.size();
        http_->send(
            ipc::encode(ipc::MetricsText{text.substr(at, limits::metrics_part_bytes), last}));
        if (last)
            return;
    }
}

void Host::took_http(ipc::Frame&& frame) {
    if (frame.type == ipc::MetricsWanted::type) {
        if (on_metrics_wanted)
            on_metrics_wanted();
        return;
    }
    if (frame.type == ipc::HttpSetSent::type) {
        if (auto sent = ipc::decode<ipc::HttpSetSent>(std::move(frame)))
            took_set(*sent);
        return;
    }
    if (frame.type == ipc::HttpSshSeen::type) {
        auto seen = ipc::decode<ipc::HttpSshSeen>(std::move(frame));
        for (const auto& guest : guests_)
            if (seen && guest->id() == seen->number)
                installs_->reached(*guest, install::Phase::ssh);
        return;
    }
    if (auto claim = ipc::decode<ipc::HttpClaim>(std::move(frame)))
        http_->send(ipc::encode(decide(*claim)));
}

} // namespace vmhost::host
