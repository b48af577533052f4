#include "spec.h"

#include <algorithm>

#include "base/base.h"

namespace vmhost::simulation {

namespace {

std::string list_of(const std::vector<std::string>& items) {
    std::vector<std::string> quoted;
    for (const auto& item : items)
        quoted.push_back("\"" + item + "\"");
    return fmt::format("[{}]", fmt::join(quoted, ", "));
}

// A port belongs to one switch.
std::vector<std::string> free_ports(const Spec& spec) {
    std::vector<std::string> ports{"eth1", "eth2", "eth3"};
    for (const auto& one : spec.switches)
        std::erase_if(ports, [&](const auto& port) {
            return std::ranges::find(one.ports, port) != one.ports.end();
        });
    return ports;
}

SwitchSpec random_switch(const Spec& spec, Random& random, const std::string& name) {
    SwitchSpec one;
    one.name = name;
    if (random.chance(75))
        for (unsigned net = 1; net < 20 && one.net == 0; ++net)
            if (std::ranges::find(spec.switches, net, &SwitchSpec::net) == spec.switches.end())
                one.net = net;
    one.enabled = !random.chance(10);
    one.dhcp = random.chance(70);
    if (auto ports = free_ports(spec); !ports.empty() && random.chance(40))
        one.ports.push_back(random.of(ports));
    return one;
}

std::vector<std::string> random_plugs(const Spec& spec, Random& random) {
    std::vector<std::string> plugs;
    for (auto count = random.below(3); count > 0; --count)
        plugs.push_back(random.chance(15)       ? "local"
                        : random.chance(10)     ? ""
                        : spec.switches.empty() ? ""
                                                : random.of(spec.switches).name);
    return plugs;
}

VmSpec random_vm(const Spec& spec, Random& random, const std::string& name) {
    VmSpec vm;
    vm.name = name;
    vm.enabled = random.chance(80);
    vm.vcpus = static_cast<unsigned>(random.between(1, 3));
    vm.restart = random.of<std::string>({"never", "on-failure", "always"});
    vm.stop_timeout_s = static_cast<unsigned>(random.between(1, 30));
    vm.disk = random.chance(50);
    vm.qcow2 = random.chance(20);
    if (!vm.disk && random.chance(20))
        vm.owner = "alice";
    vm.switches = random_plugs(spec, random);
    vm.install = random.chance(15);
    return vm;
}

template <class T>
std::string free_name(const std::vector<T>& taken, const std::vector<std::string>& names) {
    for (const auto& name : names)
        if (std::ranges::find(taken, name, &T::name) == taken.end())
            return name;
    return {};
}

const std::vector<std::string> vm_names{"a", "b", "c", "d", "e", "f", "g", "h"};
const std::vector<std::string> switch_names{"lan", "dmz", "lab", "up"};

std::string change_switch(Spec& spec, Random& random) {
    auto& one = spec.switches[random.below(spec.switches.size())];
    switch (random.below(8)) {
    case 0:
        one.mtu = one.mtu == 1500 ? 1400 : 1500;
        return "mtu of switch " + one.name;
    case 1:
        one.enabled = !one.enabled;
        return "enable of switch " + one.name;
    case 2:
        one.up = !one.up;
        return "up of switch " + one.name;
    case 5:
        one.guard = !one.guard;
        return "guard of switch " + one.name;
    case 6:
        one.storm = one.storm == 0 ? 1000 : one.storm == 1000 ? 500 : 0;
        return "storm of switch " + one.name;
    case 3:
        one.dhcp = !one.dhcp;
        return "dhcp of switch " + one.name;
    case 4: {
        auto ports = free_ports(spec);
        if (!one.ports.empty())
            one.ports.clear();
        else if (!ports.empty())
            one.ports = {random.of(ports)};
        return "ports of switch " + one.name;
    }
    default: {
        // Two that swap their addresses, or one that gets another.
        auto& other = spec.switches[random.below(spec.switches.size())];
        if (&other != &one)
            std::swap(one.net, other.net);
        else
            one.net = one.net == 0 ? 30 + static_cast<unsigned>(random.below(200)) : 0;
        return fmt::format("address of switches {} and {}", one.name, other.name);
    }
    }
}

std::string change_vm(Spec& spec, Random& random) {
    auto& vm = spec.vms[random.below(spec.vms.size())];
    switch (random.below(9)) {
    case 0:
        vm.memory_mib = vm.memory_mib == 64 ? 128 : 64;
        return "memory of vm " + vm.name;
    case 1:
        vm.vcpus = vm.vcpus % 3 + 1;
        return "vcpus of vm " + vm.name;
    case 2:
        vm.enabled = !vm.enabled;
        return "enable of vm " + vm.name;
    case 3:
        vm.restart = random.of<std::string>({"never", "on-failure", "always"});
        return "restart of vm " + vm.name;
    case 4:
        vm.stop_timeout_s = vm.stop_timeout_s % 30 + 1;
        return "stop_timeout of vm " + vm.name;
    case 5:
        vm.disk = !vm.disk;
        if (vm.disk)
            vm.owner = "root";
        return "disk of vm " + vm.name;
    case 6:
        vm.switches = random_plugs(spec, random);
        return "interfaces of vm " + vm.name;
    case 7:
        vm.install = !vm.install;
        return "install of vm " + vm.name;
    default:
        if (!vm.disk)
            vm.owner = vm.owner == "root" ? "alice" : "root";
        return "owner of vm " + vm.name;
    }
}

} // namespace

std::string Spec::text(const std::string& state_directory) const {
    // Without looking after silent processes: asking them goes on for ever, and nothing would
    // settle.
    std::string out = fmt::format("[host]\nname = \"sim\"\nstate = \"{}\"\nuser = \"{}\"\n"
                                  "start = {{ parallel = {}, delay = \"{}ms\" }}\n"
                                  "stop_timeout = \"{}s\"\nanswer_timeout = \"0s\"\n",
                                  state_directory, user, parallel, delay_ms, stop_timeout_s);
    if (parallel % 2 == 1) // as good as any number to decide it by
        out += fmt::format("[tftp]\ndirectory = \"{}\"\n", state_directory);
    for (const auto& one : switches) {
        out += fmt::format("[switch.{}]\nenable = {}\nup = {}\nmtu = {}\nports = {}\n", one.name,
                           one.enabled, one.up, one.mtu, list_of(one.ports));
        out += fmt::format("guard = {}\nstorm = {}\n", one.guard,
                           one.storm == 0 ? "false" : fmt::format("{{ frames = {} }}", one.storm));
        if (one.net != 0)
            out += fmt::format("ipv4 = \"10.{}.0.1/24\"\ndhcp = {}\n", one.net, one.dhcp);
        if (one.net % 2 == 1) // with IPv6, too
            out += fmt::format("ipv6 = \"fd00:{}::1/64\"\nra = {}\ndhcp6 = {}\n", one.net, one.dhcp,
                               one.dhcp);
    }
    for (const auto& vm : vms) {
        out += fmt::format("[vm.{}]\nenable = {}\nmemory = \"{}M\"\nvcpus = {}\nrestart = \"{}\"\n"
                           "owner = \"{}\"\nstop_timeout = \"{}s\"\n",
                           vm.name, vm.enabled, vm.memory_mib, vm.vcpus, vm.restart, vm.owner,
                           vm.stop_timeout_s);
        if (vm.disk)
            out += fmt::format("disk = [{{ path = \"{}.{}\", size = \"1M\" }}]\n", vm.name,
                               vm.qcow2 ? "qcow2" : "img");
        std::vector<std::string> plugs;
        for (const auto& plug : vm.switches)
            plugs.push_back(plug.empty()      ? "{ }"
                            : plug == "local" ? "{ local = true }"
                                              : "{ switch = \"" + plug + "\" }");
        if (!plugs.empty())
            out += fmt::format("interface = [{}]\n", fmt::join(plugs, ", "));
        if (vm.install)
            out += "install = { }\n";
    }
    return out;
}

Spec random_spec(Random& random) {
    Spec spec;
    spec.parallel = static_cast<unsigned>(random.below(4));
    spec.delay_ms = random.of<unsigned>({0, 0, 200, 5000, 30'000});
    spec.stop_timeout_s = static_cast<unsigned>(random.between(1, 60));
    for (auto count = random.below(4); count > 0; --count)
        spec.switches.push_back(
            random_switch(spec, random, free_name(spec.switches, switch_names)));
    for (auto count = random.below(7); count > 0; --count)
        spec.vms.push_back(random_vm(spec, random, free_name(spec.vms, vm_names)));
    return spec;
}

std::string change(Spec& spec, Random& random) {
    for (;;)
        switch (random.below(8)) {
        case 0:
            if (auto name = free_name(spec.vms, vm_names); !name.empty()) {
                spec.vms.insert(spec.vms.begin() +
                                    static_cast<std::ptrdiff_t>(random.below(spec.vms.size() + 1)),
                                random_vm(spec, random, name));
                return "vm " + name + " is new";
            }
            break;
        case 1:
            if (!spec.vms.empty()) {
                auto gone =
                    spec.vms.begin() + static_cast<std::ptrdiff_t>(random.below(spec.vms.size()));
                auto name = gone->name;
                spec.vms.erase(gone);
                return "vm " + name + " is gone";
            }
            break;
        case 2:
            if (auto name = free_name(spec.switches, switch_names); !name.empty()) {
                spec.switches.push_back(random_switch(spec, random, name));
                return "switch " + name + " is new";
            }
            break;
        case 3:
            if (!spec.switches.empty()) {
                auto gone = random.below(spec.switches.size());
                auto name = spec.switches[gone].name;
                spec.switches.erase(spec.switches.begin() + static_cast<std::ptrdiff_t>(gone));
                for (auto& vm : spec.vms)
                    std::ranges::replace(vm.switches, name, std::string());
                return "switch " + name + " is gone";
            }
            break;
        case 4:
            if (!spec.switches.empty())
                return change_switch(spec, random);
            break;
        case 5:
            spec.parallel = static_cast<unsigned>(random.below(4));
            spec.delay_ms = random.of<unsigned>({0, 200, 5000});
            return "start";
        default:
            if (!spec.vms.empty())
                return change_vm(spec, random);
        }
}

} // namespace vmhost::simulation
