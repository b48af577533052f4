// One receive and one transmit queue of a network device, and the tap's queue behind them.
//
// Threads: attach and detach under the device lock from anywhere; the rest on the loop thread
// under the device lock.
#pragma once

#include <deque>
#include <vector>

#include <sys/uio.h>

#include "machine/virtio/net.h"

namespace vmhost::machine::virtio {

class NetPair {
public:
    NetPair(Net& net, unsigned index, int tap, Loop& loop);

    int tap() const { return tap_; }
    void set_queues(Queue* receive, Queue* transmit) {
        receive_ = receive;
        transmit_ = transmit;
    }
    // The guest has buffers, or the limit allows more: read the tap again.
    void go_on_receiving();
    // True when there is more to send than one turn takes.
    bool transmit();
    // The same for when nobody asks for the rest.
    void go_on_transmitting();
    // The tap is not looked at until one of the above.
    void stop() { watch(false, false); }

private:
    bool in_use() const { return index_ < net_.pairs_in_use_ && !net_.paused_; }
    void ready(Watch::Ready ready);
    void watch(bool readable, bool writable);

    void receive_frames();
    bool receive_one();
    bool collect_buffers(std::uint64_t wanted_bytes);
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

    // Taken for the next frames; only during receive_frames().
    std::deque<Chain> buffers_;
    std::uint64_t room_bytes_ = 0; // in them
    std::size_t segments_ = 0;
    bool large_frames_ = false;  // the last one was larger than the interface's MTU
    std::vector<iovec> vectors_; // kept for its memory
    Watch watch_;                // last: its callback uses the rest
};

} // namespace vmhost::machine::virtio
