// Recursive descent over the lexer's words, with one word of look-ahead.
//
// A statement is a line, or a block in braces whose options are a line each; more loosely than
// in OpenBSD, a brace may end the last option.
#include "config/vmconf/parser.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "config/vmconf/words.h"

namespace vmhost::config::vmconf {

namespace {

class Parser : Words {
public:
    using Words::Words;

    Conf run() {
        advance();
        while (token_.kind != Token::Kind::end) {
            if (token_.kind == Token::Kind::newline)
                advance();
            else if (auto done = statement(); !done)
                recover(std::move(done).error(), false);
        }
        return std::move(conf_);
    }
    using Words::take_complaints;

private:
    // ---- the file ---------------------------------------------------------------

    Done statement() {
        auto first = token_;
        if (!first.is_text())
            return expected("a statement");
        advance();
        if (token_.is('=') && first.kind == Token::Kind::word)
            return macro(first);
        if (first.is_word("include"))
            return include();
        if (first.is_word("switch"))
            return switch_block(first.place);
        if (first.is_word("vm"))
            return vm_block(first.place);
        if (first.is_word("socket"))
            TRY(socket());
        else if (first.is_word("staggered"))
            TRY(staggered());
        else if (first.is_word("local"))
            TRY(local());
        else if (first.is_word("agentx"))
            TRY(agentx(first.place));
        else
            return wrong(
                fmt::format("unknown statement \"{}\"{}", printable(first.text, 70),
                            suggestion_for(first.text, {"agentx", "include", "local", "socket",
                                                        "staggered", "switch", "vm"})),
                first.place);
        return end_of_line();
    }

    Done macro(const Token& name) {
        if (is_keyword(name.text))
            return wrong(fmt::format("\"{}\" is a keyword, no name of a macro", name.text),
                         name.place);
        advance(); // '='
        std::string value;
        if (token_.is_text() && token_.text.empty())
            advance();
        else
            value = TRY(text("the text of the macro"));
        TRY(end_of_line());
        return lexer_.define(name.text, value, name.place, false);
    }

    Done include() {
        auto place = token_.place;
        auto path = TRY(text("the name of a file"));
        TRY(end_of_line());
        if (auto opened = lexer_.open(path, place); !opened)
            return opened;
        advance(); // into the file
        return {};
    }

    Done socket() {
        TRY(word("owner"));
        TRY(once(conf_.socket_owner, "the owner of the socket"));
        return say_owner(conf_.socket_owner);
    }

    Done staggered() {
        TRY(word("start"));
        TRY(word("parallel"));
        TRY(say_number(conf_.start_parallel, "a number of VMs", 1, limits::max_vms));
        TRY(word("delay"));
        return say_number(conf_.start_delay_s, "a number of seconds", 0,
                          limits::max_duration_ms / 1000);
    }

    Done local() {
        if (take("inet6")) {
            conf_.inet6.say({}, token_.place);
            if (!take("prefix"))
                return {};
            TRY(say_text(conf_.inet6, "an IPv6 prefix such as fd00::/64"));
            if (auto& value = conf_.inet6.value; value.find('/') == std::string::npos)
                value += "/64";
            return {};
        }
        if (!take("prefix"))
            return expected("\"prefix\" or \"inet6\"");
        TRY(say_text(conf_.local_prefix, "a prefix such as 100.64.0.0/10"));
        auto& value = conf_.local_prefix.value;
        if (value.find('/') == std::string::npos)
            value += "/16";
        auto prefix = parse_ipv4_prefix(value);
        if (!prefix)
            return std::unexpected(std::move(prefix).error().at(conf_.local_prefix));
        if (prefix->length < 1 || prefix->length > 16 || prefix->address != prefix->network())
            return wrong(fmt::format("{}: a prefix of 1 to 16 bits, and none beyond them", value),
                         conf_.local_prefix);
        return {};
    }

    Done agentx(const Place& place) {
        conf_.agentx.say("on", place);
        Text ignored;
        for (;;) {
            if (take("context"))
                TRY(say_text(ignored, "a context"));
            else if (take("path"))
                TRY(say_text(ignored, "a path"));
            else
                return {};
        }
    }

    // ---- blocks -------------------------------------------------------------------

    Done switch_block(const Place& place) {
        Switch sw;
        sw.place = place;
        sw.name = TRY(name("the name of a switch"));
        TRY(block("switch", [&] { return switch_option(sw); }));
        if (!switches_.insert(sw.name).second)
            warn(place,
                 fmt::format("there is a switch \"{}\" already: this one is left out", sw.name));
        else
            conf_.switches.push_back(std::move(sw));
        return {};
    }

    Done switch_option(Switch& sw) {
        auto first = token_;
        advance();
        if (first.is_word("enable") || first.is_word("disable"))
            sw.enable.say(first.text == "enable", first.place);
        else if (first.is_word("interface")) {
            TRY(once(sw.interface, "interface"));
            return say_text(sw.interface, "an interface");
        } else if (first.is_word("group"))
            return say_text(sw.group, "the name of a group");
        else if (first.is_word("rdomain"))
            return say_number(sw.rdomain, "a routing domain", 0, 255);
        else if (first.is_word("up") || first.is_word("down"))
            sw.up.say(first.text == "up", first.place);
        else if (first.is_word("locked")) {
            TRY(word("lladdr"));
            sw.locked.say(true, first.place);
        } else
            return wrong(
                fmt::format("unknown option \"{}\" of a switch{}", printable(first.text, 70),
                            suggestion_for(first.text, {"disable", "enable", "group", "interface",
                                                        "locked", "rdomain", "up", "down"})),
                first.place);
        return {};
    }

    Done vm_block(const Place& place) {
        Vm vm;
        vm.place = place;
        auto name_place = token_.place;
        vm.name = TRY(name("the name of a VM"));
        if (take("instance")) {
            vm.parent.say(std::move(vm.name), name_place);
            vm.name = TRY(name("the name of the instance"));
        }
        TRY(block("VM", [&] { return vm_option(vm); }));
        if (!vms_.insert(vm.name).second)
            warn(place, fmt::format("there is a VM \"{}\" already: this one is left out", vm.name));
        else
            conf_.vms.push_back(std::move(vm));
        return {};
    }

    Done vm_option(Vm& vm) {
        auto first = token_;
        advance();
        if (first.is_word("enable") || first.is_word("disable"))
            vm.enable.say(first.text == "enable", first.place);
        else if (first.is_word("boot"))
            return boot(vm);
        else if (first.is_word("cdrom")) {
            TRY(once(vm.cdrom, "cdrom"));
            return say_text(vm.cdrom, "a path");
        } else if (first.is_word("disk"))
            return disk(vm);
        else if (first.is_word("local")) {
            auto place = token_.place;
            TRY(word("interface"));
            return interface(vm, place, true);
        } else if (first.is_word("interface"))
            return interface(vm, first.place, false);
        else if (first.is_word("interfaces")) {
            TRY(once(vm.interfaces_min, "interfaces"));
            return say_number(vm.interfaces_min, "a number of interfaces", 0,
                              limits::max_interfaces);
        } else if (first.is_word("memory"))
            return memory(vm);
        else if (first.is_word("owner"))
            return say_owner(vm.owner);
        else if (first.is_word("sev"))
            vm.sev.say(true, first.place);
        else if (first.is_word("seves"))
            vm.seves.say(true, first.place);
        else if (first.is_word("allow"))
            return allow(vm, first.place);
        else
            return wrong(fmt::format("unknown option \"{}\" of a VM{}", printable(first.text, 70),
                                     suggestion_for(first.text,
                                                    {"allow", "boot", "cdrom", "disable", "disk",
                                                     "enable", "interface", "interfaces", "local",
                                                     "memory", "owner", "sev", "seves"})),
                         first.place);
        return {};
    }

    Done boot(Vm& vm) {
        if (!take("device")) {
            TRY(once(vm.boot, "boot"));
            return say_text(vm.boot, "a path or \"device\"");
        }
        static constexpr std::array<std::string_view, 3> devices{"cdrom", "disk", "net"};
        if (!token_.is_text() || std::ranges::find(devices, token_.text) == devices.end())
            return expected("one of \"cdrom\", \"disk\", \"net\"");
        vm.boot_device.say(token_.text, token_.place);
        advance();
        return {};
    }

    Done disk(Vm& vm) {
        if (vm.disks.size() == limits::max_disks)
            return wrong(fmt::format("a VM has at most {} disks", limits::max_disks), token_.place,
                         ErrorKind::limit);
        Disk disk;
        TRY(say_text(disk.path, "the path of a disk"));
        if (take("format")) {
            TRY(say_text(disk.format, "\"raw\" or \"qcow2\""));
            if (disk.format.value != "raw" && disk.format.value != "qcow2")
                return wrong(fmt::format("format \"{}\" is none of \"raw\", \"qcow2\"",
                                         printable(disk.format.value, 40)),
                             disk.format);
        }
        vm.disks.push_back(std::move(disk));
        return {};
    }

    // A number is one of bytes.
    Done memory(Vm& vm) {
        TRY(once(vm.memory_bytes, "memory"));
        auto place = token_.place;
        auto size = parse_size(TRY(text("a size such as 512M")));
        if (!size)
            return std::unexpected(std::move(size).error().at(place));
        if (*size < limits::min_memory_bytes || *size > limits::max_memory_bytes)
            return wrong(fmt::format("memory is from {} to {}",
                                     exact_size(limits::min_memory_bytes),
                                     exact_size(limits::max_memory_bytes)),
                         place, ErrorKind::limit);
        if (*size % MiB != 0)
            warn(place, fmt::format("memory is rounded down to {}", exact_size(*size / MiB * MiB)));
        vm.memory_bytes.say(*size / MiB * MiB, place);
        return {};
    }

    Done allow(Vm& vm, const Place& place) {
        TRY(word("instance"));
        vm.allow_instance = true;
        vm.allow_place = place;
        if (!token_.is('{'))
            return allow_item(vm);
        return list("allow instance", [&] { return allow_item(vm); });
    }

    Done allow_item(Vm& vm) {
        if (take("owner"))
            return say_owner(vm.allow_owner);
        if (token_.kind != Token::Kind::word ||
            std::ranges::find(instance_options, token_.text) == instance_options.end())
            return expected(
                fmt::format("one of \"{}\", \"owner\"", fmt::join(instance_options, "\", \"")));
        if (std::ranges::find(vm.allow_options, token_.text) == vm.allow_options.end())
            vm.allow_options.push_back(token_.text);
        advance();
        return {};
    }

    // ---- interfaces ---------------------------------------------------------------

    Done interface(Vm& vm, const Place& place, bool local) {
        if (vm.interfaces.size() == limits::max_interfaces)
            return wrong(fmt::format("a VM has at most {} interfaces", limits::max_interfaces),
                         place, ErrorKind::limit);
        Interface out;
        out.place = place;
        out.local = local;
        if (at_text()) {
            TRY(say_text(out.tap, "an interface"));
            auto number =
                std::string_view(out.tap.value).substr(out.tap.value.starts_with("tap") ? 3 : 0);
            if (!out.tap.value.starts_with("tap") || number.size() > 8 ||
                number.find_first_not_of("0123456789") != std::string::npos)
                return wrong(
                    fmt::format("\"{}\" is no interface of a VM: tap, or tap with a number",
                                printable(out.tap.value, 40)),
                    out.tap);
            if (number.empty())
                out.tap = {}; // any
        }
        if (token_.is('{')) {
            TRY(list("interface", [&] { return interface_option(out); }));
        } else if (token_.is_text()) {
            TRY(interface_option(out));
            while (take(','))
                TRY(interface_option(out));
        }
        vm.interfaces.push_back(std::move(out));
        return {};
    }

    Done lladdr(Interface& out) {
        if (!at_text())
            return {}; // a random one
        TRY(say_text(out.lladdr, "an Ethernet address"));
        if (auto good = parse_mac(out.lladdr.value); !good)
            return std::unexpected(std::move(good).error().at(out.lladdr));
        return {};
    }

    Done interface_option(Interface& out) {
        auto first = token_;
        if (!first.is_text())
            return expected("an option of an interface");
        advance();
        if (first.is_word("switch")) {
            TRY(once(out.switch_name, "switch"));
            return say_text(out.switch_name, "the name of a switch");
        }
        if (first.is_word("group"))
            return say_text(out.group, "the name of a group");
        if (first.is_word("rdomain"))
            return say_number(out.rdomain, "a routing domain", 0, 255);
        if (first.is_word("lladdr"))
            return lladdr(out);
        if (first.is_word("locked")) {
            TRY(word("lladdr"));
            out.locked.say(true, first.place);
            return lladdr(out);
        }
        if (first.is_word("up") || first.is_word("down")) {
            out.up.say(first.text == "up", first.place);
            return {};
        }
        return wrong(fmt::format("unknown option \"{}\" of an interface{}",
                                 printable(first.text, 70),
                                 suggestion_for(first.text, {"down", "group", "lladdr", "locked",
                                                             "rdomain", "switch", "up"})),
                     first.place);
    }

    Conf conf_;
    std::unordered_set<std::string> switches_, vms_;
};

} // namespace

std::expected<Conf, Complaints> parse(const std::string& path, const ImportOptions& options,
                                      std::vector<Error>& warnings) {
    Lexer lexer(options);
    auto refuse = [](Error error) {
        Complaints complaints;
        complaints.push_back(std::move(error));
        return std::unexpected(std::move(complaints));
    };
    for (const auto& [name, value] : options.macros) {
        if (is_keyword(name))
            return refuse(Error(ErrorKind::invalid,
                                fmt::format("\"{}\" is a keyword, no name of a macro", name)));
        if (auto good = lexer.define(name, value, {}, true); !good)
            return refuse(std::move(good).error());
    }
    if (auto opened = lexer.open(path, {}); !opened)
        return refuse(std::move(opened).error());
    Parser parser(lexer, warnings);
    auto conf = parser.run();
    if (auto complaints = parser.take_complaints(); !complaints.empty())
        return std::unexpected(std::move(complaints));
    for (const auto& [name, place] : lexer.unused_macros())
        warnings.push_back(Error(ErrorKind::not_found,
                                 fmt::format("macro \"{}\" is not used", printable(name, 40)))
                               .at(place));
    return conf;
}

} // namespace vmhost::config::vmconf
