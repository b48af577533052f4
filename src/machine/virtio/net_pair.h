// One receive and one transmit queue of a network device, and the tap's queue behind them.
//
// Threads: attach and detach under the device lock from anywhere; the rest on the loop thread
// under the device lock.
#pragma once

#include <deque>
#include <optional>
#include <vector>

#include <sys/uio.h>

#include "machine/virtio/net.h"

namespace vmhost::machine::virtio {

class NetPair {
public:
    // vhost: null = there is none.
    NetPair(Net& net, unsigned index, int tap, Vhost* vhost, Loop& loop);
    ~NetPair();

    int tap() const { return tap_; }
    bool has_vhost() const { return vhost_ != nullptr; }
    void set_queues(Queue* receive, Queue* transmit) {
        stumbled_ = stumbled_ && receive == receive_ && transmit == transmit_;
        receive_ = receive;
        transmit_ = transmit;
        look_later(std::nullopt);
    }
    // net_lent.cc. Whether vhost-net serves the pair; makes it so where that is possible.
    bool lend();
    // A doorbell that did not ring there.
    void ring(bool transmit) const;
    // We serve the pair from now on, from where it is; or nobody, when the queues were reset.
    void take_back(bool queues_live);

    // The guest has buffers, or the limit allows more: read the tap again.
    void go_on_receiving();
    // True when there is more to send than one turn takes.
    bool transmit();
    // The same for when nobody asks for the rest.
    void go_on_transmitting();
    // The tap is not looked at until one of the above.
    void stop() {
        watch(false, false);
        look_later(std::nullopt);
    }

private:
    bool in_use() const { return index_ < net_.pairs_in_use_ && !net_.paused_ && !lent_; }
    void watch_for_stumbles(Loop& loop);
    void stumbled();
    bool may_lend() const;
    Result<void> start_vhost();
    std::uint16_t queue_number(bool transmit) const {
        return static_cast<std::uint16_t>(2 * index_ + (transmit ? 1 : 0));
    }
    void ready(Watch::Ready ready);
    void watch(bool readable, bool writable);

    void receive_frames();
    bool receive_one();
    bool collect_buffers(std::uint64_t wanted_bytes);
    std::optional<Chain> next_buffer();
    void look_later(std::optional<std::uint64_t> delay_ns);
    void keep(Chain chain);
    void complete_first(std::uint64_t length);
    bool spread_spill(std::uint64_t length);
    void hand_over(std::uint64_t length);
    void drop_received(std::uint64_t length);
    void give_back_buffers();

    bool send_frames();
    bool send_one(Chain chain);
    bool write_frame(Chain& chain, std::uint64_t length);

    Net& net_;
    const unsigned index_;
    const int tap_;
    Queue* receive_ = nullptr;
    Queue* transmit_ = nullptr;
    bool watch_readable_ = false, watch_writable_ = false;

    Vhost* vhost_; // null: none, or it refused
    bool lent_ = false;
    bool stumbled_ = false;           // it made no sense of these rings
    std::array<QueueWires, 2> wires_; // while lent
    Fd stumble_;                      // eventfd of its errors; none without vhost_
    std::unique_ptr<Watch> stumble_watch_;

    // Taken for the next frames; only during receive_frames().
    std::deque<Chain> buffers_;
    std::uint64_t room_bytes_ = 0; // in them
    std::size_t segments_ = 0;
    bool large_frames_ = false; // the last one was larger than the interface's MTU
    // Without buffers: when to look for some, instead of being notified.
    Clock::Ticket look_ = 0;
    std::uint64_t look_delay_ns_;
    std::uint64_t frames_since_look_ = 0;
    std::vector<iovec> vectors_; // kept for its memory
    Watch watch_;                // last: its callback uses the rest
};

} // namespace vmhost::machine::virtio
