#include "machine/device/serial.h"

namespace vmhost::machine {

namespace {

enum Register : unsigned { data_register, ier, iir_fcr, lcr, mcr, lsr, msr, scr };

constexpr std::uint8_t ier_received = 0x01, ier_transmitter = 0x02, ier_line = 0x04,
                       ier_modem = 0x08, ier_bits = 0x0f;
constexpr std::uint8_t iir_none = 0x01, iir_line = 0x06, iir_received = 0x04, iir_timeout = 0x0c,
                       iir_transmitter = 0x02, iir_modem = 0x00, iir_fifo = 0xc0;
constexpr std::uint8_t fcr_enable = 0x01, fcr_clear_received = 0x02;
constexpr std::uint8_t lcr_divisor = 0x80;
constexpr std::uint8_t mcr_dtr = 0x01, mcr_rts = 0x02, mcr_out1 = 0x04, mcr_out2 = 0x08,
                       mcr_loop = 0x10, mcr_bits = 0x1f;
constexpr std::uint8_t lsr_ready = 0x01, lsr_overrun = 0x02, lsr_break = 0x10, lsr_empty = 0x60,
                       lsr_fifo_error = 0x80;
constexpr std::uint8_t msr_cts = 0x10, msr_dsr = 0x20, msr_ri = 0x40, msr_dcd = 0x80;

} // namespace

bool Serial::divisor_selected() const {
    return line_control_ & lcr_divisor;
}
bool Serial::looped() const {
    return modem_control_ & mcr_loop;
}

std::size_t Serial::receive(Bytes data) {
    // In loop-back the receiver hears its own transmitter only: the line waits.
    std::size_t room = looped() || break_waiting_ || count_ >= capacity() ? 0 : capacity() - count_;
    auto taken = std::min(room, data.size());
    for (auto value : data.first(taken))
        push({.value = value});
    more_waiting_ = taken < data.size();
    update_interrupt();
    return taken;
}

void Serial::receive_break() {
    if (looped() || count_ >= capacity())
        break_waiting_ = true;
    else
        push({.value = 0, .line_break = true});
    update_interrupt();
}

void Serial::push(Character character) {
    if (count_ >= capacity()) {
        overrun_ = true;
        // Without FIFO the new character takes the place of the old one.
        if (!fifo_enabled_)
            received_[first_] = character;
        return;
    }
    received_[(first_ + count_) % fifo_bytes] = character;
    count_++;
}

std::uint8_t Serial::pop() {
    if (count_ == 0)
        return last_received_;
    last_received_ = received_[first_].value;
    first_ = (first_ + 1) % fifo_bytes;
    count_--;
    offer_space();
    return last_received_;
}

void Serial::clear_received() {
    first_ = count_ = 0;
    offer_space();
}

// The waiting break first; then, once the guest has emptied the FIFO, the source is told.
void Serial::offer_space() {
    if (looped())
        return;
    if (break_waiting_ && count_ < capacity()) {
        break_waiting_ = false;
        push({.value = 0, .line_break = true});
    }
    update_interrupt();
    if (more_waiting_ && count_ == 0) {
        more_waiting_ = false;
        if (space_handler_)
            space_handler_();
    }
}

// Loading the holding register withdraws the interrupt; the character is gone at once, which
// raises it again: an edge that a controller can see.
void Serial::transmit(std::uint8_t value) {
    transmitter_interrupt_ = false;
    update_interrupt();
    if (looped())
        push({.value = value});
    else if (output_)
        output_({&value, 1});
    transmitter_interrupt_ = true;
    update_interrupt();
}

std::uint8_t Serial::line_status() const {
    std::uint8_t status = lsr_empty;
    if (overrun_)
        status |= lsr_overrun;
    if (count_ == 0)
        return status;
    status |= lsr_ready;
    if (received_[first_].line_break)
        status |= lsr_break;
    for (std::size_t i = 0; fifo_enabled_ && i < count_; i++)
        if (received_[(first_ + i) % fifo_bytes].line_break)
            status |= lsr_fifo_error;
    return status;
}

std::uint8_t Serial::modem_lines() const {
    if (!looped())
        return msr_dcd | msr_dsr | msr_cts;
    std::uint8_t lines = 0;
    lines |= modem_control_ & mcr_dtr ? msr_dsr : 0;
    lines |= modem_control_ & mcr_rts ? msr_cts : 0;
    lines |= modem_control_ & mcr_out1 ? msr_ri : 0;
    lines |= modem_control_ & mcr_out2 ? msr_dcd : 0;
    return lines;
}

// In the order of priority that the data sheet's table gives.
std::uint8_t Serial::interrupt_reason() const {
    if ((interrupt_enable_ & ier_line) && (line_status() & (lsr_overrun | lsr_break)))
        return iir_line;
    if ((interrupt_enable_ & ier_received) && count_ != 0)
        return !fifo_enabled_ || count_ >= trigger_ ? iir_received : iir_timeout;
    if ((interrupt_enable_ & ier_transmitter) && transmitter_interrupt_)
        return iir_transmitter;
    if ((interrupt_enable_ & ier_modem) && modem_changes_ != 0)
        return iir_modem;
    return iir_none;
}

// On a PC the interrupt passes a gate that OUT2 opens.
void Serial::update_interrupt() {
    bool level = interrupt_reason() != iir_none && (modem_control_ & mcr_out2);
    if (level == level_)
        return;
    level_ = level;
    interrupts_.set_level(gsi_, level);
}

void Serial::set_modem_control(std::uint8_t value) {
    auto before = modem_lines();
    modem_control_ = value & mcr_bits;
    auto after = modem_lines();
    auto changed = static_cast<std::uint8_t>(before ^ after);
    modem_changes_ |= (changed & (msr_cts | msr_dsr | msr_dcd)) >> 4;
    if (before & ~after & msr_ri) // only the trailing edge of the ring counts
        modem_changes_ |= msr_ri >> 4;
    offer_space();
}

void Serial::set_fifo_control(std::uint8_t value) {
    bool enable = value & fcr_enable;
    bool clear = enable != fifo_enabled_ || (enable && (value & fcr_clear_received));
    fifo_enabled_ = enable;
    constexpr std::size_t levels[] = {1, 4, 8, 14};
    trigger_ = enable ? levels[value >> 6] : 1;
    if (clear)
        clear_received();
}

std::uint8_t Serial::read_register(unsigned index) {
    std::uint8_t value = 0xff;
    switch (index) {
    case data_register:
        return divisor_selected() ? static_cast<std::uint8_t>(divisor_) : pop();
    case ier:
        return divisor_selected() ? static_cast<std::uint8_t>(divisor_ >> 8) : interrupt_enable_;
    case iir_fcr:
        value = interrupt_reason();
        if (value == iir_transmitter)
            transmitter_interrupt_ = false;
        value |= fifo_enabled_ ? iir_fifo : 0;
        break;
    case lcr:
        return line_control_;
    case mcr:
        return modem_control_;
    case lsr:
        value = line_status();
        overrun_ = false;
        if (count_ != 0)
            received_[first_].line_break = false;
        break;
    case msr:
        value = modem_lines() | modem_changes_;
        modem_changes_ = 0;
        break;
    case scr:
        return scratch_;
    }
    update_interrupt();
    return value;
}

void Serial::write_register(unsigned index, std::uint8_t value) {
    switch (index) {
    case data_register:
        if (divisor_selected())
            divisor_ = static_cast<std::uint16_t>((divisor_ & 0xff00) | value);
        else
            transmit(value);
        break;
    case ier:
        if (divisor_selected()) {
            divisor_ = static_cast<std::uint16_t>((divisor_ & 0x00ff) | value << 8);
            break;
        }
        // Turning it on while the transmitter is empty interrupts at once.
        if (value & ~interrupt_enable_ & ier_transmitter)
            transmitter_interrupt_ = true;
        interrupt_enable_ = value & ier_bits;
        break;
    case iir_fcr:
        set_fifo_control(value);
        break;
    case lcr:
        line_control_ = value;
        break;
    case mcr:
        set_modem_control(value);
        break;
    case scr:
        scratch_ = value;
        break;
    default: // the status registers
        break;
    }
    update_interrupt();
}

void Serial::state(StateArchive& archive) {
    archive(received_, last_received_, overrun_, break_waiting_, transmitter_interrupt_);
    archive.at_most(first_, fifo_bytes - 1, "first character");
    archive.at_most(count_, fifo_bytes, "characters");
    archive.at_most(trigger_, fifo_bytes, "trigger level");
    archive(fifo_enabled_, interrupt_enable_, line_control_, modem_control_, modem_changes_,
            scratch_, divisor_);
    if (archive.loading())
        update_interrupt();
}

void Serial::read(std::uint64_t offset, MutableBytes data) {
    for (std::size_t i = 0; i < data.size(); i++)
        data[i] = read_register((offset + i) % port_count);
}

void Serial::write(std::uint64_t offset, Bytes data) {
    for (std::size_t i = 0; i < data.size(); i++)
        write_register((offset + i) % port_count, data[i]);
}

} // namespace vmhost::machine
