// The snapshots of one VM: its state at a moment, and its disks as they were then.
//
// When a snapshot is made, each disk that the guest may write gets an empty qcow2 overlay, on
// which the guest goes on; what lies below is not written any more. A disk is therefore the file
// that the configuration names, and on it a chain of overlays, oldest first. A snapshot remembers
// the chain of its moment; to go back to it, a fresh overlay is put on that chain.
//
// All of this is one folder for each VM, root's alone: NAME.state, the overlays, and a record
// that says which overlays the disks have now and which each snapshot had. Whatever happens, is
// decided by the moment in which a new record takes the place of the old one: a file that
// the record does not name belongs to no snapshot, and is removed the next time. The record is
// vmhost's own word, so that an overlay needs no name in the configuration: the rule that an
// image's backing file must be named by somebody who may is kept.
//
// Loop thread of the parent.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace vmhost::host {

class Snapshots {
public:
    // Overlays of a disk of the configuration, oldest first, as names in the folder.
    struct Disk {
        std::string path; // absolute
        std::vector<std::string> overlays;
        bool operator==(const Disk&) const = default;
    };
    struct Snapshot {
        std::string name;
        std::int64_t time_s = 0; // since 1970
        std::uint64_t state_bytes = 0;
        std::vector<Disk> disks; // those that could be written
    };

    // folder is absolute, and need not exist: a VM without snapshots has none. changing is called
    // before each change of a file, see host/ground.h.
    using Changing = std::function<void(std::string_view)>;
    static Result<Snapshots> load(std::string folder, Changing changing = {});
    Result<void> make_folder() const;
    // Makes this the record; all of it or nothing, and stable.
    Result<void> store() const;
    // Of what is in the folder, removes what the record does not name.
    void remove_others() const;

    const std::vector<Snapshot>& list() const { return snapshots_; }
    Result<const Snapshot*> find(const std::string& name) const;
    // The overlays that a disk has now, as absolute paths.
    std::vector<std::string> overlays_of(const std::string& path) const;
    std::string path_of(const std::string& file) const { return folder_ + "/" + file; }
    std::string state_path(const std::string& name) const { return path_of(name + ".state"); }

    // ---- changes, which count once they are stored

    // Adds a snapshot of the disks as they are now; refused when the name is taken or there are
    // too many. The state's size is filled in later.
    Result<void> add(const std::string& name, const std::vector<std::string>& disks,
                     std::int64_t time_s);
    void set_state_bytes(const std::string& name, std::uint64_t bytes);
    // Another overlay on a disk; its absolute path. Refused when it lies on too many.
    Result<std::string> put_overlay(const std::string& path, std::size_t files_below);
    // The disks are as that snapshot has them; refused when these are others than it had.
    Result<void> go_back(const std::string& name, const std::vector<std::string>& disks);
    Result<void> remove(const std::string& name);
    // Of a disk that begins anew; only without snapshots, which would need them.
    void drop_overlays(const std::string& path);

private:
    Snapshots(std::string folder, Changing changing)
        : folder_(std::move(folder)), changing_(std::move(changing)) {}
    void changing(std::string_view what) const {
        if (changing_)
            changing_(what);
    }
    Result<void> parse(const std::string& text);
    std::vector<Disk> current(const std::vector<std::string>& disks) const;

    std::string folder_;
    Changing changing_;
    std::uint64_t next_ = 1; // number of the next overlay
    std::vector<Disk> disks_;
    std::vector<Snapshot> snapshots_;
};

} // namespace vmhost::host
