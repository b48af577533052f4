// A trace hears what passes one interface, as it was on the wire.
#include <catch2/catch.hpp>

#include "frames.h"
#include "namespace.h"

using namespace vmhost;
using namespace vmhost::test;
using net::Network;

namespace {

const Mac a{{2, 0, 0, 0, 0, 1}}, b{{2, 0, 0, 0, 0, 2}};

std::vector<Frame> traced(const Fd& trace, std::size_t room_bytes = 70'000) {
    std::vector<Frame> frames;
    std::vector<std::uint8_t> room(room_bytes);
    for (;;) {
        auto frame = net::read_trace(trace, room);
        if (!frame) {
            CHECK(frame.error().kind() == ErrorKind::busy);
            return frames;
        }
        CHECK(frame->time_ns > 1'000'000'000'000'000'000);
        CHECK(frame->wire_bytes >= frame->data.size());
        frames.emplace_back(frame->data.begin(), frame->data.end());
    }
}

} // namespace

TEST_CASE("a trace hears both directions of its interface and no other, with tags") {
    fresh_namespace();
    auto network = Network::open("t").value();
    REQUIRE(network->make_bridge({.name = "br0"}));
    const Port from{network
                        ->make_tap({.name = "a",
                                    .bridge = "br0",
                                    .guard = {.frames = true, .mac = a, .ipv4 = {{{1}, 32}}}})
                        .value()};
    const Port to{network->make_tap({.name = "b", .bridge = "br0"}).value()};
    auto trace = net::open_trace("a").value();
    const std::vector<Frame> frames{
        ethernet(a, everybody, 0x88b6, Frame{1} + zeros(45)),
        ethernet(a, everybody, 0x8100, be16(5) + be16(0x88b6) + zeros(46)),
        ethernet(b, everybody, 0x88b6, Frame{2} + zeros(45)), // the guard drops it
        ethernet(a, b, 0x800, Frame(3000, 'x')),              // and this
    };
    for (const auto& frame : frames)
        from.send(frame);
    CHECK(traced(trace) == frames);
    const auto other = ethernet(b, everybody, 0x88b6, Frame{3} + zeros(45));
    to.send(other);
    CHECK(traced(trace) == std::vector<Frame>{other});
    to.send(ethernet(b, b, 0x88b6, zeros(46))); // not for a
    CHECK(traced(trace).empty());

    // Too long a frame is cut, and says so.
    from.send(frames[3]);
    std::vector<std::uint8_t> room(104);
    auto cut = net::read_trace(trace, room).value();
    CHECK(cut.data.size() == 100);
    CHECK(cut.wire_bytes == frames[3].size());
    CHECK(net::lost_of_trace(trace) == 0);
    CHECK(net::open_trace("nobody").error().kind() == ErrorKind::not_found);
}
