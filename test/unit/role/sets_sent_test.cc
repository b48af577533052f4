// How often the parent hears of sets, and that it hears of every byte.
#include <catch2/catch.hpp>

#include <vector>

#include "role/sets_sent.h"

using namespace vmhost;
using namespace vmhost::role;

TEST_CASE("a set that is being sent is told of once a second, and whole at its end") {
    std::vector<std::uint64_t> told;
    SetsSent sets([&](Ipv4, const std::string& set, std::uint64_t bytes) {
        CHECK(set == "base78.tgz");
        told.push_back(bytes);
    });
    const Ipv4 guest{0x0a090810};
    sets.sent(guest, "base78.tgz", 100, false, 5000);
    CHECK(told == std::vector<std::uint64_t>{100});
    for (std::uint64_t i = 1; i < 10; ++i) // several connections
        sets.sent(guest, "base78.tgz", 1, false, 5000 + i * 100);
    CHECK(told.size() == 1);
    sets.sent(guest, "base78.tgz", 1, false, 6000);
    CHECK(told == std::vector<std::uint64_t>{100, 10});
    sets.sent(guest, "base78.tgz", 7, false, 6500);
    sets.sent(guest, "base78.tgz", 3, true, 6501);
    CHECK(told == std::vector<std::uint64_t>{100, 10, 10});
    sets.sent(guest, "base78.tgz", 0, true, 6502); // nothing is left
    CHECK(told.size() == 3);
    // One that was sent at once.
    sets.sent(guest, "base78.tgz", 5, true, 6503);
    CHECK(told.back() == 5);
}

TEST_CASE("two guests, and two sets, are told of each for itself") {
    std::uint64_t bytes_of[2] = {};
    SetsSent sets(
        [&](Ipv4 to, const std::string&, std::uint64_t bytes) { bytes_of[to.value] += bytes; });
    sets.sent({0}, "bsd", 1, false, 0);
    sets.sent({1}, "bsd", 10, false, 0);
    sets.sent({0}, "man78.tgz", 100, false, 1);
    sets.sent({0}, "bsd", 2, true, 2);
    CHECK(bytes_of[0] == 103);
    CHECK(bytes_of[1] == 10);
}
