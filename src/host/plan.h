// What would have to be done so that the running host is what a file says, and what each change
// disturbs. Pure: nothing is opened or asked, so that it can be shown before anything happens.
//
// Any thread.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace vmhost::host {

// What a change disturbs, from nothing to everything.
enum class Effect : std::uint8_t {
    none,       // takes effect at once, and nobody notices
    next_start, // of the VM: what runs keeps what it has
    service,    // the DHCP or HTTP service is started again: a second without answers
    reconnect,  // the switch changes under the guests' interfaces
    restart,    // the guest is asked to end, and started again
    stop,       // the guest is asked to end: it is no longer in the file
    start,      // the guest is started: it is new
    daemon,     // only a new daemon can have it: the plan cannot be applied
};
std::string_view name_of(Effect effect);

struct Change {
    config::Difference difference;
    Effect effect = Effect::none;
    std::string subject;  // "vm a", "switch lan", "host"
    bool foreign = false; // somebody has changed the host itself; the file says what it was
};

// Where a VM stands while it is planned.
struct VmState {
    std::string name;
    bool running = false;
};

struct Plan {
    std::vector<Change> changes; // in the order of the file; what is gone comes last

    bool empty() const { return changes.empty(); }
    // The first change that only a new daemon can have.
    const Change* refused() const;
    // The greatest effect of the changes of a VM or a switch; none when it does not change.
    Effect effect_on(std::string_view subject) const;
    bool touches(Effect effect) const;
    // Of the names and values of all changes: two plans of one digest do the same.
    std::string digest() const;
};

inline bool starts_with_host(const config::Vm& vm) {
    return vm.enabled && !vm.suspended;
}

// running: what the host is; file: what it is to be.
Plan make_plan(const config::Model& running, const config::Model& file,
               const std::vector<VmState>& vms);

} // namespace vmhost::host
