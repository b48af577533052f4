// The door of control/: the control socket and its verbs.
//
// Three parts that never meet in one process but by messages: Server (the control
// role: accepts, limits, learns credentials from the kernel), Verbs (the parent:
// decides and acts), Client (vmctl).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "control/protocol.h"
#include "ipc/ipc.h"
#include "loop/loop.h"
#include "metrics/metrics.h"
#include "store/store.h"

namespace vmhost::control {

// Descriptors with one request: a start of a new VM has a kernel, a CD-ROM image, and disks with
// the files below them; two files a disk are enough for anything but long chains.
inline constexpr std::size_t max_request_fds = 2 + 2 * limits::max_disks;

struct Caller {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::vector<std::uint32_t> groups = {}; // as the kernel vouches for, not as /etc/group says
};

// Binds the socket, replaces a dead one, refuses a live one. Mode 0660.
Result<Fd> open_listener(const std::string& path, std::uint32_t owner_uid, std::uint32_t owner_gid);

// ---- control role ---------------------------------------------------------

class Server {
public:
    using ClientId = std::uint64_t;
    struct Events {
        // The descriptors are the client's: nothing is known of them.
        std::function<void(ClientId, Caller, std::string json, std::vector<Fd> fds)> request;
        std::function<void(ClientId)> gone;
    };
    Server(Loop& loop, Fd listener, Events events);
    ~Server();
    void reply(ClientId client, std::string json, bool last, std::optional<Fd> fd);
    std::size_t clients() const { return clients_.size(); }

private:
    struct Client;
    void accept_clients();
    void took_frame(ClientId id, ipc::Frame frame);
    void drop(ClientId id);
    bool has_room_for(std::uint32_t uid) const;

    Loop& loop_;
    Fd listener_;
    Events events_;
    std::map<ClientId, std::unique_ptr<Client>> clients_;
    ClientId next_id_ = 1;
    Watch watch_;
    Timer retry_; // after running out of descriptors
};

// ---- parent ---------------------------------------------------------------

// The last installation of a VM.
struct InstallRow {
    std::uint32_t number = 0; // among those of the VM, from 1
    bool upgrade = false;
    std::int64_t armed_s = 0;             // since 1970
    std::optional<std::int64_t> sealed_s; // when its answer file was given out; none: it is armed
    // How far it is: what it has come to, and since when; the last is the phase of now.
    std::vector<std::pair<std::string, std::int64_t>> phases;
    std::optional<unsigned> percent; // of the sets; none: nobody knows
    std::string set;                 // that was fetched last
    std::string failed;              // why it does not go on; empty = it does
    bool stalled = false;
};

struct VmRow {
    std::uint32_t id = 0;
    std::optional<std::uint32_t> pid;
    unsigned vcpus = 1;
    std::uint64_t max_memory_bytes = 0;
    std::uint64_t current_memory_bytes = 0; // resident; 0 when not running
    std::string owner;
    bool suspended = false; // its owner may not start it
    std::string state;
    std::string name;
    std::string note;                    // why it stopped unasked
    std::vector<std::string> last_lines; // of its console, when it failed
    unsigned restarts = 0, reboots = 0;
    std::uint64_t cpu_us = 0; // used by the process
    using Counters = std::vector<std::pair<std::string, std::uint64_t>>;
    Counters counters;
    std::vector<Counters> disks, interfaces; // of each, in the order of the file
    std::string lease;
    std::optional<InstallRow> install;
};

// What a start has for once, until the guest's first reset; the files stay with the VM.
struct StartOnce {
    std::string boot_device; // "disk", "cdrom", "net"; empty = as the VM is configured
    std::optional<Fd> kernel;
    std::string kernel_name;
    std::optional<Fd> cdrom;
    std::string snapshot; // to go back to, instead of booting; empty = none
};

struct SnapshotRow {
    std::string name;
    std::int64_t time_s = 0; // since 1970
    std::uint64_t state_bytes = 0;
};

// A VM that is not in the file, as a client wishes it; every file was opened by the client.
struct NewVm {
    struct Base {
        std::string path;
        Fd file;
    };
    struct Disk {
        std::string path, format; // format: empty = by the name
        Fd image;
        std::vector<Base> bases; // nearest first
    };
    struct Interface {
        std::string switch_name; // empty = none
        bool local = false;
    };
    std::string name, parent; // no parent: no instance
    std::optional<std::uint64_t> memory_bytes;
    std::vector<Disk> disks;
    std::vector<Interface> interfaces;
    std::size_t interfaces_min = 0;
    std::optional<Fd> kernel, cdrom;
    std::string kernel_name;
    std::string boot_device; // for once, as StartOnce
};

// One change that a file asks for; the fields are those of host::Change.
struct PlanRow {
    std::string subject, key, kind, before, after, effect;
    std::string reason; // when it is no line of the file
    Place place;
};
struct PlanRows {
    std::vector<PlanRow> changes;
    std::string digest;
    std::string refused; // why it cannot be applied; empty = it can
};
struct ApplyOrder {
    std::string file;   // empty = the daemon's
    std::string digest; // of the plan that was looked at; empty = whatever it is
    bool restart_guests = true;
    std::function<void(std::string)> told;
    std::function<void(Result<void>)> done;
};

struct EventRow {
    std::uint64_t number = 0;
    std::int64_t time_us = 0; // since 1970
    std::string vm;           // empty: of the host itself
    std::uint32_t id = 0;     // of that VM
    std::string kind, text;   // printable
};

struct ConsoleFiles {
    bool kept = false; // as a log; else a copy of what the console keeps
    std::vector<Fd> files;
};

// What the verbs act on. VMs are named by name or number.
// Who has or had an address by DHCP; texts are printable.
struct LeaseRow {
    std::string network, address, lladdr, vm, state, host_name, client_id;
    std::int64_t since_s = 0, seen_s = 0; // since 1970; 0 = never
    std::optional<std::int64_t> until_s;  // none: for ever
    std::uint64_t messages = 0, dropped = 0;
};

class Operations {
public:
    virtual ~Operations() = default;
    // Those of VMs, and of clients that are none.
    virtual void leases(std::function<void(Result<std::vector<LeaseRow>>)> done) = 0;
    virtual void release_lease(Ipv4 address, std::function<void(Result<void>)> done) = 0;
    virtual std::vector<VmRow> list() = 0;
    // Renews the counters of the rows, then calls done; soon, whatever the VMs do.
    virtual void count(std::function<void()> done) = 0;
    virtual Result<VmRow> find(std::string_view vm) = 0;
    virtual bool may_control(const Caller& caller, std::string_view vm) = 0;
    // Whether the caller may change the host itself.
    virtual bool may_change_host(const Caller& caller) = 0;
    virtual Result<PlanRows> plan(const std::string& file) = 0;
    // A JSON array of the switches.
    virtual Result<std::string> net() = 0;
    virtual void apply(ApplyOrder order) = 0;
    // done is called before the parent goes on as another program; or with why it does not.
    virtual void upgrade(std::function<void(Result<void>)> done) = 0;
    virtual void start(std::string_view vm, StartOnce once,
                       std::function<void(Result<void>)> done) = 0;
    // Whoever the caller is: the template says what it may. done gets the number of the VM,
    // which is gone when it ends.
    virtual void start_new(const Caller& caller, NewVm wish,
                           std::function<void(Result<std::uint32_t>)> done) = 0;
    // Into the drive of a running VM, or out of it.
    virtual void change_medium(std::string_view vm, std::optional<Fd> medium, bool force,
                               std::function<void(Result<void>)> done) = 0;
    // How much of its memory a running VM is to keep.
    virtual void set_memory(std::string_view vm, std::uint64_t bytes,
                            std::function<void(Result<void>)> done) = 0;
    virtual Result<void> stop(std::string_view vm, bool force, std::function<void()> ended) = 0;
    // Arms a VM for another installation: as its file says, or an upgrade.
    virtual Result<InstallRow> reinstall(std::string_view vm, bool upgrade) = 0;
    virtual void pause(std::string_view vm, std::function<void(Result<void>)> done) = 0;
    virtual Result<void> unpause(std::string_view vm) = 0;
    // Writes a VM's state into a client's file or pipe and ends the VM.
    virtual void send(std::string_view vm, Fd out, std::function<void(Result<void>)> done) = 0;
    // Starts a VM from such a state.
    virtual void receive(std::string_view vm, Fd state, std::function<void(Result<void>)> done) = 0;
    // Of a running VM, which goes on.
    virtual void make_snapshot(std::string_view vm, const std::string& name,
                               std::function<void(Result<void>)> done) = 0;
    virtual Result<std::vector<SnapshotRow>> snapshots(std::string_view vm) = 0;
    virtual Result<void> remove_snapshot(std::string_view vm, const std::string& name) = 0;
    virtual Result<void> wait(std::string_view vm, std::function<void()> ended) = 0;
    // What this host counts, all of it; soon, whatever the VMs do.
    using Samples = std::shared_ptr<const metrics::Samples>;
    virtual void metrics(std::function<void(Samples)> done) = 0;
    // The files of its console log, oldest first; of the serial console or the virtio one.
    virtual Result<ConsoleFiles> console_log(std::string_view vm, bool virtio) = 0;
    // A packet socket on the tap of its interface, and the name of that.
    struct Traced {
        std::string tap;
        Fd socket;
    };
    virtual Result<Traced> trace(std::string_view vm, std::size_t interface) = 0;
    // Those that are kept, oldest first.
    virtual std::vector<EventRow> events() = 0;
    // take is called for each that comes until it returns false; active says whether it would.
    virtual Result<void> follow_events(std::function<bool(const EventRow&)> take,
                                       std::function<bool()> active) = 0;
    // Whether all processes say more, or as much as they were started with.
    virtual void log_verbosely(bool verbose) = 0;
    // Forgets switches, and VMs, which end by force.
    virtual void reset(bool switches, bool vms, std::function<void(Result<void>)> done) = 0;
    virtual Result<Fd> console(std::string_view vm, bool want_writer, bool virtio) = 0;
};

struct Reply {
    std::string json;
    bool last = true;
    std::optional<Fd> fd;
};

// What the parent keeps and knows for the verbs; without it nothing is kept, and they work.
class Records {
public:
    virtual ~Records() = default;
    virtual std::string user_name(std::uint32_t uid) = 0;
    // As store::HostStore; what fails there is told by it, once.
    virtual std::int64_t audit_began(const store::AuditRow& row) = 0; // 0: it is not kept
    virtual void audit_ended(std::int64_t number, std::string_view outcome) = 0;
    // A JSON array that says why a VM has what it has.
    virtual Result<std::string> explain(std::string_view vm) = 0;
    virtual Result<void> forget(const std::string& vm) = 0;
};

// Requests that were denied since the daemon began.
struct Refusals {
    std::uint64_t total = 0;
    std::uint64_t unlogged = 0; // of them: neither in the log nor in the audit trail
    std::map<std::string, std::uint64_t> by_verb;
    std::map<std::uint32_t, std::uint64_t> by_uid; // of the first limits::max_refused_users
};

class Trail; // trail.h

class Verbs {
public:
    explicit Verbs(Operations& operations);
    ~Verbs();
    // From here on requests are kept, and what is kept can be asked for.
    void use(Records& records);
    const Refusals& refusals() const;
    // The object outlives replies that come later. json and fds are the client's, unchecked. reply
    // is called once or more, the last time with last. active says whether anybody waits for more
    // replies; null: somebody does.
    void handle(const Caller& caller, std::string_view json, std::vector<Fd> fds,
                std::function<void(Reply)> reply, std::function<bool()> active = nullptr);

private:
    void status(const std::string& vm, const std::function<void(Reply)>& reply);
    void reinstall(const VmRow& row, bool upgrade, const std::function<void(Reply)>& reply);
    void snapshot(const VmRow& row, const std::string& name, bool remove,
                  const std::function<void(Reply)>& reply);
    void start_new(const Caller& caller, NewVm wish, const std::function<void(Reply)>& reply);
    void plan(const std::string& file, const std::function<void(Reply)>& reply);
    // metrics.cc: of one VM, or of what the caller may control
    void metrics(const Caller& caller, const std::string& vm,
                 const std::function<void(Reply)>& reply);

    // verbs_records.cc: false: it is none of its verbs.
    bool handle_records(const Caller& caller, const std::string& verb, const std::string& vm,
                        const std::function<void(Reply)>& reply);
    // verbs_leases.cc: false: it is none of its verbs.
    bool handle_leases(const Caller& caller, const std::string& verb, const std::string& what,
                       const std::function<void(Reply)>& reply);
    // verbs_host.cc
    void events(const Caller& caller, const std::string& vm, bool follow,
                const std::function<void(Reply)>& reply, const std::function<bool()>& active);
    void stop_all(const Caller& caller, bool force, bool wait,
                  const std::function<void(Reply)>& reply);
    void trace(const Caller& caller, const VmRow& row, std::size_t interface,
               const std::function<void(Reply)>& reply);
    void console_log(const VmRow& row, bool virtio, const std::function<void(Reply)>& reply);
    void change_host(const Caller& caller, const std::string& verb, const std::string& what,
                     const std::function<void(Reply)>& reply);

    Operations& operations_;
    Records* records_ = nullptr;
    std::unique_ptr<Trail> trail_;
};

// ---- vmctl ----------------------------------------------------------------

// A blocking client; one request at a time.
class Client {
public:
    static Result<Client> connect(const std::string& path);
    // Sends the request; take is called for each reply but the last, which is returned. A refusal
    // is an Error of its kind.
    struct Answer {
        std::string json;
        std::optional<Fd> fd;
    };
    Result<Answer> request(const std::string& json, const std::function<void(Answer)>& take = {},
                           std::vector<Fd> fds = {});

private:
    explicit Client(Fd socket) : socket_(std::move(socket)) {}
    Fd socket_;
    ipc::FrameReader reader_;
    std::vector<ipc::Frame> ready_;
};

} // namespace vmhost::control
