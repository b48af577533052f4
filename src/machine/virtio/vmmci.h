// vmmci(4): how an OpenBSD guest is asked to power down, to reboot and to look at its
// clock, and where it reads the host's time. PCI 0b5d:0777, a virtio 0.9 register file
// without queues in an I/O BAR (0.9 layout: Virtual I/O Device Specification 1.2,
// section 4.1.4.10); the device's own registers follow at 20:
//
//   20  u32  command: the host sets it and interrupts, the guest acknowledges by writing it back
//   24  u64  host time, seconds
//   32  u64  and microseconds
//
// The guest reads each half of the time by itself, high words first. The clock is latched at
// the first word of the seconds that is read, and the other three come from that latch, so
// they belong together.
//
// What happens to a request to power down or reboot:
//
//   no driver                  send() says false
//   sent                       answer_ns for the acknowledgement, else gave_up
//   acknowledged               finish_ns for the guest to end, else gave_up
//
// A guest that powers down or reboots by itself writes SHUTDOWN without having been asked. One
// that reboots resets the machine at once; one that has not within power_off_ns sits at
// "press any key" and is off (powers_off). While a request is pending that write means nothing.
//
// Threads: under the device lock of the Bus; hooks come on the loop thread, under it too.
#pragma once

#include <functional>
#include <string>

#include "machine/clock.h"
#include "machine/pci.h"

namespace vmhost::machine::virtio {

class Vmmci final : public PciFunction {
public:
    enum class Command : std::uint32_t { none = 0, shutdown = 1, reboot = 2, sync_clock = 3 };
    enum Feature : std::uint32_t { time_sync = 1 << 0, acknowledges = 1 << 1, clock_sync = 1 << 2 };
    static constexpr std::uint32_t features = time_sync | acknowledges | clock_sync;
    static constexpr std::uint32_t bar_bytes = 64;

    struct Hooks {
        std::function<void()> powers_off;        // the guest has powered itself down
        std::function<void(bool acked)> gave_up; // it did not answer, or did not come to its end
    };
    // vmd(8)'s.
    struct Timeouts {
        std::uint64_t answer_ns = 3'000'000'000;
        std::uint64_t finish_ns = 120'000'000'000;
        std::uint64_t power_off_ns = 3'000'000'000;
    };

    // clock outlives the device.
    Vmmci(std::string name, Clock& clock, Hooks hooks, Timeouts timeouts);
    Vmmci(std::string name, Clock& clock, Hooks hooks)
        : Vmmci(std::move(name), clock, std::move(hooks), Timeouts{}) {}
    ~Vmmci() override;

    // For requests from now on.
    void set_timeouts(std::uint64_t answer_ns, std::uint64_t finish_ns) {
        timeouts_.answer_ns = answer_ns;
        timeouts_.finish_ns = finish_ns;
    }
    // With the clock already where it was: what was left of a time-out is left again.
    void state(StateArchive& archive) override;

    // False when nobody in the guest listens: no driver, or, for sync_clock, one that never said
    // it understands that, or one that has been asked to stop. The same request while it is
    // pending is the same request: its time does not start again.
    bool send(Command command);
    // A driver is there, and would take note of a request to end.
    bool listens() const;
    // Has the guest acknowledged what send() asked for?
    bool acknowledged() const { return acknowledged_; }

private:
    class Registers final : public Device {
    public:
        explicit Registers(Vmmci& owner) : owner_(owner) {}
        std::string_view name() const override { return owner_.name(); }
        void read(std::uint64_t offset, MutableBytes data) override;
        void write(std::uint64_t offset, Bytes data) override {
            owner_.write_register(offset, data);
        }

    private:
        Vmmci& owner_;
    };

    std::uint32_t read_register(std::uint64_t offset);
    void write_register(std::uint64_t offset, Bytes data);
    void write_status(std::uint8_t value);
    void answered(std::uint32_t value);
    void latch_time();
    void start_timer(std::uint64_t after_ns);
    void set_timer(std::uint64_t deadline_ns);
    void timed_out();
    bool stopping() const { return pending_ == Command::shutdown || pending_ == Command::reboot; }

    Clock& clock_;
    Hooks hooks_;
    Timeouts timeouts_;
    Registers registers_;

    std::uint32_t driver_features_ = 0;
    std::uint16_t queue_select_ = 0;
    std::uint8_t status_ = 0;
    std::uint8_t isr_ = 0;
    std::uint32_t command_ = 0;
    bool latched_ = false; // by the high word of the seconds, for the low one
    std::uint64_t seconds_ = 0, microseconds_ = 0;

    Command pending_ = Command::none;
    bool acknowledged_ = false;
    bool going_down_ = false; // by itself
    Clock::Ticket timer_ = 0;
    std::uint64_t deadline_ns_ = 0; // of timer_; 0 = none
};

} // namespace vmhost::machine::virtio
