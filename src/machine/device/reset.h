// The keyboard controller (Intel 8042 as in the IBM PC/AT, PS/2 command set) with
// nothing attached: what remains of it in a machine without keyboard is the reset
// line that guests pulse, and answers that let a probe end at once.
//
// A byte for the absent keyboard or mouse is answered as the controller does when
// nobody clocks it in: 0xfe with the time-out bit in the status. No interrupts.
//
// Ports 0x60 and 0x64 are two ranges of one byte, hence two Devices.
//
// Threads: everything under the device lock; the reset handler is called there, on
// a vCPU thread, and must only take note.
#pragma once

#include <functional>

#include "machine/bus.h"
#include "machine/snapshot/state_archive.h"

namespace vmhost::machine {

class KeyboardController {
public:
    explicit KeyboardController(std::function<void()> reset) : reset_(std::move(reset)) {}
    KeyboardController(const KeyboardController&) = delete;
    KeyboardController& operator=(const KeyboardController&) = delete;

    Device& data_port() { return data_port_; }       // 0x60
    Device& command_port() { return command_port_; } // 0x64
    void state(StateArchive& archive) {
        archive(output_, output_full_, timed_out_, last_was_command_, waiting_command_, mode_,
                output_port_);
    }

private:
    class Port final : public Device {
    public:
        Port(KeyboardController& owner, bool command) : owner_(owner), command_(command) {}
        std::string_view name() const override {
            return command_ ? "keyboard command" : "keyboard data";
        }
        void read(std::uint64_t offset, MutableBytes data) override;
        void write(std::uint64_t offset, Bytes data) override;

    private:
        KeyboardController& owner_;
        bool command_;
    };
    std::uint8_t status() const;
    std::uint8_t take_output();
    void put_output(std::uint8_t value, bool timed_out = false);
    void command(std::uint8_t value);
    void data(std::uint8_t value);
    void set_output_port(std::uint8_t value);

    std::function<void()> reset_;
    Port data_port_{*this, false};
    Port command_port_{*this, true};
    std::uint8_t output_ = 0;
    bool output_full_ = false, timed_out_ = false, last_was_command_ = false;
    std::uint8_t waiting_command_ = 0; // the command whose parameter comes next; 0 = none
    std::uint8_t mode_ = 0x30;         // the command byte: keyboard and mouse disabled
    std::uint8_t output_port_ = 0x03;  // reset not asserted, A20 open
};

} // namespace vmhost::machine
