// The verbs that are about more than one VM: events, stop of all, log, reset; and the files of
// a console log, of which there may be several.
//
// Loop thread of the parent.
#include <memory>

#include "control/control.h"
#include "control/replies.h"

namespace vmhost::control {

using nlohmann::json;

namespace {

json event_of(const EventRow& row) {
    return {{"number", row.number}, {"id", row.id},     {"time_us", row.time_us},
            {"vm", row.vm},         {"kind", row.kind}, {"text", row.text}};
}

bool may_be_stopped(const VmRow& row) {
    return row.state == "running" || row.state == "paused" || row.state == "waiting" ||
           row.state == "stopping";
}

} // namespace

// An owner sees what happens to VMs that are there and his own; root sees everything.
void Verbs::events(const Caller& caller, const std::string& vm, bool follow,
                   const std::function<void(Reply)>& reply, const std::function<bool()>& active) {
    auto refuse = [&](const Error& error) { reply({refusal(error), true, {}}); };
    auto name = vm;
    if (!vm.empty()) {
        auto row = operations_.find(vm);
        if (!row && !operations_.may_change_host(caller))
            return refuse(row.error()); // root may ask for one that is gone
        if (row && !operations_.may_control(caller, row->name))
            return refuse(
                Error(ErrorKind::denied, fmt::format("vm {}: events is for its owner {} and root",
                                                     row->name, row->owner)));
        if (row)
            name = row->name;
    }
    auto visible = [this, caller, name](const EventRow& event) {
        if (!name.empty() && event.vm != name)
            return false;
        if (operations_.may_change_host(caller))
            return true;
        // Another VM may have had the name, and another owner.
        if (event.vm.empty())
            return false;
        auto row = operations_.find(event.vm);
        return row && row->id == event.id && operations_.may_control(caller, event.vm);
    };
    auto kept = json::array();
    for (const auto& row : operations_.events())
        if (visible(row))
            kept.push_back(event_of(row));
    if (follow) {
        auto take = [reply, visible, active](const EventRow& row) {
            if (active && !active())
                return false;
            if (visible(row))
                reply(
                    {text_of({{"ok", true}, {"events", json::array({event_of(row)})}}), false, {}});
            return true;
        };
        if (auto following = operations_.follow_events(take, active); !following)
            return refuse(following.error());
    }
    reply({text_of({{"ok", true}, {"events", kept}}), !follow, {}});
}

// Every VM that runs or is about to, and that the caller may stop; all of them are asked before
// any is waited for.
void Verbs::stop_all(const Caller& caller, bool force, bool wait,
                     const std::function<void(Reply)>& reply) {
    struct Round {
        std::size_t left = 1, failed = 0;
    };
    auto round = std::make_shared<Round>();
    auto one_less = [round, reply] {
        if (--round->left == 0)
            reply(
                {text_of({{"ok", true}, {"event", "done"}, {"failed", round->failed}}), true, {}});
    };
    for (const auto& row : operations_.list()) {
        if (!may_be_stopped(row) || !operations_.may_control(caller, row.name))
            continue;
        auto tell = [reply, id = row.id, name = row.name](const char* event,
                                                          const std::string& error = {}) {
            json said{{"ok", true}, {"event", event}, {"id", id}, {"name", name}};
            if (!error.empty())
                said["error"] = error;
            reply({text_of(said), false, {}});
        };
        auto ended = [tell, one_less] {
            tell("terminated");
            one_less();
        };
        const bool asked_already = row.state == "stopping" && !force;
        if (asked_already && !wait)
            continue;
        ++round->left;
        if (wait)
            tell("requested"); // before it can have ended
        auto stopping =
            asked_already
                ? operations_.wait(row.name, ended)
                : operations_.stop(row.name, force, wait ? std::function<void()>(ended) : nullptr);
        if (!stopping) {
            ++round->failed;
            tell("failed", stopping.error().message());
        } else if (!wait) {
            tell("requested");
        }
        if (!stopping || !wait)
            one_less();
    }
    one_less();
}

void Verbs::console_log(const VmRow& row, bool virtio, const std::function<void(Reply)>& reply) {
    auto found = operations_.console_log(row.name, virtio);
    if (!found)
        return reply({refusal(found.error()), true, {}});
    for (auto& file : found->files)
        reply({text_of({{"ok", true}, {"event", "file"}}), false, std::move(file)});
    reply(
        {text_of(
             {{"ok", true}, {"id", row.id}, {"kept", found->kept}, {"files", found->files.size()}}),
         true,
         {}});
}

// For root: who holds the socket could bind it to any interface, and send.
void Verbs::trace(const Caller& caller, const VmRow& row, std::size_t interface,
                  const std::function<void(Reply)>& reply) {
    if (!operations_.may_change_host(caller)) {
        log::notice("control", "uid {} may not trace vm {}", caller.uid, row.name);
        return reply({refusal(Error(ErrorKind::denied, "trace is for root")), true, {}});
    }
    auto traced = operations_.trace(row.name, interface);
    if (!traced)
        return reply({refusal(traced.error()), true, {}});
    reply({text_of({{"ok", true}, {"id", row.id}, {"tap", traced->tap}}), true,
           std::move(traced->socket)});
}

// log and reset; for root.
void Verbs::change_host(const Caller& caller, const std::string& verb, const std::string& what,
                        const std::function<void(Reply)>& reply) {
    auto done = [reply](Result<void> result) {
        reply({result ? text_of({{"ok", true}}) : refusal(result.error()), true, {}});
    };
    if (!operations_.may_change_host(caller)) {
        log::notice("control", "uid {} may not {}", caller.uid, verb);
        return done(fail(ErrorKind::denied, "{} is for root", verb));
    }
    if (verb == "log" && (what == "brief" || what == "verbose")) {
        operations_.log_verbosely(what == "verbose");
        return done({});
    }
    if (verb == "reset" && (what == "all" || what == "switches" || what == "vms"))
        return operations_.reset(what != "vms", what != "switches", done);
    done(
        fail(ErrorKind::invalid, "{}: \"{}\" is nothing that it knows", verb, printable(what, 40)));
}

} // namespace vmhost::control
