// ssh host keys that this host makes for guests: one for each installation, when it is armed, so
// that its fingerprint can be published before the guest's first boot.
//
// The private part is only needed to give it out. A guest that installs OpenBSD fetches it with its
// site set while its installation runs; others have it in their answers. Once that is over it is
// forgotten here: whoever reads host.db later can not be the guest.
//
// Loop thread of the parent; writing waits for the disk.
#include "host/host.h"
#include "host/site_sets.h"

namespace vmhost::host {

namespace {

bool wants_host_key(const Guest& guest) {
    const auto& install = guest.config().install;
    return install && install->host_keys && guest.installation() != nullptr &&
           !guest.installation()->upgrade; // which keeps what is on the disk
}

} // namespace

void Host::renew_host_keys() {
    for (const auto& guest : guests_)
        if (auto renewed = renew_host_key(*guest); !renewed)
            log::error("host", "vm {}: its host key: {}", guest->config().name,
                       renewed.error().message());
}

Result<void> Host::renew_host_key(const Guest& guest) {
    const auto* key = memory_->host_key(guest.id());
    if (!wants_host_key(guest) || (!guest.armed() && installs_->is_over(guest)))
        return memory_->forget_private_key(guest.id());
    if (!guest.armed() || (key != nullptr && !key->private_text.empty()))
        return {};
    const auto& vm = guest.config();
    const auto& name = vm.install->hostname.empty() ? vm.name : vm.install->hostname;
    auto made = TRY(install::make_host_key("root@" + name));
    ground_.changing("a host key");
    TRY(memory_->keep_host_key(guest.id(), made));
    log::notice("host", "vm {}: host key of installation {}: {}", vm.name,
                guest.installation()->number, made.public_line);
    return {};
}

// Made once for an installation: its guest may ask as often as it likes.
Result<std::string> Host::keyed_set(const Guest& guest, const config::Vm& vm,
                                    const InstallState& state) {
    auto known = keyed_sets_.find(guest.id());
    if (known == keyed_sets_.end())
        known = keyed_sets_.emplace(guest.id(), TRY(keyed_site_set(model_, vm, state))).first;
    return known->second;
}

void Host::installation_is_over(const Guest& guest) {
    keyed_sets_.erase(guest.id());
    if (auto forgotten = memory_->forget_private_key(guest.id()); !forgotten)
        log::error("host", "vm {}: its private host key is not forgotten: {}", guest.config().name,
                   forgotten.error().message());
}

} // namespace vmhost::host
