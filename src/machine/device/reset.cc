#include "machine/device/reset.h"

#include <algorithm>

namespace vmhost::machine {

namespace {

constexpr std::uint8_t status_output_full = 0x01, status_system = 0x04, status_command = 0x08,
                       status_unlocked = 0x10, status_timeout = 0x40;
constexpr std::uint8_t mode_system = 0x04, mode_no_keyboard = 0x10, mode_no_mouse = 0x20;
constexpr std::uint8_t port_not_reset = 0x01, port_a20 = 0x02;
constexpr std::uint8_t resend = 0xfe;

enum Command : std::uint8_t {
    read_mode = 0x20,
    write_mode = 0x60,
    disable_mouse = 0xa7,
    enable_mouse = 0xa8,
    test_mouse = 0xa9,
    self_test = 0xaa,
    test_keyboard = 0xab,
    disable_keyboard = 0xad,
    enable_keyboard = 0xae,
    read_input_port = 0xc0,
    read_output_port = 0xd0,
    write_output_port = 0xd1,
    write_keyboard_output = 0xd2,
    write_mouse_output = 0xd3,
    write_mouse = 0xd4,
    disable_a20 = 0xdd,
    enable_a20 = 0xdf,
    pulse = 0xf0, // 0xf0..0xff: the low four bits of the output port that are 0 are pulsed low
};

} // namespace

void KeyboardController::Port::read(std::uint64_t, MutableBytes data) {
    std::ranges::fill(data, std::uint8_t{0xff});
    data[0] = command_ ? owner_.status() : owner_.take_output();
}

void KeyboardController::Port::write(std::uint64_t, Bytes data) {
    owner_.last_was_command_ = command_;
    if (command_)
        owner_.command(data[0]);
    else
        owner_.data(data[0]);
}

// The input buffer is never full: commands take no time.
std::uint8_t KeyboardController::status() const {
    std::uint8_t value = status_unlocked;
    value |= output_full_ ? status_output_full : 0;
    value |= mode_ & mode_system ? status_system : 0;
    value |= last_was_command_ ? status_command : 0;
    value |= timed_out_ ? status_timeout : 0;
    return value;
}

std::uint8_t KeyboardController::take_output() {
    output_full_ = timed_out_ = false;
    return output_;
}

void KeyboardController::put_output(std::uint8_t value, bool timed_out) {
    output_ = value;
    output_full_ = true;
    timed_out_ = timed_out;
}

void KeyboardController::set_output_port(std::uint8_t value) {
    output_port_ = value | port_not_reset;
    if (!(value & port_not_reset) && reset_)
        reset_();
}

void KeyboardController::command(std::uint8_t value) {
    waiting_command_ = 0;
    switch (value) {
    case read_mode:
        return put_output(mode_);
    case write_mode:
    case write_output_port:
    case write_keyboard_output:
    case write_mouse_output:
    case write_mouse:
        waiting_command_ = value;
        return;
    case disable_mouse:
        mode_ |= mode_no_mouse;
        return;
    case enable_mouse:
        mode_ &= static_cast<std::uint8_t>(~mode_no_mouse);
        return;
    case test_mouse:
        return put_output(0x02); // clock line stuck high: there is no such port
    case self_test:
        mode_ |= mode_system;
        return put_output(0x55);
    case test_keyboard:
        return put_output(0x00);
    case disable_keyboard:
        mode_ |= mode_no_keyboard;
        return;
    case enable_keyboard:
        mode_ &= static_cast<std::uint8_t>(~mode_no_keyboard);
        return;
    case read_input_port:
        return put_output(0x80); // keyboard not locked
    case read_output_port:
        return put_output(output_port_);
    case disable_a20:
        output_port_ &= static_cast<std::uint8_t>(~port_a20);
        return;
    case enable_a20:
        output_port_ |= port_a20;
        return;
    default:
        if (value >= pulse && !(value & port_not_reset) && reset_)
            reset_();
    }
}

void KeyboardController::data(std::uint8_t value) {
    switch (std::exchange(waiting_command_, std::uint8_t{0})) {
    case write_mode:
        mode_ = value;
        return;
    case write_output_port:
        return set_output_port(value);
    case write_keyboard_output:
        return put_output(value);
    default: // for the keyboard, or by way of a command for the mouse: nobody takes it
        return put_output(resend, true);
    }
}

} // namespace vmhost::machine
