// The network device over a real tap, in a network namespace of this process's own. The host's end
// is a packet socket on the tap's interface. Skipped (77) where namespaces or taps are not
// permitted.
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <catch2/catch.hpp>
#include <fstream>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <sched.h>

#include "net_guest.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::machine::virtio;

namespace {

// A driver that knows no offloads and wants each frame in one buffer.
constexpr std::uint64_t plain_driver = net_csum | net_guest_csum | net_mergeable;

const std::vector<std::uint8_t> our_header = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0};

} // namespace

TEST_CASE("the interface has its address and its link is up") {
    NetGuest g;
    CHECK(g.config<std::uint32_t>(0) == 0x10411af4);
    CHECK(g.config<std::uint16_t>(10) == 0x0200);
    CHECK((g.offered() & 0xffffff) == 0x07bbaf); // no UFO, no VLAN filter, no address to set
    for (unsigned i = 0; i < 6; ++i)
        CHECK(g.read<std::uint8_t>(0x2000 + i) == guest_mac.octets[i]);
    CHECK(g.read<std::uint16_t>(0x2006) == 1);
    CHECK(g.read<std::uint16_t>(0x2008) == 1); // pairs
    CHECK(g.read<std::uint16_t>(0x200a) == 1500);
    g.write<std::uint8_t>(0x2000, 0x12); // the address is not the guest's to change
    CHECK(g.read<std::uint8_t>(0x2000) == guest_mac.octets[0]);
}

TEST_CASE("without offloads frames go out as they are, whatever the guest's header says") {
    NetGuest g;
    g.start(plain_driver);
    auto sent = g.guest_sends(frame(60, 1), 0);
    CHECK(g.host_receives() == frame(60, 1));
    CHECK(g.wait_used(tx) == Used{sent.head, 0});
    // Flags, GSO type and sizes that were never negotiated: a kernel that believed them would
    // refuse.
    g.guest_sends(frame(1514, 2), 0xff);
    CHECK(g.host_receives() == frame(1514, 2));
    CHECK(g.wait_used(tx).length == 0);
    // Header and frame in one buffer, and cut anywhere, and through a table.
    auto bytes = frame(1000, 3);
    std::vector<std::uint8_t> whole(12, 0);
    whole.insert(whole.end(), bytes.begin(), bytes.end());
    auto all = Bytes(whole);
    g.queue(tx).chain().readable(all).submit();
    g.queue(tx)
        .chain()
        .readable(all.first(3))
        .readable(all.subspan(3, 20))
        .readable(all.subspan(23))
        .through_indirect_table()
        .submit();
    g.notify(tx);
    CHECK(g.host_receives() == bytes);
    CHECK(g.host_receives() == bytes);
    CHECK(g.net->counters().sent_frames == 4);
}

TEST_CASE("frames that are none are dropped and counted") {
    NetGuest g;
    g.start();
    g.queue(tx).chain().readable(11, 0).submit();
    g.queue(tx).chain().readable(12, 0).submit();
    g.queue(tx).chain().readable(12 + 13, 0).submit();
    g.queue(tx).chain().writable(100).submit();
    g.queue(tx).chain().readable(12, 0).readable(limits::max_guest_frame_bytes + 1, 0).submit();
    g.notify(tx);
    for (unsigned i = 0; i < 5; ++i)
        CHECK(g.wait_used(tx).length == 0);
    CHECK(g.net->counters().send_dropped == 5);
    g.guest_sends(frame(60, 1));
    CHECK(g.host_receives() == frame(60, 1));
}

TEST_CASE("frames come in with a header of zeros and one buffer") {
    NetGuest g;
    g.start(GENERATE(std::uint64_t{0}, feature_event_index, plain_driver));
    std::vector<Submitted> buffers;
    for (unsigned i = 0; i < 64; ++i)
        buffers.push_back(i % 2 ? g.offer_buffer()
                                : g.queue(rx)
                                      .chain()
                                      .writable(12, 0xff)
                                      .writable(1000, 0xff)
                                      .writable(1000, 0xff)
                                      .submit());
    g.notify(rx);
    for (std::uint8_t mark = 1; mark <= 10; ++mark) {
        auto bytes = frame(60 + 140U * mark, mark);
        g.host_sends(bytes);
        auto got = g.guest_receives(buffers);
        REQUIRE(got.size() == 12 + bytes.size());
        CHECK(std::equal(our_header.begin(), our_header.end(), got.begin()));
        CHECK(std::equal(bytes.begin(), bytes.end(), got.begin() + 12));
    }
    CHECK(g.line());
    CHECK(g.transport->malformed_requests() == 0);
}

TEST_CASE("without buffers frames wait, with the next buffer they come") {
    NetGuest g;
    g.start();
    for (std::uint8_t mark = 1; mark <= 3; ++mark)
        g.host_sends(frame(100, mark));
    g.turn();
    CHECK(g.queue(rx).used_index() == 0);
    CHECK(g.queue(rx).available_event() == 0); // waiting for this
    std::vector<Submitted> buffers;
    for (unsigned i = 0; i < 32; ++i)
        buffers.push_back(g.offer_buffer());
    for (std::uint8_t mark = 1; mark <= 3; ++mark)
        CHECK(g.guest_receives(buffers).back() == mark);
}

TEST_CASE("while frames come, a guest without buffers is looked at instead of notifying") {
    constexpr std::uint16_t no_notify = 1;
    // Few frames a look: it is put off twice as long each time.
    constexpr std::uint64_t look_ns = 100'000;
    NetGuest g;
    g.start(feature_event_index); // left out: the flag says it
    std::vector<Submitted> buffers = {g.offer_buffer(), g.offer_buffer()};
    for (std::uint8_t mark = 1; mark <= 6; ++mark)
        g.host_sends(frame(100, mark));
    auto offer_quietly = [&] { buffers.push_back(g.queue(rx).chain().writable(2048).submit()); };
    g.turn();
    CHECK(g.queue(rx).used_index() == 2);
    CHECK(g.queue(rx).used_flags() == no_notify);
    offer_quietly();
    offer_quietly();
    g.turn();
    g.clock.advance(look_ns - 1);
    CHECK(g.queue(rx).used_index() == 2); // it is not time yet
    g.clock.advance(1);
    CHECK(g.queue(rx).used_index() == 4);
    CHECK(g.queue(rx).used_flags() == no_notify);
    g.clock.advance(2 * look_ns); // nothing: now a notification is wanted
    CHECK(g.queue(rx).used_flags() == 0);
    CHECK(g.clock.pending() == 0);
    buffers.push_back(g.offer_buffer());
    g.turn();
    CHECK(g.queue(rx).used_index() == 5);
    // Looked at with buffers, but nothing to receive: the next frame finds them.
    for (unsigned i = 0; i < 3; ++i)
        offer_quietly();
    g.clock.advance(look_ns);
    CHECK(g.queue(rx).used_index() == 6);
    g.host_sends(frame(100, 7));
    g.turn();
    CHECK(g.queue(rx).used_index() == 7);
    // A reset ends it.
    offer_quietly();
    g.set_status(0);
    CHECK(g.clock.pending() == 0);
}

TEST_CASE("a frame that does not fit is dropped, the buffers stay good") {
    NetGuest g;
    g.start(net_mergeable);
    std::vector<Submitted> buffers;
    for (unsigned i = 0; i < 32; ++i)
        buffers.push_back(g.offer_buffer(2048));
    g.turn();
    auto before = g.net->counters().receive_dropped;
    g.host_sends(frame(2048 - 12 + 1, 7));
    g.host_sends(frame(9000, 8));
    g.host_sends(frame(2048 - 12, 9));
    auto got = g.guest_receives(buffers);
    CHECK(got.size() == 2048);
    CHECK(got.back() == 9);
    CHECK(g.net->counters().receive_dropped == before + 2);
}

TEST_CASE("buffers that are too small for any frame come back, and do not stay in the way") {
    NetGuest g;
    g.start(net_mergeable);
    auto none = g.queue(rx).chain().readable(2048, 0).submit();
    auto tiny = g.queue(rx).chain().writable(12).submit();
    auto small = g.queue(rx).chain().writable(100).submit();
    std::vector<Submitted> buffers = {small};
    for (unsigned i = 0; i < 16; ++i)
        buffers.push_back(g.queue(rx).chain().writable(2048).submit());
    g.notify(rx);
    g.host_sends(frame(500, 1));
    g.host_sends(frame(500, 2));
    CHECK(g.wait_used(rx) == Used{none.head, 0});
    CHECK(g.wait_used(rx) == Used{tiny.head, 0});
    CHECK(g.guest_receives(buffers).back() == 2); // the first was lost with the small buffer
    CHECK(g.transport->malformed_requests() == 2);
}

TEST_CASE("an interface that is down loses frames and comes back") {
    NetGuest g;
    g.start();
    REQUIRE(set_up("tap0", false));
    g.guest_sends(frame(60, 1));
    CHECK(g.wait_used(tx).length == 0);
    CHECK(g.net->counters().send_dropped == 1);
    REQUIRE(set_up("tap0", true));
    // A packet socket reports once that its interface went down.
    int error = 0;
    socklen_t size = sizeof(error);
    (void)::getsockopt(g.wire.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    g.guest_sends(frame(60, 2));
    CHECK(g.host_receives() == frame(60, 2));
}

TEST_CASE("a reset stops both directions, a new driver gets both") {
    NetGuest g;
    g.start();
    for (unsigned i = 0; i < 32; ++i)
        g.offer_buffer();
    g.turn();
    g.set_status(0);
    CHECK(g.status() == 0);
    auto used = g.queue(rx).used_index();
    g.host_sends(frame(100, 1));
    g.turn();
    CHECK(g.queue(rx).used_index() == used);
    g.start();
    std::vector<Submitted> buffers;
    for (unsigned i = 0; i < 32; ++i)
        buffers.push_back(g.offer_buffer());
    g.host_sends(frame(100, 2));
    auto got = g.guest_receives(buffers);
    CHECK((got.back() == 1 || got.back() == 2)); // what waited in the tap may come first
    g.guest_sends(frame(60, 3));
    CHECK(g.host_receives() == frame(60, 3));
}

TEST_CASE("paused, frames wait in both directions, and then come in order") {
    NetGuest g;
    g.start();
    std::vector<Submitted> buffers;
    for (unsigned i = 0; i < 32; ++i)
        buffers.push_back(g.offer_buffer());
    g.host_sends(frame(100, 1));
    CHECK(g.guest_receives(buffers).back() == 1);
    {
        std::scoped_lock guard(g.bus.lock());
        g.transport->pause();
    }
    auto received = g.queue(rx).used_index();
    auto sent = g.queue(tx).used_index();
    for (std::uint8_t mark = 2; mark <= 4; ++mark)
        g.host_sends(frame(100, mark));
    g.guest_sends(frame(100, 9));
    g.turn();
    CHECK(g.queue(rx).used_index() == received);
    CHECK(g.queue(tx).used_index() == sent);
    {
        std::scoped_lock guard(g.bus.lock());
        g.transport->resume();
    }
    for (std::uint8_t mark = 2; mark <= 4; ++mark)
        CHECK(g.guest_receives(buffers).back() == mark);
    CHECK(g.host_receives().back() == 9);
}

TEST_CASE("a thousand frames each way, in order") {
    NetGuest g;
    g.start();
    for (unsigned i = 0; i < 1000; ++i) {
        auto bytes = frame(64 + i, 0);
        store_le<std::uint32_t>(MutableBytes(bytes).subspan(20), i);
        g.guest_sends(bytes);
        if (i % 50 != 49)
            continue;
        for (unsigned k = i - 49; k <= i; ++k) {
            auto got = g.host_receives();
            REQUIRE(got.size() == 64 + k);
            REQUIRE(load_le<std::uint32_t>(Bytes(got).subspan(20)) == k);
            REQUIRE(g.wait_used(tx).length == 0);
        }
    }
    CHECK(g.net->counters().sent_frames == 1000);
    CHECK(g.queue(tx).available_event() == 1000);
}

TEST_CASE("what is no tap is refused") {
    Loop loop;
    machine::Bus bus;
    Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    machine::FakeClock clock;
    auto made = Net::create({.name = "vm-net0", .taps = {null.get()}, .mac = guest_mac}, loop,
                            bus.lock(), clock);
    REQUIRE_FALSE(made);
    CHECK(made.error().text().starts_with("vm-net0: set the tap's header size"));
}

TEST_CASE("a tap that is deleted stops the device, not the process") {
    NetGuest g;
    g.start();
    g.offer_buffer();
    g.turn();
    // The interface goes, the descriptor stays.
    Fd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    REQUIRE(::ioctl(g.taps[0].get(), TUNSETPERSIST, 0UL) == 0);
    auto command = "ip link delete tap0 2>/dev/null";
    if (std::system(command) != 0)
        return; // no iproute2 here
    for (int i = 0; i < 20; ++i)
        g.turn();
    auto sent = g.guest_sends(frame(60, 1));
    CHECK(g.wait_used(tx) == Used{sent.head, 0});
    CHECK(g.status() == 15);
}

namespace {

// A listener and not a main(): Catch's own runner would be compiled again with that.
struct Place : Catch::TestEventListenerBase {
    using TestEventListenerBase::TestEventListenerBase;
    void testRunStarting(const Catch::TestRunInfo&) override {
        if (::unshare(CLONE_NEWNET) != 0 || !open_tap("probe0")) {
            std::fprintf(stderr, "skipped: no network namespace or no tap: %s\n",
                         std::strerror(errno));
            std::exit(77);
        }
        // The kernel's own IPv6 frames on a new interface would come between those of the tests.
        for (const char* which : {"all", "default"}) {
            std::ofstream setting(std::string("/proc/sys/net/ipv6/conf/") + which +
                                  "/disable_ipv6");
            setting << "1";
        }
    }
};
CATCH_REGISTER_LISTENER(Place)

} // namespace
