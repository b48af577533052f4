// virtio block (Virtual I/O Device Specification 1.2, section 5.2) over a disk image.
//
// Requests are taken from the queue on the loop thread, moved between the guest's
// memory and the image by a disk::IoQueue, and completed on the loop thread in the
// order in which they finish. At most a queue's worth is under way, whatever the
// driver does with resets. A request that a reset overtakes runs
// to its end (its buffers are the guest's memory, which outlives it) and goes
// nowhere; until then quiescent() is false and the guest sees the reset going on.
//
// Threads: activate and reset from vCPU threads, the rest on the loop thread, all
// under the device lock.
#pragma once

#include <array>
#include <string>

#include "disk/disk.h"
#include "loop/loop.h"
#include "machine/bus.h"
#include "machine/virtio/virtio.h"

namespace vmhost::machine::virtio {

class Block final : public VirtioDevice {
public:
    static constexpr std::uint16_t queue_size = 256;
    static constexpr std::size_t serial_bytes = 20;

    // image, loop and lock outlive the device. The serial is cut at 20 bytes.
    Block(std::string name, disk::Image& image, std::string serial, Loop& loop, Bus::Lock& lock);

    std::string_view name() const override { return name_; }
    DeviceType type() const override { return DeviceType::block; }
    std::uint64_t features() const override;
    std::vector<std::uint16_t> queue_sizes() const override { return {queue_size}; }
    Bytes config() const override { return config_; }
    void activate(std::uint64_t driver_features, std::vector<Queue*> queues) override;
    bool notify(std::uint16_t queue) override;
    void reset() override { requests_ = nullptr; }
    bool quiescent() const override;
    void pause() override { paused_ = true; }
    void resume() override { paused_ = false; }
    bool still() const override { return outstanding_ == 0; }
    std::uint64_t malformed_requests() const override { return malformed_; }

    struct Counters {
        std::uint64_t read_bytes = 0, written_bytes = 0, flushes = 0, failed = 0;
    };
    const Counters& counters() const { return counters_; }
    // Requests that are not answered yet, also those that a reset overtook.
    unsigned outstanding() const { return outstanding_; }

private:
    using Io = disk::IoQueue::Request;
    struct Request;

    bool take_requests();
    void start(Chain chain);
    void transfer(Chain chain, bool write, std::uint64_t sector);
    void identify(Chain chain);
    void answer(Chain chain, std::uint8_t status, std::uint64_t data_bytes = 0);
    void submit(std::shared_ptr<Request> request);
    void finish(Request& request, Result<void> result);
    void note_failure(const Error& error);

    std::string name_;
    disk::Image& image_;
    std::array<std::uint8_t, serial_bytes> serial_{};
    Loop& loop_;
    Bus::Lock& lock_;
    std::array<std::uint8_t, 24> config_{};
    std::uint64_t capacity_sectors_;

    Queue* requests_ = nullptr;
    bool write_through_ = false; // the driver does not flush: every write is made stable
    bool throttled_ = false;     // the pool is full: completions go on taking requests
    bool paused_ = false;        // no request is taken
    unsigned outstanding_ = 0;
    std::uint64_t malformed_ = 0;
    Counters counters_;
    bool failure_logged_ = false;
    Wakeup again_;                      // more requests wait than one turn takes
    std::unique_ptr<disk::IoQueue> io_; // goes first: it waits for what runs
};

} // namespace vmhost::machine::virtio
