// Frames as guests send them, put together from their headers, and the taps they go through.
#pragma once

#include <catch2/catch.hpp>

#include <poll.h>
#include <unistd.h>

#include "base/base.h"

namespace vmhost::test {

using Frame = std::vector<std::uint8_t>;

inline Frame operator+(Frame a, const Frame& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}
inline Frame be16(unsigned value) {
    return {static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)};
}
inline Frame octets(const Mac& mac) {
    return {mac.octets.begin(), mac.octets.end()};
}
inline Frame octets(const char* ipv4) {
    Frame wire(4);
    store_be(MutableBytes(wire), parse_ipv4(ipv4).value().value);
    return wire;
}
inline Frame zeros(std::size_t count) {
    return Frame(count);
}

inline constexpr Mac everybody{{255, 255, 255, 255, 255, 255}};

inline Frame ethernet(const Mac& from, const Mac& to, unsigned type, const Frame& rest) {
    return octets(to) + octets(from) + be16(type) + rest;
}
inline Frame arp(const Mac& sender, const char* sender_ip, const char* target_ip) {
    return Frame{0, 1, 8, 0, 6, 4, 0, 1} + octets(sender) + octets(sender_ip) + zeros(6) +
           octets(target_ip) + zeros(18);
}
inline Frame ipv4(const char* from, const char* to, unsigned protocol, const Frame& rest,
                  unsigned fragment = 0) {
    return Frame{0x45, 0} + be16(static_cast<unsigned>(20 + rest.size())) + zeros(2) +
           be16(fragment) + Frame{64, static_cast<std::uint8_t>(protocol)} + zeros(2) +
           octets(from) + octets(to) + rest;
}
inline Frame udp(unsigned from, unsigned to) {
    return be16(from) + be16(to) + be16(16) + zeros(10);
}
using Ipv6Octets = std::array<std::uint8_t, 16>;
inline Frame ipv6(const Ipv6Octets& from, const Ipv6Octets& to, unsigned next, const Frame& rest) {
    return Frame{0x60, 0, 0, 0} + be16(static_cast<unsigned>(rest.size())) +
           Frame{static_cast<std::uint8_t>(next), 255} + Frame(from.begin(), from.end()) +
           Frame(to.begin(), to.end()) + rest;
}
inline Frame icmpv6(unsigned type, const Ipv6Octets& target) {
    return Frame{static_cast<std::uint8_t>(type)} + zeros(7) + Frame(target.begin(), target.end());
}
// Ends what a test sends.
inline Frame mark(const Mac& from) {
    return ethernet(from, everybody, 0x88b5, Frame{'.'} + zeros(45));
}

// A tap as its guest sees it: frames behind a virtio-net header of 12 bytes.
struct Port {
    Fd fd;

    void send(const Frame& frame, const Frame& header = zeros(12)) const {
        auto all = header + frame;
        REQUIRE(::write(fd.get(), all.data(), all.size()) == static_cast<ssize_t>(all.size()));
    }
    // The frames that came before a mark.
    std::vector<Frame> received() const {
        std::vector<Frame> frames;
        for (;;) {
            Frame frame(70'000);
            pollfd ready{fd.get(), POLLIN, 0};
            if (::poll(&ready, 1, 10'000) <= 0)
                throw std::runtime_error("no mark came");
            auto count = ::read(fd.get(), frame.data(), frame.size());
            REQUIRE(count > 12 + 14);
            frame.resize(static_cast<std::size_t>(count));
            frame.erase(frame.begin(), frame.begin() + 12);
            if (frame[12] == 0x88 && frame[13] == 0xb5 && frame[14] == '.')
                return frames;
            frames.push_back(std::move(frame));
        }
    }
};

} // namespace vmhost::test
