// virtio network (Virtual I/O Device Specification 1.2, section 5.1) over a tap.
//
// Frames are moved between the guest's buffers and the tap without a copy in between,
// with the header that says what is still to be done to them: checksums and TCP
// segmentation travel through both kernels undone (net_header.h checks what a guest
// says of its own frames). What the tap may hand to the guest follows what the driver
// negotiated, or later asked for with CTRL_GUEST_OFFLOADS.
//
// Queues are pairs {receive, transmit}, one descriptor of a multi-queue tap each, then
// the control queue. Of the pairs only the first is in use until the driver asks for
// more; the tap's other queues are detached meanwhile, so that the kernel steers no
// frame there.
//
// Without receive buffers the tap is not read, so frames wait (and are dropped) in its
// queue; the same when a limit is used up. A frame that the guest's buffers cannot hold
// is dropped.
//
// Where the caller has given us vhost-net (vhost.h), it moves the frames of every pair whose two
// queues the driver has enabled, and we do the rest: negotiation, the control queue, the tap's
// offloads. It begins with the pair's first notification, when the guest's memory is complete, and
// ends whenever anything is to stand still or changes; the rings say where, so that it, or we, can
// go on. The features are the same either way, and so a saved machine goes on on a host without it.
// A ring that it cannot make sense of is ours until the driver's next reset: we know how to answer
// nonsense.
//
// Not offered: filtering (the bridge delivers what is for us, the guest sorts out the
// rest: the driver's wishes are accepted and have no effect), VLAN filters, and setting
// the address: it is locked to what the configuration says.
//
// Threads: activate and reset from vCPU threads, the rest on the loop thread, all
// under the device lock.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "loop/loop.h"
#include "machine/bus.h"
#include "machine/counters.h"
#include "machine/throttle.h"
#include "machine/virtio/net_header.h"
#include "machine/virtio/vhost.h"
#include "machine/virtio/virtio.h"

namespace vmhost::machine::virtio {

class NetPair;

class Net final : public VirtioDevice {
public:
    static constexpr std::uint16_t queue_size = 256;

    struct Settings {
        std::string name;
        std::vector<int> taps; // the queues of one tap: a pair each
        Mac mac;
        std::uint16_t mtu = 1500;
        IoLimit limit; // of each direction; not kept by vhost-net
        // One for each of taps, or none.
        std::vector<std::unique_ptr<Vhost>> vhosts = {};
    };
    // The taps were opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, stay the caller's and outlive
    // the device, as do loop, lock and clock.
    static Result<std::unique_ptr<Net>> create(Settings settings, Loop& loop, Bus::Lock& lock,
                                               Clock& clock);
    ~Net() override;

    std::string_view name() const override { return settings_.name; }
    DeviceType type() const override { return DeviceType::net; }
    std::uint64_t features() const override;
    std::vector<std::uint16_t> queue_sizes() const override;
    Bytes config() const override { return config_; }
    void activate(std::uint64_t driver_features, std::vector<Queue*> queues) override;
    bool notify(std::uint16_t queue) override;
    bool lends_queues() const override { return !settings_.vhosts.empty(); }
    void connect(Transport& transport) override { transport_ = &transport; }
    void dma_ends() override { stop_vhosts(); }
    void reset() override;
    void pause() override; // frames wait in the tap, which drops what it cannot hold
    void resume() override { paused_ = false; }
    // Frames under way wait in the tap, or are lost.
    void state(StateArchive& archive) override;
    std::uint64_t malformed_requests() const override { return malformed_; }

    // Without those that queues found malformed, and what vhost-net has moved.
    const NicCounters& counters() const { return counters_; }
    unsigned pairs_in_use() const { return pairs_in_use_; }
    // Some of the frames pass by counters(): only the tap's own know of them.
    bool lends_frames() const;

private:
    friend class NetPair;
    Net(Settings settings, Loop& loop, Bus::Lock& lock, Clock& clock);
    static Result<void> prepare_taps(const Settings& settings);
    Result<void> set_offloads(std::uint64_t features);
    bool use_pairs(unsigned count);
    bool serve_pair(std::uint16_t queue);
    void stop_vhosts();
    void note_failure(std::string_view what, int error_number);

    // net_control.cc
    bool serve_control();
    void run_command(Chain chain);
    bool obey(std::uint8_t group, std::uint8_t command, const Chain& chain);
    bool accept_filters(const Chain& chain) const;

    Settings settings_;
    Bus::Lock& lock_;
    Clock& clock_;
    Transport* transport_ = nullptr;
    std::array<std::uint8_t, 12> config_{};
    std::vector<std::unique_ptr<NetPair>> pairs_;
    Queue* control_ = nullptr;
    std::uint16_t control_index_ = 0;
    bool active_ = false;
    bool paused_ = false;
    std::uint64_t driver_features_ = 0; // without those that need others that are not there
    std::uint64_t guest_offloads_ = 0;  // what the tap may leave undone: a part of them
    unsigned pairs_in_use_ = 1;
    std::size_t header_bytes_ = net_header_bytes;
    // For what is longer than the buffers at hand; contents matter within one call only.
    std::vector<std::uint8_t> spill_;
    std::uint64_t malformed_ = 0;
    NicCounters counters_;
    bool failure_logged_ = false, stumble_logged_ = false;
    Throttle receive_limit_, transmit_limit_;
};

} // namespace vmhost::machine::virtio
