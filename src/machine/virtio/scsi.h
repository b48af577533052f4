// virtio SCSI host (Virtual I/O Device Specification 1.2, section 5.6) with one target: a CD-ROM
// drive at target 0, logical unit 0. What the commands mean is in device/cd_drive.h.
//
// Queues: 0 control, 1 events, 2 requests. Commands are carried out on the loop thread at once;
// only reads of the medium go to its disk::IoQueue. Task management that is about a
// read in flight is answered when that read has come back, as aborted. The only event is the one
// that a driver may subscribe to: that the medium was changed.
//
// A medium that is taken out while it is read stays open until the read is done.
//
// Threads: activate, reset and write_config from vCPU threads, the rest on the loop thread, all
// under the device lock; medium() and the drive's state with the lock held.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "disk/disk.h"
#include "machine/bus.h"
#include "machine/device/cd_drive.h"
#include "machine/virtio/virtio.h"

namespace vmhost::machine::virtio {

class Scsi final : public VirtioDevice {
public:
    static constexpr std::uint16_t queue_size = 128;
    static constexpr std::uint16_t control_queue = 0, event_queue = 1, request_queue = 2;

    // loop and lock outlive the device. An empty drive; medium may follow at once.
    Scsi(std::string name, std::string serial, Loop& loop, Bus::Lock& lock);

    std::string_view name() const override { return name_; }
    DeviceType type() const override { return DeviceType::scsi; }
    std::uint64_t features() const override { return 0; }
    std::vector<std::uint16_t> queue_sizes() const override {
        return {queue_size, queue_size, queue_size};
    }
    Bytes config() const override { return config_; }
    void write_config(std::uint64_t offset, Bytes data) override;
    void activate(std::uint64_t driver_features, std::vector<Queue*> queues) override;
    bool notify(std::uint16_t queue) override;
    void reset() override;
    bool quiescent() const override;
    void pause() override { paused_ = true; }
    void resume() override { paused_ = false; }
    bool still() const override { return reads_.empty(); }
    std::uint64_t malformed_requests() const override { return malformed_; }

    // Puts another medium into the drive, or takes it out (null). Refused when the guest has locked
    // the tray over a medium and force is not given: the guest is asked to let go of it then.
    // Loop thread, without the device lock.
    Result<void> change_medium(std::unique_ptr<disk::Image> image, bool force);
    // The device lock is held.
    CdDrive& drive() { return drive_; }
    const CdDrive& drive() const { return drive_; }

private:
    struct Read; // in flight
    struct Command;
    struct Medium {
        std::unique_ptr<disk::Image> image;
        std::unique_ptr<disk::IoQueue> io; // goes first: it waits for what runs
    };

    bool take(Queue* queue, void (Scsi::*serve)(Chain));
    void serve_request(Chain chain);
    void serve_control(Chain chain);
    void manage_tasks(Chain chain, ByteReader request);
    void notify_about(Chain chain, std::uint32_t type, ByteReader request);
    void start_read(Command command, const CdDrive::Outcome& outcome);
    void finish_read(const std::shared_ptr<Read>& read, Result<void> result);
    void answer(Command& command, std::uint8_t response, const std::optional<CdDrive::Sense>& sense,
                std::uint64_t data_bytes);
    void answer_managers();
    void send_event(std::uint32_t event, std::uint32_t reason);
    void tell_missed_events();
    std::uint32_t sense_bytes() const;
    std::uint32_t cdb_bytes() const;
    void close_retired();
    void note_failure(const Error& error);

    std::string name_;
    Loop& loop_;
    Bus::Lock& lock_;
    CdDrive drive_;
    std::array<std::uint8_t, 36> config_{};

    Queue* control_ = nullptr;
    Queue* events_ = nullptr;
    Queue* requests_ = nullptr;
    bool paused_ = false;
    bool subscribed_ = false;    // to changes of the medium
    bool events_missed_ = false; // there was no buffer for an event
    bool throttled_ = false;     // enough is in flight: completions go on taking requests

    // Reads in flight, also those that a reset overtook; task management that waits for some.
    std::vector<std::shared_ptr<Read>> reads_;
    struct Manager {
        Chain chain;
        std::vector<std::weak_ptr<Read>> affected;
    };
    std::vector<Manager> managers_;
    std::uint64_t malformed_ = 0;
    std::uint64_t failed_reads_ = 0;
    Wakeup again_; // more waits than one turn takes, or a medium is to be closed
    // They go first, and wait for their reads: what lies in the drive, and what was taken out while
    // it was read.
    std::unique_ptr<Medium> medium_;
    std::vector<std::unique_ptr<Medium>> retired_;
};

} // namespace vmhost::machine::virtio
