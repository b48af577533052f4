// Snapshots of a guest: made while it runs, gone back to by a start. What they consist of on disk
// is told in snapshots.h.
//
// Made: the parent creates the empty files of the state and of the overlays; the guest's process
// holds the guest, writes the state, makes overlays of the files, puts its disks on them, and
// says so; the parent stores the record, and only then the guest goes on. Until the record is
// stored, nothing was written that the snapshot before it does not have; if it cannot be stored,
// the process takes the overlays away again. So whatever ends the parent, the process or the host
// in between, the disks are complete.
//
// Gone back to: the guest's process makes fresh overlays on the files of the snapshot and goes on
// from its state; the parent stores the record when it says that it does. A state that is refused
// leaves the disks as they were.
#include <fcntl.h>

#include "disk/disk.h"
#include "host/disks.h"
#include "host/files.h"
#include "host/guest.h"

namespace vmhost::host {

std::string Guest::snapshot_folder() const {
    return context_.state_directory + "/snapshots/" + vm_.name;
}

Result<Snapshots> Guest::load_snapshots() const {
    return Snapshots::load(snapshot_folder(), [ground = context_.ground](std::string_view what) {
        ground->changing(what);
    });
}

std::vector<std::string> Guest::writable(const std::vector<config::Disk>& disks) const {
    std::vector<std::string> paths;
    for (const auto& disk : disks)
        if (!disk.read_only)
            paths.push_back(path_of(disk.path));
    return paths;
}

// The empty file of a new overlay, locked for its writer.
Result<Fd> Guest::new_overlay(Snapshots& snapshots, const config::Disk& disk, std::string& path) {
    path = TRY(snapshots.put_overlay(path_of(disk.path), disk.base.size()));
    context_.ground->changing("create an overlay");
    auto file = TRY(create_file_of(0, path, "overlay"));
    TRY(disk::lock_image(file, false, path));
    return file;
}

Result<ipc::VmSnapshot> Guest::begin_snapshot(Snapshots& snapshots, const std::string& name) {
    TRY(snapshots.add(name, writable(disks_), context_.ground->time_s()));
    TRY(snapshots.make_folder());
    ipc::VmSnapshot request;
    context_.ground->changing("create a state");
    request.out = TRY(create_file_of(0, snapshots.state_path(name), "state"));
    for (std::size_t i = 0; i < disks_.size(); ++i) {
        if (disks_[i].read_only)
            continue;
        auto& overlay = request.overlays.emplace_back();
        overlay.disk = static_cast<std::uint32_t>(i);
        overlay.file = TRY(new_overlay(snapshots, disks_[i], overlay.path));
    }
    return request;
}

void Guest::snapshot(const std::string& name, Done done) {
    if (temporary())
        return done(fail(ErrorKind::unsupported,
                         "vm {} is not in the file: nothing of it can be kept", vm_.name));
    if (saving_ || pausing_)
        return done(fail(ErrorKind::busy, "vm {} is being saved or paused already", vm_.name));
    if (state_ != GuestState::running && state_ != GuestState::paused)
        return done(fail(ErrorKind::invalid, "vm {} is not running", vm_.name));
    auto loaded = load_snapshots();
    if (!loaded)
        return done(std::unexpected(blame(std::move(loaded).error(), {})));
    loaded->remove_others(); // of an attempt that was cut off
    auto request = begin_snapshot(*loaded, name);
    if (!request) {
        forget_snapshot();
        return done(std::unexpected(blame(std::move(request).error(), {})));
    }
    snapshots_ = std::move(*loaded);
    snapshot_name_ = name;
    keep_record();
    before_saving_ = std::exchange(state_, GuestState::paused);
    saving_ = std::move(done);
    process_->send(std::move(*request));
}

void Guest::took_snapshot(const ipc::VmSaved& saved) {
    auto snapshots = *std::exchange(snapshots_, std::nullopt);
    if (state_ != GuestState::stopping) // it was asked to meanwhile: it ends after this
        state_ = before_saving_;
    Result<void> result;
    if (saved.done) {
        snapshots.set_state_bytes(snapshot_name_, saved.bytes);
        result = snapshots.store();
        process_->send(ipc::VmSnapshotEnd{result.has_value()});
    } else {
        auto kind = std::min(saved.kind, static_cast<std::uint8_t>(ErrorKind::internal));
        result = fail(static_cast<ErrorKind>(kind), "{}", printable(saved.text, 400));
    }
    if (result) {
        log::notice("host", "vm {}: snapshot {}, {} of state", vm_.name, snapshot_name_,
                    format_size(saved.bytes));
        tell("snapshot", snapshot_name_);
    } else {
        forget_snapshot();
    }
    snapshots_.reset();
    keep_record();
    std::exchange(saving_, nullptr)(result ? Result<void>()
                                           : std::unexpected(blame(std::move(result).error(), {})));
}

// What was made for a snapshot, or for going back to one, and has not become part of the record.
void Guest::forget_snapshot() {
    snapshots_.reset();
    if (auto stored = load_snapshots())
        stored->remove_others();
}

// The folder has the name of a VM of the file, also of one that is no longer there; it is not for
// whoever may make a VM of that name.
Result<void> Guest::has_snapshots() const {
    if (temporary())
        return fail(ErrorKind::unsupported, "a VM that is not in the file has no snapshots");
    return {};
}

// For the start that is being made: its disks and its state are those of a snapshot.
Result<void> Guest::begin_going_back(const std::string& name) {
    TRY(has_snapshots());
    auto snapshots = TRY(load_snapshots());
    snapshots.remove_others();
    TRY(snapshots.go_back(name, writable(vm_.disks)));
    auto state = TRY(open_file_of(0, snapshots.state_path(name), O_RDONLY, "state"));
    snapshots_ = std::move(snapshots);
    snapshot_name_ = name;
    std::string path;
    for (const auto& disk : vm_.disks)
        if (!disk.read_only)
            TRY(new_overlay(*snapshots_, disk, path)); // and let go again: it is opened like others
    restore_from_ = std::move(state);
    return {};
}

// The guest goes on from there.
Result<void> Guest::end_going_back() {
    if (!snapshots_)
        return {};
    TRY(snapshots_->store());    // else the process ends, and forget_snapshot() follows
    snapshots_->remove_others(); // what the disks have got since, unless a snapshot has it
    snapshots_.reset();
    log::notice("host", "vm {} is back at its snapshot {}", vm_.name, snapshot_name_);
    tell("went back", "to snapshot " + snapshot_name_);
    return {};
}

// The disk of the configuration, and the overlays on it.
Result<ipc::VmDisk> Guest::open_disk(std::size_t index) {
    const auto& disk = vm_.disks[index];
    if (index < given_.disks.size()) // of a VM that is in no file, and has no snapshots
        return open_given_disk(disk, given_.disks[index].image, given_.disks[index].bases);
    const auto snapshots = snapshots_ ? *snapshots_ : TRY(load_snapshots());
    const auto overlays = snapshots.overlays_of(path_of(disk.path));
    auto below = disk;
    if (!overlays.empty()) {
        below.read_only = true;
        below.size_bytes.reset(); // one that is missing must not be made
    }
    bool created = false;
    auto opened = TRY(
        host::open_disk(*context_.ground, below, owner_.uid, context_.state_directory, created));
    if (created)
        log::notice("host", "vm {}: created disk {} of {}", vm_.name, printable(opened.path),
                    format_size(*disk.size_bytes));
    for (std::size_t i = 0; i < overlays.size(); ++i) {
        const bool top = i + 1 == overlays.size();
        const bool read_only = disk.read_only || !top;
        ipc::VmDisk above;
        above.image = TRY(open_file_of(0, overlays[i], read_only ? O_RDONLY : O_RDWR, "overlay"));
        TRY(disk::lock_image(above.image, read_only, overlays[i]));
        above.serial = opened.serial;
        above.format = static_cast<std::uint8_t>(disk::Format::qcow2);
        above.path = overlays[i];
        above.fresh = top && snapshots_.has_value();
        above.bases.push_back({std::move(opened.image), opened.path, opened.format});
        for (auto& base : opened.bases)
            above.bases.push_back(std::move(base));
        opened = std::move(above);
    }
    opened.read_only = disk.read_only;
    return opened;
}

Result<std::vector<Snapshots::Snapshot>> Guest::snapshots() const {
    if (!has_snapshots())
        return std::vector<Snapshots::Snapshot>{};
    auto loaded = load_snapshots();
    if (!loaded)
        return std::unexpected(blame(std::move(loaded).error(), {}));
    return loaded->list();
}

Result<void> Guest::remove_snapshot(const std::string& name) {
    auto remove = [&]() -> Result<void> {
        if (snapshots_)
            return fail(ErrorKind::busy, "a snapshot of it is being made or gone back to");
        TRY(has_snapshots());
        auto snapshots = TRY(load_snapshots());
        TRY(snapshots.remove(name));
        TRY(snapshots.store());
        snapshots.remove_others();
        return {};
    };
    auto removed = remove();
    if (!removed)
        return std::unexpected(blame(std::move(removed).error(), {}));
    log::notice("host", "vm {}: removed its snapshot {}", vm_.name, name);
    return {};
}

bool Guest::begins_as_template() const {
    return vm_.install && vm_.install->system == config::InstallSystem::cloud_init &&
           vm_.install->kernel.empty() && !vm_.disks.empty() && !vm_.disks[0].base.empty() &&
           !vm_.disks[0].read_only;
}

Result<std::optional<NewFileOf>> Guest::make_new_disk() const {
    if (state_ != GuestState::stopped || process_)
        return fail(ErrorKind::busy, "vm {} is {}, and its disk is to begin anew: stop it first",
                    vm_.name, host::name_of(state_));
    if (!TRY(load_snapshots()).list().empty())
        return fail(ErrorKind::invalid,
                    "vm {} has snapshots, and its disk is to begin anew: remove them first",
                    vm_.name);
    return host::renew_disk(*context_.ground, vm_.disks[0], owner_.uid, context_.state_directory);
}

Result<void> Guest::take_new_disk(NewFileOf disk) const {
    auto snapshots = TRY(load_snapshots());
    if (const auto path = path_of(vm_.disks[0].path); !snapshots.overlays_of(path).empty()) {
        snapshots.drop_overlays(path);
        TRY(snapshots.store());
        snapshots.remove_others();
    }
    context_.ground->changing("put a new disk in the old one's place");
    return disk.replace();
}

} // namespace vmhost::host
