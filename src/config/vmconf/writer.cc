// vm.conf(5) to vmhost.toml(5), statement by statement. Every line remembers the statement that
// it comes from, so that a complaint about the result can name it.
//
// What differs between the two and is not a key for a key:
//   locked lladdr  is off in vm.conf unless it is said, and on here: it is always written
//   interfaces N   becomes interfaces that are plugged into nothing, up to that number
//   the bridge     is made by an administrator there, with its ports; here by vmhost, so the ports
//                  must be added by hand, and a comment says so
//   enable         is the default of both
#include "config/vmconf/writer.h"

#include <algorithm>

#include "config/rules.h"
#include "config/toml_text.h"

namespace vmhost::config::vmconf {

namespace {

class Writer {
public:
    Writer(const Conf& conf, std::vector<Error>& warnings) : conf_(conf), warnings_(warnings) {}

    Written run() {
        line({}, "# Made from a vm.conf(5) by vmhost import: see vmhost.toml(5).");
        globals();
        for (const Switch& sw : conf_.switches)
            write_switch(sw);
        for (const Vm& vm : conf_.vms)
            write_vm(vm);
        return std::move(out_);
    }

private:
    void line(const Place& place, std::string_view text) {
        out_.toml += text;
        out_.toml += '\n';
        out_.origins.push_back(place);
    }
    void header(const Place& place, std::string_view text) {
        line({}, "");
        line(place, text);
    }
    // A key with a value that is TOML already.
    void key(const Place& place, std::string_view name, std::string_view value) {
        line(place, fmt::format("{} = {}", name, value));
    }
    void key(const Text& said, std::string_view name) {
        if (said.given)
            key(said, name, quoted_text(said.value));
    }
    void lost(const Place& place, std::string text) {
        line(place, fmt::format("# {}:{}: {}", printable(place.file), place.line, text));
        warnings_.push_back(Error(ErrorKind::unsupported, std::move(text)).at(place));
    }

    void globals() {
        if (conf_.agentx.given)
            lost(conf_.agentx, "agentx: there is no SNMP here; vmctl status --json tells the same");
        if (conf_.start_parallel.given || conf_.local_prefix.given || conf_.inet6.given)
            header({}, "[host]");
        if (conf_.start_parallel.given)
            key(conf_.start_parallel, "start",
                fmt::format("{{ parallel = {}, delay = \"{}s\" }}", conf_.start_parallel.value,
                            conf_.start_delay_s.value));
        if (conf_.local_prefix.given || conf_.inet6.given) {
            const auto& prefix = conf_.inet6.value;
            std::string both;
            if (conf_.local_prefix.given)
                both = fmt::format("ipv4 = {}", quoted_text(conf_.local_prefix.value));
            if (conf_.inet6.given)
                both += fmt::format("{}ipv6 = {}", both.empty() ? "" : ", ",
                                    prefix.empty() ? "true" : quoted_text(prefix));
            const Place& place = conf_.local_prefix.given ? conf_.local_prefix : conf_.inet6;
            key(place, "local", fmt::format("{{ {} }}", both));
        }
        if (conf_.socket_owner.given) {
            header(conf_.socket_owner, "[control]");
            key(conf_.socket_owner, "owner");
        }
    }

    // Of a switch or an interface.
    void group_and_rdomain(const Text& group, const Number& rdomain) {
        constexpr unsigned first_of_linux = 253;
        key(group, "group");
        if (rdomain.given && rdomain.value >= first_of_linux)
            lost(rdomain, fmt::format("rdomain {}: Linux has the tables 253 to 255 of routes for "
                                      "itself",
                                      rdomain.value));
        else if (rdomain.given && rdomain.value != 0)
            key(rdomain, "rdomain", std::to_string(rdomain.value));
    }

    // A bridge and what is on it are in one routing domain.
    bool in_domain_of_switch(const Interface& interface) const {
        auto sw = std::ranges::find_if(conf_.switches, [&](const Switch& one) {
            return one.name == interface.switch_name.value;
        });
        return sw == conf_.switches.end() || sw->rdomain.value == interface.rdomain.value;
    }

    void write_switch(const Switch& sw) {
        header(sw.place, fmt::format("[switch.{}]", key_text(sw.name)));
        if (sw.enable.given && !sw.enable.value)
            key(sw.enable, "enable", "false");
        key(sw.interface, "interface");
        if (sw.interface.given)
            lost(
                sw.interface,
                fmt::format("the ports of {0} are not in vm.conf: name the interfaces of this host "
                            "that belong to it, as ports = [\"eth0\"]",
                            printable(sw.interface.value, 40)));
        else
            lost(sw.place,
                 fmt::format("switch {} has no interface: its bridge is made by vmhost", sw.name));
        key(sw.place, "locked_lladdr", sw.locked.given ? "true" : "false");
        if (sw.up.given && !sw.up.value)
            key(sw.up, "up", "false");
        group_and_rdomain(sw.group, sw.rdomain);
    }

    void write_vm(const Vm& vm) {
        name_ = key_text(vm.name);
        header(vm.place, fmt::format("[vm.{}]", name_));
        key(vm.parent, "instance_of");
        if (vm.enable.given && !vm.enable.value)
            key(vm.enable, "enable", "false");
        key(vm.owner, "owner");
        if (vm.memory_bytes.given)
            key(vm.memory_bytes, "memory", quoted_text(exact_size(vm.memory_bytes.value)));
        key(vm.boot, "boot");
        key(vm.boot_device, "boot_device");
        if (vm.cdrom.given)
            key(vm.cdrom, "cdrom");
        else if (vm.boot_device.value == "cdrom" && !vm.parent.given)
            key(vm.boot_device, "cdrom", "\"\"");
        if (vm.sev.given)
            lost(vm.sev, "sev: there are no encrypted guests yet");
        if (vm.seves.given)
            lost(vm.seves, "seves: there are no encrypted guests yet");
        allow(vm);
        for (const Disk& disk : vm.disks) {
            header(disk.path, fmt::format("[[vm.{}.disk]]", name_));
            key(disk.path, "path");
            key(disk.format, "format");
        }
        for (const Interface& interface : vm.interfaces)
            write_interface(interface);
        for (auto i = vm.interfaces.size(); i < vm.interfaces_min.value; ++i)
            header(vm.interfaces_min, fmt::format("[[vm.{}.interface]]", name_));
    }

    void allow(const Vm& vm) {
        if (!vm.allow_instance)
            return;
        std::string options;
        for (const auto& option : vm.allow_options)
            options += (options.empty() ? "" : ", ") + quoted_text(option);
        auto owner = vm.allow_owner.given
                         ? fmt::format("owner = {}, ", quoted_text(vm.allow_owner.value))
                         : std::string();
        key(vm.allow_place, "allow_instance",
            fmt::format("{{ {}options = [{}] }}", owner, options));
    }

    void write_interface(const Interface& interface) {
        header(interface.place, fmt::format("[[vm.{}.interface]]", name_));
        if (interface.local)
            key(interface.place, "local", "true");
        const bool plugged = wire(interface);
        key(interface.tap, "tap");
        key(interface.lladdr, "lladdr");
        if (interface.locked.given && (plugged || interface.local))
            key(interface.locked, "locked_lladdr", "true");
        else if (interface.locked.given)
            lost(interface.locked, "locked lladdr: has no effect without a switch");
        else if (interface.local)
            key(interface.place, "locked_lladdr", "false");
        if (interface.up.given && !interface.up.value)
            key(interface.up, "up", "false");
        if (plugged && interface.rdomain.given && !in_domain_of_switch(interface)) {
            lost(interface.rdomain,
                 fmt::format("rdomain {}: an interface is in the routing domain of its switch",
                             interface.rdomain.value));
            group_and_rdomain(interface.group, {});
        } else {
            group_and_rdomain(interface.group, interface.rdomain);
        }
    }

    // Whether it is plugged into a switch.
    bool wire(const Interface& interface) {
        const Text& name = interface.switch_name;
        if (!name.given)
            return false;
        if (interface.local) {
            lost(name, fmt::format("switch {}: a local interface has a wire of its own",
                                   printable(name.value, 70)));
            return false;
        }
        if (std::ranges::none_of(conf_.switches,
                                 [&](const Switch& sw) { return sw.name == name.value; })) {
            lost(name, fmt::format("switch {}: there is none of this name, the interface is "
                                   "plugged into nothing",
                                   printable(name.value, 70)));
            return false;
        }
        key(name, "switch");
        return true;
    }

    const Conf& conf_;
    std::vector<Error>& warnings_;
    Written out_;
    std::string name_; // of the VM that is being written, as a key
};

} // namespace

Written write(const Conf& conf, std::vector<Error>& warnings) {
    return Writer(conf, warnings).run();
}

} // namespace vmhost::config::vmconf
