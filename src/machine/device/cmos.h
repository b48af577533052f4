// The PC's CMOS clock and memory: Motorola MC146818A behind ports 0x70 (index) and
// 0x71 (data), interrupt 8.
//
// Time. The registers show the host's UTC plus an offset that the guest may set.
// They change once per second of the guest's clock, at the boundary of an update
// cycle, so a reader that waits for UIP (register A, bit 7) to clear gets eight
// registers that belong together. UIP is set during the last 2228 us of every
// second, as the data sheet has it for a 32.768 kHz crystal, and depends on nothing
// but the clock, so it cannot stick. With SET (register B) or the divider reset
// (register A) the registers stand still and are the guest's to write.
//
// Interrupts. Flags are worked out from the clock when somebody looks; a deadline is
// asked for only when an enabled interrupt is next due and not yet pending. So a
// guest that does not answer costs nothing.
//
// Memory. The layout of IBM's AT where it is still read, and QEMU's fields that
// SeaBIOS knows: sizes at 0x15..0x18, 0x30, 0x34, 0x5b, boot order 0x38 and 0x3d,
// processors at 0x5f. Nothing persists.
//
// Threads: everything under the device lock.
#pragma once

#include <array>

#include "machine/bus.h"
#include "machine/clock.h"
#include "machine/irq.h"
#include "machine/memory.h"
#include "machine/snapshot/state_archive.h"

namespace vmhost::machine {

class Cmos final : public Device {
public:
    static constexpr std::uint64_t port_count = 2;
    static constexpr unsigned gsi = 8;

    Cmos(Clock& clock, Interrupts& interrupts, const GuestMemory& memory, unsigned vcpus);
    ~Cmos() override;
    Cmos(const Cmos&) = delete;
    Cmos& operator=(const Cmos&) = delete;

    // Into a fresh device only, with the clock already where it was. A clock that runs shows the
    // host's time plus the guest's offset again as soon as a second has passed.
    void state(StateArchive& archive);

    std::string_view name() const override { return "cmos"; }
    void read(std::uint64_t offset, MutableBytes data) override;
    void write(std::uint64_t offset, Bytes data) override;

private:
    void describe_machine(const GuestMemory& memory, unsigned vcpus);
    std::uint8_t read_register(unsigned index);
    void write_register(unsigned index, std::uint8_t value);
    void write_control(unsigned index, std::uint8_t value);

    bool divider_stopped() const;
    bool frozen() const; // the time registers stand still
    std::uint64_t elapsed_ns() const { return clock_.now_ns() - origin_ns_; }
    std::uint64_t period_ticks() const; // of 1/32768 s; 0 = no periodic rate
    std::uint64_t current_period() const;
    bool update_in_progress() const;

    void spell_time(); // seconds_ into the registers
    void parse_time(); // and back
    std::uint8_t encode(unsigned value) const;
    unsigned decode(std::uint8_t raw) const;
    std::uint8_t encode_hour(unsigned hour) const;
    bool alarm_at(std::int64_t seconds) const;
    bool alarm_within(std::int64_t before, std::int64_t after) const;

    void catch_up(); // sets the flags that have become due
    void update_interrupt();
    void arm();

    Clock& clock_;
    Interrupts& interrupts_;
    std::array<std::uint8_t, 128> registers_{};
    unsigned index_ = 0;
    std::int64_t seconds_ = 0;        // what the time registers show
    std::int64_t offset_seconds_ = 0; // the guest's idea of now, less the host's
    std::uint64_t origin_ns_ = 0;     // where the divider chain was last started
    std::uint64_t last_cycle_ = 0, last_period_ = 0;
    Clock::Ticket ticket_ = 0;
    std::uint64_t armed_for_ns_ = 0;
    bool level_ = false;
};

} // namespace vmhost::machine
