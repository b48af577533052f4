// VMs that are not in the file: wished by a client, there until they end.
//
// The model gets such a VM for as long as it lives, so that everything that looks at the model
// sees it; the services that were told of the model are told anew, which costs them their
// processes: an installation that is under way asks again.
#include <algorithm>

#include "host/host.h"

namespace vmhost::host {

namespace {

// Whether the services for guests' addresses have to do with it.
bool is_served(const config::Vm& vm) {
    return std::ranges::any_of(vm.interfaces, [](const auto& one) { return one.ipv4.has_value(); });
}

} // namespace

Result<Guest*> Host::add_guest(const config::NewVm& wish) {
    if (ending_)
        return fail(ErrorKind::busy, "vmhost is ending");
    auto next = TRY(config::add_vm(model_, wish));
    const auto& vm = next.vms.back();
    auto owner = TRY(resolve(users_, vm.owner));
    auto of_owner = std::ranges::count_if(guests_, [&](const auto& guest) {
        return guest->temporary() && guest->owner().uid == owner.uid;
    });
    if (!wish.anything_allowed &&
        static_cast<std::size_t>(of_owner) >= limits::max_instances_of_user)
        return fail(ErrorKind::limit, "vm {}: {} has {} instances already, which is the most",
                    vm.name, users_.user_name(owner.uid), of_owner);
    if (!network_ && !vm.interfaces.empty())
        TRY(open_network());
    // Switches of its local interfaces; when one cannot be made, those before it go again.
    const auto known = model_.switches.size();
    for (auto i = known; i < next.switches.size(); ++i)
        if (auto made = make_bridge(next.switches[i]); !made) {
            for (; i > known; --i, bridges_.pop_back())
                (void)network_->remove_bridge(next.switches[i - 1].interface);
            return std::unexpected(std::move(made).error());
        }
    model_ = std::move(next);
    guests_.push_back(
        std::make_unique<Guest>(context_, model_.vms.back(), model_, ++last_id_, owner));
    return guests_.back().get();
}

void Host::start_new(const config::NewVm& wish, GivenFiles files, StartOnce once,
                     std::function<void(Result<std::uint32_t>)> done) {
    auto added = add_guest(wish);
    if (!added)
        return done(std::unexpected(std::move(added).error()));
    Guest* guest = *added;
    // Not from within the call: its caller still uses the guest.
    guest->make_temporary(std::move(files), [this] { sweep_.start(std::chrono::milliseconds(0)); });
    if (is_served(guest->config()))
        renew_services();
    guest->start(
        [done, id = guest->id()](Result<void> started) {
            if (started)
                done(id);
            else
                done(std::unexpected(std::move(started).error()));
        },
        std::move(once));
}

void Host::remove_ended() {
    bool served = false;
    for (auto at = guests_.begin(); at != guests_.end();) {
        Guest& guest = **at;
        if (!guest.temporary() || guest.state() != GuestState::stopped || guest.pid()) {
            ++at;
            continue;
        }
        served |= is_served(guest.config());
        for (const auto& interface : guest.config().interfaces)
            if (const auto* one = model_.find_switch(interface.switch_name); one && one->local) {
                if (auto removed = network_->remove_bridge(one->interface); !removed)
                    log::warning("host", "{}", removed.error().message());
                std::erase_if(bridges_, [&](const BridgeLink& link) {
                    return link.config.name == one->name;
                });
            }
        log::notice("host", "vm {} is gone", guest.config().name);
        config::remove_vm(model_, guest.config().name);
        at = guests_.erase(at);
    }
    if (served)
        renew_services();
}

void Host::renew_services() {
    if (ending_)
        return;
    auto renew = [&](Service*& service, bool wanted, const char* role,
                     Result<std::vector<ipc::Frame>> (Host::*describe)(),
                     void (Host::*took)(ipc::Frame &&)) {
        if (service)
            return service->renew();
        if (!wanted)
            return;
        service = &add_service(role, describe, took);
        service->start([role](Result<void> up) {
            if (!up)
                log::error("host", "{}: {}", role, up.error().message());
        });
    };
    renew(dhcp_, wants_dhcp(model_), "dhcp", &Host::describe_dhcp, &Host::took_dhcp);
    renew(http_, wants_http(model_), "http", &Host::describe_http, &Host::took_http);
}

} // namespace vmhost::host
