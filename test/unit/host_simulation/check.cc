// What must be true of a host that has come to rest, whatever happened before.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "scenario.h"

namespace vmhost::simulation {

using host::GuestState;

void Scenario::complain(const std::string& text) {
    world_.note("WRONG: " + text);
    complaints_.push_back(text);
}

void Scenario::check() {
    if (!up_)
        return complain("the host is at rest, and not up");
    check_processes();
    check_ids();
    check_promises();
    check_wants();
    if (!complaints_.empty())
        return;
    check_plan();
    if (!complaints_.empty())
        return;
    check_processes();
    check_promises();
    check_wants();
    check_services();
    check_links();
    check_disks();
    for (auto& [name, known] : known_) {
        known.touched = false; // whatever comes or goes from now on has a reason of its own
        known.unasked_deaths = 0;
    }
}

// Each guest that the host takes to run has one process, and there is no other.
void Scenario::check_processes() {
    std::size_t running = 0;
    for (const auto& guest : host_->guests()) {
        const auto& name = guest->config().name;
        const auto living = world_.living_vm(name);
        running += living.size();
        if (living.size() > 1)
            complain(fmt::format("vm {} has {} processes", name, living.size()));
        if (guest->pid().has_value() != (living.size() == 1) ||
            (guest->pid() && *guest->pid() != living.front()->pid))
            complain(fmt::format("vm {} is {} and has {} processes", name,
                                 host::name_of(guest->state()), living.size()));
        if (!living.empty() && living.front()->deaf)
            continue; // nobody knows how it is
        if (living.empty() ? guest->state() != GuestState::stopped
                           : guest->state() != (living.front()->paused ? GuestState::paused
                                                                       : GuestState::running))
            complain(fmt::format("vm {} is {} at rest, and its process is {}", name,
                                 host::name_of(guest->state()),
                                 living.empty()           ? "gone"
                                 : living.front()->paused ? "paused"
                                                          : "running"));
    }
    if (auto all = world_.living("vm").size(); all != running)
        complain(fmt::format("{} VM processes, and {} guests that run", all, running));
}

void Scenario::check_services() {
    for (const auto& [role, wanted] :
         {std::pair<std::string, bool>{"dhcp", host::wants_dhcp(host_->model())},
          {"http", host::wants_http(host_->model())},
          {"ipv6", host::wants_ipv6(host_->model())},
          {"tftp", host::wants_tftp(host_->model())}}) {
        const auto living = world_.living(role).size();
        if (living != (wanted ? 1U : 0U))
            complain(fmt::format("{} processes of {}, which is {}", living, role,
                                 wanted ? "wanted" : "not wanted"));
    }
}

// The guard of a plugged interface, in the words of the kernel's text.
static std::string guard_text(const config::Switch& bridge, const config::Interface& interface) {
    net::PortGuard guard;
    if (bridge.storm.enabled)
        guard.storm = net::Storm{bridge.storm.frames, bridge.storm.burst};
    guard.frames = *interface.guard;
    if (guard.frames && *interface.locked_lladdr)
        guard.mac = interface.lladdr;
    if (guard.frames && interface.ipv4)
        guard.ipv4 = {{*interface.ipv4, 32}};
    return text_of(guard);
}

// Everything of the machine is as it was, but for the ports of switches; and of ours there is what
// the model says, and nothing else.
void Scenario::check_links() {
    const auto& model = host_->model();
    auto bridge_of = [&](const std::string& name) -> const config::Switch* {
        const auto* one = model.find_switch(name);
        return one && one->enabled ? one : nullptr;
    };
    std::set<std::string> expected, found, stale;
    std::istringstream before(untouched_), now(world_.kernel.text());
    for (std::string line; std::getline(before, line);) {
        const auto name = line.substr(0, line.find(' '));
        for (const auto& one : model.switches)
            if (one.enabled && std::ranges::find(one.ports, name, &config::SwitchPort::interface) !=
                                   one.ports.end())
                line.replace(line.find("master -"), 8, "master " + one.interface);
        expected.insert(line);
    }
    for (const auto& one : model.switches)
        if (one.enabled)
            expected.insert(
                fmt::format("{} kind \"bridge\" alias \"vmhost:sim:{}\" mtu {} master - {}{}{}{}",
                            one.interface, one.interface, one.mtu, one.up ? "up" : "down",
                            one.ipv6 ? "" : " no-ipv6", one.ipv4 ? " " + one.ipv4->text() : "",
                            one.ipv6 ? " " + one.ipv6->text() : ""));
    for (const auto& guest : host_->guests()) {
        const auto& vm = guest->config();
        // A reload leaves it with what it was started with, until its next start.
        if (guest->pid() && plugs_of(vm.name) != started_with_[vm.name]) {
            stale.insert(vm.name);
            continue;
        }
        for (std::size_t i = 0; guest->pid() && i < vm.interfaces.size(); ++i) {
            const auto& interface = vm.interfaces[i];
            const auto* bridge = bridge_of(interface.switch_name);
            expected.insert(fmt::format(
                "{} kind \"tun\" alias \"vmhost:sim:vm{}-if{}-{}\" mtu {} master {} {} no-ipv6{}{}",
                net::tap_name(vm.name, static_cast<unsigned>(i)), guest->id(), i, vm.name,
                bridge ? bridge->mtu : 1500, bridge ? bridge->interface : "-",
                interface.up ? "up" : "down",
                !bridge
                    ? ""
                    : fmt::format(
                          "{}{}{} knows {}",
                          interface.locked_lladdr.value_or(false) ? " locked" : "",
                          interface.isolated.value_or(false) ? " isolated" : "",
                          interface.locked_lladdr.value_or(false) ? " no-learning no-flooding" : "",
                          interface.lladdr.text()),
                bridge ? guard_text(*bridge, interface) : ""));
        }
    }
    world_.kernel.settle();
    now.str(world_.kernel.text());
    for (std::string line; std::getline(now, line);)
        found.insert(line);
    for (const auto& line : expected)
        if (!found.contains(line))
            complain("not there: " + line);
    for (const auto& line : found)
        if (!expected.contains(line) && std::ranges::none_of(stale, [&](const auto& name) {
                return line.find(" kind \"tun\"") != std::string::npos &&
                       line.starts_with(name + "-if");
            }))
            complain("there, and not expected: " + line);
}

void Scenario::check_ids() {
    std::set<std::uint32_t> ids;
    for (const auto& guest : host_->guests())
        if (!ids.insert(guest->id()).second)
            complain(fmt::format("the id {} is that of two VMs", guest->id()));
}

// Who waits for the end of a VM that runs, or for the answer of one that hears nothing.
bool Scenario::waits_well(const std::string& what) const {
    for (const auto& process : world_.processes)
        if (process->alive && process->deaf && what.ends_with(" of " + vm_of(*process)))
            return true;
    const std::string begin = "wait for ";
    if (!what.starts_with(begin))
        return false;
    auto guest = host_->find(what.substr(begin.size()));
    return guest && (*guest)->pid();
}

void Scenario::check_promises() {
    // The end of the host is the end of what it was at, see host.h.
    const std::set<std::string> cut_off{"end of the host", "start of the host", "apply", "reload"};
    for (const auto& one : promises_)
        if (one->called == 0 && !(ending_ && cut_off.contains(one->what)) && !waits_well(one->what))
            complain("was never answered: " + one->what);
    if (!ending_)
        promises_.clear();
}

// A disk that is there is whole.
void Scenario::check_disks() {
    for (const auto& vm : spec_.vms) {
        if (!vm.disk)
            continue;
        auto path = fmt::format("{}/{}.{}", directory_, vm.name, vm.qcow2 ? "qcow2" : "img");
        std::error_code none;
        const auto size = std::filesystem::file_size(path, none);
        if (none)
            continue; // it was never started
        std::string magic(4, '\0');
        std::ifstream(path).read(magic.data(), 4);
        if (vm.qcow2 ? magic != "QFI\xfb" : size != 1 << 20)
            complain(fmt::format("disk {} has {} bytes and is not what it was to be", path, size));
    }
}

void Scenario::check_wants() {
    for (const auto& [name, known] : known_) {
        if (known.want == Want::unknown)
            continue;
        auto guest = host_->find(name);
        const bool runs = guest && (*guest)->pid();
        if (runs && world_.find(*(*guest)->pid())->deaf)
            continue; // it may have been asked to end
        if (runs != (known.want == Want::up))
            complain(fmt::format("vm {} {}: {}", name,
                                 runs ? "runs and should not" : "should run and does not",
                                 guest ? (*guest)->note() : "it is not there"));
    }
}

// What the file says can be applied when nothing is in the way, and then nothing is left to do.
void Scenario::check_plan() {
    auto file = host_->load(file_);
    if (!file)
        return complain("the file is refused: " + file.error().message());
    // VMs that are not in the file may be in its way.
    in_parent([this] {
        for (const auto& guest : host_->guests())
            if (guest->temporary()) {
                known_[guest->config().name].touched = true;
                known_[guest->config().name].want = Want::down;
                (void)guest->stop(host::Guest::Stop::force, nullptr);
            }
    });
    rest();
    // A plan looks at the links: the step at which the parent is killed may be among those.
    auto planned = [&] {
        std::optional<host::Plan> plan;
        for (int tries = 0; !plan && tries < 2; ++tries) {
            if (!host_)
                rest();
            if (host_)
                in_parent([&] { plan = host_->plan(*file); });
        }
        return plan;
    };
    if (auto first = planned(); first && !first->empty()) {
        in_parent([this] { apply(true); });
        rest();
    }
    auto plan = planned();
    if (!plan)
        return complain("the host is gone, and nothing went wrong");
    for (const auto& change : plan->changes)
        complain(fmt::format("applied, and still to do: {}: {}: {} -> {}", change.subject,
                             change.difference.key, change.difference.before,
                             change.difference.after));
    // To do nothing disturbs nobody.
    for (auto& [name, known] : known_)
        known.touched = false;
    in_parent([this] { apply(true); });
    rest();
}

void Scenario::check_gone() {
    world_.kernel.settle();
    if (auto text = world_.kernel.text(); text != untouched_)
        complain("left behind:\n" + text);
    for (const auto& process : world_.processes)
        if (process->alive)
            complain(fmt::format("process {} of {} is left", process->pid, process->launch.title));
    if (world_.kernel.anything_bound())
        complain("sockets are left");
}

// As many at once as the file says, and the next ones no sooner than it says.
void Scenario::check_wave(const std::string& name) {
    if (!launched_once_.insert(name).second)
        return; // by its policy
    const auto& start = host_->model().host;
    const auto most = start.start_parallel == 0 ? 3 : start.start_parallel;
    const auto waited_ms = world_.loop.now_ms() - last_ready_ms_;
    if (in_wave_.empty() && last_ready_ms_ != 0 &&
        waited_ms < static_cast<std::uint64_t>(start.start_delay.count()))
        complain(fmt::format("vm {} is started {} ms after the wave before", name, waited_ms));
    in_wave_.insert(name);
    if (in_wave_.size() > most)
        complain(fmt::format("vm {} is the {}th at once of {}", name, in_wave_.size(), most));
}

} // namespace vmhost::simulation
