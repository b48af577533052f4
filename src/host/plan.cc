#include "host/plan.h"

#include <algorithm>

namespace vmhost::host {

namespace {

// The first rule whose pattern is the beginning of a key decides; * is one name, and an index is
// part of its name. What no rule names is part of what a guest sees: it needs a restart.
struct Rule {
    std::string_view pattern;
    Effect effect;
};
constexpr Rule rules[] = {
    {"vm.*.enable", Effect::none},
    {"vm.*.suspended", Effect::none}, // of the starts to come
    {"vm.*.owner", Effect::none},
    {"vm.*.restart", Effect::none},
    {"vm.*.instance_of", Effect::none}, // what it has from there stands beside it
    {"vm.*.allow_instance", Effect::none},
    {"vm.*.start_timeout", Effect::none},
    {"vm.*.stop_timeout", Effect::none},
    {"vm.*.stop_answer_timeout", Effect::none},
    {"vm.*.console_log", Effect::next_start},
    {"vm.*.install.mode", Effect::none}, // of the first installation
    {"vm.*.install.kernel", Effect::next_start},
    {"vm.*.install.initrd", Effect::next_start},
    {"vm.*.install.command_line", Effect::next_start},
    {"vm.*.install.stall_timeout", Effect::none},
    {"vm.*.install", Effect::service},
    {"vm.*.dhcp", Effect::service}, // the guest has it at its next renewal
    {"vm.*.interface.group", Effect::next_start},
    {"vm.*.interface.vhost", Effect::next_start}, // no guest sees a difference
    {"vm.*.interface.ipv4", Effect::service},     // the guest has it at its next renewal
    {"vm.*.interface.ipv6", Effect::service},
    {"vm.*.interface.guard", Effect::none},
    {"vm.*", Effect::restart},
    {"switch.*.dhcp", Effect::service},
    {"switch.*.dhcp6", Effect::service},
    {"switch.*.ra", Effect::service},
    {"switch.*.ipv4", Effect::reconnect},
    {"switch.*.ipv6", Effect::reconnect},
    {"switch.*.ports", Effect::reconnect},
    {"switch.*.up", Effect::reconnect},
    {"switch.*.locked_lladdr", Effect::none}, // its interfaces say what comes of it
    {"switch.*.isolated", Effect::none},
    {"switch.*.group", Effect::next_start}, // of the guests on it
    {"switch.*.vxlan", Effect::reconnect},
    {"switch.*.rdomain", Effect::reconnect},
    {"switch.*.guard", Effect::none},
    {"switch.*.storm", Effect::none},
    {"switch.*", Effect::restart}, // of the guests on it
    {"host.domain", Effect::service},
    {"host.start", Effect::none},
    {"host.stop_timeout", Effect::none},
    {"host.answer_timeout", Effect::none}, // of the processes that are started from now on
    {"host", Effect::daemon},
    {"control", Effect::daemon},
    {"install.sshfp_command", Effect::none},
    {"install", Effect::service},
    {"tftp", Effect::service},
    {"metrics", Effect::service},
    {"allocate", Effect::none},
};

std::vector<std::string_view> parts_of(std::string_view key) {
    std::vector<std::string_view> parts;
    for (;;) {
        auto dot = key.find('.');
        parts.push_back(key.substr(0, dot));
        if (dot == std::string_view::npos)
            return parts;
        key.remove_prefix(dot + 1);
    }
}

using Path = std::vector<std::string>;

bool matches(std::string_view pattern, const Path& key) {
    auto wanted = parts_of(pattern);
    if (wanted.size() > key.size())
        return false;
    for (std::size_t i = 0; i < wanted.size(); ++i)
        if (wanted[i] != "*" && wanted[i] != std::string_view(key[i]).substr(0, key[i].find('[')))
            return false;
    return true;
}

Effect effect_of(const Path& key) {
    auto rule =
        std::ranges::find_if(rules, [&](const Rule& one) { return matches(one.pattern, key); });
    return rule == std::end(rules) ? Effect::daemon : rule->effect;
}

std::string subject_of(const Path& key) {
    if ((key[0] == "vm" || key[0] == "switch") && key.size() > 1)
        return fmt::format("{} {}", key[0], key[1]);
    return key[0];
}

} // namespace

std::string_view name_of(Effect effect) {
    constexpr std::string_view names[] = {"none",    "next start", "service", "reconnect",
                                          "restart", "stop",       "start",   "new daemon"};
    return names[static_cast<std::size_t>(effect)];
}

const Change* Plan::refused() const {
    auto found = std::ranges::find(changes, Effect::daemon, &Change::effect);
    return found == changes.end() ? nullptr : &*found;
}

Effect Plan::effect_on(std::string_view subject) const {
    auto most = Effect::none;
    for (const auto& change : changes)
        if (change.subject == subject)
            most = std::max(most, change.effect);
    return most;
}

bool Plan::touches(Effect effect) const {
    return std::ranges::find(changes, effect, &Change::effect) != changes.end();
}

std::string Plan::digest() const {
    // FNV-1a: against mistakes, not against forgers; who may apply may also write the file.
    std::uint64_t hash = 0xcbf29ce484222325;
    auto add = [&](std::string_view text) {
        for (unsigned char byte : text)
            hash = (hash ^ byte) * 0x100000001b3;
        hash = (hash ^ 0x1ff) * 0x100000001b3;
    };
    for (const auto& change : changes) {
        add(change.difference.key);
        add(change.difference.before);
        add(change.difference.after);
        add(std::to_string(change.difference.fingerprint));
        add(name_of(change.effect));
    }
    return fmt::format("{:016x}", hash);
}

Plan make_plan(const config::Model& running, const config::Model& file,
               const std::vector<VmState>& vms) {
    auto runs = [&](std::string_view name) {
        return std::ranges::any_of(
            vms, [&](const VmState& vm) { return vm.name == name && vm.running; });
    };
    Plan plan;
    for (auto& difference : config::differences(running, file)) {
        Change change;
        const auto& key = difference.path;
        change.subject = subject_of(key);
        change.effect = effect_of(key);
        using Kind = config::Difference::Kind;
        bool whole = key.size() == 2 && (key[0] == "vm" || key[0] == "switch");
        if (whole && key[0] == "vm" && difference.kind == Kind::added)
            change.effect = starts_with_host(*file.find_vm(key[1])) ? Effect::start : Effect::none;
        else if (whole && difference.kind == Kind::removed && key[0] == "vm")
            change.effect = runs(key[1]) ? Effect::stop : Effect::none;
        else if (whole && key[0] == "switch")
            change.effect = Effect::service;
        else if (key[0] == "vm" && !runs(key[1]) && change.effect == Effect::restart)
            change.effect = Effect::none;
        change.difference = std::move(difference);
        plan.changes.push_back(std::move(change));
    }
    // A guest on a switch that is made anew goes down with it; and one whose switch is missing,
    // since an earlier order failed, has to be plugged in.
    auto made = [&](const std::string& name) {
        return plan.effect_on("switch " + name) == Effect::restart ||
               (file.find_switch(name) != nullptr && running.find_switch(name) == nullptr);
    };
    for (const auto& vm : file.vms) {
        auto subject = "vm " + vm.name;
        if (!runs(vm.name) || plan.effect_on(subject) >= Effect::restart)
            continue;
        for (const auto& interface : vm.interfaces) {
            if (!made(interface.switch_name))
                continue;
            Change change;
            change.subject = subject;
            change.effect = Effect::restart;
            change.difference.key = fmt::format("vm.{}", vm.name);
            change.difference.path = {"vm", vm.name};
            change.difference.after =
                fmt::format("its switch {} is made anew", interface.switch_name);
            change.difference.place = interface.place;
            plan.changes.push_back(std::move(change));
            break;
        }
    }
    return plan;
}

} // namespace vmhost::host
