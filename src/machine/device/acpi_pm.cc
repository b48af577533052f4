#include "machine/device/acpi_pm.h"

namespace vmhost::machine {

namespace {

constexpr std::uint16_t timer_event = 1 << 0, global_event = 1 << 5, power_button = 1 << 8,
                        sleep_button = 1 << 9, clock_event = 1 << 10;
// Guests read back what they enable, also for events that never come.
constexpr std::uint16_t all_events =
    timer_event | global_event | power_button | sleep_button | clock_event;

constexpr std::uint16_t sci_enabled = 1 << 0, bus_master_wakes = 1 << 1, sleep_type = 7 << 10,
                        sleep_now = 1 << 13;
constexpr unsigned sleep_type_shift = 10;

constexpr unsigned top_bit = 31;

// Split so that nothing overflows.
std::uint64_t pm_ticks_of(std::uint64_t ns) {
    return ns / second_ns * AcpiPm::timer_hz + ns % second_ns * AcpiPm::timer_hz / second_ns;
}
std::uint64_t ns_of_pm(std::uint64_t ticks) { // rounded up: at that time the tick has come
    return ticks / AcpiPm::timer_hz * second_ns +
           (ticks % AcpiPm::timer_hz * second_ns + AcpiPm::timer_hz - 1) / AcpiPm::timer_hz;
}

std::uint8_t byte_of(std::uint32_t value, std::uint64_t index) {
    return static_cast<std::uint8_t>(value >> 8 * index);
}
void set_byte(std::uint16_t& value, std::uint64_t index, std::uint8_t byte) {
    value = static_cast<std::uint16_t>((value & ~(0xffU << 8 * index)) | byte << 8 * index);
}

} // namespace

AcpiPm::AcpiPm(Clock& clock, Interrupts& interrupts, std::function<void()> power_off)
    : clock_(clock), interrupts_(interrupts), power_off_(std::move(power_off)) {
    seen_half_turns_ = half_turns();
}

AcpiPm::~AcpiPm() {
    if (ticket_ != 0)
        clock_.cancel(ticket_);
}

bool AcpiPm::power_button_enabled() const {
    return enabled_ & power_button;
}

bool AcpiPm::press_power_button() {
    if (!power_button_enabled())
        return false;
    status_ |= power_button;
    update_interrupt();
    return true;
}

bool AcpiPm::power_button_pending() const {
    return status_ & power_button;
}

std::uint32_t AcpiPm::timer() const {
    return static_cast<std::uint32_t>(pm_ticks_of(clock_.now_ns()));
}

std::uint64_t AcpiPm::half_turns() const {
    return pm_ticks_of(clock_.now_ns()) >> top_bit;
}

void AcpiPm::catch_up() {
    if (auto now = half_turns(); now != seen_half_turns_) {
        seen_half_turns_ = now;
        status_ |= timer_event;
    }
}

void AcpiPm::update_interrupt() {
    bool level = status_ & enabled_;
    if (level == level_)
        return;
    level_ = level;
    interrupts_.set_level(sci_line, level);
}

void AcpiPm::arm() {
    bool wanted = (enabled_ & timer_event) && !(status_ & timer_event);
    if (wanted == (ticket_ != 0))
        return;
    if (!wanted) {
        clock_.cancel(std::exchange(ticket_, 0));
        return;
    }
    ticket_ = clock_.schedule(ns_of_pm((seen_half_turns_ + 1) << top_bit), [this] {
        ticket_ = 0;
        catch_up();
        update_interrupt();
        arm();
    });
}

void AcpiPm::state(StateArchive& archive) {
    archive(status_, enabled_, control_);
    archive.at_most(seen_half_turns_, half_turns(), "half turns of the timer");
    if (!archive.loading())
        return;
    status_ &= all_events;
    enabled_ &= all_events;
    control_ &= bus_master_wakes | sleep_type;
    catch_up();
    update_interrupt();
    arm();
}

std::uint8_t AcpiPm::read_byte(std::uint64_t offset, std::uint32_t timer) const {
    if (offset >= timer_offset)
        return byte_of(timer, offset - timer_offset);
    switch (offset) {
    case 0:
    case 1:
        return byte_of(status_, offset);
    case 2:
    case 3:
        return byte_of(enabled_, offset - 2);
    case 4:
    case 5:
        return byte_of(control_ | sci_enabled, offset - 4);
    default:
        return 0;
    }
}

void AcpiPm::read(std::uint64_t offset, MutableBytes data) {
    catch_up();
    auto ticks = timer(); // once, so that its bytes belong together
    for (std::size_t i = 0; i < data.size(); i++)
        data[i] = read_byte(offset + i, ticks);
    update_interrupt();
    arm();
}

// SLP_EN is in the upper byte, together with the type.
void AcpiPm::write_control(std::uint64_t byte, std::uint8_t value) {
    std::uint16_t written = control_;
    set_byte(written, byte, value);
    control_ = written & (bus_master_wakes | sleep_type);
    if ((written & sleep_now) && (written & sleep_type) >> sleep_type_shift == soft_off &&
        power_off_)
        power_off_();
}

void AcpiPm::write(std::uint64_t offset, Bytes data) {
    catch_up();
    for (std::size_t i = 0; i < data.size(); i++) {
        switch (offset + i) {
        case 0:
        case 1:
            status_ &= static_cast<std::uint16_t>(~(data[i] << 8 * (offset + i)));
            break;
        case 2:
        case 3:
            set_byte(enabled_, offset + i - 2, data[i]);
            enabled_ &= all_events;
            break;
        case 4:
        case 5:
            write_control(offset + i - 4, data[i]);
            break;
        default: // the timer cannot be set
            break;
        }
    }
    update_interrupt();
    arm();
}

} // namespace vmhost::machine
