// One VM as the parent sees it: what the file says of it, the state it is in, and
// the process that runs it while it runs.
//
// stopped → starting → running ⇄ paused → stopping → stopped; and waiting, for its turn
// or for being started again after it ended by itself. Everything that needs rights
// is opened here and handed over as descriptors; the VM process opens nothing.
//
// Loop thread of the parent.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "host/cgroup.h"
#include "host/child.h"
#include "host/console_log.h"
#include "host/events.h"
#include "host/files.h"
#include "host/ground.h"
#include "host/heartbeat.h"
#include "host/memory.h"
#include "host/restarts.h"
#include "host/running.h"
#include "host/snapshots.h"
#include "net/net.h"

namespace vmhost::host {

class InstallWatch; // install_watch.h

enum class GuestState : std::uint8_t { stopped, waiting, starting, running, paused, stopping };
std::string_view name_of(GuestState state); // vmctl's words: "waiting" covers starting

// What a guest needs of its host.
struct GuestContext {
    Loop* loop = nullptr;
    Ground* ground = nullptr;
    net::Network* network = nullptr; // null: no VM has interfaces
    Events* events = nullptr;        // null: nobody keeps them
    std::string state_directory;     // relative image paths start here
    std::string config_file;
    const Memory* memory = nullptr;   // null: no VM is armed for an installation
    InstallWatch* installs = nullptr; // null: nobody watches them
    config::Accel accel = config::Accel::automatic;
    CgroupMounts cgroups;
    std::string cgroup_folder;
    bool debug_exit = false;
    const RunningGuests* running = nullptr; // null: guests end with this parent
};

// What a start has for once, until the guest's first reset. The files are a client's.
struct StartOnce {
    config::BootDevice boot_device = config::BootDevice::automatic; // = as configured
    std::optional<Fd> kernel;
    std::string kernel_name;
    std::optional<Fd> cdrom; // stays in the drive until the VM ends
    std::string snapshot;    // to go back to, instead of booting; empty = none
    bool anything() const { return kernel || boot_device != config::BootDevice::automatic; }
};

// Files of a VM that is not in the file, opened by the client who wished it: used at every start
// of it, until it is gone.
struct GivenFiles {
    std::optional<Fd> kernel, cdrom;
    struct Disk {
        Fd image;
        std::vector<Fd> bases;
    };
    std::vector<Disk> disks; // of each disk of the VM
};

class Guest {
public:
    using Done = std::function<void(Result<void>)>;

    Guest(const GuestContext& context, config::Vm vm, const config::Model& model, std::uint32_t id,
          OwnerIds owner, std::optional<User> user);
    ~Guest();
    // Makes it a VM that is gone when it ends: stopped is called whenever it is stopped and will
    // not start again by itself. It must not go from within the call.
    void make_temporary(GivenFiles files, std::function<void()> stopped);
    bool temporary() const { return stopped_ != nullptr; }

    // Takes over the process that an earlier parent started for this guest, instead of starting
    // one. The guest runs from here on; done is called when its process has said how it is, has
    // ended, or lets us wait for too long, which is in note() then (guest_adopt.cc).
    void adopt(const RunningGuest& record, Fd process, Done done);
    // Should this parent end without its guests, the next one finds it running, or stopped, as now.
    void keep_record();

    // Opens what the guest needs and starts its process; done is called once the guest runs, or
    // with the reason why it does not (nothing is left behind then).
    void start(Done done, StartOnce once = {});
    // Another medium (a client's file) into the CD-ROM drive of the running guest, or none.
    void change_medium(std::optional<Fd> medium, bool force, Done done);
    // The files of its console log that are there, opened for reading, oldest first; of a running
    // VM without such a log, a copy of what the console keeps.
    struct ConsoleFiles {
        bool kept = false; // as a log
        std::vector<Fd> files;
    };
    Result<ConsoleFiles> console_log(bool virtio) const;
    // What its serial console has said from the position on, at most so much; and its last lines.
    void read_console(std::uint64_t& position, std::size_t most,
                      std::vector<std::uint8_t>& into) const;
    std::vector<std::string> console_lines() const;
    // How much of its memory the running guest is to keep.
    void set_memory_target(std::uint64_t bytes, Done done);
    // orderly asks the guest, and ends it when it does not end in time; busy (EALREADY) when it
    // has been asked already. force ends it now. ended is called when its process is gone.
    enum class Stop : std::uint8_t { orderly, force };
    Result<void> stop(Stop how, std::function<void()> ended);
    // The same for somebody who wants it to stay down: the next parent does not start it either,
    // also not one that comes before it has stopped. A refusal leaves that as it was.
    Result<void> stop_to_stay(Stop how, std::function<void()> ended);
    // Calls ended when the process is gone, now when there is none. For the host itself: not
    // counted against the clients that wait.
    void when_gone(std::function<void()> ended);
    // Asks the process what it has counted; done is called when it has said, or when it is late.
    void count(std::function<void()> done);
    // Holds the guest where it is; done is called once nothing of it moves any more. Only of a
    // guest that runs.
    void pause(Done done);
    // Writes the guest's state (vmhost-state(5)) and ends it; when that fails it goes on. done is
    // called when its process is gone, or with the reason.
    void save(Fd out, Done done);
    // Starts the guest from such a state, read from a client's file or pipe, instead of booting.
    void restore(Fd state, Done done);
    // Makes a snapshot of the running guest and its disks, which goes on (guest_snapshot.cc).
    void snapshot(const std::string& name, Done done);
    Result<std::vector<Snapshots::Snapshot>> snapshots() const;
    Result<void> remove_snapshot(const std::string& name);
    // Whether installing it means that its first disk begins as a template (install.cc).
    bool begins_as_template() const;
    // That, of a VM that is stopped: what was done to the disk is gone with take_new_disk().
    Result<std::optional<NewFileOf>> make_new_disk() const;
    Result<void> take_new_disk(NewFileOf disk) const;
    // Lets a paused guest go on.
    Result<void> unpause();
    // Calls ended at the final stop (not on a reboot).
    Result<void> wait(std::function<void()> ended);
    // A connected socket to a console of the guest's (machine/console/frames.h).
    Result<Fd> attach_console(bool want_writer, bool virtio);
    // In line for a start by the host: a stop takes it out of the line again.
    void mark_waiting() {
        if (state_ == GuestState::stopped)
            state_ = GuestState::waiting;
    }
    bool in_line() const { return state_ == GuestState::waiting && !restart_timer_.active(); }
    // The last start was ended by a stop, not by a failure.
    bool stop_requested() const { return stop_requested_; }

    // Another description; what runs keeps what it was started with.
    void configure(config::Vm vm, OwnerIds owner) {
        vm_ = std::move(vm);
        owner_ = owner;
    }
    void use_network(net::Network* network) { context_.network = network; }
    // While it runs: what the model says now of what it may send (guest_guard.cc).
    void renew_guards();
    const std::vector<std::string>& taps() const { return taps_; } // of its interfaces

    const config::Vm& config() const { return vm_; }
    std::uint32_t id() const { return id_; }
    const OwnerIds& owner() const { return owner_; }
    const std::optional<User>& user() const { return user_; } // of its process; none = ours
    GuestState state() const { return state_; }
    std::optional<pid_t> pid() const;
    std::uint64_t resident_bytes() const; // of the process; 0 when it does not run
    // False when its process has been silent for [host] answer_timeout.
    bool answers() const { return heartbeat_.answers(); }
    std::uint64_t cpu_time_us() const; // used by it, in steps of a clock tick; the same
    // Why it is not running, when that was not asked for; and progress worth showing.
    const std::string& note() const { return note_; }
    // The last lines of its console when it failed, printable; else nothing.
    const std::vector<std::string>& last_lines() const { return last_lines_; }
    unsigned restarts() const { return restarts_.total(); } // by its policy
    unsigned reboots() const { return reboots_; }           // in place, since its start
    const ipc::VmCounted& counted() const { return counted_; }
    void send_to_process(ipc::Frame frame) {
        if (process_)
            process_->send_frame(std::move(frame));
    }
    // An event of this VM.
    void tell(std::string_view kind, std::string_view text = {}) const {
        if (context_.events)
            context_.events->tell(vm_.name, id_, kind, text);
    }
    // Its kernel is up: a driver listens for requests to end. As far as count() has been told.
    bool listens() const { return counted_.listens; }
    // Since it runs; 0 when it does not.
    std::uint64_t up_ms() const { return process_ ? context_.loop->now_ms() - started_ms_ : 0; }
    std::optional<Ipv4> lease;
    // Its installation; null when it has none. Whether it is armed for it.
    const store::Installation* installation() const;
    bool armed() const;
    // It is sealed: the guest's next reset boots what it is configured to.
    void leave_installer();

private:
    Result<ipc::VmSetup> open_everything(StartOnce once);
    Result<void> open_cdrom(ipc::VmSetup& setup, std::optional<Fd> given);
    Result<void> boot_once(ipc::VmSetup& setup, StartOnce once);
    bool starts_installer(const ipc::VmSetup& setup, const StartOnce& once) const;
    Result<void> boot_installer(ipc::VmSetup& setup);
    void ask_process(ipc::Frame request, Done done);
    Result<ipc::VmDisk> open_disk(std::size_t index);
    Result<void> open_boot_files(ipc::VmSetup& setup);
    Result<void> open_vhosts(ipc::VmSetup& setup, std::size_t files);
    Result<void> open_vhosts_of(ipc::VmNic& nic) const;
    void tell_stopped() const {
        if (stopped_ && state_ == GuestState::stopped)
            stopped_();
    }
    void launch(Done done, StartOnce once);
    Result<void> open_consoles(ipc::VmSetup& setup);
    Result<void> make_cgroup();
    void keep_last_lines();
    void restart_if_wanted(bool failed);
    void end_counting();
    Result<Fd> open_boot_file(const std::string& path, const char* what);
    std::string path_of(const std::string& path) const;
    Result<void> add_waiter(std::function<void()> ended);
    void remove_taps();
    void took_frame(ipc::Frame&& frame);
    void answering(bool answers);
    void took_saved(const ipc::VmSaved& saved);
    void took_snapshot(const ipc::VmSaved& saved);
    std::string snapshot_folder() const;
    Result<Snapshots> load_snapshots() const;
    std::vector<std::string> writable(const std::vector<config::Disk>& disks) const;
    Result<Fd> new_overlay(Snapshots& snapshots, const config::Disk& disk, std::string& path);
    Result<ipc::VmSnapshot> begin_snapshot(Snapshots& snapshots, const std::string& name);
    Result<void> has_snapshots() const;
    Result<void> begin_going_back(const std::string& name);
    Result<void> end_going_back();
    void forget_snapshot();
    net::PortGuard guard_of(std::size_t index) const;
    void process_ended(std::string how);
    void finish_start(Result<void> result);
    Error blame(Error error, const Place& place) const;

    GuestContext context_;
    config::Vm vm_;
    const config::Model& model_; // the host's: what it holds changes
    GivenFiles given_;
    std::function<void()> stopped_; // of a temporary one
    std::uint32_t id_;
    OwnerIds owner_;
    std::optional<User> user_; // its process becomes; none = stays who we are
    GuestState state_ = GuestState::stopped;
    std::string note_;
    Done starting_;
    Done pausing_;
    Done saving_;
    bool saved_ = false;              // and about to end
    std::optional<Fd> restore_from_;  // of the start that is being made
    std::vector<config::Disk> disks_; // of the guest that runs: it may be configured anew
    // As it will be recorded, of a snapshot that is being made or gone back to.
    std::optional<Snapshots> snapshots_;
    std::string snapshot_name_;
    GuestState before_saving_ = GuestState::running;
    bool stop_requested_ = false;
    std::optional<Error> start_error_;
    std::vector<std::function<void()>> waiting_;
    std::deque<Done> asked_; // of the process, in order
    std::vector<std::string> taps_;
    std::vector<Mac> lladdrs_; // of the guest that runs, as taps_
    std::unique_ptr<RoleChild> process_;
    Timer kill_timer_; // for a process that does not end when told to

    bool told_end_ = false; // the process has said how its guest ended
    bool failed_ = false;   // the last end was no end that a guest comes to by itself
    Cgroup cgroup_;
    struct ConsoleOutput { // of a running guest
        std::optional<ipc::SharedRingReader> ring;
        std::unique_ptr<ConsoleLog> log;
        void close() {
            log.reset();
            ring.reset();
        }
    };
    Result<ipc::VmConsole> open_console(ConsoleOutput& console, const std::string& log_path);
    Result<void> adopt_console(ConsoleOutput& console, ipc::VmConsole from,
                               const std::string& log_path);
    Result<void> open_log(ConsoleOutput& console, const std::string& log_path, Fd bell);
    std::string console_log_path() const;
    std::chrono::milliseconds stop_limit() const;
    void took_hello(ipc::VmHello hello);
    void end_adopting(Result<void> result);
    void settle_snapshot(bool overlaid);
    ConsoleOutput console_, virtio_console_;
    std::vector<std::string> last_lines_;
    unsigned reboots_ = 0;
    std::uint64_t started_ms_ = 0;
    Restarts restarts_;
    bool automatic_ = false; // the current start is by the policy
    Timer restart_timer_;
    ipc::VmCounted counted_;
    std::vector<std::function<void()>> counting_;
    Timer count_timer_;
    Done adopting_;
    Timer adopt_timer_;
    bool keep_stopped_ = false;
    bool in_installer_ = false; // booted it, also after a reset
    Heartbeat heartbeat_;
};

// What a guest with this Ethernet address may send by the interface.
net::PortGuard guard_of(const config::Model& model, const config::Interface& interface,
                        const Mac& lladdr);

} // namespace vmhost::host
