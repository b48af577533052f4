// Port 0x402, QEMU's isa-debugcon: SeaBIOS writes its log there, a byte at a time,
// when a read answers 0xe9.
//
// Threads: under the device lock; the handler is called there, on a vCPU thread.
#pragma once

#include <functional>

#include "machine/bus.h"

namespace vmhost::machine {

class DebugConsole final : public Device {
public:
    static constexpr std::uint64_t port = 0x402, port_count = 1;

    explicit DebugConsole(std::function<void(Bytes)> output) : output_(std::move(output)) {}
    std::string_view name() const override { return "debug console"; }
    void read(std::uint64_t offset, MutableBytes data) override;
    void write(std::uint64_t offset, Bytes data) override;

private:
    std::function<void(Bytes)> output_;
};

} // namespace vmhost::machine
