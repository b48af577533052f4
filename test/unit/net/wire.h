// Both ends of what guests send each other.
#pragma once

#include <catch2/catch.hpp>

#include <algorithm>
#include <poll.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "base/base.h"

namespace vmhost::test {

// A tap as its guest sees it: frames behind a virtio-net header of 12 bytes.
struct Wire {
    Fd fd;

    void send(const Mac& from, const Mac& to, char mark) {
        std::vector<std::uint8_t> frame(12 + 60);
        std::ranges::copy(to.octets, frame.begin() + 12);
        std::ranges::copy(from.octets, frame.begin() + 18);
        frame[24] = 0x88; // a type that nobody on the host knows
        frame[25] = 0xb5;
        frame[26] = static_cast<std::uint8_t>(mark);
        REQUIRE(::write(fd.get(), frame.data(), frame.size()) == 72);
    }
    // The marks of our frames that came, up to one that is '.'.
    std::string received() {
        std::string marks;
        while (!marks.ends_with('.')) {
            std::uint8_t frame[2000];
            pollfd ready{fd.get(), POLLIN, 0};
            if (::poll(&ready, 1, 10'000) <= 0)
                return marks + " and no end";
            auto count = ::read(fd.get(), frame, sizeof(frame));
            if (count >= 27 && frame[24] == 0x88 && frame[25] == 0xb5)
                marks += static_cast<char>(frame[26]);
        }
        return marks;
    }
};

inline constexpr Mac everybody{{255, 255, 255, 255, 255, 255}};

inline Ipv4Prefix prefix(const char* text) {
    return parse_ipv4_prefix(text).value();
}

} // namespace vmhost::test
