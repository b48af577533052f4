// virtio block (Virtual I/O Device Specification 1.2, section 5.2) over a disk image.
//
// Requests are taken from the queues on the device's thread (in a machine: the one of all
// its disks, io_thread.h), moved between the guest's memory and the image by a
// disk::IoQueue, there or elsewhere, and completed on the device's thread in the order in
// which they finish. The device lock is held while requests are taken and completed, and
// free while data is moved. What the guest publishes while requests are moved on this
// thread is found afterwards; it need not ring the doorbell for it, and is told so.
// Of each queue at most as many are under way as it is long, whatever the driver does
// with resets. A request that a reset overtakes runs
// to its end (its buffers are the guest's memory, which outlives it) and goes
// nowhere; until then quiescent() is false and the guest sees the reset going on.
//
// The cache is a write-back one when the driver knows how to flush it; the driver may
// ask for write-through by the configuration's `writeback` field, and then, as without
// FLUSH, each write is made stable before it is answered.
//
// A disk with a limit stops reading its queues when the limit is used up, and goes on
// when time has passed: requests wait with the guest.
//
// Threads: configuration, activate and reset from vCPU threads, pause, resume and state on
// the machine's loop thread, the rest on the device's, all under the device lock.
#pragma once

#include <array>
#include <string>

#include "disk/disk.h"
#include "loop/loop.h"
#include "machine/bus.h"
#include "machine/counters.h"
#include "machine/throttle.h"
#include "machine/virtio/virtio.h"

namespace vmhost::machine::virtio {

class Block final : public VirtioDevice {
public:
    static constexpr std::uint16_t queue_size = 256;
    static constexpr std::size_t serial_bytes = 20, config_bytes = 60;

    struct Settings {
        std::string name;
        std::string serial;  // cut at 20 bytes
        unsigned queues = 1; // cut at limits::max_block_queues
        IoLimit limit;
    };
    // image, loop, lock and clock outlive the device. The loop's thread is the device's.
    Block(Settings settings, disk::Image& image, Loop& loop, Bus::Lock& lock, Clock& clock);

    std::string_view name() const override { return name_; }
    DeviceType type() const override { return DeviceType::block; }
    std::uint64_t features() const override;
    std::vector<std::uint16_t> queue_sizes() const override;
    Bytes config() const override { return config_; }
    void write_config(std::uint64_t offset, Bytes data) override;
    void activate(std::uint64_t driver_features, std::vector<Queue*> queues) override;
    bool notify(std::uint16_t queue) override;
    void reset() override;
    bool quiescent() const override;
    void pause() override { paused_ = true; }
    void resume() override { paused_ = false; }
    bool still() const override { return outstanding() == 0; }
    // Another image of the same size, while nothing is under way and the device's thread does
    // not run; under the device lock.
    void use(disk::Image& image);
    void state(StateArchive& archive) override;
    std::uint64_t malformed_requests() const override { return malformed_; }

    // Without those that queues found malformed.
    const DiskCounters& counters() const { return counters_; }
    std::uint64_t failure_log_lines() const { return failure_log_lines_; }
    // Requests that are not answered yet, also those that a reset overtook.
    unsigned outstanding() const;

private:
    using Io = disk::IoQueue::Request;
    struct Request;
    struct Source {
        Queue* queue = nullptr;
        unsigned outstanding = 0; // requests that were taken from it
        bool full = false;        // a queue's worth is under way: completions go on taking
    };

    std::unique_ptr<disk::IoQueue> make_queue();
    bool serve(std::uint16_t index);
    void serve_all();
    bool take_requests(std::uint16_t index);
    void start(Chain chain, std::uint16_t source);
    void transfer(Chain chain, std::uint16_t source, bool write, std::uint64_t sector);
    void change_ranges(Chain chain, std::uint16_t source, Io::Kind kind);
    std::uint8_t read_ranges(const Chain& chain, Io::Kind kind, std::vector<Io>& into) const;
    void identify(Chain chain);
    void answer(Chain chain, std::uint8_t status, std::uint64_t data_bytes = 0);
    void submit(std::shared_ptr<Request> request);
    void part_done(Request& request, Result<void> result);
    void finish(Request& request);
    void count(const Request& request);
    void note_failure(const Error& error);

    std::string name_;
    disk::Image* image_;
    Loop& loop_;
    std::array<std::uint8_t, serial_bytes> serial_{};
    Bus::Lock& lock_;
    Clock& clock_;
    std::array<std::uint8_t, config_bytes> config_{};
    std::uint64_t capacity_sectors_;

    std::vector<Source> sources_;
    bool active_ = false;
    bool paused_ = false;        // no request is taken
    bool write_through_ = false; // every write is made stable
    std::uint64_t malformed_ = 0;
    DiskCounters counters_;
    std::uint64_t next_failure_log_ns_ = 0, unlogged_failures_ = 0, failure_log_lines_ = 0;
    Throttle throttle_;
    Wakeup again_;                      // more requests wait than one turn takes
    std::unique_ptr<disk::IoQueue> io_; // goes first: it waits for what runs
};

} // namespace vmhost::machine::virtio
