// What a parent leaves of its running guests for the next one, in case that it ends without
// them: killed, crashed, or replaced by a newer program.
//
// One folder, root's alone: the model that the parent has applied, and for each guest a record of
// what only the parent knew, and the listening socket of the guest's process. The record is written
// before the process gets its guest and removed when it has ended, so a process without one holds
// nothing yet. A record is of this boot only; its process is told from a later one of the same
// number by its start. Of a guest that was stopped on request a record stays as well, so that the
// next parent of this boot does not start it again. And a note that links were made: the next
// parent takes them away, although its file may say nothing of a network any more.
//
// Loop thread of the parent.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace vmhost::host {

struct RunningGuest {
    std::string name;
    std::uint32_t id = 0;
    pid_t pid = 0;                 // 0: it was stopped on request
    std::uint64_t start_ticks = 0; // of the process, since boot
    std::vector<std::string> taps;
    std::vector<Mac> lladdrs; // of the interfaces behind them
    std::string snapshot;     // that is being made; empty = none
    unsigned restarts = 0;
    std::optional<Ipv4> lease;
    bool in_installer = false; // booted that, and does so at its next reset too
    bool temporary = false;    // not in the file, and gone when it ends
    bool to_stop = false;      // on request: when it has ended it stays down
    // As it was started with them: path, format, read_only and base only.
    std::vector<config::Disk> disks;
};

class RunningGuests {
public:
    // Makes the folder below an existing state directory. changing is called before each change of
    // a file, see host/ground.h.
    using Changing = std::function<void(std::string_view)>;
    static Result<RunningGuests> open(const std::string& state_directory, Changing changing);

    // Those of this boot; what cannot be read or is of an earlier boot is removed.
    std::vector<RunningGuest> read() const;
    // All of it or what was there before.
    Result<void> write(const RunningGuest& guest) const;
    void remove(const std::string& name) const;

    // The model that they are part of; nothing when there is none of this boot.
    struct Model {
        std::string toml;
        std::vector<std::string> temporary; // its VMs that are not in the file
    };
    std::optional<Model> read_model() const;
    Result<void> write_model(const Model& model) const;
    void remove_model() const;

    // Whether a parent of this boot made links, and did not come to remove them.
    bool links_noted() const;
    Result<void> note_links() const; // before the first is made
    void forget_links() const;       // when there is none left

    // A listening socket for the process of that guest.
    Result<Fd> listen(const std::string& name) const;
    // A connection to its process.
    Result<Fd> connect(const std::string& name) const;

private:
    RunningGuests(Fd folder, std::string boot, Changing changing)
        : folder_(std::move(folder)), boot_(std::move(boot)), changing_(std::move(changing)) {}
    std::optional<RunningGuest> read_record(const std::string& file) const;
    Result<std::string> read_text(const std::string& file) const;
    Result<void> write_text(const std::string& file, const std::string& text) const;
    std::string socket_path(const std::string& name) const;

    Fd folder_;
    std::string boot_; // the kernel's id of it
    Changing changing_;
};

} // namespace vmhost::host
