#include "machine/device/port_stub.h"

#include <algorithm>

namespace vmhost::machine {

namespace {
constexpr std::uint8_t port_a_reset = 0x01, port_a_a20 = 0x02;
} // namespace

void PostPort::read(std::uint64_t, MutableBytes data) {
    std::ranges::fill(data, std::uint8_t{0xff});
    data[0] = code_;
}

void PostPort::write(std::uint64_t, Bytes data) {
    code_ = data[0];
}

void PortA::read(std::uint64_t, MutableBytes data) {
    std::ranges::fill(data, std::uint8_t{0xff});
    data[0] = port_a_a20;
}

void PortA::write(std::uint64_t, Bytes data) {
    if ((data[0] & port_a_reset) && reset_)
        reset_();
}

} // namespace vmhost::machine
