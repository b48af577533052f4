// What devices stand on, for tests: a clock that moves when told, wires that keep
// record, and the abuse that every device must survive.
#pragma once

#include <array>
#include <map>
#include <utility>
#include <vector>

#include "machine/bus.h"
#include "machine/clock.h"
#include "machine/irq.h"

namespace vmhost::machine {

// Unlike the core's, this one tells the wall time of each deadline while it runs.
class SteppedClock final : public Clock {
public:
    std::uint64_t now_ns() const override { return now_; }
    std::int64_t wall_seconds() const override {
        return wall_at_start + static_cast<std::int64_t>(now_ / 1'000'000'000);
    }
    Ticket schedule(std::uint64_t when_ns, std::function<void()> due) override {
        deadlines_.emplace(std::pair{when_ns, ++last_}, std::move(due));
        return last_;
    }
    void cancel(Ticket ticket) override {
        std::erase_if(deadlines_, [&](const auto& one) { return one.first.second == ticket; });
    }

    void advance(std::uint64_t by_ns) {
        const std::uint64_t until = now_ + by_ns;
        while (!deadlines_.empty() && deadlines_.begin()->first.first <= until) {
            auto next = deadlines_.begin();
            now_ = std::max(now_, next->first.first);
            auto due = std::move(next->second);
            deadlines_.erase(next);
            ran++;
            due();
        }
        now_ = until;
    }
    void advance_ms(std::uint64_t by_ms) { advance(by_ms * 1'000'000); }
    std::size_t pending() const { return deadlines_.size(); }

    std::int64_t wall_at_start = 0;
    std::size_t ran = 0; // deadlines that came due

private:
    std::uint64_t now_ = 0;
    Ticket last_ = 0;
    std::map<std::pair<std::uint64_t, Ticket>, std::function<void()>> deadlines_;
};

class RecordingInterrupts final : public Interrupts {
public:
    void set_level(unsigned gsi, bool level) override {
        auto& line = lines.at(gsi);
        line.rises += level && !line.level;
        line.level = level;
    }
    bool send_msi(std::uint64_t, std::uint32_t) override { return true; }

    struct Line {
        bool level = false;
        unsigned rises = 0; // what an edge-triggered input counts
    };
    std::array<Line, 256> lines{};
};

// Accesses as a driver writes them.
template <WireInteger T>
T in(Device& device, std::uint64_t offset) {
    std::uint8_t raw[sizeof(T)];
    device.read(offset, raw);
    return load_le<T>(raw);
}
template <WireInteger T>
void out(Device& device, std::uint64_t offset, T value) {
    std::uint8_t raw[sizeof(T)];
    store_le<T>(raw, value);
    device.write(offset, raw);
}
inline std::uint8_t inb(Device& device, std::uint64_t offset) {
    return in<std::uint8_t>(device, offset);
}
inline void outb(Device& device, std::uint64_t offset, unsigned value) {
    out(device, offset, static_cast<std::uint8_t>(value));
}

// Every size at every offset that the bus would pass on, with values that set every bit both
// ways. The sanitizers are the judge.
inline void abuse(Device& device, std::uint64_t range_size) {
    constexpr std::array<std::uint8_t, 7> values = {0x00, 0xff, 0x55, 0xaa, 0x80, 0x01, 0x7f};
    for (std::size_t size : {1U, 2U, 4U, 8U})
        for (std::uint64_t offset = 0; range_fits(offset, size, range_size); offset++)
            for (auto value : values) {
                std::vector<std::uint8_t> data(size, value);
                device.write(offset, data);
                device.read(offset, data);
            }
}

} // namespace vmhost::machine
