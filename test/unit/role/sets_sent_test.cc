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
    sets.sent(guest, "base78.tgz", 100, 5000);
    CHECK(told == std::vector<std::uint64_t>{100});
    for (std::uint64_t i = 1; i < 10; ++i) // several connections
        sets.sent(guest, "base78.tgz", 1, 5000 + i * 100);
    CHECK(told.size() == 1);
    sets.sent(guest, "base78.tgz", 1, 6000);
    CHECK(told == std::vector<std::uint64_t>{100, 10});
    sets.sent(guest, "base78.tgz", 7, 6500);
    sets.sent(guest, "base78.tgz", 3, 6501);
    CHECK(sets.tell_due(6900));
    CHECK(told.size() == 2);
    CHECK(sets.tell_due(7000));
    CHECK(told == std::vector<std::uint64_t>{100, 10, 10});
    CHECK(sets.tell_due(7999)); // more of it may follow
    CHECK_FALSE(sets.tell_due(8000));
    CHECK(told.size() == 3);
    sets.sent(guest, "base78.tgz", 0, 8001);
    CHECK_FALSE(sets.tell_due(8002));
    sets.sent(guest, "base78.tgz", 5, 8003);
    CHECK(told.back() == 5);
}

TEST_CASE("however many requests: a guest that asks for one byte at a time is told of seldom") {
    unsigned told = 0;
    std::uint64_t sum = 0;
    SetsSent sets([&](Ipv4, const std::string&, std::uint64_t bytes) {
        ++told;
        sum += bytes;
    });
    for (std::uint64_t i = 0; i < 100'000; ++i)
        sets.sent({1}, "base78.tgz", 1, i / 10);
    sets.tell_due(20'000);
    CHECK(told <= 11);
    CHECK(sum == 100'000);
}

TEST_CASE("two guests, and two sets, are told of each for itself") {
    std::uint64_t bytes_of[2] = {};
    SetsSent sets(
        [&](Ipv4 to, const std::string&, std::uint64_t bytes) { bytes_of[to.value] += bytes; });
    sets.sent({0}, "bsd", 1, 0);
    sets.sent({1}, "bsd", 10, 0);
    sets.sent({0}, "man78.tgz", 100, 1);
    sets.sent({0}, "bsd", 2, 2);
    sets.tell_due(1001);
    CHECK(bytes_of[0] == 103);
    CHECK(bytes_of[1] == 10);
}
