// The vm role: one guest. The process holds the guest's memory, its devices, its
// console, and the descriptors the parent opened for it; it opens nothing itself.
//
// It outlives its parent: the guest goes on, and the next parent takes the process over.
//
// A guest that was asked to end and reboots has ended. Any other that reboots gets a new machine in
// the same process: tap, disks, locks and attached consoles stay.
#include <malloc.h>

#include "machine/machine.h"
#include "role/child.h"

namespace vmhost::role {

namespace {

std::string in_words(const machine::MachineEnd& end) {
    switch (end.how) {
    case machine::MachineEnd::How::reset:
        return "the guest rebooted, which was to be its end";
    case machine::MachineEnd::How::power_off:
        return "the guest powered itself off";
    case machine::MachineEnd::How::debug_exit:
        return fmt::format("the guest ended itself with exit code {}", end.code);
    case machine::MachineEnd::How::failed:
        return "the machine failed";
    }
    return {};
}

machine::IoLimit limit_of(const ipc::VmLimit& limit) {
    return {limit.bytes_per_s, limit.operations_per_s, limit.burst_ms};
}

class GuestProcess {
public:
    int run(const Identity& identity) {
        return serve(
            loop_, parent_, identity, vm_calls,
            [this](ipc::Frame frame) { return took_message(std::move(frame)); },
            [this] { machine_.reset(); });
    }

private:
    Result<void> set_up(ipc::VmSetup setup) {
        setup_ = std::move(setup);
        console_ = TRY(make_console(setup_.console));
        if (setup_.virtio_console)
            virtio_console_ = TRY(make_console(*setup_.virtio_console));
        for (auto& disk : setup_.disks)
            if (disk.fresh)
                TRY(make_overlay(disk));
        describe();
        TRY(build());
        if (setup_.listener)
            parent_->outlive(
                std::move(*setup_.listener), [this] { lost_parent(); }, [this] { found_parent(); });
        parent_->send(ipc::Ready{});
        return {};
    }

    // Whoever wanted the guest held is gone, and cannot say that it may go on.
    void lost_parent() {
        overlays_.reset();
        if (std::exchange(saved_, false) && machine_ && !paused_)
            machine_->unpause();
    }

    void found_parent() {
        ipc::VmHello hello{.paused = paused_,
                           .stopping = stopping_,
                           .overlaid = overlaid_.has_value(),
                           .reboots = reboots_,
                           .console = copy_of(setup_.console),
                           .virtio_console = {}};
        if (setup_.virtio_console)
            hello.virtio_console = copy_of(*setup_.virtio_console);
        parent_->send(std::move(hello));
    }

    // Without what cannot be duplicated: the parent sees that it is missing.
    static ipc::VmConsole copy_of(const ipc::VmConsole& console) {
        ipc::VmConsole copy;
        if (auto ring = console.ring.duplicate())
            copy.ring = std::move(*ring);
        if (console.bell)
            if (auto bell = console.bell->duplicate())
                copy.bell = std::move(*bell);
        return copy;
    }

    Result<std::unique_ptr<machine::Console>> make_console(const ipc::VmConsole& made) {
        return machine::Console::create(loop_, made.ring,
                                        made.bell ? TRY(made.bell->duplicate()) : Fd());
    }

    // Of an empty file and what is below it.
    static Result<void> make_overlay(const ipc::VmDisk& disk) {
        std::vector<disk::ConfiguredLayer> below;
        for (const auto& base : disk.bases) {
            auto& layer = below.emplace_back();
            layer.file = TRY(base.file.duplicate());
            layer.path = base.path;
            if (base.format)
                layer.format = static_cast<disk::Format>(*base.format);
        }
        const auto& nearest = disk.bases.at(0);
        auto format = below[0].format.value_or(disk::Format::raw);
        auto image = TRY(disk::Image::open_configured(std::move(below), true));
        return disk::fill_image(disk.image, printable(disk.path), disk::Format::qcow2,
                                image->size_bytes(), disk::BaseName{nearest.path, format});
    }

    static machine::DiskSpec spec_of(const ipc::VmDisk& disk) {
        machine::DiskSpec spec;
        spec.fd = disk.image.get();
        spec.read_only = disk.read_only;
        spec.serial = disk.serial;
        spec.format = static_cast<disk::Format>(disk.format);
        spec.path = disk.path;
        spec.limit = limit_of(disk.limit);
        for (const auto& base : disk.bases) {
            auto& file = spec.bases.emplace_back();
            file.fd = base.file.get();
            file.path = base.path;
            if (base.format)
                file.format = static_cast<disk::Format>(*base.format);
        }
        return spec;
    }

    void describe(const ipc::VmNic& nic) {
        auto& spec = spec_.nics.emplace_back();
        for (const auto& tap : nic.taps)
            spec.tap_fds.push_back(tap.get());
        for (const auto& vhost : nic.vhosts)
            spec.vhost_fds.push_back(vhost.get());
        spec.mac = nic.mac;
        spec.mtu = nic.mtu;
        spec.limit = limit_of(nic.limit);
    }

    void describe() {
        spec_.name = setup_.name;
        spec_.serial = setup_.serial;
        spec_.uuid_high = setup_.uuid_high;
        spec_.uuid_low = setup_.uuid_low;
        spec_.memory_bytes = setup_.memory_bytes;
        spec_.vcpus = setup_.vcpus;
        spec_.cpu = static_cast<machine::CpuKind>(setup_.cpu);
        spec_.kvm_fd = setup_.kvm.get();
        spec_.boot.image_fd = setup_.image ? setup_.image->get() : -1;
        spec_.boot.image_name = setup_.image_name;
        spec_.boot.initrd_fd = setup_.initrd ? setup_.initrd->get() : -1;
        spec_.boot.command_line = setup_.command_line;
        spec_.boot.boot_mac = setup_.boot_mac;
        spec_.boot.howto = setup_.howto;
        spec_.boot.from = static_cast<machine::BootFrom>(setup_.boot_from);
        for (const auto& disk : setup_.disks)
            spec_.disks.push_back(spec_of(disk));
        for (const auto& nic : setup_.nics)
            describe(nic);
        if (setup_.cdrom)
            spec_.cdrom = {.fd = setup_.cdrom->medium ? setup_.cdrom->medium->get() : -1};
        spec_.debug_exit = setup_.debug_exit;
        spec_.state_fd = setup_.state ? setup_.state->get() : -1;
        spec_.balloon = setup_.balloon;
        spec_.virtio_console = virtio_console_.get();
        spec_.transitional = setup_.transitional;
        if (setup_.once)
            boot_once(*setup_.once);
    }

    // Another way to start, until the guest's first reset or for longer.
    void boot_once(const ipc::VmBootOnce& once) {
        afterwards_ = spec_.boot;
        spec_.boot.from = static_cast<machine::BootFrom>(once.boot_from);
        spec_.boot.boot_mac = once.boot_mac;
        if (once.image) {
            spec_.boot.image_fd = once.image->get();
            spec_.boot.image_name = once.image_name;
            spec_.boot.initrd_fd = once.initrd ? once.initrd->get() : -1;
            spec_.boot.command_line = once.command_line;
        }
    }

    // The machine's own copy of the descriptor lives with the medium; ours is for the next reset.
    Result<void> change_medium(ipc::VmChangeMedium change) {
        if (!machine_)
            return fail(ErrorKind::busy, "it reboots: try again");
        TRY(machine_->change_medium(change.medium ? change.medium->get() : -1, change.force));
        setup_.cdrom->medium = std::move(change.medium);
        spec_.cdrom->fd = setup_.cdrom->medium ? setup_.cdrom->medium->get() : -1;
        return {};
    }

    void answer(const Result<void>& result) {
        ipc::VmAnswer message;
        message.done = result.has_value();
        if (!result) {
            message.kind = static_cast<std::uint8_t>(result.error().kind());
            message.text = result.error().text();
        }
        parent_->send(std::move(message));
    }

    Result<void> build() {
        machine_ = TRY(machine::Machine::build(
            loop_, spec_, *console_, [this](machine::MachineEnd end) { ended(std::move(end)); }));
        spec_.state_fd = -1; // once: a reboot boots
        setup_.state.reset();
        started_ms_ = loop_.now_ms();
        if (paused_)
            pause(); // it was about to reboot when it was asked for
        return machine_->start();
    }

    void pause() {
        paused_ = true;
        if (machine_)
            machine_->pause([this] { parent_->send(ipc::VmPaused{}); });
    }

    void unpause() {
        paused_ = false;
        if (machine_ && !saving_ && !overlaid_)
            machine_->unpause();
    }

    bool may_be_saved() {
        const bool busy = saving_ || overlaid_;
        if (busy || !machine_)
            answer_save(
                fail(ErrorKind::busy, "{}", busy ? "it is being saved already" : "it reboots"));
        return !busy && machine_;
    }

    void snapshot(ipc::VmSnapshot request) {
        if (!may_be_saved())
            return;
        save_to_ = std::move(request.out);
        overlays_ = std::move(request.overlays);
        hold_and_save();
    }

    // The disks go on with overlays, on what they had until now; or back again. Nothing has
    // changed when that fails.
    Result<void> put_overlays(std::vector<ipc::VmOverlay> overlays) {
        std::vector<std::size_t> put;
        auto result = [&]() -> Result<void> {
            std::vector<machine::Machine::DiskChange> changes;
            for (auto& overlay : overlays) {
                auto& disk = setup_.disks.at(overlay.disk);
                disk.bases.insert(
                    disk.bases.begin(),
                    {std::exchange(disk.image, std::move(overlay.file)),
                     std::exchange(disk.path, overlay.path),
                     std::exchange(disk.format, static_cast<std::uint8_t>(disk::Format::qcow2))});
                put.push_back(overlay.disk);
                TRY(make_overlay(disk));
                changes.emplace_back(overlay.disk, spec_of(disk));
            }
            return machine_->replace_disks(changes);
        }();
        if (!result)
            take_overlays_off(put);
        else
            overlaid_ = std::move(put);
        describe_disks();
        return result;
    }

    void take_overlays_off(const std::vector<std::size_t>& put) {
        for (auto index : put) {
            auto& disk = setup_.disks[index];
            auto& below = disk.bases.front();
            disk.image = std::move(below.file);
            disk.path = std::move(below.path);
            disk.format = *below.format;
            disk.bases.erase(disk.bases.begin());
        }
    }

    void describe_disks() {
        spec_.disks.clear();
        for (const auto& disk : setup_.disks)
            spec_.disks.push_back(spec_of(disk));
    }

    // The parent has recorded the snapshot, or could not.
    Result<void> end_snapshot(bool keep) {
        auto overlaid = std::exchange(overlaid_, std::nullopt);
        if (!overlaid || !machine_) // terminated meanwhile
            return {};
        if (keep) {
            for (auto index : *overlaid) {
                const auto& frozen = setup_.disks[index].bases.front();
                TRY(disk::lock_image(frozen.file, true, printable(frozen.path)));
            }
        } else {
            take_overlays_off(*overlaid);
            describe_disks();
            std::vector<machine::Machine::DiskChange> changes;
            for (auto index : *overlaid)
                changes.emplace_back(index, spec_.disks[index]);
            TRY(machine_->replace_disks(changes));
        }
        if (!paused_)
            machine_->unpause();
        if (auto order = std::exchange(stop_later_, std::nullopt))
            stop(*order);
        return {};
    }

    void save(ipc::VmSave request) {
        if (!may_be_saved())
            return;
        save_to_ = std::move(request.out);
        hold_and_save();
    }

    void hold_and_save() {
        saving_ = true;
        machine_->pause([this] {
            machine_->save(std::move(save_to_),
                           [this](Result<std::uint64_t> saved) { end_save(std::move(saved)); });
        });
    }

    // Saved, it stays held; a guest that cannot be saved goes on, unless it was paused before.
    void end_save(Result<std::uint64_t> saved) {
        saving_ = false;
        save_to_.reset();
        auto overlays = std::exchange(overlays_, std::nullopt);
        if (!parent_->connected())
            saved = fail(ErrorKind::busy, "the parent is gone");
        if (saved && overlays && stopping_)
            saved = fail(ErrorKind::busy, "it is to end");
        else if (saved && overlays)
            if (auto put = put_overlays(*std::move(overlays)); !put)
                saved = std::unexpected(std::move(put).error());
        saved_ = saved && !overlays;
        if ((!saved || stopping_) && machine_ && !paused_)
            machine_->unpause();
        answer_save(std::move(saved));
    }

    void answer_save(Result<std::uint64_t> saved) {
        if (saved)
            parent_->send(ipc::VmSaved{.bytes = *saved});
        else
            parent_->send(ipc::VmSaved{.done = false,
                                       .kind = static_cast<std::uint8_t>(saved.error().kind()),
                                       .text = saved.error().text()});
    }

    // Without a machine it is about to be reset: that is its end then.
    void stop(const ipc::VmShutdown& order) {
        stopping_ = true;
        if (overlaid_) {
            stop_later_ = order; // nothing may be written yet
            return;
        }
        unpause();
        if (!machine_)
            return;
        constexpr std::uint64_t ns_per_ms = 1'000'000, most_ms = limits::max_duration_ms;
        auto request = machine_->ask_to_stop({std::min(order.answer_ms, most_ms) * ns_per_ms,
                                              std::min(order.finish_ms, most_ms) * ns_per_ms});
        if (request != machine::StopRequest::nobody)
            log::info("vm", "the guest is asked to end, by {}",
                      request == machine::StopRequest::vmmci ? "vmmci" : "its power button");
    }

    void count() {
        auto sum = counted_before_;
        if (machine_)
            sum += machine_->counters();
        ipc::VmCounted message{sum.port_exits,   sum.memory_exits,       sum.other_exits,
                               sum.unknown_msrs, sum.unclaimed_accesses, sum.malformed_requests};
        for (const auto& disk : sum.disks)
            message.disks.push_back({disk.reads, disk.read_bytes, disk.writes, disk.written_bytes,
                                     disk.flushes, disk.discarded_bytes, disk.zeroed_bytes,
                                     disk.failed, disk.malformed});
        for (const auto& nic : sum.nics)
            message.nics.push_back({nic.received_frames, nic.received_bytes, nic.receive_dropped,
                                    nic.sent_frames, nic.sent_bytes, nic.send_dropped,
                                    nic.malformed, nic.lent});
        message.listens = machine_ && machine_->guest_listens();
        parent_->send(std::move(message));
    }

    // Called by the machine itself, which must not be destroyed inside: act in a turn of its own.
    void ended(machine::MachineEnd end) {
        end_ = std::move(end);
        after_end_.start(std::chrono::milliseconds(0));
    }

    void act_on_end() {
        if (spec_.cdrom && machine_)
            spec_.cdrom->tray_open = machine_->tray_open(); // a reboot does not close it
        if (machine_)
            counted_before_ += machine_->counters();
        machine_.reset();
        if (saving_)
            end_save(fail(ErrorKind::busy, "it ended or rebooted meanwhile"));
        if (end_.how == machine::MachineEnd::How::reset && !end_of_one_shot_boot() && !stopping_) {
            if (restarts_too_quickly()) {
                finish(machine::MachineEnd::How::failed,
                       "it rebooted too quickly, " + std::to_string(limits::max_quick_restarts) +
                           " times in a row");
                return;
            }
            if (auto built = build(); !built)
                finish(machine::MachineEnd::How::failed, "reboot: " + built.error().message());
            else
                parent_->send(ipc::VmReset{end_.text});
            ++reboots_;
            return;
        }
        bool reset = end_.how == machine::MachineEnd::How::reset;
        finish(end_.how, end_.text.empty() || reset ? in_words(end_) : end_.text);
    }

    // A guest that was booted to install must not come back to the installer, once it has had its
    // answers.
    bool end_of_one_shot_boot() {
        if (afterwards_ && setup_.once->stays)
            return false;
        if (auto normal = std::exchange(afterwards_, std::nullopt)) {
            spec_.boot = std::move(*normal);
            return false; // what the file says comes now
        }
        return setup_.boot_mac.has_value();
    }

    bool restarts_too_quickly() {
        bool quick = loop_.now_ms() - started_ms_ < limits::quick_restart_ms;
        quick_restarts_ = quick ? quick_restarts_ + 1 : 0;
        return quick_restarts_ >= limits::max_quick_restarts;
    }

    void finish(machine::MachineEnd::How how, std::string text) {
        using How = machine::MachineEnd::How;
        bool failed = how == How::failed || (how == How::debug_exit && end_.code != 0);
        parent_->send(
            ipc::VmEnded{static_cast<std::uint8_t>(how), end_.code, failed, std::move(text)});
        auto open = std::make_shared<unsigned>(virtio_console_ ? 2 : 1);
        auto closed = [this, open] {
            if (--*open == 0)
                parent_->finish();
        };
        console_->close(closed);
        if (virtio_console_)
            virtio_console_->close(closed);
    }

    Result<void> took_message(ipc::Frame frame) {
        if (frame.type == ipc::VmSetup::type)
            return set_up(TRY(ipc::decode<ipc::VmSetup>(std::move(frame))));
        if (frame.type == ipc::VmTerminate::type) {
            machine_.reset();
            after_end_.stop();
            finish(machine::MachineEnd::How::power_off, "terminated");
        } else if (frame.type == ipc::VmMemoryTarget::type) {
            auto target = TRY(ipc::decode<ipc::VmMemoryTarget>(std::move(frame)));
            answer(machine_ ? machine_->set_memory_target(target.bytes)
                            : fail(ErrorKind::busy, "it reboots: try again"));
        } else if (frame.type == ipc::VmShutdown::type) {
            stop(TRY(ipc::decode<ipc::VmShutdown>(std::move(frame))));
        } else if (frame.type == ipc::VmCount::type) {
            count();
        } else if (frame.type == ipc::VmChangeMedium::type) {
            answer(change_medium(TRY(ipc::decode<ipc::VmChangeMedium>(std::move(frame)))));
        } else if (frame.type == ipc::VmPause::type) {
            pause();
        } else if (frame.type == ipc::VmUnpause::type) {
            unpause();
        } else if (frame.type == ipc::VmSave::type) {
            save(TRY(ipc::decode<ipc::VmSave>(std::move(frame))));
        } else if (frame.type == ipc::VmSnapshot::type) {
            snapshot(TRY(ipc::decode<ipc::VmSnapshot>(std::move(frame))));
        } else if (frame.type == ipc::VmSnapshotEnd::type) {
            auto order = TRY(ipc::decode<ipc::VmSnapshotEnd>(std::move(frame)));
            TRY(end_snapshot(order.keep));
        } else if (frame.type == ipc::VmBootConfigured::type) {
            if (setup_.once)
                setup_.once->stays = false;
        } else if (frame.type == ipc::VmAttachConsole::type && console_) {
            auto attach = TRY(ipc::decode<ipc::VmAttachConsole>(std::move(frame)));
            auto& console = attach.virtio && virtio_console_ ? virtio_console_ : console_;
            if (auto attached = console->attach(std::move(attach.client), attach.want_writer);
                !attached)
                log::info("vm", "console: {}", attached.error().message());
        }
        return {};
    }

    Loop loop_;
    ipc::VmSetup setup_;
    machine::MachineSpec spec_;
    std::optional<machine::BootSpec> afterwards_; // what replaces a boot for once
    std::unique_ptr<machine::Console> console_, virtio_console_;
    std::unique_ptr<machine::Machine> machine_;
    machine::MachineEnd end_;
    machine::MachineCounters counted_before_; // by the machines before its resets
    Timer after_end_{loop_, [this] { act_on_end(); }};
    bool paused_ = false;
    bool saving_ = false;
    bool saved_ = false;                                  // and held until VmTerminate
    std::uint32_t reboots_ = 0;                           // in place
    Fd save_to_;                                          // while the machine comes to a stop
    std::optional<std::vector<ipc::VmOverlay>> overlays_; // of a snapshot, until its state is saved
    std::optional<std::vector<std::size_t>> overlaid_;    // disks, until VmSnapshotEnd
    std::optional<ipc::VmShutdown> stop_later_;           // asked for meanwhile
    bool stopping_ = false;                               // was asked to end
    std::uint64_t started_ms_ = 0;
    unsigned quick_restarts_ = 0;
    std::unique_ptr<Parent> parent_;
};

} // namespace

int run_vm(const Identity& identity) {
    // Otherwise glibc raises this after the first big block that is freed, a kernel image, and
    // the next one stays in the heap for as long as the guest runs.
    constexpr int mapped_from_bytes = 128 << 10;
    ::mallopt(M_MMAP_THRESHOLD, mapped_from_bytes);
    return GuestProcess().run(identity);
}

} // namespace vmhost::role
