// Single ports of a PC that guests touch and that need almost nothing behind them.
//
// PostPort, 0x80: progress codes of the power-on self-test, and the port that
// drivers write for a short delay; swallowed, so that it does not count as an access
// to nowhere. PortA, 0x92: system control port A of the PS/2; bit 0 resets the
// machine, bit 1 is the fast A20 gate, which is always open here.
//
// Threads: under the device lock; the reset handler is called there, on a vCPU thread.
#pragma once

#include <functional>

#include "machine/bus.h"

namespace vmhost::machine {

class PostPort final : public Device {
public:
    static constexpr std::uint64_t port = 0x80, port_count = 1;

    std::string_view name() const override { return "post"; }
    void read(std::uint64_t offset, MutableBytes data) override;
    void write(std::uint64_t offset, Bytes data) override;

private:
    std::uint8_t code_ = 0;
};

class PortA final : public Device {
public:
    static constexpr std::uint64_t port = 0x92, port_count = 1;

    explicit PortA(std::function<void()> reset) : reset_(std::move(reset)) {}
    std::string_view name() const override { return "port a"; }
    void read(std::uint64_t offset, MutableBytes data) override;
    void write(std::uint64_t offset, Bytes data) override;

private:
    std::function<void()> reset_;
};

} // namespace vmhost::machine
