// What the host remembers of its VMs across restarts: the id and the addresses of each name, and
// whether it is armed for an installation, in store/. Where nothing can be written it remembers for
// as long as the daemon runs.
//
// Loop thread of the parent; a call that writes waits for the disk, which only a start of the
// daemon, an order, a new VM and an installation do.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "install/install.h"
#include "store/store.h"

namespace vmhost::host {

// A VM of a model and, unless the file made it, the user who did.
struct Noted {
    const config::Model* model = nullptr;
    const config::Vm* vm = nullptr; // of the model
    std::optional<std::uint32_t> maker;
    std::optional<std::uint32_t> id; // that it runs with
};

class Memory {
public:
    // Refused when the file there cannot be relied on: see store::HostStore::open.
    static Result<Memory> open(const config::Host& host);
    // To look only, beside a daemon or without one: not_found when nothing was ever remembered.
    static Result<Memory> look(const config::Host& host);

    // What the VMs of a file had; of a new VM of that maker.
    Result<config::Remembered> of_file();
    Result<config::Remembered> of_new(std::string_view name, std::uint32_t maker);
    // Writes down what VMs have, all or nothing; of an address that two have, it is the later
    // one's. Their ids, in order.
    Result<std::vector<std::uint32_t>> note(const std::vector<Noted>& vms);
    // Forgets VMs that nobody told of for limits::remember_days.
    Result<void> forget_old();
    // Forgets what a maker's VMs had, but for the ones that were noted last.
    Result<void> forget_surplus(std::uint32_t maker, std::size_t keep);

    // The last installation of a VM that has or had one; null: none was ever armed.
    const store::Installation* installation(std::uint32_t id) const;
    bool armed(std::uint32_t id) const;
    // Arms the VM for its next installation. Not without a file: it would be armed again and again.
    Result<store::Installation> arm(std::uint32_t id, bool upgrade);
    // Seals the installation that the VM is armed for; it is on the disk when this returns.
    Result<void> seal(std::uint32_t id);
    // Of the VM's last installation; null when none was made for it.
    const store::HostKey* host_key(std::uint32_t id) const;
    // Of its last installation, in place of one before; and the end of its private part.
    Result<void> keep_host_key(std::uint32_t id, const install::HostKey& key);
    Result<void> forget_private_key(std::uint32_t id);
    // What has been seen of the VM's last installation.
    Result<void> keep_progress(std::uint32_t id, const std::string& progress);

    store::HostStore& store() { return store_; }
    // Why nothing stays when the daemon ends; empty: it does.
    const std::string& lost_because() const { return lost_because_; }

private:
    explicit Memory(store::HostStore store) : store_(std::move(store)) {}

    Result<void> is_kept() const;
    Result<void> read_installations();

    store::HostStore store_;
    std::map<std::uint32_t, store::Installation> installations_; // as they are in the store
    std::map<std::uint32_t, store::HostKey> host_keys_;          // the same
    std::string lost_because_;
};

} // namespace vmhost::host
