// Puts a virtio device on the PCI bus: the modern (1.x) transport of the Virtual I/O
// Device Specification 1.2, section 4.1; as a transitional device also the legacy one of 0.9.
//
// Interrupts are MSI-X messages, one vector for the configuration and one per queue,
// or INTA for guests that never enable MSI-X.
//
// One memory BAR of 16 KiB holds the four register blocks; the vendor capabilities
// say where (BAR 0, or BAR 2 of a transitional device, whose BAR 0 are the legacy registers;
// the MSI-X table has BAR 1):
//
//   0x0000 common configuration    0x2000 device configuration
//   0x1000 ISR status              0x3000 doorbells, 4 bytes per queue
//
// A transitional device differs in its ids, its revision 0, and a driver that may not know
// VERSION_1: VirtioDevice::activate sees that in the features. Legacy drivers do not wait for
// a reset to end; requests in flight at that moment run to their end behind their back.
//
// A doorbell reaches the device on the thread of the loop that it was given: through an eventfd
// that the CPU backend signals by itself, or, where it cannot, through the register write and a
// Wakeup. So a vCPU never waits for a device's work.
//
// Threads: registers and configuration space under the device lock, from vCPU threads.
// Construction and destruction on the machine's loop thread, while nobody runs the loop that
// is given, and without vCPUs running.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "loop/loop.h"
#include "machine/cpu/cpu.h"
#include "machine/pci.h"
#include "machine/virtio/virtio.h"

namespace vmhost::machine::virtio {

class PciTransport final : public PciFunction, public Transport {
public:
    enum class Interface : std::uint8_t { modern, transitional };
    static constexpr unsigned legacy_bar = 0, msix_bar = 1;
    static constexpr std::uint16_t no_vector = 0xffff; // VIRTIO_MSI_NO_VECTOR
    static constexpr std::uint32_t bar_bytes = 0x4000;
    static constexpr std::uint32_t common_offset = 0x0000, isr_offset = 0x1000,
                                   device_offset = 0x2000, notify_offset = 0x3000;
    static constexpr std::uint32_t notify_multiplier = 4;

    // memory, loop, lock and backend outlive the transport; backend may be null (no doorbells
    // in the kernel then).
    PciTransport(std::unique_ptr<VirtioDevice> device, GuestMemory& memory, Loop& loop,
                 Bus::Lock& lock, Backend* backend, Interface interface = Interface::modern);
    ~PciTransport() override;

    void read_config(unsigned offset, MutableBytes data) override;
    void write_config(unsigned offset, Bytes data) override;

    // The driver goes on where it was: features, queues, vectors. What it published meanwhile is
    // looked for once the loop turns.
    void state(StateArchive& archive) override;

    Result<QueueWires> lend(std::uint16_t queue) override;
    void take_back(std::uint16_t queue) override;

    VirtioDevice& device() { return *device_; }
    // Doorbells wait until resume(). The machine's loop thread, under the device lock.
    void pause();
    void resume();
    // Bad chains and bad requests of this device, and queues that could not be enabled; under the
    // device lock.
    std::uint64_t malformed_requests() const;

private:
    // What the bus sees in the BAR.
    class Window final : public Device {
    public:
        explicit Window(PciTransport& transport) : transport_(transport) {}
        std::string_view name() const override { return transport_.device_->name(); }
        void read(std::uint64_t offset, MutableBytes data) override {
            transport_.read_bar(offset, data);
        }
        void write(std::uint64_t offset, Bytes data) override {
            transport_.write_bar(offset, data);
        }

    private:
        PciTransport& transport_;
    };

    // And in the I/O BAR of a transitional device.
    class LegacyWindow final : public Device {
    public:
        explicit LegacyWindow(PciTransport& transport) : transport_(transport) {}
        std::string_view name() const override { return transport_.device_->name(); }
        void read(std::uint64_t offset, MutableBytes data) override {
            transport_.read_legacy(offset, data);
        }
        void write(std::uint64_t offset, Bytes data) override {
            transport_.write_legacy(offset, data);
        }

    private:
        PciTransport& transport_;
    };

    struct Slot {
        Slot(GuestMemory& memory, std::uint16_t size) : queue(memory, size) {}
        Queue queue;
        QueueAddresses addresses; // guest-controlled, checked by Queue::enable
        Fd doorbell;              // eventfd; none without a backend
        std::unique_ptr<Watch> doorbell_watch;
        bool doorbell_bound = false;
        std::uint16_t vector = no_vector; // guest-controlled, checked when written
        bool kicked = false;              // to be notified by the next turn of the loop
        // pci_wires.cc: of a queue that is lent.
        bool lent = false;
        Fd interrupt; // eventfd; none unless the device lends queues
        std::unique_ptr<Watch> interrupt_watch;
        std::optional<MsixTable::Message> message; // that the backend sends by itself
        unsigned binding = 0;                      // its name there
    };

    enum Status : std::uint8_t { // 2.1; NEEDS_RESET (64) is never set
        acknowledge = 1,
        driver = 2,
        driver_ok = 4,
        features_ok = 8,
        failed = 128,
    };

    // pci_wires.cc: queues that somebody else serves.
    void make_wires(Loop& loop);
    void messages_changed() override;
    void place_message(Slot& slot);
    void unbind_message(Slot& slot);
    void raise_signalled(Slot& slot);
    void settle_watches();

    // pci_transport.cc: the PCI side.
    void add_capabilities();
    void add_block_capability(std::uint8_t type, std::uint32_t offset, std::uint32_t length);
    void make_doorbells(Loop& loop);
    bool in_window_data(unsigned offset, std::size_t size) const;
    bool window_access(std::uint32_t& offset, std::uint32_t& length);
    void read_bar(std::uint64_t offset, MutableBytes data);
    void read_device_config(std::uint64_t offset, MutableBytes data) const;
    std::uint8_t read_isr();
    void write_bar(std::uint64_t offset, Bytes data);
    void decoding_changed() override { place_doorbells(); }
    void place_doorbells();
    void unbind_doorbells();
    void deliver(std::uint16_t index);
    void deliver_kicked();
    void kick_all();
    void interrupt(std::uint16_t vector, std::uint8_t cause);
    void interrupt_for(const Slot& slot);
    void tell_config_change();

    // pci_legacy.cc: the registers of 0.9.
    static std::uint32_t legacy_bar_bytes(std::size_t config_bytes);
    std::uint32_t legacy_features() const;
    void read_legacy(std::uint64_t offset, MutableBytes data);
    std::uint32_t read_legacy_register(std::uint64_t offset);
    void write_legacy(std::uint64_t offset, Bytes data);
    void write_queue_page(std::uint32_t page);
    void notify_legacy(std::uint32_t index);
    void write_legacy_status(std::uint8_t value);

    // pci_registers.cc: the registers of common configuration and the life of the device.
    std::uint64_t read_common(std::uint64_t offset, std::size_t size) const;
    void write_common(std::uint64_t offset, std::uint64_t value, std::size_t size);
    void write_driver_features(std::uint32_t value);
    void enable_queue(Slot& slot);
    void write_queue_address(std::uint64_t offset, std::uint32_t value);
    void write_status(std::uint8_t value);
    std::uint8_t visible_status() const;
    std::uint64_t offered_features() const;
    bool features_acceptable() const;
    void activate();
    void hand_over_queues();
    void go_on(StateArchive& archive, bool was_active);
    void reset();
    std::uint16_t usable_vector(std::uint64_t wanted) const;
    Slot* selected();
    const Slot* selected() const;

    // Queues outlive the device, whose requests in flight may still name them.
    std::vector<std::unique_ptr<Slot>> slots_;
    std::unique_ptr<VirtioDevice> device_;
    Bus::Lock& lock_;
    Backend* backend_;
    Window window_;
    LegacyWindow legacy_window_;
    const unsigned memory_bar_;
    Wakeup wakeup_;
    unsigned window_capability_ = 0;       // where the PCI configuration access capability is
    std::uint32_t bound_base_ = 0;         // BAR address the doorbells are bound for, 0 = none
    bool doorbell_failure_logged_ = false; // the guest can cause one as often as it likes

    std::uint32_t device_feature_select_ = 0, driver_feature_select_ = 0;
    std::uint64_t driver_features_ = 0;
    bool beyond_features_ = false; // the driver set a bit above 63
    bool active_ = false;          // the device has its queues
    bool paused_ = false;          // the machine stands still
    bool watches_stale_ = false;   // a queue was lent or came back, or its message did
    std::uint16_t queue_select_ = 0;
    std::uint16_t config_vector_ = no_vector;
    std::uint8_t status_ = 0;
    std::uint8_t status_before_reset_ = 0;
    std::uint8_t isr_ = 0;
    std::uint8_t config_generation_ = 0;
    std::uint64_t refused_queues_ = 0;
};

} // namespace vmhost::machine::virtio
