// The two command lines, vmhost(8) and vmctl(8). Only this file and provision_commands.cc include
// CLI11, which takes its time to compile.
#include "cli/cli.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <string_view>
#include <unistd.h>

#include "cli/command_tree.h"
#include "cli/provision_commands.h"
#include "cli/version.h"

namespace vmhost::cli {

namespace {

// vmctl(8): a command may be cut to any prefix that only one table entry has.
constexpr std::string_view vmctl_commands[] = {
    "cdrom",    "console", "create",  "events", "load",  "log",     "memory",
    "metrics",  "pause",   "receive", "reload", "reset", "send",    "show",
    "snapshot", "start",   "status",  "stop",   "top",   "unpause", "wait"};

bool is_vmctl(std::string_view path) {
    auto slash = path.rfind('/');
    return (slash == std::string_view::npos ? path : path.substr(slash + 1)) == "vmctl";
}

Command refuse(const std::string& text) {
    std::fprintf(stderr, "%s\n", text.c_str());
    Command command;
    command.status = 1;
    return command;
}

// Parses and turns CLI11's ways to end into a Command.
// After a complaint comes the usage, or else a hint.
Command finish(CLI::App& app, std::vector<std::string> arguments, Command& command,
               const char* program, const std::string& usage = {}) {
    std::reverse(arguments.begin(), arguments.end()); // CLI11 takes them from the back
    try {
        app.parse(std::move(arguments));
        return command;
    } catch (const CLI::CallForHelp&) {
        std::fputs(app.help().c_str(), stdout); // that of the command that was named, if one was
    } catch (const CLI::CallForVersion&) {
        std::printf("vmhost %s\n", version);
    } catch (const CLI::ParseError& error) {
        return refuse(fmt::format("{}: {}\n{}", program, error.what(),
                                  usage.empty() ? fmt::format("Try \"{} --help\".", program)
                                                : "usage:" + usage));
    }
    Command ended;
    return ended;
}

constexpr const char* vmhost_summary = "vmhost: a host for virtual machines from one TOML file";
constexpr const char* vmctl_summary = "vmctl: control the virtual machines of this host";

// "VM", or "VM:INDEX" of one of its interfaces. The reason why it is neither.
std::string take_interface(Command& command, const std::string& text) {
    const auto colon = text.find(':');
    command.vm = text.substr(0, colon);
    if (auto legal = check_name(command.vm); !legal)
        return "invalid name: " + legal.error().text();
    if (colon == std::string::npos)
        return {};
    const auto* end = text.data() + text.size();
    auto [stopped, error] = std::from_chars(text.data() + colon + 1, end, command.interface);
    return error == std::errc() && stopped == end && command.interface < limits::max_interfaces
               ? ""
               : "\"" + printable(text.substr(colon + 1), 20) + "\" is no interface's number";
}

// vmhost net: what is on the wires.
template <class AddFile, class AddSocket>
void add_net(CLI::App& app, Command& command, AddFile add_file, AddSocket add_socket) {
    auto* net = app.add_subcommand("net", "list switches, their ports and who is behind them");
    net->require_subcommand(0, 1);
    add_file(net);
    add_socket(net);
    net->add_flag("--json", command.json, "as JSON");
    net->callback([&command, net] {
        if (net->get_subcommands().empty())
            command.verb = Command::Verb::net;
    });
    auto* trace = net->add_subcommand("trace", "write what passes an interface of a VM, as pcap");
    add_file(trace);
    add_socket(trace);
    trace->add_option("-w,--write", command.target, "the file; - is standard output")
        ->type_name("FILE");
    trace->add_option("-c,--count", command.frames, "end after so many frames")
        ->type_name("COUNT")
        ->check(CLI::PositiveNumber);
    trace
        ->add_option_function<std::string>(
            "vm", [](const std::string&) {}, "name of a VM, or VM:INDEX of another interface")
        ->type_name("VM")
        ->required()
        ->check([&command](const std::string& text) { return take_interface(command, text); });
    trace->callback([&command] { command.verb = Command::Verb::net_trace; });
}

// What is kept across restarts: explain, forget, audit.
template <class AddFile, class AddSocket>
void add_records(CLI::App& app, Command& command, AddFile add_file, AddSocket add_socket) {
    auto add = [&](const char* name, const char* help, Command::Verb verb) {
        auto* to = app.add_subcommand(name, help);
        add_file(to);
        add_socket(to);
        to->callback([&command, verb] { command.verb = verb; });
        return to;
    };
    auto add_vm = [&](CLI::App* to) {
        return to->add_option("vm", command.vm, "name of a VM")
            ->type_name("VM")
            ->check([](const std::string& text) {
                auto legal = check_name(text);
                return legal ? std::string() : "invalid name: " + legal.error().text();
            });
    };
    auto* explain = add("explain", "say why a VM has its id, addresses, owner and the like",
                        Command::Verb::explain);
    explain->add_flag("--json", command.json, "as JSON");
    add_vm(explain);
    add_vm(add("forget", "free what is kept for a VM that is gone", Command::Verb::forget))
        ->required();
    auto* audit =
        add("audit", "list who asked for what, and what came of it", Command::Verb::audit);
    audit->add_option("-n,--count", command.newest, "of the newest, so many")
        ->type_name("COUNT")
        ->check(CLI::Range(std::size_t{1}, limits::max_audit_rows))
        ->capture_default_str();
    audit->add_flag("--json", command.json, "as JSON");
    add_vm(audit);
}

template <class AddFile, class AddSocket>
void add_leases(CLI::App& app, Command& command, AddFile add_file, AddSocket add_socket) {
    auto* leases = app.add_subcommand("leases", "list who has which address by DHCP");
    add_file(leases);
    add_socket(leases);
    leases->add_flag("--json", command.json, "as JSON");
    leases->add_option("--release", command.release, "take this address back")
        ->type_name("ADDRESS")
        ->check([](const std::string& text) {
            auto address = parse_ipv4(text);
            return address ? std::string() : address.error().text();
        });
    leases->callback([&command] { command.verb = Command::Verb::leases; });
}

void build_vmhost(CLI::App& app, Command& command) {
    app.set_version_flag("--version", version);
    app.require_subcommand(1);

    auto add_file = [&](CLI::App* to) {
        to->add_option("-f,--file", command.config, "configuration file")
            ->type_name("FILE")
            ->capture_default_str();
    };
    auto* run =
        app.add_subcommand("run", "bring up everything the file describes, in the foreground");
    add_file(run);
    run->add_option("--log", command.log_levels, "log level, also per room: info,dhcp=debug")
        ->type_name("LEVELS");
    run->add_flag("-k,--keep-going", command.keep_going,
                  "a VM that cannot start does not end the run");
    run->add_flag("--debug-exit", command.debug_exit,
                  "give guests the debug-exit device at port 0xf4 (for tests)");
    run->callback([&] { command.verb = Command::Verb::run; });

    auto* config = app.add_subcommand("config", "look at the configuration file");
    config->require_subcommand(1);
    auto* check =
        config->add_subcommand("check", "say what is wrong with the file; needs no rights");
    add_file(check);
    check->add_flag("--json", command.json, "complaints as JSON");
    check->callback([&] { command.verb = Command::Verb::config_check; });
    auto* show =
        config->add_subcommand("show", "print the file with every default and derived value");
    add_file(show);
    show->add_flag("--json", command.json, "as JSON");
    show->callback([&] { command.verb = Command::Verb::config_show; });

    auto* importing =
        app.add_subcommand("import", "print a vm.conf(5), dhcpd.conf(5) or _deploy.conf as TOML");
    importing->add_option("vm.conf", command.source, "the file")->type_name("FILE")->required();
    importing->add_flag("--dhcpd", command.dhcpd, "it is a dhcpd.conf(5), whatever its name");
    importing->add_option("-o,--output", command.target, "write to a new file")->type_name("FILE");
    importing->add_flag("-f,--force", command.force, "replace that file when it exists");
    importing->add_option("-D,--define", command.macros, "a macro, before those of the file")
        ->type_name("NAME=VALUE")
        ->allow_extra_args(false)
        ->check([](const std::string& text) {
            return text.find('=') == std::string::npos ? "write it as name=value" : std::string();
        });
    importing->callback([&] { command.verb = Command::Verb::import; });

    auto* completion =
        app.add_subcommand("completion", "print a script that completes commands in a shell");
    completion->add_option("shell", command.source, "the shell")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh", "fish"}));
    completion->callback([&] { command.verb = Command::Verb::completion; });

    auto add_socket = [&](CLI::App* to) {
        to->add_option_function<std::string>(
              "-s,--socket",
              [&](const std::string& path) {
                  command.socket = path;
                  command.socket_given = true;
              },
              "control socket (default: as the file says)")
            ->type_name("PATH");
    };
    auto add_order = [&](const char* name, const char* help, Command::Verb verb) {
        auto* to = app.add_subcommand(name, help);
        add_file(to);
        add_socket(to);
        to->callback([&command, verb] { command.verb = verb; });
        return to;
    };
    add_order("upgrade", "replace the running daemon by the program that is now in its place",
              Command::Verb::upgrade);
    auto add_plan = [&](const char* name, const char* help, Command::Verb verb) {
        auto* to = add_order(name, help, verb);
        to->add_flag("--json", command.json, "as JSON");
        return to;
    };
    add_plan("plan", "say what the file would change on the running host", Command::Verb::plan);
    auto* apply =
        add_plan("apply", "make the running host what the file says", Command::Verb::apply);
    apply->add_flag("-y,--yes", command.yes, "do not ask");
    apply->add_flag("--keep-guests", command.keep_guests,
                    "restart no guest; what it needs changes at its next start");

    add_records(app, command, add_file, add_socket);
    add_reinstall(app, command, add_file, add_socket);
    add_leases(app, command, add_file, add_socket);
    add_net(app, command, add_file, add_socket);
    add_deploy(app, command, add_file, add_socket);

    add_sets(app, command, add_file);

    auto* image = app.add_subcommand("image", "look at disk images; needs no daemon");
    image->require_subcommand(1);
    auto add_image = [&](const char* name, const char* help, Command::Verb verb) {
        auto* to = image->add_subcommand(name, help);
        to->add_option("image", command.image, "the image, or FORMAT:image")
            ->type_name("IMAGE")
            ->required();
        to->callback([&command, verb] { command.verb = verb; });
        return to;
    };
    auto* image_check = add_image("check", "compare an image's tables", Command::Verb::image_check);
    image_check->add_flag("-r,--repair", command.repair, "give back space that nothing refers to");
    image_check->add_flag("--json", command.json, "as JSON");
    add_image("info", "print what an image's header says", Command::Verb::image_info)
        ->add_flag("--json", command.json, "as JSON");
    auto* compress =
        add_image("compress", "make a compressed template", Command::Verb::image_compress);
    compress->add_option("target", command.target, "the new file, by convention *.zst")
        ->type_name("TARGET")
        ->required();
    compress->add_option("-l,--level", command.level, "zstd's level, 1 to 22")
        ->type_name("LEVEL")
        ->capture_default_str();
}

Command parse_vmhost(std::vector<std::string> arguments) {
    Command command;
    CLI::App app{vmhost_summary, "vmhost"};
    build_vmhost(app, command);
    return finish(app, std::move(arguments), command, "vmhost");
}

std::uint64_t size_of(const std::string& text) {
    auto size = parse_size(text);
    if (!size)
        throw CLI::ValidationError("size", size.error().text());
    return *size;
}

// The command's full name, or a complaint as vmctl(8) has it.
Result<std::string> complete_verb(const std::string& word) {
    std::string_view found;
    for (auto candidate : vmctl_commands) {
        if (candidate == word)
            return word;
        if (!candidate.starts_with(word))
            continue;
        if (!found.empty())
            return fail(ErrorKind::invalid, "ambiguous argument: {}", printable(word, 40));
        found = candidate;
    }
    if (found.empty())
        return fail(ErrorKind::invalid, "unknown argument: {}", printable(word, 40));
    return std::string(found);
}

constexpr const char* vmctl_usage = "usage:\tvmctl [-s socket] command [arg ...]\n"
                                    "\tvmctl cdrom [-f] id eject | path\n"
                                    "\tvmctl console [-r] [-p port] id\n"
                                    "\tvmctl create [-b base | -i disk] [-s size] disk\n"
                                    "\tvmctl events [-f] [--json] [id]\n"
                                    "\tvmctl load filename\n"
                                    "\tvmctl log [-f] [-p port] id\n"
                                    "\tvmctl log brief | verbose\n"
                                    "\tvmctl memory id size\n"
                                    "\tvmctl metrics [--json] [id]\n"
                                    "\tvmctl pause id\n"
                                    "\tvmctl receive name\n"
                                    "\tvmctl reload\n"
                                    "\tvmctl reset [all | switches | vms]\n"
                                    "\tvmctl send id\n"
                                    "\tvmctl show [-r] [--json] [id]\n"
                                    "\tvmctl snapshot [-d] id [name]\n"
                                    "\tvmctl start [-cL] [-B device] [-b path] [-d disk] "
                                    "[-i count] [-m size]\n"
                                    "\t    [-n switch] [-r path] [-S name] [-t name] id | name\n"
                                    "\tvmctl status [-r] [--json] [id]\n"
                                    "\tvmctl stop [-fw] [id | -a]\n"
                                    "\tvmctl top [-d seconds] [-n count] [--json]\n"
                                    "\tvmctl unpause id\n"
                                    "\tvmctl wait id\n";

// The lines of one command, without the last line feed.
std::string usage_of(const std::string& command) {
    std::string_view rest = vmctl_usage;
    std::string out;
    bool within = false;
    while (!rest.empty()) {
        auto line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(line.size() + 1);
        if (!line.starts_with("\t    "))
            within = line.starts_with("\tvmctl " + command + " ") || line == "\tvmctl " + command;
        if (within)
            out += (out.empty() ? "" : "\n") + std::string(line);
    }
    return out;
}

// Of start: what makes it one of a VM that is not in the file. Switches and local interfaces keep
// the order in which they come.
void add_new_vm(CLI::App* start, Command& command) {
    start->add_option("-t", command.parent, "make an instance of this VM")->type_name("VM");
    start->add_option("-d", command.disks, "a disk of the new VM, or FORMAT:disk")
        ->type_name("DISK")
        ->allow_extra_args(false);
    start
        ->add_option_function<std::string>(
            "-m", [&command](const std::string& text) { command.bytes = size_of(text); },
            "memory of the new VM")
        ->type_name("SIZE");
    start->add_option("-i", command.interfaces_min, "interfaces of the new VM, at least")
        ->type_name("COUNT")
        ->check(CLI::Range(std::size_t{1}, limits::max_interfaces));
    start
        ->add_option_function<std::string>(
            "-n", [&command](const std::string& name) { command.wires.push_back(name); },
            "an interface of the new VM on this switch")
        ->type_name("SWITCH")
        ->trigger_on_parse();
    start
        ->add_flag_callback(
            "-L", [&command] { command.wires.emplace_back(); }, "a local interface of the new VM")
        ->trigger_on_parse();
}

void build_vmctl(CLI::App& app, Command& command) {
    app.set_version_flag("--version", version);
    app.require_subcommand(1);
    app.add_option("-s,--socket", command.socket, "control socket")
        ->type_name("PATH")
        ->capture_default_str();
    app.add_flag(
        "-v", [](std::int64_t) { log::set_level("", log::Level::debug); }, "say more");

    auto add_vm = [&](CLI::App* to, bool required) {
        auto* option = to->add_option("id", command.vm, "name or number of a VM")->type_name("VM");
        option->required(required);
        option->check([](const std::string& text) {
            auto legal = check_name(text);
            return legal ? std::string() : "invalid id: " + legal.error().text();
        });
        return option;
    };
    auto add_status = [&](const char* name) {
        auto* status = app.add_subcommand(name, "list VMs and their state");
        status->add_flag("-r", command.running_only, "running ones only");
        status->add_flag("--json", command.json, "as JSON");
        add_vm(status, false);
        status->callback([&] { command.verb = Command::Verb::status; });
    };
    add_status("status");
    add_status("show");

    auto* start = app.add_subcommand("start", "start a VM");
    start->add_flag("-c", command.attach, "attach to its console");
    auto* device = start->add_option("-B", command.boot_device, "for once, start from this device")
                       ->type_name("DEVICE")
                       ->check(CLI::IsMember({"cdrom", "disk", "net"}));
    auto* kernel =
        start->add_option("-b", command.kernel, "for once, start this kernel or firmware")
            ->type_name("PATH");
    start->add_option("-r", command.iso, "put this image into the CD-ROM drive")->type_name("PATH");
    start->add_option("-S", command.snapshot, "go back to this snapshot")
        ->type_name("NAME")
        ->excludes(device)
        ->excludes(kernel);
    add_new_vm(start, command);
    add_vm(start, true);
    start->callback([&] { command.verb = Command::Verb::start; });

    auto* stop = app.add_subcommand("stop", "stop a VM");
    stop->add_flag("-f", command.force, "by force");
    stop->add_flag("-w", command.wait, "wait until it has ended");
    auto* all = stop->add_flag("-a", command.all, "every running VM");
    add_vm(stop, false)->excludes(all);
    stop->callback([&] {
        if (!command.all && command.vm.empty())
            throw CLI::RequiredError("missing id");
        command.verb = Command::Verb::stop;
    });

    auto* pause = app.add_subcommand("pause", "hold a VM where it is");
    add_vm(pause, true);
    pause->callback([&] { command.verb = Command::Verb::pause; });

    auto* send = app.add_subcommand("send", "write a VM's state to standard output and end it");
    add_vm(send, true);
    send->callback([&] { command.verb = Command::Verb::send; });

    auto* receive = app.add_subcommand("receive", "start a VM from a state on standard input");
    add_vm(receive, true);
    receive->callback([&] { command.verb = Command::Verb::receive; });

    auto* snapshot = app.add_subcommand("snapshot", "list or make snapshots of a VM");
    auto* remove = snapshot->add_flag("-d", command.remove, "remove it");
    add_vm(snapshot, true);
    auto* name = snapshot->add_option("name", command.snapshot, "of a new snapshot");
    remove->needs(name);
    snapshot->callback([&] { command.verb = Command::Verb::snapshot; });

    auto* unpause = app.add_subcommand("unpause", "let a paused VM go on");
    add_vm(unpause, true);
    unpause->callback([&] { command.verb = Command::Verb::unpause; });
    auto* create = app.add_subcommand("create", "make a disk image; needs no daemon");
    create->add_option("disk", command.target, "the new image, or FORMAT:disk")
        ->type_name("DISK")
        ->required();
    create->add_option("-s,--size", command.size, "its size, as 10G");
    auto* base =
        create->add_option("-b,--base", command.base, "a qcow2 image below it")->type_name("IMAGE");
    create->add_option("-i,--input", command.source, "an image to copy")
        ->type_name("IMAGE")
        ->excludes(base);
    create->callback([&] { command.verb = Command::Verb::create; });

    auto* reload = app.add_subcommand("reload", "read the daemon's file again; no guest restarts");
    reload->callback([&] { command.verb = Command::Verb::reload; });
    auto* load = app.add_subcommand("load", "the same with another file");
    load->add_option("filename", command.target, "the file")->required();
    load->callback([&] { command.verb = Command::Verb::reload; });

    auto* top = app.add_subcommand("top", "show what VMs do, again and again");
    top->add_option("-d", command.interval_s, "seconds between two looks")
        ->type_name("SECONDS")
        ->check(CLI::Range(0.1, 3600.0));
    top->add_option("-n", command.count, "end after this many")
        ->type_name("COUNT")
        ->check(CLI::Range(1U, ~0U));
    top->add_flag("--json", command.json, "an object for each interval, one a line");
    top->callback([&] { command.verb = Command::Verb::top; });

    auto* events = app.add_subcommand("events", "list what has happened");
    events->add_flag("-f", command.follow, "and what happens, until interrupted");
    events->add_flag("--json", command.json, "an object for each event, one a line");
    add_vm(events, false);
    events->callback([&] { command.verb = Command::Verb::events; });

    auto* log = app.add_subcommand("log", "print what a VM said on its console; or say how much "
                                          "the daemon says: brief or verbose");
    log->add_flag("-f", command.follow, "and what it says, until interrupted");
    log->add_option("-p", command.port, "which of its consoles")
        ->type_name("PORT")
        ->check(CLI::IsMember({"serial", "virtio"}))
        ->capture_default_str();
    add_vm(log, true);
    log->callback([&] { command.verb = Command::Verb::log; });

    auto* reset = app.add_subcommand("reset", "forget VMs, switches or both, until a reload");
    reset->add_option("what", command.reset, "what to forget")
        ->transform(CLI::IsMember({"all", "switches", "vms"}, CLI::ignore_case));
    reset->callback([&] { command.verb = Command::Verb::reset; });

    auto* wait = app.add_subcommand("wait", "wait until a VM has ended");
    add_vm(wait, true);
    wait->callback([&] { command.verb = Command::Verb::wait; });

    auto* memory = app.add_subcommand("memory", "say how much memory a VM is to keep");
    add_vm(memory, true);
    memory
        ->add_option_function<std::string>(
            "size", [&](const std::string& text) { command.bytes = size_of(text); })
        ->required();
    memory->callback([&] { command.verb = Command::Verb::memory; });

    auto* metrics = app.add_subcommand("metrics", "print what the daemon and its VMs count");
    metrics->add_flag("--json", command.json, "as JSON");
    add_vm(metrics, false);
    metrics->callback([&] { command.verb = Command::Verb::metrics; });

    auto* cdrom = app.add_subcommand("cdrom", "change what is in a VM's CD-ROM drive");
    cdrom->add_flag("-f", command.force, "although the guest has locked it");
    add_vm(cdrom, true);
    cdrom->add_option("medium", command.iso, "\"eject\", or the path of an image")
        ->type_name("PATH")
        ->required();
    cdrom->callback([&] { command.verb = Command::Verb::cdrom; });

    auto* console = app.add_subcommand("console", "attach to a VM's console; ~. leaves");
    console->add_flag("-r", command.read_only, "only watch");
    console->add_option("-p", command.port, "which of its consoles")
        ->type_name("PORT")
        ->check(CLI::IsMember({"serial", "virtio"}))
        ->capture_default_str();
    add_vm(console, true);
    console->callback([&] { command.verb = Command::Verb::console; });
}

Command parse_vmctl(std::vector<std::string> arguments) {
    Command command;
    CLI::App app{vmctl_summary, "vmctl"};
    build_vmctl(app, command);

    // The command is the first word that is no option and no option's value.
    bool named = false;
    std::string usage;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        if (arguments[i] == "-s" || arguments[i] == "--socket") {
            ++i;
        } else if (arguments[i] == "-h" || arguments[i] == "--help" ||
                   arguments[i] == "--version") {
            named = true;
            break;
        } else if (!arguments[i].starts_with('-')) {
            auto verb = complete_verb(arguments[i]);
            if (!verb)
                return refuse(fmt::format("vmctl: {}\n{}", verb.error().text(), vmctl_usage));
            arguments[i] = *verb;
            usage = usage_of(*verb);
            named = true;
            break;
        }
    }
    if (!named)
        return refuse(vmctl_usage);
    return finish(app, std::move(arguments), command, "vmctl", usage);
}

// ---- for completion -----------------------------------------------------------

// What type_name() and check() say: "DEVICE:{cdrom,disk,net}", "PATH", "VM".
Value value_of(const CLI::Option& option) {
    Value value;
    if (option.get_items_expected_max() == 0)
        return value; // a flag
    auto type = option.get_type_name();
    value.kind = Value::Kind::text;
    if (auto open = type.find('{'); open != std::string::npos && type.ends_with('}')) {
        value.kind = Value::Kind::words;
        value.words = CLI::detail::split(type.substr(open + 1, type.size() - open - 2), ',');
        return value;
    }
    for (auto file : {"FILE", "PATH", "DISK", "IMAGE", "TARGET"})
        if (type.starts_with(file))
            value.kind = Value::Kind::file;
    if (type.starts_with("VM"))
        value.kind = Value::Kind::vm;
    return value;
}

CommandTree tree_of(const CLI::App& app) {
    CommandTree tree{.name = app.get_name(), .help = app.get_description()};
    for (const auto* option : app.get_options()) {
        if (option->get_positional()) {
            tree.arguments.push_back(value_of(*option));
            continue;
        }
        OptionDescription described{.help = option->get_description(), .value = value_of(*option)};
        for (const auto& name : option->get_snames())
            described.names.push_back("-" + name);
        for (const auto& name : option->get_lnames())
            described.names.push_back("--" + name);
        tree.options.push_back(std::move(described));
    }
    for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; }))
        tree.commands.push_back(tree_of(*command));
    return tree;
}

} // namespace

const char* version_text() {
    return version;
}

CommandTree vmhost_tree() {
    Command command;
    CLI::App app{vmhost_summary, "vmhost"};
    build_vmhost(app, command);
    return tree_of(app);
}

CommandTree vmctl_tree() {
    Command command;
    CLI::App app{vmctl_summary, "vmctl"};
    build_vmctl(app, command);
    return tree_of(app);
}

Command parse(int argc, char** argv) {
    std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
    return argc > 0 && is_vmctl(argv[0]) ? parse_vmctl(std::move(arguments))
                                         : parse_vmhost(std::move(arguments));
}

} // namespace vmhost::cli
