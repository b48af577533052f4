// The ring of events and those who follow it; and when a started guest has answered.
#include <catch2/catch.hpp>

#include "host/events.h"
#include "host/waves.h"

using namespace vmhost;
using namespace vmhost::host;

TEST_CASE("the newest events are kept, numbered without a gap") {
    Events events;
    for (std::size_t i = 0; i < limits::max_events + 5; ++i)
        events.tell("a", 1, "rebooted", "by x");
    REQUIRE(events.kept().size() == limits::max_events);
    CHECK(events.kept().front().number == 6);
    CHECK(events.kept().back().number == limits::max_events + 5);
    CHECK(events.kept().back().time_us > 1'600'000'000'000'000);
}

TEST_CASE("text of an event is printable and of bounded length") {
    Events events;
    events.tell("a", 1, "crashed", "\033[2J\n" + std::string(1 << 20, 'x'));
    const auto& text = events.kept().back().text;
    CHECK(text.find('\033') == std::string::npos);
    CHECK(text.find('\n') == std::string::npos);
    CHECK(text.size() < 2 * limits::max_event_text_bytes);
}

TEST_CASE("who follows is called until he says that it is enough") {
    Events events;
    std::vector<std::string> seen;
    events.tell("a", 1, "started");
    REQUIRE(events.follow(
        [&](const Event& event) {
            seen.push_back(event.kind);
            return seen.size() < 2;
        },
        [] { return true; }));
    for (auto kind : {"paused", "unpaused", "stopped"})
        events.tell("a", 1, kind);
    CHECK(seen == std::vector<std::string>{"paused", "unpaused"});
}

TEST_CASE("a follower may follow again, and tell, from within") {
    Events events;
    int inner = 0, outer = 0;
    REQUIRE(events.follow(
        [&](const Event&) {
            if (++outer == 1) {
                REQUIRE(
                    events.follow([&](const Event&) { return ++inner < 9; }, [] { return true; }));
                events.tell("changed");
            }
            return true;
        },
        [] { return true; }));
    events.tell("a", 1, "started");
    CHECK(inner == 1);
    CHECK(outer == 1); // not called within itself
    events.tell("a", 1, "stopped");
    CHECK(inner == 2);
    CHECK(outer == 2);
}

TEST_CASE("followers have a limit, and those who are gone make room") {
    Events events;
    bool here = true;
    for (std::size_t i = 0; i < limits::max_event_followers; ++i)
        REQUIRE(events.follow([](const Event&) { return true; }, [&] { return here; }));
    auto refused = events.follow([](const Event&) { return true; }, [] { return true; });
    REQUIRE_FALSE(refused);
    CHECK(refused.error().kind() == ErrorKind::limit);
    here = false;
    CHECK(events.follow([](const Event&) { return true; }, [] { return true; }));
}

TEST_CASE("a guest that gets an address answers with its lease, another by its driver") {
    Awaited guest{.timeout_ms = 60'000};
    CHECK(answer_of(guest) == Answer::none);
    guest.listens = true;
    CHECK(answer_of(guest) == Answer::given);
    guest.gets_address = true;
    CHECK(answer_of(guest) == Answer::none);
    guest.has_lease = true;
    CHECK(answer_of(guest) == Answer::given);
    guest.gets_address = false; // what it has, it has
    guest.listens = false;
    CHECK(answer_of(guest) == Answer::given);
}

TEST_CASE("nobody waits for a guest that is late, held or gone") {
    Awaited guest{.up_ms = 59'999, .timeout_ms = 60'000, .gets_address = true};
    CHECK(answer_of(guest) == Answer::none);
    guest.up_ms = 60'000;
    CHECK(answer_of(guest) == Answer::late);
    guest.has_lease = true;
    CHECK(answer_of(guest) == Answer::given);
    guest = {.timeout_ms = 60'000};
    for (auto state : {GuestState::stopped, GuestState::waiting, GuestState::starting,
                       GuestState::paused, GuestState::stopping}) {
        guest.state = state;
        CHECK(answer_of(guest) == Answer::no_more);
    }
    CHECK(answer_of({.timeout_ms = 0}) == Answer::late); // "0s": no waiting at all
}
