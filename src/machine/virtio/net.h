// virtio network (Virtual I/O Device Specification 1.2, section 5.1) over a tap.
//
// One receive and one transmit queue, no offloads. Both directions are moved between
// the guest's buffers and the tap without a copy in between; the 12-byte virtio_net_hdr of
// either side never crosses: the guest's is not looked at (nothing it may say was
// negotiated), and the guest is given a zero one with num_buffers = 1.
//
// Without receive buffers the tap is not read, so frames wait (and are dropped) in
// its queue. A frame that the guest's buffer cannot hold is dropped.
//
// Threads: activate and reset from vCPU threads, the rest on the loop thread, all
// under the device lock.
#pragma once

#include <array>
#include <string>

#include <sys/uio.h>

#include "loop/loop.h"
#include "machine/bus.h"
#include "machine/virtio/virtio.h"

namespace vmhost::machine::virtio {

class Net final : public VirtioDevice {
public:
    static constexpr std::uint16_t queue_size = 256;
    static constexpr std::size_t header_bytes = 12;

    // tap_fd was opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, stays the caller's and outlives
    // the device, as do loop and lock. Sets the tap to our header size and to no offloads.
    static Result<std::unique_ptr<Net>> create(std::string name, int tap_fd, Mac mac, Loop& loop,
                                               Bus::Lock& lock);

    std::string_view name() const override { return name_; }
    DeviceType type() const override { return DeviceType::net; }
    std::uint64_t features() const override;
    std::vector<std::uint16_t> queue_sizes() const override { return {queue_size, queue_size}; }
    Bytes config() const override { return config_; }
    void activate(std::uint64_t driver_features, std::vector<Queue*> queues) override;
    bool notify(std::uint16_t queue) override;
    void reset() override { receive_ = transmit_ = nullptr; }
    void pause() override; // frames wait in the tap, which drops what it cannot hold
    void resume() override { paused_ = false; }
    std::uint64_t malformed_requests() const override { return malformed_; }

    // As the guest sees the directions.
    struct Counters {
        std::uint64_t received_frames = 0, received_bytes = 0, receive_dropped = 0;
        std::uint64_t sent_frames = 0, sent_bytes = 0, send_dropped = 0;
    };
    const Counters& counters() const { return counters_; }

private:
    Net(std::string name, int tap_fd, Mac mac, Loop& loop, Bus::Lock& lock);
    void ready(Watch::Ready ready);
    void watch(bool readable, bool writable);
    void receive_frames();
    bool receive_one(Chain chain);
    bool send_frames();
    bool send_one(Chain chain);
    void note_failure(const char* what, int error_number);

    std::string name_;
    int tap_;
    Bus::Lock& lock_;
    std::array<std::uint8_t, 8> config_{};
    Queue* receive_ = nullptr;
    Queue* transmit_ = nullptr;
    bool watch_readable_ = false, watch_writable_ = false;
    bool paused_ = false;
    std::vector<iovec> vectors_; // kept for its memory
    std::uint64_t malformed_ = 0;
    Counters counters_;
    bool failure_logged_ = false;
    Watch watch_; // last: its callback uses the rest
};

} // namespace vmhost::machine::virtio
