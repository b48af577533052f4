// Whose frames the kernel moves. The kernel's vhost-net serves an interface between the guest's
// memory and the tap, past the VM's process: taken wherever it is there and nothing needs that
// process in between, which only a limit does. The frame guard is at the tap, in the kernel, and
// sees every frame either way; so do traces and the bridge's counters.
//
// As with taps the VM's process gets descriptors, one of /dev/vhost-net for each queue of the tap.
#include "host/guest.h"

namespace vmhost::host {

// Into a setup that has its interfaces; files is how many descriptors it has already.
Result<void> Guest::open_vhosts(ipc::VmSetup& setup, std::size_t files) {
    for (std::size_t i = 0; i < vm_.interfaces.size(); ++i) {
        const auto& interface = vm_.interfaces[i];
        auto& nic = setup.nics[i];
        if (interface.limit || !interface.vhost.value_or(true))
            continue;
        const bool fits = files + nic.taps.size() <= limits::max_frame_fds;
        auto opened = fits ? open_vhosts_of(nic)
                           : fail(ErrorKind::limit, "vhost: too many files and interfaces");
        if (!opened) {
            if (interface.vhost)
                return std::unexpected(blame(std::move(opened).error(), interface.place));
            static bool told = false; // it is the same for all
            if (!std::exchange(told, true))
                log::info("host", "frames go through the processes of VMs: {}",
                          opened.error().text());
            continue;
        }
        files += nic.vhosts.size();
    }
    return {};
}

Result<void> Guest::open_vhosts_of(ipc::VmNic& nic) const {
    std::vector<Fd> all;
    while (all.size() < nic.taps.size())
        all.push_back(TRY(context_.ground->open_vhost()));
    nic.vhosts = std::move(all);
    return {};
}

} // namespace vmhost::host
