// The door of store/: what must survive a restart.
//
// One SQLite file for each process that owns one (vmhost-store(5)): the parent's, host.db in [host]
// state, and the dhcp role's, leases.db, which is store/leases.h. Values only: who may have which
// address is decided by config/ and host/.
//
// Everything is written when the call returns, so that a daemon that is killed loses nothing. What
// guests depend on (remember, forget, arm, seal, keys) is on the disk then too; the audit trail may
// lose its last seconds when the power fails, which keeps it from waiting for the disk.
//
// Any one thread at a time. Times are of the system's clock, seconds or milliseconds since 1970.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "store/leases.h"

namespace vmhost::store {

class Database;

// What one interface of a VM has. given: the file says so, it is nobody's rule.
struct Interface {
    unsigned index = 0;
    Mac lladdr;
    bool lladdr_given = false;
    std::int64_t lladdr_since_s = 0; // set by the store
    std::string switch_name;         // of ipv4 and ipv6
    std::optional<Ipv4> ipv4;
    bool ipv4_given = false;
    std::int64_t ipv4_since_s = 0; // set by the store
    std::optional<Ipv6> ipv6;
    bool ipv6_given = false;
    std::int64_t ipv6_since_s = 0; // set by the store
    bool operator==(const Interface&) const = default;
};

// A VM by its name and, when it was not made by the file, by the user who made it: two users'
// instances of one name are two VMs.
struct Machine {
    std::string name;
    std::optional<std::uint32_t> maker; // none: the file
    std::vector<Interface> interfaces;
    // Set by the store: never that of another VM, forgotten or not. remember() takes another than 0
    // for a VM that it does not know, as long as nobody has it.
    std::uint32_t id = 0;
    std::int64_t since_s = 0; // set by the store
    std::int64_t last_s = 0;  // set by the store: when it was last told of
    // For remember(): a VM that the store does not know is armed for its first installation, or
    // for an upgrade when this is true.
    std::optional<bool> arm_upgrade = std::nullopt;
    bool operator==(const Machine&) const = default;
};

// The last installation of a VM. It is armed until its answer file is given out, and sealed from
// then on: only another one, with the next number, has an answer file again.
struct Installation {
    std::uint32_t machine = 0; // id of the VM
    std::uint32_t number = 0;  // among those of the VM, from 1
    bool upgrade = false;      // of what is on its disk
    std::int64_t armed_s = 0;
    std::optional<std::int64_t> sealed_s;
    std::string progress; // what the host has seen of it, as the host writes it
    bool armed() const { return !sealed_s; }
    bool operator==(const Installation&) const = default;
};

// The ssh host key that this host made for an installation of a VM.
struct HostKey {
    std::uint32_t machine = 0;      // id of the VM
    std::uint32_t installation = 0; // its number
    std::string public_line;        // as in a *.pub file
    std::string private_text;       // empty: forgotten, as the guest has it
    bool operator==(const HostKey&) const = default;
};

// What somebody asked for.
struct AuditRow {
    std::int64_t number = 0; // set by the store
    std::int64_t time_ms = 0;
    std::uint32_t uid = 0, gid = 0;
    std::string user; // name of uid then
    std::string verb, vm;
    std::string arguments; // in short, without secrets
    std::string outcome;   // empty: the daemon ended before there was one
};

// host.db. The name of the host is part of every VM's: daemons that share a state directory, and
// copies of one, have VMs, ids and addresses of their own.
class HostStore {
public:
    // Makes the file when it is not there. denied or io: the directory cannot be written;
    // unsupported: a newer vmhost wrote it; corrupt: it is damaged; busy: another program holds it.
    static Result<HostStore> open(const std::string& directory, std::string host);
    // To look only: not_found when there is none.
    static Result<HostStore> open_to_look(const std::string& directory, std::string host);
    // The same without a file, for a host that has nowhere to write.
    static Result<HostStore> in_memory(std::string host);
    HostStore(HostStore&&) noexcept;
    HostStore& operator=(HostStore&&) noexcept;
    ~HostStore();

    // Notes that these VMs are there and what they have, all or nothing; an address that another
    // one had is that one's no more. Their ids, in order.
    Result<std::vector<std::uint32_t>> remember(const std::vector<Machine>& machines,
                                                std::int64_t now_s);
    // All VMs of the host, by id.
    Result<std::vector<Machine>> machines();
    // The one of the file, or else the one that was told of last.
    Result<std::optional<Machine>> find(std::string_view name);
    // Every VM of that name. How many there were.
    Result<unsigned> forget(std::string_view name);
    // VMs that were last told of before that.
    Result<unsigned> forget_older(std::int64_t before_s);
    // Of a maker's VMs, all but the keep that were told of last.
    Result<unsigned> forget_surplus(std::uint32_t maker, std::size_t keep);

    // Of the VMs of the host that have or had one, by id.
    Result<std::vector<Installation>> installations();
    // Begins the next one of a VM; not_found when the store does not know the VM.
    Result<Installation> arm(std::uint32_t machine, bool upgrade, std::int64_t now_s);
    // Seals the installation of that number; invalid when it is sealed, or not the VM's last.
    Result<void> seal(std::uint32_t machine, std::uint32_t number, std::int64_t now_s);
    // May lose its last seconds when the power fails.
    Result<void> keep_progress(std::uint32_t machine, std::uint32_t number,
                               std::string_view progress);

    // By id of the VM.
    Result<std::vector<HostKey>> host_keys();
    // In place of the one that the VM had; not_found when the store does not know the VM.
    Result<void> keep_host_key(const HostKey& key);
    // The public part stays. Its bytes are overwritten in the file.
    Result<void> forget_private_key(std::uint32_t machine);

    // The number of the row; its outcome follows.
    Result<std::int64_t> audit_began(const AuditRow& row);
    Result<void> audit_ended(std::int64_t number, std::string_view outcome);
    // The newest, oldest of them first; of one VM, or of all when the name is empty.
    Result<std::vector<AuditRow>> audit(std::size_t count, std::string_view vm);
    // Removes rows beyond the limits of base/limits.h. Done by audit_began now and then.
    Result<void> prune_audit(std::int64_t now_ms);

private:
    HostStore(std::unique_ptr<Database> database, std::string host);
    Result<std::uint32_t> remember_one(const Machine& machine, std::int64_t now_s);
    Result<void> arm_in_transaction(std::uint32_t machine, bool upgrade, std::int64_t now_s);
    Result<void> remember_interface(std::uint32_t id, const Interface& interface,
                                    std::int64_t now_s);

    std::unique_ptr<Database> database_;
    std::string host_;
    unsigned rows_to_prune_ = 0;
};

} // namespace vmhost::store
