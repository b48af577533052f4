// vmctl reset: what vmd(8) forgets is applied as a file that does not have it. So the next plan
// shows what was forgotten as new, and the next apply or reload brings it back.
//
// Loop thread of the parent.
#include <algorithm>

#include "host/host.h"

namespace vmhost::host {

void Host::reset(Reset what, Done done) {
    Apply order;
    order.file = model_;
    order.restart_guests = false;
    order.by_force = true;
    if (what != Reset::switches) {
        order.new_ones_too = true;
        order.file.vms.clear();
        std::erase_if(order.file.switches, [](const config::Switch& one) { return one.local; });
    }
    if (what != Reset::vms)
        std::erase_if(order.file.switches, [](const config::Switch& one) { return !one.local; });
    order.told = [](const std::string& step) { log::info("host", "reset: {}", step); };
    order.done = [this, what, done = std::move(done)](Result<void> result) {
        if (result)
            events_.tell("reset", what == Reset::all        ? "VMs and switches"
                                  : what == Reset::switches ? "switches"
                                                            : "VMs");
        done(std::move(result));
    };
    apply(std::move(order));
}

} // namespace vmhost::host
