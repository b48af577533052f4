// The verbs, as the parent executes them. The request is a client's: its shape is
// checked here, and who may do what.
//
// Loop thread of the parent.
#include "control/control.h"

#include "control/new_vm.h"
#include "control/replies.h"
#include "control/trail.h"

#include <algorithm>
#include <memory>

namespace vmhost::control {

using nlohmann::json;

namespace {

json counters_of(const VmRow::Counters& counters) {
    auto object = json::object();
    for (const auto& [name, value] : counters)
        object[name] = value;
    return object;
}

json install_of(const InstallRow& install) {
    json object{{"number", install.number},
                {"mode", install.upgrade ? "upgrade" : "install"},
                {"state", install.sealed_s ? "sealed" : "armed"},
                {"armed_s", install.armed_s}};
    object["sealed_s"] = install.sealed_s ? json(*install.sealed_s) : json();
    object["phases"] = json::array();
    for (const auto& [phase, since_s] : install.phases)
        object["phases"].push_back({{"phase", phase}, {"since_s", since_s}});
    object["phase"] = install.phases.empty() ? json() : json(install.phases.back().first);
    object["percent"] = install.percent ? json(*install.percent) : json();
    object["set"] = install.set;
    object["failed"] = install.failed;
    object["stalled"] = install.stalled;
    return object;
}

json row_of(const VmRow& row) {
    json object{{"id", row.id},
                {"name", row.name},
                {"state", row.state},
                {"vcpus", row.vcpus},
                {"max_memory_bytes", row.max_memory_bytes},
                {"current_memory_bytes", row.current_memory_bytes},
                {"cpu_us", row.cpu_us},
                {"owner", row.owner},
                {"suspended", row.suspended},
                {"note", row.note},
                {"reason", row.note},
                {"last_lines", row.last_lines},
                {"restarts", row.restarts},
                {"reboots", row.reboots},
                {"lease", row.lease},
                {"answer_served", row.install && row.install->sealed_s}};
    object["install"] = row.install ? install_of(*row.install) : json();
    object["counters"] = counters_of(row.counters);
    object["disks"] = json::array();
    for (const auto& disk : row.disks)
        object["disks"].push_back(counters_of(disk));
    object["interfaces"] = json::array();
    for (const auto& interface : row.interfaces)
        object["interfaces"].push_back(counters_of(interface));
    object["pid"] = row.pid ? json(*row.pid) : json();
    return object;
}

// The fields of a request, each with its one type.
struct Request {
    std::string verb, vm;
    bool force = false, wait = false, read_only = false, counters = false, remove = false;
    std::string boot_device, kernel_name, port, snapshot;
    std::vector<std::string> descriptors;
    std::uint64_t bytes = 0;
    std::size_t interface = 0;
    std::optional<json> new_vm;
    std::string file, digest, what;
    bool restart = true, follow = false, all = false, upgrade = false;
};

Result<std::vector<std::string>> texts_of(const json& array) {
    std::vector<std::string> texts;
    for (const auto& value : array) {
        if (!value.is_string())
            return fail(ErrorKind::invalid, "the request's array is not one of texts");
        texts.push_back(value);
    }
    return texts;
}

Result<Request> parse(std::string_view text) {
    auto object = json::parse(text, nullptr, false);
    if (!object.is_object())
        return fail(ErrorKind::invalid, "the request is no JSON object");
    Request request;
    for (const auto& [key, value] : object.items()) {
        if (key == "verb" && value.is_string())
            request.verb = value;
        else if (key == "vm" && value.is_string())
            request.vm = value;
        else if (key == "force" && value.is_boolean())
            request.force = value;
        else if (key == "wait" && value.is_boolean())
            request.wait = value;
        else if (key == "counters" && value.is_boolean())
            request.counters = value;
        else if (key == "read_only" && value.is_boolean())
            request.read_only = value;
        else if (key == "boot_device" && value.is_string())
            request.boot_device = value;
        else if (key == "kernel_name" && value.is_string())
            request.kernel_name = value;
        else if (key == "file" && value.is_string())
            request.file = value;
        else if (key == "digest" && value.is_string())
            request.digest = value;
        else if (key == "follow" && value.is_boolean())
            request.follow = value;
        else if (key == "upgrade" && value.is_boolean())
            request.upgrade = value;
        else if (key == "all" && value.is_boolean())
            request.all = value;
        else if (key == "what" && value.is_string())
            request.what = value;
        else if (key == "restart" && value.is_boolean())
            request.restart = value;
        else if (key == "port" && value.is_string())
            request.port = value;
        else if (key == "snapshot" && value.is_string())
            request.snapshot = value;
        else if (key == "remove" && value.is_boolean())
            request.remove = value;
        else if (key == "bytes" && value.is_number_unsigned())
            request.bytes = value;
        else if (key == "interface" && value.is_number_unsigned())
            request.interface = value;
        else if (key == "new" && value.is_object())
            request.new_vm = value;
        else if (key == "descriptors" && value.is_array())
            request.descriptors = TRY(texts_of(value));
        else
            return fail(ErrorKind::invalid,
                        "the request's field \"{}\" is unknown or has a wrong type",
                        printable(key, 40));
    }
    return request;
}

// Takes the descriptor of that name out of those that came along.
std::optional<Fd> take(Request& request, std::vector<Fd>& fds, std::string_view name) {
    for (std::size_t i = 0; i < request.descriptors.size(); ++i)
        if (request.descriptors[i] == name && fds[i])
            return std::move(fds[i]);
    return std::nullopt;
}

// Which verb takes which descriptor.
struct Taken {
    std::string_view verb, descriptor;
};
constexpr Taken taken[] = {{"start", "kernel"},
                           {"start", "cdrom"},
                           {"cdrom", "cdrom"},
                           {"send", "state"},
                           {"receive", "state"}};

Result<void> check_descriptors(const Request& request, const std::vector<Fd>& fds) {
    const auto& names = request.descriptors;
    if (names.size() != fds.size())
        return fail(ErrorKind::invalid, "the request names {} descriptors and carries {}",
                    names.size(), fds.size());
    const auto& device = request.boot_device;
    if (!device.empty() && device != "disk" && device != "cdrom" && device != "net")
        return fail(ErrorKind::invalid, "boot device \"{}\" is none of disk, cdrom and net",
                    printable(device, 40));
    if (request.new_vm && request.verb != "start")
        return fail(ErrorKind::invalid, "only start makes a VM");
    if (request.new_vm)
        return {}; // its names are those of its parts
    for (auto name = names.begin(); name != names.end(); ++name) {
        bool known = std::ranges::any_of(taken, [&](const Taken& one) {
            return one.verb == request.verb && one.descriptor == *name;
        });
        if (!known || std::find(names.begin(), name, *name) != name)
            return fail(ErrorKind::invalid, "{} takes no descriptor \"{}\"",
                        printable(request.verb, 40), printable(*name, 40));
    }
    if (!request.port.empty() && request.port != "serial" && request.port != "virtio")
        return fail(ErrorKind::invalid, "port \"{}\" is neither serial nor virtio",
                    printable(request.port, 40));
    return {};
}

// Verbs that change something, or give somebody the keyboard of a VM.
constexpr std::string_view kept_verbs[] = {
    "start",  "stop",  "pause",  "unpause", "send", "receive", "snapshot", "console", "cdrom",
    "memory", "apply", "forget", "reset",   "log",  "upgrade", "trace",    "release", "reinstall"};

Asked asked_of(const Request& request) {
    Asked asked{.verb = printable(request.verb, 40), .vm = printable(request.vm, 64)};
    asked.kept = std::ranges::find(kept_verbs, request.verb) != std::end(kept_verbs) &&
                 !(request.verb == "snapshot" && request.snapshot.empty()) &&
                 !(request.verb == "console" && request.read_only);
    auto add = [&](bool there, std::string_view name, const std::string& value = {}) {
        if (there)
            asked.arguments += fmt::format("{}{}{}{}", asked.arguments.empty() ? "" : " ", name,
                                           value.empty() ? "" : "=", printable(value));
    };
    add(request.verb == "release", "address", request.what);
    add(request.force, "force");
    add(request.remove, "remove");
    add(request.upgrade, "upgrade");
    add(!request.boot_device.empty(), "device", request.boot_device);
    add(!request.kernel_name.empty(), "kernel", request.kernel_name);
    add(!request.snapshot.empty(), "snapshot", request.snapshot);
    add(!request.port.empty(), "port", request.port);
    add(request.bytes > 0, "bytes", std::to_string(request.bytes));
    add(!request.file.empty(), "file", request.file);
    add(!request.digest.empty(), "plan", request.digest);
    add(!request.restart, "keep-guests");
    if (request.new_vm) {
        auto parent = request.new_vm->find("template");
        bool named = parent != request.new_vm->end() && parent->is_string();
        add(true, "new", named ? parent->get<std::string>() : std::string());
    }
    if (request.verb == "cdrom")
        add(request.descriptors.empty(), "eject");
    return asked;
}

} // namespace

void Verbs::status(const std::string& vm, const std::function<void(Reply)>& reply) {
    auto rows = json::array();
    if (vm.empty()) {
        for (const auto& row : operations_.list())
            rows.push_back(row_of(row));
    } else if (auto row = operations_.find(vm)) {
        rows.push_back(row_of(*row));
    }
    reply({text_of({{"ok", true}, {"vms", rows}}), true, {}});
}

// Lists them, makes one or removes one.
void Verbs::snapshot(const VmRow& row, const std::string& name, bool remove,
                     const std::function<void(Reply)>& reply) {
    auto done = [reply, id = row.id](Result<void> result) {
        reply({result ? text_of({{"ok", true}, {"id", id}}) : refusal(result.error()), true, {}});
    };
    if (name.empty()) {
        auto all = operations_.snapshots(row.name);
        if (!all)
            return done(std::unexpected(std::move(all).error()));
        auto list = json::array();
        for (const auto& one : *all)
            list.push_back(
                {{"name", one.name}, {"time", one.time_s}, {"state_bytes", one.state_bytes}});
        return reply({text_of({{"ok", true}, {"id", row.id}, {"snapshots", list}}), true, {}});
    }
    if (auto legal = check_name(name); !legal)
        return done(std::unexpected(std::move(legal).error().in("snapshot")));
    if (remove)
        done(operations_.remove_snapshot(row.name, name));
    else
        operations_.make_snapshot(row.name, name, done);
}

void Verbs::reinstall(const VmRow& row, bool upgrade, const std::function<void(Reply)>& reply) {
    auto armed = operations_.reinstall(row.name, upgrade);
    reply({armed ? text_of({{"ok", true}, {"id", row.id}, {"install", install_of(*armed)}})
                 : refusal(armed.error()),
           true,
           {}});
}

void Verbs::start_new(const Caller& caller, NewVm wish, const std::function<void(Reply)>& reply) {
    operations_.start_new(caller, std::move(wish), [reply](Result<std::uint32_t> started) {
        reply({started ? text_of({{"ok", true}, {"id", *started}}) : refusal(started.error()),
               true,
               {}});
    });
}

void Verbs::plan(const std::string& file, const std::function<void(Reply)>& reply) {
    auto made = operations_.plan(file);
    if (!made)
        return reply({refusal(made.error()), true, {}});
    auto changes = json::array();
    for (const auto& row : made->changes)
        changes.push_back({{"subject", row.subject},
                           {"key", row.key},
                           {"change", row.kind},
                           {"before", row.before},
                           {"after", row.after},
                           {"effect", row.effect},
                           {"reason", row.reason},
                           {"file", row.place.file},
                           {"line", row.place.line}});
    reply({text_of({{"ok", true},
                    {"changes", changes},
                    {"digest", made->digest},
                    {"refused", made->refused}}),
           true,
           {}});
}

void Verbs::handle(const Caller& caller, std::string_view text, std::vector<Fd> fds,
                   std::function<void(Reply)> reply, std::function<bool()> active) {
    auto request = parse(text);
    if (request)
        if (auto good = check_descriptors(*request, fds); !good)
            request = std::unexpected(std::move(good).error());
    if (!request)
        return reply({refusal(request.error()), true, {}});
    reply = trail_->watch(caller, asked_of(*request), std::move(reply));
    auto refuse = [reply](const Error& error) { reply({refusal(error), true, {}}); };
    if (handle_records(caller, request->verb, request->vm, reply) ||
        handle_leases(caller, request->verb, request->what, reply))
        return;
    if (request->verb == "status") {
        if (request->counters)
            operations_.count([this, vm = request->vm, reply] { status(vm, reply); });
        else
            status(request->vm, reply);
        return;
    }
    if (request->verb == "metrics")
        return metrics(caller, request->vm, reply);
    if (request->verb == "events")
        return events(caller, request->vm, request->follow, reply, active);
    if (request->verb == "stop" && request->all)
        return stop_all(caller, request->force, request->wait, reply);
    if (request->verb == "log" || request->verb == "reset")
        return change_host(caller, request->verb, request->what, reply);
    if (request->verb == "plan" || request->verb == "apply" || request->verb == "upgrade" ||
        request->verb == "net") {
        if (!operations_.may_change_host(caller))
            return refuse(Error(ErrorKind::denied, request->verb + " is for root"));
        if (request->verb == "net") {
            auto switches = operations_.net();
            if (!switches)
                return refuse(switches.error());
            return reply({text_of({{"ok", true}, {"switches", json::parse(*switches)}}), true, {}});
        }
        if (request->verb == "upgrade")
            return operations_.upgrade([reply, refuse](Result<void> result) {
                if (!result)
                    refuse(result.error());
                else
                    reply({text_of({{"ok", true}, {"event", "upgrading"}}), true, {}});
            });
        if (request->verb == "plan")
            return plan(request->file, reply);
        return operations_.apply(
            {.file = request->file,
             .digest = request->digest,
             .restart_guests = request->restart,
             .told =
                 [reply](const std::string& step) {
                     reply({text_of({{"ok", true}, {"event", "step"}, {"text", step}}), false, {}});
                 },
             .done =
                 [reply, refuse](Result<void> result) {
                     if (!result)
                         refuse(result.error());
                     else
                         reply({text_of({{"ok", true}, {"event", "applied"}}), true, {}});
                 }});
    }
    static constexpr std::string_view orders[] = {
        "start",   "stop",  "pause",  "unpause",  "send",        "receive", "wait",
        "console", "cdrom", "memory", "snapshot", "console_log", "trace",   "reinstall"};
    if (std::ranges::find(orders, request->verb) == std::end(orders)) {
        refuse(Error(ErrorKind::invalid,
                     fmt::format("unknown verb \"{}\"", printable(request->verb, 40))));
        return;
    }
    if (request->new_vm) {
        auto wish = parse_new_vm(*request->new_vm, request->descriptors, fds);
        if (!wish)
            return refuse(wish.error());
        wish->name = request->vm;
        wish->kernel_name = printable(request->kernel_name);
        wish->boot_device = request->boot_device;
        return start_new(caller, *std::move(wish), reply);
    }
    auto row = operations_.find(request->vm);
    if (!row) {
        refuse(row.error());
        return;
    }
    if (!operations_.may_control(caller, row->name)) {
        refuse(Error(ErrorKind::denied, fmt::format("vm {}: {} is for its owner {} and root",
                                                    row->name, request->verb, row->owner)));
        return;
    }
    // What makes it run, or run on.
    const bool runs_it =
        request->verb == "start" || request->verb == "receive" || request->verb == "unpause";
    if (row->suspended && runs_it && !operations_.may_change_host(caller)) {
        refuse(Error(ErrorKind::denied, fmt::format("vm {}: it is suspended: {} is for root",
                                                    row->name, request->verb)));
        return;
    }
    auto id = row->id;
    auto terminated = [reply, id] {
        reply({text_of({{"ok", true}, {"event", "terminated"}, {"id", id}}), true, {}});
    };
    auto done = [reply, refuse, id](Result<void> result) {
        if (!result)
            refuse(result.error());
        else
            reply({text_of({{"ok", true}, {"id", id}}), true, {}});
    };
    if (request->verb == "start") {
        StartOnce once;
        once.boot_device = request->boot_device;
        once.kernel = take(*request, fds, "kernel");
        once.kernel_name = printable(request->kernel_name);
        once.cdrom = take(*request, fds, "cdrom");
        once.snapshot = request->snapshot;
        operations_.start(row->name, std::move(once), done);
    } else if (request->verb == "snapshot") {
        snapshot(*row, request->snapshot, request->remove, reply);
    } else if (request->verb == "reinstall") {
        reinstall(*row, request->upgrade, reply);
    } else if (request->verb == "console_log") {
        console_log(*row, request->port == "virtio", reply);
    } else if (request->verb == "trace") {
        trace(caller, *row, request->interface, reply);
    } else if (request->verb == "memory") {
        operations_.set_memory(row->name, request->bytes, done);
    } else if (request->verb == "cdrom") {
        operations_.change_medium(row->name, take(*request, fds, "cdrom"), request->force, done);
    } else if (request->verb == "pause") {
        operations_.pause(row->name, done);
    } else if (request->verb == "unpause") {
        done(operations_.unpause(row->name));
    } else if (request->verb == "send" || request->verb == "receive") {
        auto state = take(*request, fds, "state");
        if (!state)
            refuse(Error(ErrorKind::invalid, request->verb + ": the descriptor is missing"));
        else if (request->verb == "send")
            operations_.send(row->name, std::move(*state), done);
        else
            operations_.receive(row->name, std::move(*state), done);
    } else if (request->verb == "stop") {
        auto stopping = operations_.stop(
            row->name, request->force, request->wait ? std::function<void()>(terminated) : nullptr);
        if (!stopping)
            refuse(stopping.error());
        else
            reply(
                {text_of({{"ok", true}, {"event", "requested"}, {"id", id}}), !request->wait, {}});
    } else if (request->verb == "wait") {
        if (auto waiting = operations_.wait(row->name, terminated); !waiting)
            refuse(waiting.error());
    } else {
        auto console =
            operations_.console(row->name, !request->read_only, request->port == "virtio");
        if (!console)
            refuse(console.error());
        else
            reply({text_of({{"ok", true}, {"id", id}}), true, std::move(*console)});
    }
}

} // namespace vmhost::control
