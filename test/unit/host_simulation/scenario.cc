#include "scenario.h"

#include <algorithm>
#include <cstdio>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <unistd.h>

namespace vmhost::simulation {

namespace {

constexpr std::uint64_t hour_ms = 3'600'000;

std::size_t open_descriptors() {
    std::size_t count = 0;
    if (DIR* folder = ::opendir("/proc/self/fd")) {
        while (::readdir(folder) != nullptr)
            ++count;
        ::closedir(folder);
    }
    return count;
}

} // namespace

Outcome run_scenario(const Settings& settings, const std::string& directory) {
    const auto before = open_descriptors();
    auto outcome = std::make_unique<Scenario>(settings, directory)->run();
    const auto after = open_descriptors();
    if (after != before)
        outcome.complaints.push_back(
            fmt::format("{} descriptors were open before, {} afterwards", before, after));
    return outcome;
}

Scenario::Scenario(const Settings& settings, std::string directory)
    : settings_(settings), directory_(std::move(directory)), file_(directory_ + "/sim.toml"),
      world_(settings.seed), random_(world_.random) {
    world_.verbose = settings.verbose;
    world_.observer = this;
    world_.fair = settings.calm;
    world_.outlive = settings.outlive;
    untouched_ = world_.kernel.text();
}

Scenario::~Scenario() = default;

Outcome Scenario::run() {
    spec_ = random_spec(random_);
    arm();
    for (auto storms = random_.between(1, 3); storms > 0 && complaints_.empty(); --storms) {
        world_.fair = settings_.calm;
        for (auto acts = random_.between(2, 14); acts > 0; --acts) {
            act();
            if (random_.chance(80))
                advance(random_.of<std::uint64_t>({0, 1, 20, 300, 2000, 20'000, 120'000}));
        }
        rest();
        if (complaints_.empty())
            check();
    }
    if (complaints_.empty())
        end();
    if (host_) {
        life_->die();
        bury();
    }
    return {complaints_, world_.hash(), world_.steps};
}

// A parent that is killed while it ends leaves what the next one takes away.
void Scenario::end() {
    for (bool clean = false; !clean && complaints_.empty();) {
        if (!host_)
            rest();
        if (host_ && !ending_)
            in_parent([this] { shut_down(); });
        clean = advance_until([this] { return !host_; }, hour_ms) && ended_well_;
        if (host_)
            return complain("the host does not come to its end");
    }
    while (world_.loop.alive())
        world_.loop.run_once(true);
    check_gone();
}

// ---- one parent after the other ---------------------------------------------

void Scenario::in_parent(const std::function<void()>& call) {
    try {
        call();
    } catch (const Killed&) {
    }
    if (life_ && life_->dead())
        bury();
}

void Scenario::bury() {
    life_->die();
    host_.reset();
    life_.reset();
    up_ = ending_ = false;
    promises_.clear();
    wave_of_start_ = false;
    world_.kill_at = world_.fail_at = 0;
    arm();
    for (auto& [name, known] : known_) {
        if (!world_.outlive || world_.living_vm(name).empty())
            known.want = Want::down;
        known.touched = true;
    }
}

// The step that the settings name may be still to come.
void Scenario::arm() {
    if (settings_.kill_at > world_.steps)
        world_.kill_at = settings_.kill_at;
}

void Scenario::write_file() {
    std::ofstream(file_) << spec_.text(directory_);
}

bool Scenario::boot() {
    write_file();
    auto model = config::load(file_);
    if (!model) {
        complain("the file is refused: " + model.error().front().message());
        return false;
    }
    world_.note("a parent starts");
    life_ = std::make_unique<Life>(world_);
    const bool keep_going = random_.chance(50);
    in_wave_.clear();
    launched_once_.clear();
    last_ready_ms_ = 0;
    wave_of_start_ = true;
    in_parent([&] {
        *model = host::model_to_start_with(*life_, std::move(*model));
        expect_start(*model);
        host_ = std::make_unique<host::Host>(world_.loop, *life_, std::move(*model),
                                             host::Options{.keep_going = keep_going});
        auto fails = [this](const Error& error) {
            world_.note("the host does not start: " + error.message());
            world_.after(5, [this, life = life_.get()] {
                if (life != life_.get() || ending_)
                    return;
                if (host_->took_over())
                    leave();
                else
                    shut_down();
            });
        };
        if (auto prepared = host_->prepare(); !prepared)
            return fails(prepared.error());
        host_->start(promise_result("start of the host", [this, fails](Result<void> result) {
            wave_of_start_ = false;
            if (result)
                up_ = true;
            else
                fails(result.error());
        }));
    });
    return host_ != nullptr;
}

void Scenario::expect_start(const config::Model& model) {
    for (const auto& vm : model.vms) {
        auto& known = known_[vm.name];
        known.touched = true;
        known.unasked_deaths = 0;
        const bool adopted = !world_.living_vm(vm.name).empty();
        if (adopted)
            launched_once_.insert(vm.name); // again by its policy
        else
            known.want = !vm.enabled                     ? Want::down
                         : known.stopped || !world_.fair ? Want::unknown
                                                         : Want::up;
    }
}

void Scenario::shut_down() {
    world_.note("the host is to end");
    ending_ = true;
    ended_well_ = false;
    wave_of_start_ = false;
    life_->no_throw();
    for (auto& [name, known] : known_)
        known.touched = true;
    host_->stop_starting();
    host_->shut_down(promise("end of the host", [this] {
        world_.note("the host has ended");
        check_promises();
        // As the process does, in a turn of its own.
        world_.after(0, [this, life = life_.get()] {
            if (life != life_.get())
                return;
            ended_well_ = true;
            life_->die();
        });
    }));
}

// The next parent takes the guests over.
void Scenario::leave() {
    world_.note("the host is to leave");
    ending_ = true;
    ended_well_ = false;
    wave_of_start_ = false;
    life_->no_throw();
    host_->leave(promise("leaving", [this] {
        world_.note("the host has left");
        world_.after(0, [this, life = life_.get()] {
            if (life == life_.get())
                life_->die();
        });
    }));
}

void Scenario::advance(std::uint64_t ms) {
    advance_until([] { return false; }, ms);
}

bool Scenario::advance_until(const std::function<bool()>& over, std::uint64_t most_ms) {
    bool late = false;
    Timer timer(world_.loop, [&] { late = true; });
    timer.start(std::chrono::milliseconds(most_ms));
    while (!late && !over())
        in_parent([this] { world_.loop.run_once(true); });
    return !late;
}

// Until nothing is to happen any more.
void Scenario::rest() {
    world_.fair = true;
    world_.fail_at = world_.kill_at = 0;
    arm();
    for (unsigned tries = 0; tries < 5; ++tries) {
        const auto begin_ms = world_.loop.now_ms();
        while (world_.loop.alive() && world_.loop.now_ms() - begin_ms < 24 * hour_ms)
            in_parent([this] { world_.loop.run_once(true); });
        if (world_.loop.alive())
            return complain("after a day there is still something that waits");
        if (host_ || !complaints_.empty())
            return;
        boot();
    }
    complain("the host does not start, although nothing goes wrong any more");
}

// ---- what is done to the host -------------------------------------------------

std::function<void()> Scenario::promise(const std::string& what, std::function<void()> then) {
    auto made = std::make_shared<Promise>(Promise{what});
    promises_.push_back(made);
    return [this, made, life = life_.get(), then = std::move(then)] {
        if (life != life_.get() || life->dead())
            return;
        if (++made->called > 1)
            complain("called twice: " + made->what);
        if (then)
            then();
    };
}

std::function<void(Result<void>)> Scenario::promise_result(const std::string& what,
                                                           std::function<void(Result<void>)> then) {
    auto result = std::make_shared<Result<void>>();
    auto called = promise(what, [this, what, result, then = std::move(then)] {
        world_.note(fmt::format("{}: {}", what, *result ? "done" : result->error().text()));
        if (then)
            then(std::move(*result));
    });
    return [result, called](Result<void> told) {
        *result = std::move(told);
        called();
    };
}

void Scenario::act() {
    if (!host_) {
        advance(random_.between(500, 5000)); // what the last parent left comes to its end
        boot();
        return;
    }
    if (ending_)
        return advance(1000);
    const auto what = random_.below(100);
    if (what < 45) {
        if (!host_->guests().empty())
            in_parent([this] {
                wave_of_start_ = false;
                act_on(*host_->guests()[random_.below(host_->guests().size())]);
            });
    } else if (what < 65) {
        edit();
        in_parent([this] { apply(random_.chance(70)); });
    } else if (what < 72) { // a storm
        for (auto count = random_.between(2, 6); count > 0 && host_; --count) {
            edit();
            in_parent([this] { apply(random_.chance(50)); });
            advance(random_.of<std::uint64_t>({0, 0, 5, 400, 5000}));
        }
    } else if (what < 80) {
        kill_some_process();
    } else if (what < 84) {
        world_.note("the parent is to be killed now");
        life_->die();
        bury();
    } else if (what < 90) {
        if (!world_.kill_at)
            world_.kill_at = world_.steps + random_.between(1, 80);
    } else if (what < 94) {
        if (!world_.fair)
            world_.fail_at = world_.steps + random_.between(1, 40);
    } else if (what < 96) {
        const bool goes_on = world_.outlive && random_.chance(60);
        in_parent([this, goes_on] { goes_on ? leave() : shut_down(); });
    } else if (what < 98) {
        meddle();
    } else {
        in_parent([this] { start_new(); });
    }
}

// Somebody who is not vmhost changes a bridge of ours.
void Scenario::meddle() {
    for (auto& [index, device] : world_.kernel.devices) {
        auto& link = device.link;
        auto* options = std::get_if<net::BridgeOptions>(&link.options);
        if (!options || !link.alias.starts_with("vmhost:"))
            continue;
        world_.note("somebody changes " + link.name);
        switch (random_.below(3)) {
        case 0:
            link.mtu = 1300;
            break;
        case 1:
            link.up = !link.up;
            break;
        default:
            options->spanning_tree = true;
        }
    }
}

void Scenario::act_on(host::Guest& guest) {
    const auto name = guest.config().name;
    switch (random_.below(12)) {
    case 0:
    case 1:
    case 2:
        return start(name);
    case 3:
    case 4:
        return stop(guest);
    case 5:
        return guest.pause(promise_result("pause of " + name));
    case 6:
        if (auto result = guest.unpause(); !result)
            world_.note("unpause: " + result.error().text());
        return;
    case 7:
        return guest.count(promise("count of " + name));
    case 8:
        return guest.set_memory_target(32 << 20, promise_result("memory of " + name));
    case 9:
        return save(guest);
    case 10:
        return snapshot(guest);
    default:
        if (auto waited = promise("wait for " + name); !guest.wait(waited))
            promises_.pop_back();
    }
}

void Scenario::start(const std::string& name) {
    if (host_->applying()) // as the verbs refuse it
        return;
    auto& known = known_[name];
    const auto before = known.want;
    known.touched = true;
    ++known.verbs;
    known.want = Want::unknown;
    host::StartOnce once;
    auto* guest = *host_->find(name);
    if (random_.chance(20))
        if (auto list = guest->snapshots(); list && !list->empty())
            once.snapshot = random_.of(*list).name;
    guest->start(
        promise_result("start of " + name,
                       [this, name, before](Result<void> result) {
                           auto& now = known_[name];
                           if (result)
                               now.want = Want::up, now.stopped = false;
                           else if (result.error().text().find("is already") != std::string::npos)
                               now.want = before;
                           else // the waves of a start, or an order, may come to it
                               now.want = up_ && !host_->applying() ? Want::down : Want::unknown;
                       }),
        std::move(once));
}

void Scenario::stop(host::Guest& guest) {
    const auto name = guest.config().name;
    const auto how = random_.chance(30) ? host::Guest::Stop::force : host::Guest::Stop::orderly;
    auto& known = known_[name];
    const bool touched = std::exchange(known.touched, true);
    const auto before = std::exchange(known.want, Want::unknown); // it may be cut off
    const bool was_stopped = std::exchange(known.stopped, true);  // the same
    auto result = guest.stop_to_stay(how, promise("stop of " + name));
    world_.note(fmt::format("stop of {}: {}", name, result ? "asked" : result.error().text()));
    if (result) {
        ++known.verbs;
        if (up_ && !host_->applying())
            known.want = Want::down;
        return;
    }
    known.touched = touched;
    known.stopped = was_stopped;
    known.want = before;
    promises_.pop_back();
}

void Scenario::save(host::Guest& guest) {
    const auto name = guest.config().name;
    auto& known = known_[name];
    const auto before = std::exchange(known.want, Want::unknown);
    known.touched = true;
    ++known.verbs;
    const bool was_stopped = std::exchange(known.stopped, true);
    auto saved = promise_result(
        "save of " + name, [this, name, before, was_stopped,
                            deaths = known.unasked_deaths](const Result<void>& result) {
            auto& now = known_[name];
            if (now.want != Want::unknown)
                return; // stopped, or started, meanwhile
            if (result)
                now.want = Want::down;
            else if (now.unasked_deaths != deaths ||
                     result.error().text().find("ended before") != std::string::npos)
                return; // it may have wished to end
            else
                now.want = before, now.stopped = was_stopped;
        });
    guest.save(Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC)), std::move(saved));
}

void Scenario::snapshot(host::Guest& guest) {
    const auto name = guest.config().name;
    if (auto list = guest.snapshots(); list && !list->empty() && random_.chance(30)) {
        auto removed = guest.remove_snapshot(random_.of(*list).name);
        return world_.note(fmt::format("remove a snapshot of {}: {}", name,
                                       removed ? "done" : removed.error().text()));
    }
    guest.snapshot(fmt::format("s{}", ++counter_), promise_result("snapshot of " + name));
}

void Scenario::start_new() {
    config::NewVm wish;
    wish.name = fmt::format("t{}", ++counter_);
    wish.memory_bytes = 64 << 20;
    wish.anything_allowed = true;
    for (auto count = random_.below(3); count > 0; --count) {
        auto& interface = wish.interfaces.emplace_back();
        if (random_.chance(50))
            interface.local = true;
        else if (!spec_.switches.empty() && random_.chance(70))
            interface.switch_name = random_.of(spec_.switches).name;
    }
    known_[wish.name] = {.want = Want::unknown, .touched = true, .temporary = true};
    auto result = promise_result("start of the new " + wish.name,
                                 [this, name = wish.name](Result<void> started) {
                                     known_[name].want = started ? Want::up
                                                         : host_->applying() // and starts it again
                                                             ? Want::unknown
                                                             : Want::down;
                                 });
    host_->start_new(wish, {}, {}, [result](Result<std::uint32_t> started) {
        result(started ? Result<void>() : std::unexpected(std::move(started).error()));
    });
}

void Scenario::edit() {
    for (auto count = random_.between(1, 3); count > 0; --count)
        world_.note("in the file: " + change(spec_, random_));
    write_file();
}

// One that is asked to end already, by somebody who wants it down.
bool Scenario::stops(const std::string& name) const {
    auto guest = host_->find(name);
    return guest && (*guest)->state() == host::GuestState::stopping;
}

void Scenario::apply(bool restart_guests) {
    if (!host_)
        return;
    auto file = host_->load(file_);
    if (!file)
        return complain("the file is refused: " + file.error().message());
    const auto plan = host_->plan(*file);
    auto order = std::make_shared<Order>();
    for (const auto& change : plan.changes) {
        world_.note(fmt::format("plan: {}: {} {} -> {}: {}", change.subject, change.difference.key,
                                change.difference.before, change.difference.after,
                                host::name_of(change.effect)));
        if (change.subject.starts_with("vm ") && change.effect >= host::Effect::restart &&
            (restart_guests || change.effect != host::Effect::restart) &&
            !stops(change.subject.substr(3)))
            order->may_restart.insert(change.subject.substr(3));
    }
    // One that is in line for its turn, and goes.
    for (const auto& guest : host_->guests())
        if (!guest->temporary() && !file->find_vm(guest->config().name))
            order->may_restart.insert(guest->config().name);
    const bool taken = up_ && !host_->applying();
    // One that waits for its restart may be given up by another policy.
    for (const auto& guest : host_->guests())
        if (const auto* next = file->find_vm(guest->config().name);
            taken && next && world_.living_vm(next->name).empty() &&
            next->restart != guest->config().restart)
            known_[next->name].want = Want::unknown;
    if (taken)
        for (const auto& name : order->may_restart) {
            auto& known = known_[name];
            known.touched = true;
            known.want = Want::unknown;
            order->before[name] = {known.verbs, known.unasked_deaths};
        }
    order->file = *file;
    host_->apply({.file = std::move(*file),
                  .restart_guests = restart_guests,
                  .told = [this](const std::string& text) { world_.note("told: " + text); },
                  .done = promise_result(restart_guests ? "apply" : "reload",
                                         [this, order](const Result<void>& result) {
                                             applied(*order, result.has_value());
                                         })});
}

// Whatever was to be started or started again runs, unless somebody or something came between.
void Scenario::applied(const Order& order, bool done) {
    for (const auto& name : order.may_restart) {
        auto& known = known_[name];
        const auto before = order.before.find(name);
        if (!done || before == order.before.end() ||
            before->second != std::pair(known.verbs, known.unasked_deaths))
            continue;
        known.want = order.file.find_vm(name) || known.temporary ? Want::up : Want::down;
    }
}

void Scenario::kill_some_process() {
    std::vector<Process*> all;
    for (auto& process : world_.processes)
        if (process->alive)
            all.push_back(process.get());
    if (all.empty() || world_.fair)
        return;
    auto& process = *random_.of(all);
    process.failed = true;
    world_.end_process(process, "signal 11");
}

// ---- what it sees --------------------------------------------------------------

void Scenario::launched(const Process& process) {
    if (process.launch.role != "vm")
        return;
    const auto name = vm_of(process);
    if (!known(name).touched)
        complain(fmt::format("vm {} is started, and nobody asked for it", name));
    if (wave_of_start_)
        check_wave(name);
    started_with_[name] = plugs_of(name);
}

// What decides how the taps of a VM look.
std::string Scenario::plugs_of(const std::string& name) const {
    std::string text;
    for (const auto& interface : (*host_->find(name))->config().interfaces) {
        const auto* one = host_->model().find_switch(interface.switch_name);
        text +=
            fmt::format("{} {} {} {}\n", interface.locked_lladdr.value_or(false),
                        interface.switch_name, interface.lladdr.text(),
                        one && one->enabled ? fmt::format("{} {}", one->interface, one->mtu) : "-");
    }
    return text;
}

void Scenario::ready(const Process& process) {
    if (process.launch.role != "vm")
        return;
    const auto name = vm_of(process);
    if (known(name).want == Want::unknown)
        known(name).want = Want::up;
    left_wave(name);
}

void Scenario::ended(const Process& process) {
    if (process.launch.role != "vm")
        return;
    const auto name = vm_of(process);
    auto& known = known_[name];
    left_wave(name);
    if (!process.child || !host_) { // of a parent that is no more
        known.want = Want::unknown;
        return;
    }
    if (process.asked) {
        if (!known.touched)
            complain(fmt::format("vm {} is ended, and nobody asked for it", name));
        if (known.want == Want::up)
            known.want = Want::unknown;
        return;
    }
    known.touched = true;
    ++known.unasked_deaths;
    if (known.want != Want::up)
        return;
    auto guest = host_->find(name);
    const auto policy = guest ? (*guest)->config().restart : config::Restart::never;
    const bool failed = process.failed || !process.told_end;
    using config::Restart;
    if (!up_ || (process.state != Process::State::running && !process.told_end))
        known.want = Want::unknown; // its start has failed, or that of the host comes to it
    else if (policy == Restart::never || (policy == Restart::on_failure && !failed))
        known.want = Want::down;
    else if (known.unasked_deaths > limits::max_restarts_in_a_row - 3)
        known.want = Want::unknown; // it may be given up
}

void Scenario::left_wave(const std::string& name) {
    if (in_wave_.erase(name) != 0 && in_wave_.empty())
        last_ready_ms_ = world_.loop.now_ms();
}

} // namespace vmhost::simulation
