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
    return std::ranges::any_of(vm.interfaces, [](const auto& one) { return one.ipv4 || one.ipv6; });
}

} // namespace

Result<Guest*> Host::add_new(const config::NewVm& wish) {
    if (ending_ || !up_ || order_)
        return fail(ErrorKind::busy, "vm {}: vmhost is {}: try again later",
                    printable(wish.name, 64),
                    ending_ ? "ending"
                    : !up_  ? "still starting"
                            : "applying a change");
    users_ = ground_.users(); // as it may be somebody new
    // An instance is its maker's: it has what that user's of the same name had before.
    const auto maker = wish.owner ? TRY(resolve(users_, *wish.owner)).uid : 0;
    auto made_model = config::add_vm(model_, wish, TRY(memory_->of_new(wish.name, maker)));
    if (!made_model)
        return std::unexpected(std::move(made_model).error());
    auto& next = *made_model;
    const auto& vm = next.vms.back();
    auto owner = TRY(resolve(users_, vm.owner));
    auto of_owner = std::ranges::count_if(guests_, [&](const auto& guest) {
        return guest->temporary() && guest->owner().uid == owner.uid;
    });
    if (!wish.anything_allowed &&
        static_cast<std::size_t>(of_owner) >= limits::max_instances_of_user)
        return fail(ErrorKind::limit, "vm {}: {} has {} instances already, which is the most",
                    vm.name, users_.user_name(owner.uid), of_owner);
    const auto id = TRY(note_new(next, vm, maker));
    if (!network_ && !vm.interfaces.empty())
        TRY(open_network());
    // Switches of its local interfaces; when one cannot be made, those before it go again.
    const auto known = model_.switches.size();
    for (auto i = known; i < next.switches.size(); ++i)
        if (auto made = make_switch(next.switches[i]); !made) {
            for (; i > known; --i)
                (void)remove_switch(next.switches[i - 1]);
            return std::unexpected(std::move(made).error());
        }
    if (auto added = add_guest(vm, id); !added) {
        for (auto i = next.switches.size(); i > known; --i)
            (void)remove_switch(next.switches[i - 1]);
        return std::unexpected(std::move(added).error());
    }
    makers_[vm.name] = maker;
    model_ = std::move(next);
    renew_host_keys();
    keep_model();
    return guests_.back().get();
}

void Host::start_new(const config::NewVm& wish, GivenFiles files, StartOnce once,
                     std::function<void(Result<std::uint32_t>)> done) {
    auto added = add_new(wish);
    if (!added)
        return done(std::unexpected(std::move(added).error()));
    Guest* guest = *added;
    // Not from within the call: its caller still uses the guest.
    guest->make_temporary(std::move(files), [this] { sweep_.start(std::chrono::milliseconds(0)); });
    if (is_served(guest->config()))
        tell_services();
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
    if (order_) // which goes over the guests in turns of its own
        return sweep_.start(std::chrono::milliseconds(100));
    bool served = false;
    for (auto at = guests_.begin(); at != guests_.end();) {
        Guest& guest = **at;
        if (!guest.temporary() || guest.state() != GuestState::stopped || guest.pid()) {
            ++at;
            continue;
        }
        served |= is_served(guest.config());
        for (const auto& interface : guest.config().interfaces)
            if (const auto* one = model_.find_switch(interface.switch_name); one && one->local)
                if (auto removed = remove_switch(*one); !removed)
                    log::warning("host", "{}", removed.error().message());
        log::notice("host", "vm {} is gone", guest.config().name);
        config::remove_vm(model_, guest.config().name);
        makers_.erase(guest.config().name);
        at = guests_.erase(at);
    }
    keep_model();
    if (served && !ending_)
        tell_services();
}

// Their addresses and answers come and go with guests that are not in the file.
void Host::tell_services() {
    if (!up_ && !dhcp_ && !ipv6_ && !http_)
        return; // start_services() is still to come
    if (!dhcp_)
        dhcp_ = make_dhcp();
    if (!ipv6_)
        ipv6_ = make_ipv6();
    if (!http_)
        http_ = make_http();
    for (auto* service : {dhcp_.get(), ipv6_.get(), http_.get()})
        renew_told(service);
}

// A file that is to be applied says nothing of them: they stay as they are.
Result<void> Host::keep_new(config::Model& file) const {
    for (const auto& guest : guests_) {
        if (!guest->temporary())
            continue;
        const auto& vm = guest->config();
        if (const auto* same = file.find_vm(vm.name))
            return std::unexpected(
                Error(ErrorKind::busy, fmt::format("vm {} runs and is not from the file: stop it "
                                                   "before the file can have one of its name",
                                                   vm.name))
                    .at(same->place));
        for (const auto& interface : vm.interfaces) {
            for (const auto& other : file.vms)
                for (const auto& theirs : other.interfaces)
                    if (theirs.lladdr == interface.lladdr ||
                        (theirs.ipv4 && theirs.ipv4 == interface.ipv4) ||
                        (theirs.ipv6 && theirs.ipv6 == interface.ipv6))
                        return std::unexpected(
                            Error(ErrorKind::busy,
                                  fmt::format("vm {} has an address of vm {}, which is not from "
                                              "the file: stop that first",
                                              other.name, vm.name))
                                .at(theirs.place));
            if (interface.switch_name.empty() || file.find_switch(interface.switch_name))
                continue;
            if (!interface.local)
                return fail(ErrorKind::busy,
                            "switch {} cannot go: vm {}, which is not from the file, is plugged "
                            "into it; stop it first",
                            interface.switch_name, vm.name);
            file.switches.push_back(*model_.find_switch(interface.switch_name));
        }
        file.vms.push_back(vm);
    }
    return {};
}

} // namespace vmhost::host
