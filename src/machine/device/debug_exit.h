// Port 0xf4, QEMU's isa-debug-exit: a guest of the test suite ends its machine with a
// code. Only there when the machine's description asks for it.
//
// Threads: under the device lock; the handler is called there, on a vCPU thread.
#pragma once

#include <functional>

#include "machine/bus.h"

namespace vmhost::machine {

class DebugExit final : public Device {
public:
    static constexpr std::uint64_t port = 0xf4, port_count = 1;

    explicit DebugExit(std::function<void(std::uint8_t)> ended) : ended_(std::move(ended)) {}
    std::string_view name() const override { return "debug exit"; }
    void read(std::uint64_t offset, MutableBytes data) override;
    void write(std::uint64_t offset, Bytes data) override;

private:
    std::function<void(std::uint8_t)> ended_;
};

} // namespace vmhost::machine
