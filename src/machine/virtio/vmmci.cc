#include "machine/virtio/vmmci.h"

#include <algorithm>

namespace vmhost::machine::virtio {

namespace {

constexpr std::uint16_t openbsd_vendor = 0x0b5d, vmmci_device = 0x0777;

// Registers of virtio 0.9 and, from 20, vmmci's.
namespace vmmci_register {
enum Register : std::uint64_t {
    device_features = 0,
    guest_features = 4,
    queue_address = 8,
    queue_size = 12,
    queue_select = 14,
    queue_notify = 16,
    device_status = 18,
    isr_status = 19,
    command = 20,
    seconds_low = 24,
    seconds_high = 28,
    microseconds_low = 32,
    microseconds_high = 36,
    end_of_registers = 40,
};
} // namespace vmmci_register

constexpr std::uint8_t driver_ok = 4;
constexpr std::uint8_t isr_configuration = 2;

std::size_t vmmci_width_of(std::uint64_t offset) {
    if (offset >= vmmci_register::queue_size && offset < vmmci_register::device_status)
        return offset % 2 == 0 ? 2 : 0;
    if (offset == vmmci_register::device_status || offset == vmmci_register::isr_status)
        return 1;
    return offset < vmmci_register::end_of_registers && offset % 4 == 0 ? 4 : 0;
}

std::uint32_t low_word(std::uint64_t value) {
    return static_cast<std::uint32_t>(value);
}
std::uint32_t high_word(std::uint64_t value) {
    return static_cast<std::uint32_t>(value >> 32);
}

} // namespace

Vmmci::Vmmci(std::string name, Clock& clock, Hooks hooks, Timeouts timeouts)
    : PciFunction(std::move(name), {.vendor = openbsd_vendor,
                                    .device = vmmci_device,
                                    .subsystem_vendor = openbsd_vendor,
                                    .subsystem = 0xffff, // the virtio type
                                    .base_class = 0x07,  // communication, other
                                    .subclass = 0x80}),
      clock_(clock), hooks_(std::move(hooks)), timeouts_(timeouts), registers_(*this) {
    add_bar(0, Space::port, bar_bytes, registers_);
}

Vmmci::~Vmmci() {
    clock_.cancel(timer_);
}

bool Vmmci::listens() const {
    return status_ & driver_ok;
}

bool Vmmci::send(Command request) {
    if (request == Command::none || !listens())
        return false;
    if (request == Command::sync_clock) {
        if (stopping() || going_down_ || !(driver_features_ & clock_sync))
            return false;
    } else {
        if (going_down_ || request == pending_)
            return true;
        acknowledged_ = false;
        start_timer(timeouts_.answer_ns);
    }
    pending_ = request;
    command_ = static_cast<std::uint32_t>(request);
    isr_ |= isr_configuration;
    raise_interrupt(true);
    return true;
}

// The guest wrote the vmmci_register::command register.
void Vmmci::answered(std::uint32_t value) {
    if (stopping()) {
        if (acknowledged_ || value != static_cast<std::uint32_t>(pending_))
            return;
        acknowledged_ = true;
        start_timer(timeouts_.finish_ns);
    } else if (value == static_cast<std::uint32_t>(Command::sync_clock)) {
        if (pending_ == Command::sync_clock) {
            pending_ = Command::none;
            command_ = 0;
        }
    } else if (value == static_cast<std::uint32_t>(Command::shutdown) && !going_down_) {
        going_down_ = true;
        start_timer(timeouts_.power_off_ns);
    }
}

void Vmmci::start_timer(std::uint64_t after_ns) {
    set_timer(clock_.now_ns() + after_ns);
}

void Vmmci::set_timer(std::uint64_t deadline_ns) {
    clock_.cancel(timer_);
    deadline_ns_ = deadline_ns;
    timer_ = clock_.schedule(deadline_ns, [this] { timed_out(); });
}

void Vmmci::timed_out() {
    timer_ = 0;
    deadline_ns_ = 0;
    if (going_down_)
        hooks_.powers_off();
    else
        hooks_.gave_up(acknowledged_);
}

void Vmmci::state(StateArchive& archive) {
    PciFunction::state(archive);
    archive(driver_features_, queue_select_, status_, isr_, command_, latched_, seconds_,
            microseconds_);
    archive.at_most(pending_, Command::sync_clock, "command");
    archive(acknowledged_, going_down_, deadline_ns_);
    if (!archive.loading() || !archive.ok())
        return;
    driver_features_ &= features;
    raise_interrupt(isr_ != 0);
    if (deadline_ns_ != 0 && (going_down_ || stopping()))
        set_timer(deadline_ns_);
    else
        deadline_ns_ = 0;
}

void Vmmci::latch_time() {
    auto now_us = static_cast<std::uint64_t>(clock_.wall_us());
    seconds_ = now_us / 1'000'000;
    microseconds_ = now_us % 1'000'000;
}

void Vmmci::Registers::read(std::uint64_t offset, MutableBytes data) {
    std::ranges::fill(data, std::uint8_t{0});
    if (data.size() != vmmci_width_of(offset))
        return;
    std::uint8_t raw[4];
    store_le<std::uint32_t>(raw, owner_.read_register(offset));
    std::ranges::copy(Bytes(raw).first(data.size()), data.begin());
}

std::uint32_t Vmmci::read_register(std::uint64_t offset) {
    switch (offset) {
    case vmmci_register::device_features:
        return features;
    case vmmci_register::guest_features:
        return driver_features_;
    case vmmci_register::queue_select:
        return queue_select_;
    case vmmci_register::device_status:
        return status_;
    case vmmci_register::isr_status:
        raise_interrupt(false);
        return std::exchange(isr_, std::uint8_t{0});
    case vmmci_register::command:
        return command_;
    case vmmci_register::seconds_high:
        latch_time();
        latched_ = true;
        return high_word(seconds_);
    case vmmci_register::seconds_low:
        if (!std::exchange(latched_, false))
            latch_time();
        return low_word(seconds_);
    case vmmci_register::microseconds_low:
        return low_word(microseconds_);
    case vmmci_register::microseconds_high:
        return high_word(microseconds_);
    default:
        return 0; // there are no queues
    }
}

void Vmmci::write_register(std::uint64_t offset, Bytes data) {
    if (data.size() != vmmci_width_of(offset))
        return;
    std::uint8_t raw[4] = {};
    std::ranges::copy(data, raw);
    auto value = load_le<std::uint32_t>(Bytes(raw));
    switch (offset) {
    case vmmci_register::guest_features:
        driver_features_ = value & features;
        break;
    case vmmci_register::queue_select:
        queue_select_ = static_cast<std::uint16_t>(value);
        break;
    case vmmci_register::device_status:
        write_status(static_cast<std::uint8_t>(value));
        break;
    case vmmci_register::command:
        answered(value);
        break;
    default:
        break;
    }
}

// A reset by the driver forgets what it negotiated; what it has been asked for, and that it
// is going down, it cannot take back that way.
void Vmmci::write_status(std::uint8_t value) {
    status_ = value;
    if (value != 0)
        return;
    driver_features_ = 0;
    queue_select_ = 0;
    isr_ = 0;
    latched_ = false;
    if (!stopping()) {
        pending_ = Command::none;
        command_ = 0;
    }
    raise_interrupt(false);
}

} // namespace vmhost::machine::virtio
