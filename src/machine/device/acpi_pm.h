// ACPI's fixed hardware (ACPI Specification 6.5, section 4.8): the event registers
// with the power button, the control register with the sleep states, the PM timer.
//
// Ports 0x600..0x60b are one range: status (16 bits, write 1 to clear) and enable at
// 0, control at 4, timer at 8. The machine is always in ACPI mode: SCI_EN reads as 1.
// The SCI, line 9, is high while an enabled event is pending.
//
// Sleep states: S5 alone. Any other type that is written with SLP_EN does nothing.
// The timer counts 3.579545 MHz with 32 bits; its status bit is set when the top bit
// changes, worked out from the clock when somebody looks, and a deadline is asked
// for only while its event is enabled and not pending.
//
// Threads: everything under the device lock; power_off is called there, on a vCPU
// thread, and must only take note.
#pragma once

#include <functional>

#include "machine/bus.h"
#include "machine/clock.h"
#include "machine/irq.h"
#include "machine/snapshot/state_archive.h"

namespace vmhost::machine {

class AcpiPm final : public Device {
public:
    static constexpr std::uint64_t first_port = 0x600, port_count = 12;
    static constexpr std::uint64_t event_offset = 0, control_offset = 4, timer_offset = 8;
    static constexpr unsigned soft_off = 5; // the sleep type of S5
    static constexpr std::uint64_t timer_hz = 3'579'545;

    AcpiPm(Clock& clock, Interrupts& interrupts, std::function<void()> power_off);
    ~AcpiPm() override;
    AcpiPm(const AcpiPm&) = delete;
    AcpiPm& operator=(const AcpiPm&) = delete;

    // False: the guest has not enabled the button, and nothing happens.
    bool press_power_button();
    bool power_button_enabled() const; // by the guest
    // The guest has not taken note of the button yet.
    bool power_button_pending() const;

    // Into a fresh device only, with the clock already where it was.
    void state(StateArchive& archive);

    std::string_view name() const override { return "acpi pm"; }
    void read(std::uint64_t offset, MutableBytes data) override;
    void write(std::uint64_t offset, Bytes data) override;

private:
    std::uint8_t read_byte(std::uint64_t offset, std::uint32_t timer) const;
    void write_control(std::uint64_t byte, std::uint8_t value);
    std::uint32_t timer() const;
    std::uint64_t half_turns() const; // how often the timer's top bit has changed
    void catch_up();
    void update_interrupt();
    void arm();

    Clock& clock_;
    Interrupts& interrupts_;
    std::function<void()> power_off_;
    std::uint16_t status_ = 0, enabled_ = 0, control_ = 0;
    std::uint64_t seen_half_turns_ = 0;
    Clock::Ticket ticket_ = 0;
    bool level_ = false;
};

} // namespace vmhost::machine
