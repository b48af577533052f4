// The order in which a guest is asked to end, and the two time-outs of each way.
#include <catch2/catch.hpp>

#include "fake_clock.h"
#include "machine/orderly_stop.h"

using namespace vmhost::machine;

namespace {

constexpr std::uint64_t second = 1'000'000'000;

struct Rig {
    FakeClock clock;
    bool listens = false, button = false, pending = false;
    unsigned asked = 0, pressed = 0;
    std::vector<std::string> why;
    OrderlyStop stop{clock,
                     {.ask_vmmci =
                          [this] {
                              asked += listens;
                              return listens;
                          },
                      .press_button =
                          [this] {
                              pressed += button;
                              pending |= button;
                              return button;
                          },
                      .button_pending = [this] { return pending; },
                      .give_up = [this](std::string text) { why.push_back(std::move(text)); }}};

    StopRequest begin() { return stop.begin({.answer_ns = 3 * second, .finish_ns = 120 * second}); }
};

} // namespace

TEST_CASE("with nobody to ask there is nothing to wait for") {
    Rig rig;
    CHECK_FALSE(rig.stop.begun());
    CHECK(rig.begin() == StopRequest::nobody);
    CHECK(rig.stop.begun());
    REQUIRE(rig.why.size() == 1);
    CHECK(rig.why[0].find("nobody") != std::string::npos);
}

TEST_CASE("vmmci is asked first, once, and keeps its own time") {
    Rig rig;
    rig.listens = rig.button = true;
    CHECK(rig.begin() == StopRequest::vmmci);
    CHECK(rig.begin() == StopRequest::vmmci);
    CHECK(rig.asked == 1);
    CHECK(rig.pressed == 0);
    CHECK(rig.clock.pending() == 0);
    rig.stop.vmmci_gave_up(true);
    CHECK(rig.pressed == 0); // it is on its way down: a button would not hurry it
    REQUIRE(rig.why.size() == 1);
    CHECK(rig.why[0].find("in time") != std::string::npos);
}

TEST_CASE("a vmmci driver that does not answer is followed by the button") {
    Rig rig;
    rig.listens = true;
    rig.button = GENERATE(false, true);
    rig.begin();
    rig.stop.vmmci_gave_up(false);
    CHECK(rig.pressed == rig.button);
    CHECK(rig.why.size() == !rig.button);
}

TEST_CASE("the button: time for taking note, then time for the end") {
    Rig rig;
    rig.button = true;
    CHECK(rig.begin() == StopRequest::button);
    SECTION("no note is taken") {
        rig.clock.advance(3 * second - 1);
        CHECK(rig.why.empty());
        rig.clock.advance(1);
        REQUIRE(rig.why.size() == 1);
        CHECK(rig.why[0].find("button") != std::string::npos);
    }
    SECTION("note is taken, and no more") {
        rig.pending = false;
        rig.clock.advance(123 * second - 1);
        CHECK(rig.why.empty());
        rig.clock.advance(1);
        CHECK(rig.why.size() == 1);
    }
    rig.clock.advance(1000 * second);
    CHECK(rig.why.size() == 1); // once is enough
}
