// A 16550A serial port, as on a PC at 0x3f8 with IRQ 4 (National Semiconductor
// PC16550D data sheet; register names are the data sheet's).
//
// The line behind it is the machine's console. Sending takes no time: the
// transmitter is always empty again when the write returns. Received bytes wait at
// their source until the FIFO has room; nothing is lost unless the guest resets
// the FIFO itself. A byte that is received interrupts at once: below the trigger level
// the reason given is the character time-out, which a real chip gives four
// character times later.
//
// Threads: everything under the device lock. output is called from register writes
// (a vCPU thread), the receive-space handler from register accesses.
#pragma once

#include <array>
#include <functional>

#include "machine/bus.h"
#include "machine/clock.h"
#include "machine/irq.h"
#include "machine/snapshot/state_archive.h"

namespace vmhost::machine {

class Serial final : public Device {
public:
    static constexpr std::uint64_t port_count = 8;
    static constexpr std::size_t fifo_bytes = 16;

    // The clock is not needed as long as characters take no time.
    Serial(Interrupts& interrupts, unsigned gsi, Clock&, std::function<void(Bytes)> output)
        : interrupts_(interrupts), gsi_(gsi), output_(std::move(output)) {}

    // Takes what fits and returns how much that was.
    std::size_t receive(Bytes data);
    // The other side holds the line low for longer than a character.
    void receive_break();
    // Called when a receive() that was cut short may be continued.
    void on_receive_space(std::function<void()> handler) { space_handler_ = std::move(handler); }

    // Into a fresh device only. Input that waits at its source does not go along.
    void state(StateArchive& archive);

    std::string_view name() const override { return "serial"; }
    void read(std::uint64_t offset, MutableBytes data) override;
    void write(std::uint64_t offset, Bytes data) override;

private:
    struct Character {
        std::uint8_t value = 0;
        bool line_break = false;
        void state(StateArchive& archive) { archive(value, line_break); }
    };
    std::uint8_t read_register(unsigned index);
    void write_register(unsigned index, std::uint8_t value);

    bool divisor_selected() const;
    bool looped() const;
    std::size_t capacity() const { return fifo_enabled_ ? fifo_bytes : 1; }
    void push(Character character);
    std::uint8_t pop();
    void clear_received();
    void transmit(std::uint8_t value);
    std::uint8_t line_status() const;
    std::uint8_t modem_lines() const;
    std::uint8_t interrupt_reason() const;
    void set_modem_control(std::uint8_t value);
    void set_fifo_control(std::uint8_t value);
    void update_interrupt();
    void offer_space();

    Interrupts& interrupts_;
    unsigned gsi_;
    std::function<void(Bytes)> output_;
    std::function<void()> space_handler_;

    std::array<Character, fifo_bytes> received_{}; // a ring
    std::size_t first_ = 0, count_ = 0;
    std::uint8_t last_received_ = 0;
    bool overrun_ = false;
    bool break_waiting_ = false; // a break that found the FIFO full
    bool more_waiting_ = false;  // a receive() was cut short
    bool transmitter_interrupt_ = false;
    bool fifo_enabled_ = false;
    std::size_t trigger_ = 1;
    std::uint8_t interrupt_enable_ = 0, line_control_ = 0, modem_control_ = 0;
    std::uint8_t modem_changes_ = 0, scratch_ = 0;
    std::uint16_t divisor_ = 12; // 9600 baud
    bool level_ = false;
};

} // namespace vmhost::machine
