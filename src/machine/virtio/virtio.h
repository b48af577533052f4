// A virtio device without its transport (Virtual I/O Device Specification 1.2,
// sections 2 and 3): what PciTransport drives.
//
// Threads: configuration, activate and reset under the device lock, from a vCPU
// thread. notify() runs with the device lock held on the thread of the loop that the transport
// was given: the machine's or a disk's. Construction and destruction on the machine's loop
// thread, without vCPUs running.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "machine/memory.h"
#include "machine/virtio/queue.h"

namespace vmhost::machine::virtio {

enum class DeviceType : std::uint16_t {
    net = 1,
    block = 2,
    console = 3,
    rng = 4,
    balloon = 5,
    scsi = 8
};

// Features of the queues and the transport (section 6); PciTransport offers them for every device.
inline constexpr std::uint64_t feature_any_layout = 1ULL << 27; // of legacy drivers
inline constexpr std::uint64_t feature_indirect_descriptors = 1ULL << 28;
inline constexpr std::uint64_t feature_event_index = 1ULL << 29;
inline constexpr std::uint64_t feature_version_1 = 1ULL << 32;

// What joins a queue to the guest when somebody else in the kernel serves its ring: the guest rings
// the doorbell, and signalling the interrupt raises the queue's. Eventfds, the transport's.
struct QueueWires {
    int doorbell = -1, interrupt = -1;
};

// What a device may ask of its transport. Under the device lock.
class Transport {
public:
    virtual ~Transport() = default;
    // Doorbells of this queue do not come by notify() from now on, but for those that the guest
    // rings by a register. The thread of the transport's loop.
    virtual Result<QueueWires> lend(std::uint16_t queue) = 0;
    // They do again; an interrupt that was signalled and is not raised yet is. Any thread.
    virtual void take_back(std::uint16_t queue) = 0;
};

class VirtioDevice {
public:
    virtual ~VirtioDevice() = default;
    virtual std::string_view name() const = 0; // "vm13-disk0"
    virtual DeviceType type() const = 0;
    virtual std::uint64_t features() const = 0; // of the device itself, not of the queues
    virtual std::vector<std::uint16_t> queue_sizes() const = 0; // each a power of two
    virtual Bytes config() const = 0; // device-specific configuration, as the guest reads it
    // The driver writes to it, anywhere; most devices have nothing that it may write.
    virtual void write_config(std::uint64_t offset, Bytes data) {
        (void)offset;
        (void)data;
    }

    // The driver set DRIVER_OK: the enabled queues are the device's until reset(). A queue that
    // was not enabled is null. Each enabled queue is notified once right after. Without VERSION_1
    // the driver is a legacy one; it may add queues later: then this is called again, with the
    // same features and no reset() in between.
    virtual void activate(std::uint64_t driver_features, std::vector<Queue*> queues) = 0;
    // True when there is more to do than fits into one turn of the loop: call again.
    virtual bool notify(std::uint16_t queue) = 0;
    // Stops all work; no queue is touched afterwards (they have been reset already), requests in
    // flight are dropped when they complete.
    virtual void reset() = 0;
    // False while requests from before the last reset() may still touch the guest's memory: the
    // guest sees the reset end when this turns true (2.4.1).
    virtual bool quiescent() const { return true; }
    // The guest has taken the right to its memory away: who serves rings for the device stops.
    // Every queue is notified when the right is back. Any thread.
    virtual void dma_ends() {}
    // The machine stands still: the device begins nothing by itself until resume(), after which
    // every queue is notified; the transport does not notify in between. The machine's loop thread,
    // under the device lock.
    virtual void pause() {}
    virtual void resume() {}
    // No request is on its way: a paused device does not change the guest's memory any more.
    virtual bool still() const { return true; }
    // What goes along with a saved machine beside features, queues and configuration, which the
    // transport has; when loading, after activate(). Nothing is in flight meanwhile.
    virtual void state(StateArchive& archive) {
        if (!archive.loading())
            archive.refuse("this device cannot be saved", ErrorKind::unsupported);
    }
    // Requests that the device itself found malformed; queues count theirs.
    virtual std::uint64_t malformed_requests() const = 0;

    // Whether it may ask for the wires of its queues. Before connect().
    virtual bool lends_queues() const { return false; }
    // Set by the transport before anything else; it outlives the device's use of it.
    virtual void connect(Transport& transport) { (void)transport; }

    // Set by the transport, which tells the driver.
    void on_config_change(std::function<void()> tell) { tell_config_change_ = std::move(tell); }

protected:
    // config() reads differently now. Any thread, the device lock held.
    void config_changed() {
        if (tell_config_change_)
            tell_config_change_();
    }

private:
    std::function<void()> tell_config_change_;
};

} // namespace vmhost::machine::virtio
