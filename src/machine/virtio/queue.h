// A split virtqueue (Virtual I/O Device Specification 1.2, section 2.7), device side.
//
// Everything in the rings is guest-controlled and may change while we look: each
// field is read once into a local. A Chain is a descriptor chain taken from the
// available ring; it is move-only and goes back exactly once: complete() puts it into
// the used ring, and a Chain destroyed without it goes back with length 0. A Chain
// that is older than the queue's last reset, or than the queue, goes nowhere.
// A malformed chain (a loop, longer than the queue, outside memory, readable after
// writable) is completed with length 0, counted, and skipped: it never reaches the
// device, stops it or spins it. A driver that publishes more than the queue can hold
// breaks the queue until the next reset.
//
// Threads: under the device lock.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <sys/uio.h>

#include "machine/memory.h"
#include "machine/snapshot/state_archive.h"

namespace vmhost::machine::virtio {

class Queue;

struct Segment {
    Gpa address = 0; // checked: [address, address + length) lies in one range of memory
    std::uint32_t length = 0;
};

class Chain {
public:
    Chain(Chain&& other) noexcept;
    Chain& operator=(Chain&&) = delete;
    ~Chain();

    std::span<const Segment> readable() const {
        return std::span(segments_).first(readable_count_);
    }
    std::span<const Segment> writable() const {
        return std::span(segments_).subspan(readable_count_);
    }
    std::uint64_t readable_bytes() const { return readable_bytes_; }
    std::uint64_t writable_bytes() const { return writable_bytes_; }

    // Copies from the readable part at offset; the number of bytes copied.
    std::size_t read(std::uint64_t offset, MutableBytes into) const;
    // Copies into the writable part at offset; the number of bytes copied.
    std::size_t write(std::uint64_t offset, Bytes from);

    // Appends host vectors for [offset, offset + length) of the readable or writable part,
    // as far as it reaches. They stay valid as long as the guest's memory; after writing
    // through them report_written() is due, also when the queue was reset meanwhile.
    void gather_readable(std::uint64_t offset, std::uint64_t length,
                         std::vector<iovec>& into) const;
    void gather_writable(std::uint64_t offset, std::uint64_t length, std::vector<iovec>& into);
    void report_written(std::uint64_t offset, std::uint64_t length);

    // Returns the chain to the guest; written_bytes is what the device wrote.
    void complete(std::uint32_t written_bytes);
    // False once the queue was reset or destroyed, or the chain was completed.
    bool alive() const;

private:
    friend class Queue;
    Chain(std::shared_ptr<Queue*> home, std::uint16_t head, std::uint16_t position,
          std::uint64_t generation, std::vector<Segment> storage);
    Queue* queue() const { return home_ ? *home_ : nullptr; }

    std::shared_ptr<Queue*> home_; // null: went back; points to null: the queue is gone
    std::uint16_t head_;
    std::uint16_t position_; // in the available ring, for unpop
    std::uint64_t generation_;
    std::vector<Segment> segments_; // readable ones first
    std::size_t readable_count_ = 0;
    std::uint64_t readable_bytes_ = 0, writable_bytes_ = 0;
};

struct QueueAddresses {
    Gpa descriptors = 0, available = 0, used = 0;
    void state(StateArchive& archive) { archive(descriptors, available, used); }
};

class Queue {
public:
    Queue(GuestMemory& memory, std::uint16_t max_size);
    ~Queue();
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;

    // Transport side. enable() fails when a ring is misaligned or outside memory.
    std::uint16_t max_size() const { return max_size_; }
    std::uint16_t size() const { return size_; }
    bool set_size(std::uint16_t size); // a power of two, at most max_size, while not enabled
    bool enable(const QueueAddresses& addresses);
    bool enabled() const { return enabled_; }
    void reset();
    void use_event_index(bool on) { event_index_ = on; }
    void allow_indirect(bool on) { indirect_ = on; }
    // Without it (PCI bus mastering off) nothing is popped, and what is completed waits for it.
    void allow_dma(bool on);
    // Called when the guest wants an interrupt for this queue.
    void on_interrupt(std::function<void()> raise) { raise_ = std::move(raise); }

    // Device side. The next chain, or nothing. A ring index that is ahead of what the
    // queue can hold is counted and treated as empty until reset.
    std::optional<Chain> pop();
    // pop(), and when there is nothing: asks for notifications and looks once more, so that
    // nothing published in between is missed.
    std::optional<Chain> pop_or_wait();
    // Gives the chain popped last back as if it had not been taken.
    void unpop(Chain&& chain);
    // Notifications from the driver are wanted / not needed for now.
    void want_notifications(bool wanted);
    // Between the two, completed chains are put into the used ring but not published: the driver
    // sees them all at once. Closed again before anything else happens to the queue.
    void hold_used() { holding_ = true; }
    void publish_used();
    // After popping and completing: raises the interrupt if the driver asked for one.
    void signal_used();
    // Where the rings are in this process, for somebody else to serve them from next_available on;
    // nothing while that cannot be: not enabled, broken, without DMA, or chains are in flight.
    struct Rings {
        std::uint16_t size = 0, next_available = 0;
        std::uint8_t *descriptors = nullptr, *available = nullptr, *used = nullptr;
    };
    std::optional<Rings> rings() const;
    // Somebody else has served them, in their order, and holds none of the chains.
    void served_by_others();
    const GuestMemory& memory() const { return memory_; }
    // With no chain in flight; into a fresh queue of the same memory.
    void state(StateArchive& archive);
    std::uint64_t malformed() const { return malformed_; }
    std::uint16_t in_flight() const { return in_flight_; }
    bool broken() const { return broken_; }
    // What is kept of returned chains for the next ones.
    std::size_t spare_bytes() const;

private:
    friend class Chain;
    struct Descriptor;
    bool rings_fit(const QueueAddresses& addresses) const;
    std::optional<Descriptor> read_descriptor(Gpa table, std::uint32_t index) const;
    bool walk(Chain& chain) const;
    bool add_segment(Chain& chain, const Descriptor& descriptor) const;
    bool go_indirect(const Descriptor& descriptor, Gpa& table, std::uint32_t& entries) const;
    void put_used(std::uint16_t head, std::uint32_t written_bytes);
    void recycle(std::vector<Segment>&& storage);
    std::uint16_t load_index(Gpa address) const;
    void store_index(Gpa address, std::uint16_t value);
    Gpa available_entry(std::uint16_t position) const;
    Gpa used_entry(std::uint16_t position) const;
    Gpa used_event() const { return addresses_.available + 4 + 2ULL * size_; }
    Gpa available_event() const { return addresses_.used + 4 + 8ULL * size_; }

    GuestMemory& memory_;
    std::shared_ptr<Queue*> self_;
    std::uint16_t max_size_;
    std::uint16_t size_;
    bool enabled_ = false;
    bool event_index_ = false;
    bool indirect_ = false;
    bool dma_ = true;
    bool broken_ = false;
    bool holding_ = false;
    QueueAddresses addresses_;
    std::uint16_t next_available_ = 0;
    std::uint16_t next_used_ = 0;
    std::uint16_t signalled_used_ = 0;
    std::uint16_t in_flight_ = 0;
    std::uint64_t generation_ = 0;
    std::uint64_t malformed_ = 0;
    std::function<void()> raise_;
    struct Completion {
        std::uint16_t head = 0;
        std::uint32_t written_bytes = 0;
        void state(StateArchive& archive) { archive(head, written_bytes); }
    };
    std::vector<Completion> held_back_;       // completed without DMA, oldest first; in flight
    std::vector<std::vector<Segment>> spare_; // storage of returned chains
};

} // namespace vmhost::machine::virtio
