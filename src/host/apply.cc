// From the model that runs to the model of a file. The steps follow each other in turns of the
// loop, so that no guest is destroyed inside its own callback; model_ changes with each step and
// always is what the host really is. So an order that fails, or a daemon that dies, leaves nothing
// to be remembered: the next plan starts from what is there.
//
// Loop thread of the parent.
#include <algorithm>
#include <deque>

#include "host/files.h"
#include "host/host.h"

namespace vmhost::host {

struct Host::Order {
    Apply apply;
    Plan plan;
    std::deque<std::function<void(Done)>> steps;
    std::vector<std::string> to_start; // guests that run, or are to run, when it is done
    std::optional<Error> failure;

    bool is_foreign(std::string_view subject) const {
        return std::ranges::any_of(plan.changes, [&](const Change& change) {
            return change.foreign && change.subject == subject;
        });
    }
    Effect effect_on_vm(std::string_view name) const {
        return plan.effect_on(fmt::format("vm {}", name));
    }
};

Result<config::Model> Host::load(const std::string& file) {
    const auto& path = file.empty() ? model_.file : file;
    // Not a pipe: this process must not wait for what comes through one.
    auto text = TRY(read_small_file(path, limits::max_config_bytes, "configuration"));
    auto model = TRY(first_complaint(config::parse(text, path)));
    return first_complaint(config::recall(std::move(model), TRY(memory_->of_file())));
}

Plan Host::plan(const config::Model& file) const {
    auto wanted = file;
    (void)keep_new(wanted); // what is in the way is told by apply()
    return plan_for(wanted);
}

Plan Host::plan_for(const config::Model& wanted) const {
    auto plan = make_plan(model_, wanted, guest_states());
    for (auto& change : foreign_changes(wanted))
        plan.changes.push_back(std::move(change));
    return plan;
}

std::vector<VmState> Host::guest_states() const {
    std::vector<VmState> states;
    for (const auto& guest : guests_)
        states.push_back({guest->config().name, guest->pid().has_value()});
    return states;
}

void Host::apply(Apply apply) {
    auto refuse = [&](ErrorKind kind, std::string text) { apply.done(fail(kind, "{}", text)); };
    if (ending_)
        return refuse(ErrorKind::busy, "vmhost is about to end");
    if (!up_)
        return refuse(ErrorKind::busy, "vmhost is still starting: try again when it is up");
    if (order_)
        return refuse(ErrorKind::busy, "another change is being applied");
    if (!apply.new_ones_too)
        if (auto kept = keep_new(apply.file); !kept)
            return apply.done(std::move(kept));
    auto wanted = plan_for(apply.file);
    if (const auto* refused = wanted.refused()) {
        auto error = Error(ErrorKind::unsupported,
                           fmt::format("{} cannot change while vmhost runs: start it anew",
                                       refused->difference.key))
                         .at(refused->difference.place);
        return apply.done(std::unexpected(std::move(error)));
    }
    order_ = std::make_shared<Order>();
    order_->apply = std::move(apply);
    order_->plan = std::move(wanted);
    auto at_once = [this](auto step) {
        return [this, step](const Done& done) { done((this->*step)()); };
    };
    order_->steps.emplace_back([this](Done done) { stop_guests(std::move(done)); });
    order_->steps.emplace_back(at_once(&Host::change_switches));
    order_->steps.emplace_back(at_once(&Host::change_vms));
    order_->steps.emplace_back(at_once(&Host::renew_guards));
    order_->steps.emplace_back([this](const Done& done) {
        change_settings();
        done({});
    });
    order_->steps.emplace_back([this](Done done) { renew_services(std::move(done)); });
    order_->steps.emplace_back(at_once(&Host::drop_services));
    order_->steps.emplace_back([this](Done done) { start_guests(std::move(done)); });
    step_.start(std::chrono::milliseconds(0));
}

void Host::next_step() {
    if (ending_)
        return; // shut_down() takes it from here
    if (order_->steps.empty()) {
        auto order = std::move(order_);
        // Equal by now, but for the places and the order of the file.
        if (!order->failure)
            model_ = std::move(order->apply.file);
        keep_model();
        if (order->failure)
            events_.tell("change failed", order->failure->message());
        else if (!order->plan.empty())
            events_.tell("changed", fmt::format("{} changes", order->plan.changes.size()));
        order->apply.done(order->failure ? Result<void>(std::unexpected(std::move(*order->failure)))
                                         : Result<void>());
        return;
    }
    auto step = std::move(order_->steps.front());
    order_->steps.pop_front();
    step([this](Result<void> done) {
        if (!done)
            fail_order(std::move(done).error());
        keep_model();
        step_.start(std::chrono::milliseconds(0));
    });
}

// Nothing else is changed; but guests that were taken down for a change come back.
void Host::fail_order(Error error) {
    if (!order_->failure)
        order_->failure = std::move(error);
    while (order_->steps.size() > 1)
        order_->steps.pop_front();
}

void Host::stop_guests(Done done) {
    auto left = std::make_shared<std::size_t>(1);
    auto one_gone = [left, done] {
        if (--*left == 0)
            done({});
    };
    for (auto& guest : guests_) {
        const auto& name = guest->config().name;
        auto effect = order_->effect_on_vm(name);
        bool restart = effect == Effect::restart && order_->apply.restart_guests;
        const bool gone = order_->apply.file.find_vm(name) == nullptr; // also one in line
        if (!restart && effect != Effect::stop && !gone)
            continue;
        // One that is being stopped is to stay down.
        if (restart && guest->state() != GuestState::stopping)
            order_->to_start.push_back(name);
        ++*left;
        // Asked already: it ends all the same.
        (void)guest->stop(order_->apply.by_force ? Guest::Stop::force : Guest::Stop::orderly,
                          nullptr);
        guest->when_gone([this, name, one_gone] {
            order_->apply.told(fmt::format("vm {}: ended", name));
            one_gone();
        });
    }
    one_gone();
}

Result<void> Host::change_switches() {
    auto& file = order_->apply.file;
    // Those that go, and those that are made anew under their guests.
    for (std::size_t i = model_.switches.size(); i-- > 0;) {
        auto old = model_.switches[i];
        bool anew = order_->plan.effect_on("switch " + old.name) == Effect::restart &&
                    order_->apply.restart_guests;
        if (file.find_switch(old.name) != nullptr && !anew)
            continue;
        TRY(remove_switch(old));
        model_.switches.erase(model_.switches.begin() + static_cast<std::ptrdiff_t>(i));
        if (!anew)
            order_->apply.told(fmt::format("switch {}: removed", old.name));
    }
    const bool plugs =
        std::ranges::any_of(file.vms, [](const config::Vm& vm) { return !vm.interfaces.empty(); });
    if ((!file.switches.empty() || plugs) && !network_)
        TRY(open_network());
    TRY(give_up_links());
    for (auto& one : file.switches) {
        auto have = std::ranges::find(model_.switches, one.name, &config::Switch::name);
        bool there = have != model_.switches.end();
        const bool foreign = order_->is_foreign("switch " + one.name);
        if (there && *have == one && !foreign)
            continue;
        if (there && stays(one.name)) {
            log::warning("host", "switch {} is not changed: its guests would go down with it",
                         one.name);
            one = *have; // and the next plan has it again
            continue;
        }
        TRY(change_switch(there ? &*have : nullptr, one));
        if (there)
            *have = one;
        else
            model_.switches.push_back(one);
        order_->apply.told(fmt::format("switch {}: {}", one.name, there ? "changed" : "made"));
    }
    return restore_taps();
}

// Interfaces of guests that somebody else has changed, behind their switches.
Result<void> Host::restore_taps() {
    for (const auto& guest : guests_) {
        const auto& name = guest->config().name;
        if (!guest->pid() || !order_->is_foreign("vm " + name) ||
            order_->effect_on_vm(name) == Effect::restart)
            continue;
        for (const auto& tap : guest->taps())
            TRY(network_->restore_tap(tap));
        order_->apply.told(fmt::format("vm {}: interfaces put right", name));
    }
    return {};
}

// What could be changed of it only in part is made again as the model says, which must stay true.
Result<void> Host::change_switch(const config::Switch* before, const config::Switch& after) {
    auto changed = make_switch(after);
    if (!changed && before != nullptr)
        if (auto back = make_switch(*before); !back)
            log::warning("host", "{}", back.error().message());
    return changed;
}

// A switch that only changes when its guests may go down, and they may not.
bool Host::stays(const std::string& name) const {
    return !order_->apply.restart_guests &&
           order_->plan.effect_on("switch " + name) == Effect::restart;
}

// Ports and addresses may go from one switch to another, whichever comes first in the file.
Result<void> Host::give_up_links() {
    for (auto& have : model_.switches) {
        const auto* wanted = order_->apply.file.find_switch(have.name);
        if (wanted == nullptr || stays(have.name))
            continue;
        auto less = have;
        std::erase_if(less.ports, [&](const config::SwitchPort& port) {
            return std::ranges::find(wanted->ports, port) == wanted->ports.end();
        });
        if (less.vxlan != wanted->vxlan)
            less.vxlan.reset();
        if (less.ipv4 != wanted->ipv4)
            less.ipv4.reset();
        if (less.ipv6 != wanted->ipv6)
            less.ipv6.reset();
        if (less == have)
            continue;
        TRY(change_switch(&have, less));
        have = std::move(less);
    }
    return {};
}

Result<void> Host::change_vms() {
    const auto& file = order_->apply.file;
    users_ = ground_.users(); // owners may have been given their accounts a moment ago
    auto ids = TRY(note(file));
    std::erase_if(guests_, [&](const std::unique_ptr<Guest>& guest) {
        auto name = guest->config().name;
        if (file.find_vm(name) != nullptr)
            return false;
        std::erase_if(model_.vms, [&](const config::Vm& vm) { return vm.name == name; });
        if (running_)
            running_->remove(name); // it may have been stopped by hand
        makers_.erase(name);        // the next one of that name may be the file's
        if (auto forgotten = memory_->forget_private_key(guest->id()); !forgotten)
            log::error("host", "vm {}: its private host key is not forgotten: {}", name,
                       forgotten.error().message());
        order_->apply.told(fmt::format("vm {}: removed", name));
        return true;
    });
    for (std::size_t i = 0; i < file.vms.size(); ++i) {
        const auto& vm = file.vms[i];
        auto have = std::ranges::find(model_.vms, vm.name, &config::Vm::name);
        if (have == model_.vms.end()) {
            TRY(add_guest(vm, ids[i]));
            model_.vms.push_back(vm);
            if (starts_with_host(vm))
                order_->to_start.push_back(vm.name);
            order_->apply.told(fmt::format("vm {}: added, id {}", vm.name, ids[i]));
        } else if (*have != vm) {
            auto owner = resolve(users_, vm.owner);
            if (!owner)
                return std::unexpected(
                    std::move(owner).error().in(fmt::format("vm {}: owner", vm.name)).at(vm.place));
            TRY(find(vm.name))->configure(vm, *owner);
            *have = vm;
            order_->apply.told(fmt::format("vm {}: changed", vm.name));
        }
    }
    keyed_sets_.clear();
    renew_host_keys();
    return {};
}

void Host::change_settings() {
    const auto& file = order_->apply.file;
    model_.host = file.host; // a plan with a change that needs a new daemon was refused
    model_.install = file.install;
    keyed_sets_.clear(); // they are made of these settings too
    model_.tftp = file.tftp;
    model_.metrics = file.metrics;
    model_.allocate = file.allocate;
}

void Host::renew_services(Done done) {
    auto& plan = order_->plan;
    // Addresses of guests and switches, answers, names: whatever they were told may be another.
    bool touched = plan.touches(Effect::service) || plan.touches(Effect::reconnect) ||
                   plan.touches(Effect::restart) || plan.touches(Effect::stop) ||
                   plan.touches(Effect::start) ||
                   std::ranges::any_of(plan.changes, [](const Change& change) {
                       return change.subject.starts_with("vm ") && change.effect == Effect::none;
                   });
    if (!touched)
        return done({});
    auto left = std::make_shared<std::size_t>(1);
    auto one_ready = [this, left, done](Result<void> ready) {
        if (!ready)
            fail_order(std::move(ready).error());
        if (--*left == 0)
            done({});
    };
    end_routing();
    struct Wanted {
        std::unique_ptr<Service>& service;
        bool wanted;
        std::unique_ptr<Service> (Host::*make)();
    };
    for (auto& one : {Wanted{dhcp_, wants_dhcp(model_), &Host::make_dhcp},
                      Wanted{ipv6_, wants_ipv6(model_), &Host::make_ipv6},
                      Wanted{http_, wants_http(model_), &Host::make_http},
                      Wanted{tftp_, wants_tftp(model_), &Host::make_tftp}}) {
        if (!one.wanted && !one.service)
            continue;
        ++*left;
        if (!one.wanted) {
            one.service->stop([one_ready] { one_ready({}); });
        } else {
            if (!one.service)
                one.service = (this->*one.make)();
            one.service->renew(one_ready);
        }
    }
    one_ready({});
}

// Guests would go on sending to a router that is none, or from addresses that they may have no
// more, until what was said has run out.
void Host::end_routing() {
    ipc::Ipv6Farewell farewell{to_withdraw(advertised_, advertised_by(model_))};
    if (ipv6_ && !farewell.networks.empty())
        ipv6_->send(ipc::encode(std::move(farewell)));
}

Result<void> Host::drop_services() {
    if (!wants_dhcp(model_))
        dhcp_.reset();
    if (!wants_http(model_))
        http_.reset();
    if (!wants_ipv6(model_))
        ipv6_.reset();
    if (!wants_tftp(model_))
        tftp_.reset();
    return {};
}

void Host::start_guests(Done done) {
    bool any = false;
    for (const auto& name : order_->to_start)
        if (auto guest = find(name)) {
            (*guest)->mark_waiting();
            any = any || (*guest)->in_line();
        }
    if (!any)
        return done({});
    started_ = [this, done](Result<void> started) {
        for (const auto& name : order_->to_start)
            if (auto guest = find(name); guest && (*guest)->pid())
                order_->apply.told(fmt::format("vm {}: started", name));
        done(std::move(started));
    };
    start_wave();
}

} // namespace vmhost::host
