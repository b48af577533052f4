// Starting guests in waves: as many at once as [host] start.parallel says. The next wave comes a
// delay after the last guest of this one is up, or, with "boot", when each has answered (waves.h).
//
// Loop thread of the parent.
#include "host/waves.h"

#include <algorithm>

#include "host/host.h"

namespace vmhost::host {

namespace {

// How often guests are asked; a kernel takes seconds to come up.
constexpr auto look_interval = std::chrono::milliseconds(500);

// Whether the DHCP service has an address for it.
bool gets_address(const config::Model& model, const config::Vm& vm) {
    return std::ranges::any_of(vm.interfaces, [&](const config::Interface& one) {
        const auto* plugged = model.find_switch(one.switch_name);
        return one.ipv4 && plugged && plugged->enabled && plugged->ipv4 && plugged->dhcp.enabled;
    });
}

} // namespace

void Host::start_wave() {
    auto parallel =
        model_.host.start_parallel != 0 ? model_.host.start_parallel : ground_.processors();
    std::vector<Guest*> wave;
    for (const auto& guest : guests_)
        if (guest->in_line() && wave.size() < parallel && !ending_)
            wave.push_back(guest.get());
    wave_.clear();
    for (const auto* guest : wave)
        wave_.push_back(guest->config().name);
    coming_up_ = wave_;
    if (wave.empty()) {
        if (!std::exchange(up_, true))
            events_.tell("up");
        auto failure = std::exchange(start_failure_, std::nullopt);
        if (auto done = std::exchange(started_, nullptr))
            done(failure ? Result<void>(std::unexpected(std::move(*failure))) : Result<void>());
        return;
    }
    if (model_.host.answer_timeout.count() != 0)
        slow_.start(model_.host.answer_timeout);
    for (auto* guest : wave) {
        if (ending_)
            return; // one before it failed
        guest->start(
            [this, guest](Result<void> started) { one_started(*guest, std::move(started)); });
    }
}

void Host::one_started(Guest& guest, Result<void> started) {
    const bool awaited = std::erase(coming_up_, guest.config().name) != 0;
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
    if (awaited && coming_up_.empty())
        end_wave();
}

// A process that says nothing, not even that it failed, must not keep the others from starting.
void Host::let_slow_ones_be() {
    for (const auto& name : std::exchange(coming_up_, {})) {
        log::warning("host", "vm {} has not come up in {}: the next are started", name,
                     format_duration(model_.host.answer_timeout));
        if (auto guest = find_by_name(name))
            guest->tell("slow start", "after " + format_duration(model_.host.answer_timeout));
    }
    end_wave();
}

void Host::end_wave() {
    slow_.stop();
    const bool more = std::ranges::any_of(guests_, [](const auto& one) { return one->in_line(); });
    if (more && model_.host.start_delay == config::until_answer)
        answers_.start(look_interval, look_interval);
    else
        stagger_.start(more ? model_.host.start_delay : std::chrono::milliseconds(0));
}

void Host::look_for_answers() {
    std::erase_if(wave_, [this](const std::string& name) {
        auto guest = find_by_name(name);
        return guest == nullptr || has_answered(*guest);
    });
    if (wave_.empty() || ending_) {
        answers_.stop();
        stagger_.start(std::chrono::milliseconds(0));
        return;
    }
    for (const auto& name : wave_)
        find_by_name(name)->count([] {}); // whether it listens is known the next time
}

bool Host::has_answered(const Guest& guest) {
    const auto& vm = guest.config();
    auto timeout_ms = static_cast<std::uint64_t>(vm.start_timeout.count());
    auto answer = answer_of({.state = guest.state(),
                             .up_ms = guest.up_ms(),
                             .timeout_ms = timeout_ms,
                             .gets_address = gets_address(model_, vm),
                             .has_lease = guest.lease.has_value(),
                             .listens = guest.listens()});
    if (answer == Answer::late) {
        log::warning("host", "vm {} has not answered in {}: the next are started", vm.name,
                     format_duration(vm.start_timeout));
        guest.tell("no answer", "in " + format_duration(vm.start_timeout));
    } else if (answer == Answer::given) {
        guest.tell("answered", guest.lease ? "lease " + guest.lease->text() : "driver");
    }
    return answer != Answer::none;
}

} // namespace vmhost::host
