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

struct VmRow {
    std::uint32_t id = 0;
    std::optional<std::uint32_t> pid;
    unsigned vcpus = 1;
    std::uint64_t max_memory_bytes = 0;
    std::uint64_t current_memory_bytes = 0; // resident; 0 when not running
    std::string owner;
    std::string state;
    std::string name;
    std::string note;                    // why it stopped unasked
    std::vector<std::string> last_lines; // of its console, when it failed
    unsigned restarts = 0, reboots = 0;
    std::vector<std::pair<std::string, std::uint64_t>> counters;
    std::string lease;
    bool answer_served = false;
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

// What the verbs act on. VMs are named by name or number.
class Operations {
public:
    virtual ~Operations() = default;
    virtual std::vector<VmRow> list() = 0;
    // Renews the counters of the rows, then calls done; soon, whatever the VMs do.
    virtual void count(std::function<void()> done) = 0;
    virtual Result<VmRow> find(std::string_view vm) = 0;
    virtual bool may_control(const Caller& caller, std::string_view vm) = 0;
    // Whether the caller may change the host itself.
    virtual bool may_change_host(const Caller& caller) = 0;
    virtual Result<PlanRows> plan(const std::string& file) = 0;
    virtual void apply(ApplyOrder order) = 0;
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
    virtual Result<Fd> console(std::string_view vm, bool want_writer, bool virtio) = 0;
};

struct Reply {
    std::string json;
    bool last = true;
    std::optional<Fd> fd;
};

class Verbs {
public:
    explicit Verbs(Operations& operations) : operations_(operations) {}
    // The object outlives replies that come later. json and fds are the client's, unchecked. reply
    // is called once or more, the last time with last.
    void handle(const Caller& caller, std::string_view json, std::vector<Fd> fds,
                std::function<void(Reply)> reply);

private:
    void status(const std::string& vm, const std::function<void(Reply)>& reply);
    void snapshot(const VmRow& row, const std::string& name, bool remove,
                  const std::function<void(Reply)>& reply);
    void start_new(const Caller& caller, NewVm wish, const std::function<void(Reply)>& reply);
    void plan(const std::string& file, const std::function<void(Reply)>& reply);

    Operations& operations_;
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
    Result<Answer> request(const std::string& json,
                           const std::function<void(const std::string&)>& take = {},
                           std::vector<Fd> fds = {});

private:
    explicit Client(Fd socket) : socket_(std::move(socket)) {}
    Fd socket_;
    ipc::FrameReader reader_;
    std::vector<ipc::Frame> ready_;
};

} // namespace vmhost::control
