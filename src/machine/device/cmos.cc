#include "machine/device/cmos.h"

#include <algorithm>
#include <chrono>
#include <optional>

namespace vmhost::machine {

namespace {

enum Register : unsigned {
    second = 0,
    second_alarm,
    minute,
    minute_alarm,
    hour,
    hour_alarm,
    weekday,
    day,
    month,
    year,
    control_a,
    control_b,
    flags_c,
    valid_d,
    century = 0x32,
};

constexpr std::uint8_t a_update_in_progress = 0x80, a_divider_stop = 0x60, a_rate = 0x0f;
constexpr std::uint8_t b_set = 0x80, b_update = 0x10, b_binary = 0x04, b_24_hours = 0x02;
// The same bits enable in register B and report in register C.
constexpr std::uint8_t periodic = 0x40, alarm = 0x20, update = 0x10, all_flags = 0x70,
                       c_requested = 0x80;
constexpr std::uint8_t afternoon = 0x80;

constexpr std::uint64_t update_window_ns = 2'228'000;
constexpr std::int64_t day_seconds = 86'400;

// 32768 ticks are 1e9 ns; in lowest terms 64 ticks are 1953125 ns. Split so that nothing overflows.
constexpr std::uint64_t tick_group_ns = 1'953'125;
std::uint64_t rtc_ticks_of(std::uint64_t ns) {
    return ns / tick_group_ns * 64 + ns % tick_group_ns * 64 / tick_group_ns;
}
std::uint64_t ns_of_rtc(std::uint64_t ticks) { // rounded up: at that time the tick has come
    return ticks / 64 * tick_group_ns + (ticks % 64 * tick_group_ns + 63) / 64;
}

bool is_time(unsigned index) {
    return index <= year ? index % 2 == 0 || index >= day : index == century;
}

} // namespace

Cmos::Cmos(Clock& clock, Interrupts& interrupts, const GuestMemory& memory, unsigned vcpus)
    : clock_(clock), interrupts_(interrupts), seconds_(clock.wall_seconds()),
      origin_ns_(clock.now_ns()) {
    registers_[control_a] = 0x26; // 32.768 kHz, 1024 Hz
    registers_[control_b] = b_24_hours;
    registers_[valid_d] = 0x80;
    describe_machine(memory, vcpus);
}

Cmos::~Cmos() {
    if (ticket_ != 0)
        clock_.cancel(ticket_);
}

void Cmos::describe_machine(const GuestMemory& memory, unsigned vcpus) {
    constexpr std::uint64_t mib = 1 << 20, four_gib = 1ULL << 32;
    auto ram_within = [&](std::uint64_t from, std::uint64_t to) {
        std::uint64_t sum = 0;
        for (const auto& range : memory.ranges()) {
            auto start = std::max(range.start, from);
            auto end = std::min(range.start + range.size_bytes, to);
            if (range.ram && start < end)
                sum += end - start;
        }
        return sum;
    };
    auto put = [&](unsigned index, std::uint64_t value, unsigned bytes) {
        value = std::min<std::uint64_t>(value, (1ULL << 8 * bytes) - 1);
        for (unsigned i = 0; i < bytes; i++)
            registers_[index + i] = static_cast<std::uint8_t>(value >> 8 * i);
    };
    auto extended_kib = ram_within(mib, four_gib) / 1024;
    put(0x14, 0x02, 1); // equipment: a coprocessor, no display, no floppy
    put(0x15, 640, 2);
    put(0x17, extended_kib, 2);
    put(0x30, extended_kib, 2);
    put(0x34, ram_within(16 * mib, four_gib) / (64 * 1024), 2);
    put(0x5b, ram_within(four_gib, UINT64_MAX) / (64 * 1024), 3);
    put(0x5f, vcpus - 1, 1);
    // Without a bootorder file SeaBIOS tries disk, CD, network; floppies need no signature.
    put(0x38, 0x41, 1);
    put(0x3d, 0x32, 1);
}

bool Cmos::divider_stopped() const {
    return (registers_[control_a] & a_divider_stop) == a_divider_stop;
}
bool Cmos::frozen() const {
    return divider_stopped() || (registers_[control_b] & b_set);
}

std::uint64_t Cmos::period_ticks() const {
    unsigned rate = registers_[control_a] & a_rate;
    if (rate == 0)
        return 0;
    // The two fastest settings repeat 256 Hz and 128 Hz with this crystal.
    return 1ULL << (rate <= 2 ? rate + 6 : rate - 1);
}

std::uint64_t Cmos::current_period() const {
    auto ticks = period_ticks();
    return ticks == 0 ? 0 : rtc_ticks_of(elapsed_ns()) / ticks;
}

bool Cmos::update_in_progress() const {
    return !frozen() && elapsed_ns() % second_ns >= second_ns - update_window_ns;
}

std::uint8_t Cmos::encode(unsigned value) const {
    if (registers_[control_b] & b_binary)
        return static_cast<std::uint8_t>(value);
    return static_cast<std::uint8_t>(value / 10 % 10 << 4 | value % 10);
}

unsigned Cmos::decode(std::uint8_t raw) const {
    return registers_[control_b] & b_binary ? raw : (raw >> 4) * 10U + (raw & 15);
}

std::uint8_t Cmos::encode_hour(unsigned value) const {
    if (registers_[control_b] & b_24_hours)
        return encode(value);
    auto twelfth = value % 12 == 0 ? 12 : value % 12;
    return static_cast<std::uint8_t>(encode(twelfth) | (value >= 12 ? afternoon : 0));
}

void Cmos::spell_time() {
    using namespace std::chrono;
    auto days = floor<std::chrono::days>(sys_seconds(std::chrono::seconds(seconds_)));
    year_month_day date(days);
    auto of_day = static_cast<unsigned>(seconds_ - days.time_since_epoch().count() * day_seconds);
    auto full_year = static_cast<unsigned>(std::clamp(static_cast<int>(date.year()), 0, 9999));
    registers_[second] = encode(of_day % 60);
    registers_[minute] = encode(of_day / 60 % 60);
    registers_[hour] = encode_hour(of_day / 3600);
    registers_[weekday] = encode(std::chrono::weekday(days).c_encoding() + 1);
    registers_[day] = encode(static_cast<unsigned>(date.day()));
    registers_[month] = encode(static_cast<unsigned>(date.month()));
    registers_[year] = encode(full_year % 100);
    // BCD whatever register B says: firmware looks here before it knows the mode.
    registers_[century] = static_cast<std::uint8_t>(full_year / 1000 << 4 | full_year / 100 % 10);
}

// Whatever the guest wrote becomes some time: fields out of range carry over.
void Cmos::parse_time() {
    using namespace std::chrono;
    auto raw_hour = registers_[hour];
    auto hours = decode(raw_hour);
    if (!(registers_[control_b] & b_24_hours))
        hours = decode(raw_hour & ~afternoon) % 12 + (raw_hour & afternoon ? 12 : 0);
    auto centuries = (registers_[century] >> 4) * 10 + (registers_[century] & 15);
    auto full_year = centuries * 100 + static_cast<int>(decode(registers_[year]));
    auto in_year = std::clamp(decode(registers_[month]), 1U, 12U);
    sys_days first = std::chrono::year(full_year) / std::chrono::month(in_year) / 1;
    auto days = first.time_since_epoch().count() + static_cast<int>(decode(registers_[day])) - 1;
    seconds_ = std::int64_t{days} * day_seconds + hours * 3600 + decode(registers_[minute]) * 60 +
               decode(registers_[second]);
    offset_seconds_ = seconds_ - clock_.wall_seconds();
}

bool Cmos::alarm_at(std::int64_t seconds) const {
    auto of_day = static_cast<unsigned>((seconds % day_seconds + day_seconds) % day_seconds);
    auto matches = [&](unsigned index, std::uint8_t value) {
        return (registers_[index] & 0xc0) == 0xc0 || registers_[index] == value;
    };
    return matches(second_alarm, encode(of_day % 60)) &&
           matches(minute_alarm, encode(of_day / 60 % 60)) &&
           matches(hour_alarm, encode_hour(of_day / 3600));
}

// Seconds that nobody looked at count too, unless the clock was set in between.
bool Cmos::alarm_within(std::int64_t before, std::int64_t after) const {
    if (after <= before || after - before > day_seconds)
        return alarm_at(after);
    while (before < after)
        if (alarm_at(++before))
            return true;
    return false;
}

void Cmos::catch_up() {
    if (divider_stopped())
        return;
    if (auto now = current_period(); now != last_period_) {
        last_period_ = now;
        registers_[flags_c] |= periodic;
    }
    auto cycle = elapsed_ns() / second_ns;
    if (cycle == last_cycle_)
        return;
    last_cycle_ = cycle;
    if (registers_[control_b] & b_set)
        return;
    auto before = seconds_;
    seconds_ = clock_.wall_seconds() + offset_seconds_;
    registers_[flags_c] |= update;
    if (alarm_within(before, seconds_))
        registers_[flags_c] |= alarm;
}

void Cmos::update_interrupt() {
    bool level = registers_[control_b] & registers_[flags_c] & all_flags;
    if (level == level_)
        return;
    level_ = level;
    interrupts_.set_level(gsi, level);
}

// The next moment at which an enabled interrupt that is not pending may come due.
void Cmos::arm() {
    std::optional<std::uint64_t> due_ns;
    auto missing = static_cast<std::uint8_t>(registers_[control_b] & ~registers_[flags_c]);
    if (!divider_stopped()) {
        if ((missing & periodic) && period_ticks() != 0)
            due_ns = ns_of_rtc((last_period_ + 1) * period_ticks());
        if (!frozen() && (missing & (update | alarm)))
            due_ns = std::min(due_ns.value_or(UINT64_MAX), (last_cycle_ + 1) * second_ns);
    }
    if (ticket_ != 0 && due_ns && origin_ns_ + *due_ns == armed_for_ns_)
        return;
    if (ticket_ != 0)
        clock_.cancel(ticket_);
    ticket_ = 0;
    if (!due_ns)
        return;
    armed_for_ns_ = origin_ns_ + *due_ns;
    ticket_ = clock_.schedule(armed_for_ns_, [this] {
        ticket_ = 0;
        catch_up();
        update_interrupt();
        arm();
    });
}

void Cmos::state(StateArchive& archive) {
    constexpr std::int64_t furthest_seconds = std::int64_t{1} << 40; // 34,000 years
    archive(registers_);
    archive.at_most(index_, 127U, "register index");
    archive(seconds_, offset_seconds_, origin_ns_, last_cycle_, last_period_);
    if (!archive.loading())
        return;
    auto sane = [](std::int64_t seconds) {
        return seconds > -furthest_seconds && seconds < furthest_seconds;
    };
    if (!sane(seconds_) || !sane(offset_seconds_))
        archive.refuse("its time is beyond all calendars");
    // A restarted divider looks as if it had been for half a second.
    if (elapsed_ns() > clock_.now_ns() + second_ns / 2)
        archive.refuse("its clock was started in the future");
    if (last_cycle_ > elapsed_ns() / second_ns || last_period_ > rtc_ticks_of(elapsed_ns()))
        archive.refuse("its clock has counted ahead of the time");
    if (!archive.ok())
        return;
    catch_up();
    update_interrupt();
    arm();
}

std::uint8_t Cmos::read_register(unsigned index) {
    catch_up();
    if (is_time(index) && !frozen())
        spell_time();
    auto value = registers_[index];
    if (index == control_a && update_in_progress())
        value |= a_update_in_progress;
    if (index == flags_c) {
        if (registers_[control_b] & value & all_flags)
            value |= c_requested;
        registers_[flags_c] = 0;
    }
    update_interrupt();
    arm();
    return value;
}

void Cmos::write_register(unsigned index, std::uint8_t value) {
    catch_up();
    if (index == control_a || index == control_b) {
        write_control(index, value);
    } else if (is_time(index)) {
        if (!frozen())
            spell_time();
        registers_[index] = value;
        if (!frozen())
            parse_time();
    } else if (index != flags_c && index != valid_d) {
        registers_[index] = value;
    }
    update_interrupt();
    arm();
}

void Cmos::write_control(unsigned index, std::uint8_t value) {
    bool was_stopped = divider_stopped(), was_frozen = frozen();
    if (!was_frozen)
        spell_time(); // in the old mode, in case the registers are about to freeze
    if (index == control_a)
        value &= static_cast<std::uint8_t>(~a_update_in_progress);
    else if (value & b_set)
        value &= static_cast<std::uint8_t>(~b_update);
    registers_[index] = value;
    // A restarted divider makes its first update half a second later.
    if (was_stopped && !divider_stopped()) {
        origin_ns_ = clock_.now_ns() - second_ns / 2;
        last_cycle_ = 0;
    }
    if (was_frozen && !frozen())
        parse_time();
    last_period_ = current_period();
}

// The index register cannot be read, and its top bit, which masks NMI on a PC, does nothing.
void Cmos::read(std::uint64_t offset, MutableBytes data) {
    for (std::size_t i = 0; i < data.size(); i++)
        data[i] = (offset + i) % port_count == 0 ? 0xff : read_register(index_);
}

void Cmos::write(std::uint64_t offset, Bytes data) {
    for (std::size_t i = 0; i < data.size(); i++) {
        if ((offset + i) % port_count == 0)
            index_ = data[i] & 0x7f;
        else
            write_register(index_, data[i]);
    }
}

} // namespace vmhost::machine
