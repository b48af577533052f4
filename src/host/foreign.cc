// What somebody else has changed of our links while we were not looking: an address taken from a
// bridge, a port given to another, a tap set down. It is part of every plan, as changes whose
// reason is not a line of the file, and applying the plan puts it right.
//
// Only what the file goes on with is looked at; the rest is made anew or removed anyway.
//
// Loop thread of the parent.
#include <algorithm>
#include <map>

#include "host/host.h"
#include "host/links.h"

namespace vmhost::host {

std::vector<Change> Host::foreign_changes(const config::Model& wanted) const {
    if (!network_)
        return {};
    std::map<std::string, std::vector<std::string>> paths; // of keys, by the link's name
    std::vector<net::BridgeSpec> bridges;
    for (const auto& one : model_.switches)
        if (one.enabled && wanted.find_switch(one.name) != nullptr &&
            std::ranges::find(bridges_, one.name, &BridgeLink::switch_name) != bridges_.end()) {
            bridges.push_back(bridge_of(one));
            paths[one.interface] = {"switch", one.name};
        }
    for (const auto& [tap, plug] : plugs())
        paths[tap] = {"vm", plug.vm, fmt::format("interface[{}]", plug.interface)};

    auto found = network_->foreign_changes(bridges);
    if (!found) {
        log::warning("host", "links are not compared with what they were made as: {}",
                     found.error().message());
        return {};
    }
    std::vector<Change> changes;
    for (auto& one : *found) {
        auto path = paths.find(one.link);
        if (path == paths.end())
            continue; // of a guest that has just ended
        Change change;
        change.foreign = true;
        change.subject = fmt::format("{} {}", path->second[0], path->second[1]);
        change.effect = one.what == "tap" ? Effect::restart // nothing else brings it back
                        : path->second[0] == "switch" ? Effect::reconnect
                                                      : Effect::none;
        auto& difference = change.difference;
        difference.path = path->second;
        difference.path.push_back(one.what);
        difference.key = fmt::format("{}", fmt::join(difference.path, "."));
        difference.before = std::move(one.have);
        difference.after = std::move(one.wanted);
        changes.push_back(std::move(change));
    }
    return changes;
}

} // namespace vmhost::host
