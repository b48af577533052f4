// The world that a simulated host lives in: a clock, a kernel, processes. All of it follows from
// a seed.
//
// A VM process answers the messages of ipc/messages.h as role/vm.cc does, after a random time; the
// services likewise. While the world is unfair, processes die, hang and refuse, guests end by
// themselves, and one step of the kernel may fail. A world that is fair again lets everything come
// to rest, and then it can be said what must be true.
//
// A parent is a Life: what it asks of the world goes through host::Ground, and each such call is a
// step with a number. A parent can be killed at any of them: the call does not return, the channels
// of its processes are closed, and nothing that it does from then on has an effect.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "host/ground.h"
#include "ipc/messages.h"
#include "kernel.h"
#include "random.h"

namespace vmhost::simulation {

// Thrown through the parent at the step at which it is killed.
struct Killed {};

class World;
class VirtualChild;

// A process of the world; the object stays for ever, so that nothing that was sent to it dangles.
struct Process {
    pid_t pid = 0;
    host::Launch launch;
    bool alive = true;
    VirtualChild* child = nullptr;  // the parent's end; null: closed, or the parent is gone
    std::uint64_t last_to_ms = 0;   // when the last message to it arrives
    std::uint64_t last_from_ms = 0; // and the last from it
    std::vector<Fd> fds;            // everything that was handed to it
    std::optional<ipc::VmSetup> setup;
    enum class State : std::uint8_t { fresh, starting, running, ending } state = State::fresh;
    bool paused = false;
    bool snapshotting = false;
    bool failed = false; // how a VM ended, as it has said itself
    bool told_end = false;
    bool asked = false;     // by its parent, to end
    bool deaf = false;      // it hears of nothing any more, but of its death
    unsigned greetings = 0; // of one parent after the other
};

// What the world tells whoever checks it.
class Observer {
public:
    virtual ~Observer() = default;
    virtual void launched(const Process& process) = 0;
    virtual void ready(const Process& process) = 0; // the parent hears of it now
    virtual void ended(const Process& process) = 0; // the process is gone
};

// One parent, from its start until it ends or is killed.
class Life final : public host::Ground {
public:
    explicit Life(World& world) : world_(world) {}

    bool dead() const { return dead_; }
    // kill -9.
    void die();
    // From now on a kill does not throw: the parent is about to end, in destructors.
    void no_throw() { throws_ = false; }
    // Counts a step, and ends the life at the one that was chosen; false when it is over.
    bool step(const std::string& what);

    Result<std::unique_ptr<host::RoleChild>> start_role(Loop& loop, const host::Launch& launch,
                                                        host::RoleChild::Events events) override;
    std::uint64_t start_ticks(pid_t pid) override;
    Result<Fd> open_process(pid_t pid, std::uint64_t start_ticks) override;
    std::unique_ptr<host::RoleChild> adopt_role(Loop& loop, pid_t pid, Fd process, Fd connection,
                                                host::RoleChild::Events events) override;
    Result<std::unique_ptr<net::Links>> open_links() override;
    Result<Fd> lock_links(const std::string& host_name) override;
    Result<Fd> open_kvm() override;
    Result<Fd> open_vhost() override {
        return fail(ErrorKind::unsupported, "there is no vhost-net in this world");
    }
    Result<Fd> open_tftp(Ipv4 address, const std::string& device) override;
    Result<ipv6::Sockets> open_ipv6(const std::string& bridge, unsigned index) override;
    Result<dhcp::Sockets> open_dhcp(const std::string& bridge, unsigned index,
                                    Ipv4 address) override;
    Result<Fd> open_http(const IpAddress& address, std::uint16_t port,
                         const std::string& device) override;
    Result<Fd> open_connection(Ipv4, std::uint16_t, const std::string&) override {
        return fail(ErrorKind::unsupported, "nobody is there");
    }
    void changing(std::string_view what) override { step(std::string(what)); }
    host::Users users() override;
    host::CgroupMounts cgroups() override { return {}; }
    bool is_root() override { return true; }
    unsigned processors() override { return 3; }
    std::int64_t time_s() override;

private:
    World& world_;
    bool dead_ = false;
    bool throws_ = true;
};

class World {
public:
    explicit World(std::uint64_t seed);
    ~World();

    // A line of the history, with its time.
    void note(const std::string& text);
    std::uint64_t hash() const { return hash_; }
    // Keeps the lines, and writes them to standard error among those of the log.
    bool verbose = false;

    Process& launch(const host::Launch& launch, VirtualChild& child);
    // The process has ended: how is what its parent is told.
    void end_process(Process& process, const std::string& how);
    void receive(Process& process, ipc::Frame frame);
    void send(Process& process, ipc::Frame frame, bool ready = false);
    void parent_closed(Process& process);
    // A VM process says to its next parent how it is.
    void greet(Process& process);
    Process* find(pid_t pid); // that lives
    // Processes of a role that live; of a VM by its title.
    std::vector<Process*> living(const std::string& role);
    std::vector<Process*> living_vm(const std::string& name);
    // Runs job once, later.
    void after(std::uint64_t delay_ms, std::function<void()> job);
    // A job only for as long as the process lives.
    void later(Process& process, std::uint64_t min_ms, std::uint64_t max_ms,
               std::function<void()> job);
    // Something goes wrong, while the world is unfair.
    bool mishap(unsigned pct) { return !fair && random.chance(pct); }

    Loop loop{VirtualTime{}};
    Random random;
    Kernel kernel;
    Observer* observer = nullptr;
    Life* life = nullptr; // the parent that lives now
    bool fair = false;
    bool outlive = false; // VM processes go on without their parent
    std::uint64_t steps = 0;
    std::uint64_t kill_at = 0; // the number of a step; 0 = never
    std::uint64_t fail_at = 0; // as kill_at, of those that may fail
    std::vector<std::unique_ptr<Process>> processes;

private:
    void took_vm(Process& process, ipc::Frame frame);
    void set_up(Process& process, ipc::VmSetup setup);
    void guest_runs(Process& process);
    void guest_ends(Process& process, bool failed, const std::string& text);
    void took_service(Process& process, ipc::Frame frame);
    void answer(Process& process);
    void took_snapshot(Process& process, std::vector<Fd> fds);
    void saved(Process& process, bool done);

    std::vector<std::unique_ptr<Timer>> timers_; // of after(); a fired one makes room
    pid_t next_pid_ = 100;
    std::uint64_t hash_ = 0xcbf29ce484222325;
};

// The parent's end of a process.
class VirtualChild final : public host::RoleChild {
public:
    VirtualChild(World& world, Life& life, Events events)
        : world_(world), life_(life), events_(std::move(events)) {}
    ~VirtualChild() override;

    void send_frame(ipc::Frame frame) override;
    pid_t pid() const override { return process_->pid; }
    void close() override;
    void kill() override;

    void take(ipc::Frame frame);
    void ended(const std::string& how);
    bool of(const Life& life) const { return &life_ == &life; }

private:
    friend class Life;
    World& world_;
    Life& life_;
    Events events_;
    Process* process_ = nullptr;
    bool open_ = true;
};

} // namespace vmhost::simulation
