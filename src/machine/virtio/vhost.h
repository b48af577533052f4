// The kernel's vhost-net: serves the two rings of one queue pair of a network device, between the
// guest's memory and a queue of the tap, without this process.
//
// What it reads is as hostile as what we read ourselves, and it checks it as we do: every
// descriptor must lie in the memory that it is told of, which is the guest's RAM and no more.
// Where the rings are is ours to say, and was checked when the queue was enabled. The frame guard
// is at the tap, behind both ways. What only we do is looking at the header of each frame
// (net_header.h): the tap checks it again in either case.
//
// It returns chains in their order and keeps none when it is stopped. One that makes no sense is
// not returned but reported, by an eventfd, and no other of that ring is served then. One it does
// not report: a frame shorter than its header is tried again and again, until the ring is taken
// away; the time that this takes is the VM's, as if its own processors span.
//
// Threads: start on the loop thread, stop anywhere; both under the device lock.
#pragma once

#include <array>
#include <memory>

#include "machine/virtio/queue.h"
#include "machine/virtio/virtio.h"

namespace vmhost::machine::virtio {

class Vhost {
public:
    struct Ring {
        Queue::Rings place;
        QueueWires wires;
    };
    struct Order {
        int tap = -1;
        std::uint64_t features = 0; // that the driver negotiated; others than vhost's are left out
        const GuestMemory* memory = nullptr;
        std::array<Ring, 2> rings; // receive, transmit
        int error = -1;            // eventfd: a ring makes no sense
    };
    virtual ~Vhost() = default;
    // Serves the rings until stop(), from where they are. Nothing is served after a failure.
    virtual Result<void> start(const Order& order) = 0;
    // After it nothing is touched any more.
    virtual void stop() = 0;
};

// fd: /dev/vhost-net, of nobody else and of one pair for ever; stays the caller's. unsupported
// when this kernel's lacks something of what our rings offer.
Result<std::unique_ptr<Vhost>> open_vhost(int fd);

} // namespace vmhost::machine::virtio
