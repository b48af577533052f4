// A split virtqueue (Virtual I/O Device Specification 1.2, section 2.7), device side.
//
// Everything in the rings is guest-controlled and may change while we look: each
// field is read once. A Chain is a descriptor chain taken from the available
// ring; it is move-only and goes back exactly once: complete() puts it into the used ring,
// and a Chain destroyed without it goes back with length 0. A malformed chain (a loop,
// longer than the queue, outside RAM, writable before readable) is completed with
// length 0, counted, and skipped: it never reaches the device, stops it or spins it.
//
// Threads: under the device lock.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "machine/memory.h"

namespace vmhost::machine::virtio {

class Queue;

struct Segment {
    Gpa address = 0; // checked: [address, address + length) is RAM of one range
    std::uint32_t length = 0;
};

class Chain {
public:
    Chain(Chain&& other) noexcept;
    Chain& operator=(Chain&&) = delete;
    ~Chain();

    const std::vector<Segment>& readable() const { return readable_; }
    const std::vector<Segment>& writable() const { return writable_; }
    std::uint64_t readable_bytes() const;
    std::uint64_t writable_bytes() const;

    // Copies from the readable part at offset; the number of bytes copied.
    std::size_t read(std::uint64_t offset, MutableBytes into) const;
    // Copies into the writable part at offset; the number of bytes copied.
    std::size_t write(std::uint64_t offset, Bytes from);

    // Returns the chain to the guest; written_bytes is what the device wrote.
    void complete(std::uint32_t written_bytes);

private:
    friend class Queue;
    Chain(Queue& queue, std::uint16_t head) : queue_(&queue), head_(head) {}
    Queue* queue_;
    std::uint16_t head_;
    std::uint64_t generation_ = 0; // a chain older than the queue's last reset goes nowhere
    std::vector<Segment> readable_, writable_;
};

struct QueueAddresses {
    Gpa descriptors = 0, available = 0, used = 0;
};

class Queue {
public:
    Queue(GuestMemory& memory, std::uint16_t max_size);

    // Transport side. enable() fails when a ring is misaligned or outside RAM.
    std::uint16_t max_size() const { return max_size_; }
    std::uint16_t size() const { return size_; }
    bool set_size(std::uint16_t size); // a power of two, at most max_size
    bool enable(const QueueAddresses& addresses);
    bool enabled() const { return enabled_; }
    void reset();
    void use_event_index(bool on) { event_index_ = on; }
    void allow_indirect(bool on) { indirect_ = on; }
    // Called when the guest wants an interrupt for this queue.
    void on_interrupt(std::function<void()> raise) { raise_ = std::move(raise); }

    // Device side. The next chain, or nothing. A ring index that is ahead of what the
    // queue can hold is counted and treated as empty until reset.
    std::optional<Chain> pop();
    // Gives a chain popped last back as if it had not been taken.
    void unpop(Chain&& chain);
    // Notifications from the driver are wanted / not needed for now.
    void want_notifications(bool wanted);
    // After completing chains: raises the interrupt if the driver asked for one.
    void signal_used();
    std::uint64_t malformed() const { return malformed_; }
    std::uint16_t in_flight() const { return in_flight_; }

private:
    friend class Chain;
    void complete(std::uint16_t head, std::uint32_t written_bytes);

    GuestMemory& memory_;
    std::uint16_t max_size_;
    std::uint16_t size_;
    bool enabled_ = false;
    bool event_index_ = false;
    bool indirect_ = false;
    bool broken_ = false;
    QueueAddresses addresses_;
    std::uint16_t next_available_ = 0;
    std::uint16_t next_used_ = 0;
    std::uint16_t signalled_used_ = 0;
    std::uint16_t in_flight_ = 0;
    std::uint64_t generation_ = 0;
    std::uint64_t malformed_ = 0;
    std::function<void()> raise_;
};

} // namespace vmhost::machine::virtio
