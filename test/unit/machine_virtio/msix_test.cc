// MSI-X of a virtio function as a guest sees it: the capability, the table, masks, pending bits,
// vectors of queues, and the way back to INTA.
#include <catch2/catch.hpp>

#include "guest.h"
#include "machine/virtio/rng.h"

using namespace vmhost;
using namespace vmhost::test;

namespace {

constexpr std::uint16_t enable = 0x8000, function_mask = 0x4000;
constexpr unsigned vectors = 2; // the entropy device: configuration and one queue

struct RngGuest : Guest {
    RngGuest() : Guest(std::make_unique<machine::virtio::Rng>("rng")) {}

    // A driver that has its queue on a vector.
    void start_with_vector(std::uint16_t vector = 1) {
        for (unsigned i = 0; i < vectors; ++i)
            fill_vector(i);
        set_msix_control(enable);
        start(machine::virtio::feature_event_index); // every completion interrupts
        set_vector(vector);
    }
    void set_vector(std::uint16_t vector) {
        write<std::uint16_t>(22, 0);
        write<std::uint16_t>(26, vector);
    }
    void request() {
        queue().chain().writable(16).submit();
        notify();
        (void)wait_used();
    }
    std::size_t sent() const { return wires.messages.size(); }
    std::uint64_t pending() { return read_table<std::uint64_t>(pending_offset()); }
    std::uint32_t pending_offset() { return config<std::uint32_t>(capability(0x11) + 8) & ~7U; }
};

} // namespace

TEST_CASE("the MSI-X capability says where table and pending bits are") {
    RngGuest g;
    auto at = g.capability(0x11);
    REQUIRE(at != 0);
    CHECK(g.config<std::uint16_t>(at + 2) == vectors - 1);
    CHECK(g.config<std::uint32_t>(at + 4) == 1);
    CHECK(g.config<std::uint32_t>(at + 8) == (2048 | 1));
    // Of the control word only enable and function mask can be written.
    g.set_config<std::uint16_t>(at + 2, 0xffff);
    CHECK(g.config<std::uint16_t>(at + 2) == (enable | function_mask | (vectors - 1)));
    g.set_config<std::uint32_t>(at + 4, 0xffffffff);
    CHECK(g.config<std::uint32_t>(at + 4) == 1);
    g.set_config<std::uint32_t>(0x14, 0xffffffff);
    CHECK(g.config<std::uint32_t>(0x14) == 0xfffff000);
}

TEST_CASE("a queue's vector sends its message, and the line stays down") {
    RngGuest g;
    g.start_with_vector();
    g.request();
    REQUIRE(g.sent() == 1);
    CHECK(g.wires.messages[0] == std::pair<std::uint64_t, std::uint32_t>{0xfee00000, 0x41});
    CHECK_FALSE(g.line());
    CHECK(g.wires.rises == 0);
    CHECK(g.read<std::uint8_t>(0x1000) == 0); // ISR is INTA's
    g.request();
    CHECK(g.sent() == 2);
}

TEST_CASE("a queue without a vector is silent") {
    RngGuest g;
    g.start_with_vector(0xffff);
    g.request();
    CHECK(g.sent() == 0);
    CHECK_FALSE(g.line());
}

TEST_CASE("vectors that are not in the table are refused, and a reset forgets them") {
    RngGuest g;
    CHECK(g.read<std::uint16_t>(16) == 0xffff);
    CHECK(g.read<std::uint16_t>(26) == 0xffff);
    for (unsigned value : {0U, 1U, 2U, 3U, 127U, 128U, 2047U, 2048U, 0x7fffU, 0xfffeU, 0xffffU}) {
        auto vector = static_cast<std::uint16_t>(value);
        auto answer = vector < vectors ? vector : 0xffff;
        g.write<std::uint16_t>(16, vector);
        CHECK(g.read<std::uint16_t>(16) == answer);
        g.set_vector(vector);
        CHECK(g.read<std::uint16_t>(26) == answer);
    }
    g.set_vector(1);
    g.write<std::uint16_t>(22, 1); // a queue that is not there
    g.write<std::uint16_t>(26, 0);
    CHECK(g.read<std::uint16_t>(26) == 0xffff);
    g.write<std::uint16_t>(22, 0);
    CHECK(g.read<std::uint16_t>(26) == 1);
    g.write<std::uint16_t>(16, 0);
    g.set_status(0);
    CHECK(g.read<std::uint16_t>(16) == 0xffff);
    CHECK(g.read<std::uint16_t>(26) == 0xffff);
}

TEST_CASE("a masked vector waits in its pending bit") {
    RngGuest g;
    g.start_with_vector();
    SECTION("masked by the vector") {
        g.write_table<std::uint32_t>(16 + 12, 1);
        g.request();
        g.request();
        CHECK(g.sent() == 0);
        CHECK(g.pending() == 2);
        g.write_table<std::uint32_t>(16 + 8, 0x77); // what is sent is what stands there then
        g.write_table<std::uint32_t>(16 + 12, 0);
    }
    SECTION("masked by the vector, unmasked by one byte of it") {
        g.write_table<std::uint8_t>(16 + 12, 1);
        g.request();
        CHECK(g.pending() == 2);
        g.write_table<std::uint32_t>(16 + 8, 0x77);
        g.write_table<std::uint8_t>(16 + 13, 0xff); // the other bytes mean nothing
        CHECK(g.sent() == 0);
        g.write_table<std::uint8_t>(16 + 12, 0xfe);
    }
    SECTION("masked by the function") {
        g.set_msix_control(enable | function_mask);
        g.request();
        CHECK(g.pending() == 2);
        g.write_table<std::uint32_t>(16 + 8, 0x77);
        CHECK(g.sent() == 0);
        g.set_msix_control(enable);
    }
    CHECK(g.pending() == 0);
    REQUIRE(g.sent() == 1);
    CHECK(g.wires.messages[0].second == 0x77);
}

TEST_CASE("disabling MSI-X forgets what is pending and brings the line back") {
    RngGuest g;
    g.start_with_vector();
    g.set_msix_control(enable | function_mask);
    g.request();
    CHECK(g.pending() == 2);
    g.set_msix_control(0);
    CHECK(g.pending() == 0);
    CHECK_FALSE(g.line());
    g.request();
    CHECK(g.line());
    CHECK(g.sent() == 0);
    // Enabled with the line up: it falls, and rises again when MSI-X goes.
    g.set_msix_control(enable);
    CHECK_FALSE(g.line());
    CHECK(g.sent() == 0);
    g.set_msix_control(0);
    CHECK(g.line());
    CHECK(g.read<std::uint8_t>(0x1000) == 1);
    CHECK_FALSE(g.line());
}

TEST_CASE("a message to nowhere is counted, not sent") {
    RngGuest g;
    g.start_with_vector();
    g.write_table<std::uint64_t>(16, 0xe0000000); // its own BAR
    g.request();
    CHECK(g.sent() == 0);
    CHECK(g.transport->msix()->refused_messages() == 1);
    g.write_table<std::uint64_t>(16, 0xfee01000);
    g.request();
    REQUIRE(g.sent() == 1);
    CHECK(g.wires.messages[0].first == 0xfee01000);
}

// "device-config bounds"

TEST_CASE("the table ends where it ends, at every offset and width") {
    RngGuest g;
    for (unsigned size : {1, 2, 4, 8})
        for (unsigned offset = 0; offset + size <= 4096; ++offset) {
            std::array<std::uint8_t, 8> raw;
            raw.fill(0xff);
            g.bus.write(Space::memory, g.msix_table() + offset, Bytes(raw).first(size));
            g.bus.read(Space::memory, g.msix_table() + offset, MutableBytes(raw).first(size));
            for (unsigned i = 0; i < size; ++i) {
                auto at = offset + i;
                auto expected = at >= 16 * vectors ? 0
                                : at % 16 == 0     ? 0xfc
                                : at % 16 < 12     ? 0xff
                                : at % 16 == 12    ? 1
                                                   : 0;
                if (raw[i] != expected)
                    FAIL("offset " << offset << " size " << size << " byte " << i);
            }
        }
    CHECK(g.sent() == 0);
}

TEST_CASE("without bus mastering a message waits") {
    RngGuest g;
    g.start_with_vector();
    g.set_config<std::uint16_t>(4, 2);
    g.transport->send_message(1);
    CHECK(g.sent() == 0);
    CHECK(g.pending() == 2);
    g.set_config<std::uint16_t>(4, 6);
    CHECK(g.sent() == 1);
}

TEST_CASE("a function that has no such vector sends nothing") {
    RngGuest g;
    g.start_with_vector();
    for (unsigned vector : {2U, 63U, 64U, 127U, 128U, 0xffffU, ~0U})
        g.transport->send_message(vector);
    CHECK(g.sent() == 0);
    CHECK(g.pending() == 0);
    g.host->at(0)->send_message(0); // has no MSI-X at all
    CHECK(g.sent() == 0);
}
