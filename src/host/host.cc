#include "host/host.h"

#include <charconv>
#include <memory>
#include <unistd.h>

#include "ipc/messages.h"

namespace vmhost::host {

Host::Host(Loop& loop, config::Model model, Options options)
    : loop_(loop), model_(std::move(model)), options_(options), users_(Users::of_this_host()),
      stagger_(loop, [this] {
          if (auto next = std::exchange(next_guest_, nullptr))
              next();
      }) {}

Host::~Host() = default;

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
    if (!model_.switches.empty())
        network_ = TRY(net::Network::open(model_.host.name));
    GuestContext context{.loop = &loop_,
                         .network = network_.get(),
                         .state_directory = model_.host.state,
                         .config_file = model_.file,
                         .accel = model_.host.accel,
                         .user = role_user_,
                         .debug_exit = options_.debug_exit};
    std::uint32_t id = 0;
    for (const auto& vm : model_.vms) {
        auto owner = resolve(users_, vm.owner);
        if (!owner)
            return std::unexpected(
                std::move(owner).error().in(fmt::format("vm {}: owner", vm.name)).at(vm.place));
        guests_.push_back(std::make_unique<Guest>(context, vm, model_, ++id, *owner));
    }
    return {};
}

Result<void> Host::make_links() {
    for (const auto& one : model_.switches) {
        net::BridgeSpec spec;
        spec.name = one.interface;
        spec.ipv4 = one.ipv4;
        spec.mtu = one.mtu;
        spec.ports = one.ports;
        auto index = network_->make_bridge(spec);
        if (!index)
            return std::unexpected(
                std::move(index).error().in(fmt::format("switch {}", one.name)).at(one.place));
        bridges_.push_back({&one, *index});
        log::info("host", "switch {}: bridge {}{}", one.name, one.interface,
                  one.ipv4 ? " with " + one.ipv4->text() : "");
    }
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
        if (!services)
            done(std::move(services));
        else
            start_guests(0, done);
    });
}

void Host::start_services(Done done) {
    if (wants_dhcp(model_))
        services_.push_back(std::make_unique<Service>(
            loop_,
            Service::Plan{.launch = {.role = "dhcp", .title = "dhcp", .user = role_user_},
                          .prepare = [this]() -> Result<ipc::Frame> {
                              return ipc::encode(TRY(describe_dhcp(model_, bridges_)));
                          },
                          .frame = [this](ipc::Frame&& frame) { took_dhcp(std::move(frame)); }}));
    if (wants_http(model_))
        services_.push_back(std::make_unique<Service>(
            loop_,
            Service::Plan{.launch = {.role = "http", .title = "http", .user = role_user_},
                          .prepare = [this]() -> Result<ipc::Frame> {
                              return ipc::encode(TRY(describe_http(model_)));
                          },
                          .frame = [this](ipc::Frame&& frame) { took_http(std::move(frame)); }}));
    if (services_.empty()) {
        done({});
        return;
    }
    auto waiting = std::make_shared<std::size_t>(services_.size());
    auto failed = std::make_shared<bool>(false);
    for (auto& service : services_)
        service->start([waiting, failed, done](Result<void> up) {
            --*waiting;
            if (*failed)
                return;
            *failed = !up;
            if (!up || *waiting == 0)
                done(std::move(up));
        });
}

// One after another with the configured delay in between; a start is over when the guest runs.
void Host::start_guests(std::size_t next, Done done) {
    while (next < guests_.size() && !guests_[next]->config().enabled)
        ++next;
    if (next == guests_.size() || ending_) {
        done({});
        return;
    }
    for (std::size_t later = next; later < guests_.size(); ++later)
        if (guests_[later]->config().enabled)
            guests_[later]->mark_waiting();
    guests_[next]->start([this, next, done](Result<void> started) {
        if (!started && !options_.keep_going) {
            done(std::move(started));
            return;
        }
        if (!started)
            log::error("host", "{}", started.error().message());
        next_guest_ = [this, next, done] { start_guests(next + 1, done); };
        stagger_.start(next + 1 < guests_.size() ? model_.host.start_delay
                                                 : std::chrono::milliseconds(0));
    });
}

void Host::shut_down(std::function<void()> done) {
    ending_ = true;
    stagger_.stop();
    next_guest_ = nullptr;
    auto services_down = std::make_shared<std::size_t>(services_.size() + 1);
    auto one_down = [this, services_down, done] {
        if (--*services_down != 0)
            return;
        network_.reset(); // removes the links
        done();
    };
    auto guests_down = std::make_shared<std::size_t>(1);
    auto guest_down = [this, guests_down, one_down] {
        if (--*guests_down != 0)
            return;
        for (auto& service : services_)
            service->stop(one_down);
        one_down();
    };
    for (auto& guest : guests_)
        if (guest->pid()) {
            ++*guests_down;
            (void)guest->stop(guest_down);
        }
    guest_down();
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
    if (auto guest = find(lease->vm)) {
        (*guest)->lease = lease->address;
        if (on_progress)
            on_progress(**guest, "lease");
    }
}

void Host::took_http(ipc::Frame&& frame) {
    auto served = ipc::decode<ipc::HttpAnswerServed>(std::move(frame));
    if (!served)
        return;
    if (auto guest = find(served->vm)) {
        (*guest)->answer_served = true;
        if (on_progress)
            on_progress(**guest, "answer file");
    }
}

} // namespace vmhost::host
