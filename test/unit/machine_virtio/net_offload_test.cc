// Offloads, frames in several buffers, several queues, the control queue, and limits.
#include "../machine_device/state.h"
#include "net_guest.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::machine::virtio;

namespace {

// A TCP segment of the guest's that was never cut: 34 bytes of headers, 20 of TCP, data.
std::vector<std::uint8_t> long_segment(std::size_t data_bytes) {
    auto bytes = frame(54 + data_bytes, 0x77);
    bytes[12] = 0x08;
    bytes[13] = 0x00;
    bytes[14] = 0x45;
    bytes[15] = 0;
    store_be(MutableBytes(bytes).subspan(16), static_cast<std::uint16_t>(40 + data_bytes));
    std::fill(bytes.begin() + 18, bytes.begin() + 54, std::uint8_t{0});
    bytes[22] = 64; // time to live
    bytes[23] = 6;
    bytes[46] = 0x50;
    return bytes;
}

std::vector<std::uint8_t> segmentation(std::uint8_t type, std::uint16_t size,
                                       std::uint16_t start = 34, std::uint16_t offset = 16) {
    std::vector<std::uint8_t> header(12, 0);
    header[0] = 1;
    header[1] = type;
    store_le(MutableBytes(header).subspan(4), size);
    store_le(MutableBytes(header).subspan(6), start);
    store_le(MutableBytes(header).subspan(8), offset);
    return header;
}

} // namespace

TEST_CASE("a frame that one buffer cannot hold comes in several, seen all at once") {
    NetGuest g;
    g.start(GENERATE(std::uint64_t{0}, feature_event_index, net_guest_csum));
    std::vector<Submitted> buffers;
    for (unsigned i = 0; i < 60; ++i)
        buffers.push_back(g.offer_buffer(i % 3 ? 1024 : 600));
    for (std::size_t size : {60U, 9000U, 60U, 1514U, 9000U, 9000U, 200U}) {
        auto bytes = frame(size, static_cast<std::uint8_t>(size));
        for (std::size_t i = 14; i < bytes.size(); ++i)
            bytes[i] = static_cast<std::uint8_t>(i * 7 + i / 251);
        g.host_sends(bytes);
        auto got = g.guest_receives(buffers);
        REQUIRE(got.size() == 12 + size);
        CHECK(std::equal(bytes.begin(), bytes.end(), got.begin() + 12));
        auto pieces = load_le<std::uint16_t>(Bytes(got).subspan(10));
        CHECK((pieces == 1) == (got.size() <= 1024 && pieces == 1));
        CHECK(pieces <= 1 + got.size() / 600);
    }
    CHECK(g.transport->malformed_requests() == 0);
    CHECK(g.net->counters().receive_dropped == 0);
}

TEST_CASE("a frame for which there are not enough buffers is dropped, the next one comes") {
    NetGuest g;
    g.start();
    std::vector<Submitted> buffers;
    for (unsigned i = 0; i < 3; ++i)
        buffers.push_back(g.offer_buffer(1024));
    g.turn();
    g.host_sends(frame(9000, 1));
    g.settle([&] { return g.net->counters().receive_dropped == 1; });
    for (unsigned i = 0; i < 12; ++i)
        buffers.push_back(g.offer_buffer(1024));
    g.host_sends(frame(200, 2));
    CHECK(g.guest_receives(buffers).back() == 2);
    g.host_sends(frame(9000, 3));
    CHECK(g.guest_receives(buffers).back() == 3);
}

TEST_CASE("a long TCP segment goes out whole, for whoever must to cut it") {
    NetGuest g;
    g.start();
    auto bytes = long_segment(20'000);
    auto sent = g.guest_sends(segmentation(1, 1448), bytes);
    CHECK(g.host_receives().size() == bytes.size());
    CHECK(g.wait_used(tx) == Used{sent.head, 0});
    CHECK(g.net->counters().sent_frames == 1);
    // A plain checksum, for the kernel to fill in where it delivers.
    g.guest_sends(segmentation(0, 0, 34, 16), long_segment(100));
    CHECK(g.host_receives().size() == 154);
    CHECK(g.transport->malformed_requests() == 0);
}

TEST_CASE("nonsense about a frame is counted, the frame dropped, the next one sent") {
    NetGuest g;
    g.start();
    auto bytes = long_segment(5000);
    unsigned bad = 0;
    for (const auto& header :
         {segmentation(1, 0), segmentation(3, 1448), segmentation(4, 1448),
          segmentation(1, 1448, 0), segmentation(1, 1448, 0xffff, 0xffff),
          segmentation(0, 0, 5000, 5000), std::vector<std::uint8_t>(12, 0xff)}) {
        auto sent = g.guest_sends(header, bytes);
        CHECK(g.wait_used(tx) == Used{sent.head, 0});
        CHECK(g.transport->malformed_requests() == ++bad);
    }
    CHECK(g.net->counters().send_dropped == bad);
    CHECK(g.net->counters().sent_frames == 0);
    g.guest_sends(frame(60, 1));
    CHECK(g.host_receives() == frame(60, 1));
}

TEST_CASE("offloads follow the driver: refused, accepted, changed at run time") {
    NetGuest g;
    g.start();
    Command command{g, 2};
    constexpr std::uint64_t tso = net_guest_csum | net_guest_tso4 | net_guest_tso6;
    CHECK(command(5, 0, std::uint64_t{0}) == 0);
    CHECK(command(5, 0, std::uint64_t{tso}) == 0);
    CHECK(command(5, 0, std::uint64_t{net_guest_csum}) == 0);
    CHECK(command(5, 0, std::uint64_t{1ULL << 10}) == 1); // UFO was never offered
    CHECK(command(5, 0, ~std::uint64_t{0}) == 1);
    CHECK(command(5, 0, std::uint32_t{0}) == 1); // cut short
    CHECK(command(5, 1, std::uint64_t{0}) == 1);
    g.start(net_guest_tso6);
    CHECK(command(5, 0, std::uint64_t{net_guest_csum | net_guest_tso6}) == 1);
    CHECK(command(5, 0, std::uint64_t{net_guest_csum | net_guest_tso4}) == 0);
    g.start(net_guest_offloads);
    CHECK(command(5, 0, std::uint64_t{0}) == 1);
}

TEST_CASE("receive filters are accepted when they are well-formed, the address stays") {
    NetGuest g;
    g.start();
    Command command{g, 2};
    for (std::uint8_t which : {std::uint8_t{0}, std::uint8_t{1}}) {
        CHECK(command(0, which, std::uint8_t{1}) == 0);
        CHECK(command(0, which, std::uint8_t{0}) == 0);
        CHECK(command(0, which, std::uint8_t{2}) == 1);
    }
    CHECK(command(0, 2, std::uint8_t{1}) == 1);
    auto tables = [](std::uint32_t unicast, std::uint32_t multicast, std::size_t addresses) {
        ByteWriter raw;
        raw.le(unicast);
        raw.zeros(6 * std::min<std::size_t>(unicast, addresses));
        raw.le(multicast);
        raw.zeros(6 * (addresses - std::min<std::size_t>(unicast, addresses)));
        return raw.take();
    };
    CHECK(command(1, 0, Bytes(tables(0, 0, 0))) == 0);
    CHECK(command(1, 0, Bytes(tables(3, 200, 203))) == 0);
    CHECK(command(1, 0, Bytes(tables(3, 2, 4))) == 1);
    CHECK(command(1, 0, Bytes(tables(3, 2, 6))) == 1);
    CHECK(command(1, 0, Bytes(tables(UINT32_MAX, 0, 1))) == 1);
    CHECK(command(1, 0, Bytes(tables(0, UINT32_MAX, 1))) == 1);
    CHECK(command(1, 1, Bytes(guest_mac.octets)) == 1); // locked
    CHECK(command(2, 0, std::uint16_t{5}) == 1);        // no VLAN filter
    CHECK(command(3, 0, Bytes()) == 1);
    CHECK(command(0xff, 0xff, Bytes()) == 1);
    CHECK(g.transport->malformed_requests() == 0);
    // No command, or no place for an answer.
    std::vector<std::uint8_t> one = {0};
    g.queue(2).chain().readable(one).writable(1).submit();
    g.queue(2).chain().readable(64, 0).submit();
    g.notify(2);
    CHECK(g.wait_used(2).length == 0);
    CHECK(g.wait_used(2).length == 0);
    CHECK(g.transport->malformed_requests() == 2);
    CHECK(command(0, 0, std::uint8_t{1}) == 0);
}

TEST_CASE("pairs of queues come into use when the driver asks") {
    NetGuest g(2);
    CHECK((g.offered() & net_multi_queue) != 0);
    CHECK(g.read<std::uint16_t>(18) == 5);
    CHECK(g.read<std::uint16_t>(0x2008) == 2);
    g.start();
    CHECK(g.net->pairs_in_use() == 1);
    Command command{g, 4}; // behind both pairs
    // Not in use: nothing is sent from there.
    g.guest_sends(frame(60, 1), 0, 1);
    g.turn();
    CHECK(g.queue(3).used_index() == 0);
    CHECK(command(4, 0, std::uint16_t{0}) == 1);
    CHECK(command(4, 0, std::uint16_t{3}) == 1);
    CHECK(command(4, 0, std::uint16_t{0x8000}) == 1);
    CHECK(command(4, 0, std::uint8_t{2}) == 1);
    CHECK(command(4, 1, std::uint16_t{2}) == 1);
    CHECK(g.net->pairs_in_use() == 1);
    REQUIRE(command(4, 0, std::uint16_t{2}) == 0);
    CHECK(g.net->pairs_in_use() == 2);
    CHECK(g.host_receives() == frame(60, 1)); // what waited
    std::vector<Submitted> first, second;
    for (unsigned i = 0; i < 100; ++i) {
        first.push_back(g.offer_buffer(2048, 0));
        second.push_back(g.offer_buffer(2048, 1));
    }
    g.turn();
    // The kernel answers a flow on the queue from which it came; without one, where it likes.
    for (unsigned i = 0; i < 64; ++i)
        g.host_sends(frame(100 + i, 5));
    g.settle([&] { return g.net->counters().received_frames >= 64; });
    CHECK(g.queue(0).used_index() + g.queue(2).used_index() >= 64);
    g.guest_sends(frame(80, 2), 0, 1);
    CHECK(g.host_receives() == frame(80, 2));
    REQUIRE(command(4, 0, std::uint16_t{1}) == 0);
    g.guest_sends(frame(80, 3), 0, 1);
    g.guest_sends(frame(80, 4), 0, 0);
    CHECK(g.host_receives() == frame(80, 4));
    for (int i = 0; i < 20; ++i)
        g.turn(); // the detached descriptor reports errors, which are nobody's
    CHECK(g.status() == 15);
    // A driver of one pair has its control queue right behind that.
    g.start(net_multi_queue);
    Command single{g, 2};
    CHECK(single(0, 0, std::uint8_t{1}) == 0);
    CHECK(single(4, 0, std::uint16_t{2}) == 1);
    g.guest_sends(frame(80, 6), 0, 0);
    CHECK(g.host_receives() == frame(80, 6));
}

TEST_CASE("state: a network device goes on with its pairs of queues") {
    machine::Saved saved;
    std::vector<std::uint8_t> memory;
    {
        NetGuest before(2);
        before.start();
        Command command{before, 4};
        REQUIRE(command(4, 0, std::uint16_t{2}) == 0);
        REQUIRE(command(0, 0, std::uint8_t{1}) == 0);
        before.guest_sends(frame(60, 1));
        CHECK(before.host_receives() == frame(60, 1));
        before.wait_used(tx);
        saved = machine::save(*before.transport);
        auto all = before.memory.slice(0, Guest::ram_bytes);
        memory.assign(all->begin(), all->end());
    }
    {
        NetGuest after(2);
        REQUIRE(machine::load(*after.transport, saved).has_value());
        CHECK(after.net->pairs_in_use() == 2);
        CHECK(after.status() == 15);
        CHECK(machine::save(*after.transport).payload == saved.payload);
        // The queue of the second pair, which nothing was sent from yet.
        const std::uint16_t index = 2 + tx;
        after.queues[index] =
            std::make_unique<RingDriver>(after.memory, 0x10000 + 0x10000ULL * index,
                                         Net::queue_size, 0x100000 + 0x600000ULL * index);
        REQUIRE(after.memory.write(0, memory));
        after.guest_sends(frame(80, 2), 0, 1);
        CHECK(after.host_receives() == frame(80, 2));
        after.wait_used(index);
    }
    NetGuest single;
    CHECK(machine::refusal(*single.transport, saved) ==
          "number of MSI-X vectors is 4 here and was 6");
}

TEST_CASE("a limit holds frames back in both directions and drops none of the guest's") {
    NetGuest g(1, {.operations_per_s = 1000, .burst_ms = 10});
    g.start();
    for (std::uint8_t i = 0; i < 100; ++i)
        g.guest_sends(frame(100, i));
    g.turn();
    auto at_once = g.net->counters().sent_frames;
    CHECK(at_once >= 10);
    CHECK(at_once <= 12);
    for (std::uint64_t ms = 1; ms <= 100 && g.net->counters().sent_frames < 100; ++ms) {
        {
            std::scoped_lock guard(g.bus.lock());
            g.clock.advance(1'000'000);
        }
        g.turn();
        CHECK(g.net->counters().sent_frames <= at_once + ms + 1);
    }
    CHECK(g.net->counters().sent_frames == 100);
    CHECK(g.net->counters().send_dropped == 0);
    for (std::uint8_t i = 0; i < 100; ++i)
        REQUIRE(g.host_receives() == frame(100, i));

    std::vector<Submitted> buffers;
    for (unsigned i = 0; i < 64; ++i)
        buffers.push_back(g.offer_buffer());
    for (std::uint8_t i = 0; i < 50; ++i)
        g.host_sends(frame(100, i));
    g.turn();
    CHECK(g.net->counters().received_frames <= 12);
    for (std::uint8_t i = 0; i < 50; ++i) {
        {
            std::scoped_lock guard(g.bus.lock());
            g.clock.advance(2'000'000);
        }
        g.turn();
        CHECK(g.guest_receives(buffers).back() == i);
    }
}

TEST_CASE("a driver of before version 1 has the shorter header") {
    NetGuest g(1, {}, Guest::Interface::transitional);
    g.start_legacy(2, static_cast<std::uint32_t>(net_mergeable));
    g.queue(rx).chain().writable(10).writable(2000).submit();
    g.notify_legacy(rx);
    auto bytes = frame(100, 9);
    g.queue(tx).chain().readable(10, 0).readable(bytes).submit();
    g.notify_legacy(tx);
    CHECK(g.host_receives() == bytes);
    g.host_sends(bytes);
    CHECK(g.wait_used(rx).length == 110);
}
