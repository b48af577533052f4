// Transitional devices: what a driver of virtio 0.9 sees, that a modern one still finds its
// registers, and what happens to a guest that uses both at once.
#include <catch2/catch.hpp>

#include <numeric>

#include "../disk/temporary.h"
#include "guest.h"
#include "machine/virtio/block.h"
#include "machine/virtio/rng.h"

using namespace vmhost;
using namespace vmhost::test;
using machine::virtio::Block;
using machine::virtio::Rng;

namespace {

struct LegacyRng : Guest {
    LegacyRng() : Guest(std::make_unique<Rng>("rng"), Interface::transitional) {}
    void serves_a_request() {
        auto sent = queue().chain().writable(16).submit();
        notify_legacy();
        CHECK(wait_used() == Used{sent.head, 16});
    }
};

struct LegacyDisk : Guest {
    TemporaryDirectory directory;
    std::unique_ptr<disk::Image> image;

    LegacyDisk() {
        auto path = directory / "a.raw";
        REQUIRE(disk::create_raw(path, MiB));
        image = *disk::Image::open_raw(*disk::open_image(path, false), false, "a.raw");
        add(std::make_unique<Block>(Block::Settings{.name = "disk", .serial = "serial"}, *image,
                                    loop, bus.lock(), clock),
            nullptr, Interface::transitional);
    }
    ~LegacyDisk() { host.reset(); }
};

} // namespace

TEST_CASE("a transitional device has the old ids, an I/O BAR and the capabilities") {
    LegacyDisk g;
    CHECK(g.config<std::uint32_t>(0) == 0x10011af4);
    CHECK(g.config<std::uint8_t>(8) == 0);
    CHECK(g.config<std::uint16_t>(0x2e) == 2);
    CHECK((g.config<std::uint32_t>(0x10) & 1) == 1);
    g.set_config<std::uint32_t>(0x10, 0xffffffff);
    CHECK(g.config<std::uint32_t>(0x10) == 0xffffff81); // 24 bytes and the configuration
    unsigned blocks = 0;
    for (unsigned at = g.config<std::uint8_t>(0x34); at != 0; at = g.config<std::uint8_t>(at + 1))
        if (g.config<std::uint8_t>(at) == 0x09 && g.config<std::uint8_t>(at + 3) != 5) {
            CHECK(g.config<std::uint8_t>(at + 4) == 2);
            ++blocks;
        }
    CHECK(blocks == 4);
    Guest rng(std::make_unique<Rng>("rng"), Guest::Interface::transitional);
    CHECK(rng.config<std::uint32_t>(0) == 0x10051af4);
}

TEST_CASE("a modern driver takes a transitional device as a modern one") {
    LegacyRng g;
    g.start();
    auto sent = g.queue().chain().writable(16).submit();
    g.notify();
    CHECK(g.wait_used() == Used{sent.head, 16});
    CHECK(g.line());
    CHECK(g.read<std::uint8_t>(0x1000) == 1);
}

TEST_CASE("a legacy driver gets its queue by page number") {
    LegacyRng g;
    // Indirect descriptors, event index, any layout; the upper features do not exist here.
    CHECK(g.read_port<std::uint32_t>(0) == (1U << 27 | 3U << 28));
    CHECK(g.read_port<std::uint16_t>(12) == 64);
    CHECK(g.read_port<std::uint32_t>(8) == 0);
    g.start_legacy();
    CHECK(g.read_port<std::uint8_t>(18) == 7);
    CHECK(g.read_port<std::uint32_t>(4) == 3U << 28);
    g.serves_a_request();
    CHECK(g.line());
    CHECK(g.read_port<std::uint8_t>(19) == 1);
    CHECK_FALSE(g.line());
    g.write_port<std::uint16_t>(14, 1); // no such queue
    CHECK(g.read_port<std::uint16_t>(12) == 0);
    g.write_port<std::uint32_t>(8, 16);
    CHECK(g.read_port<std::uint32_t>(8) == 0);
    g.start_legacy();
    g.serves_a_request();
}

TEST_CASE("legacy registers with MSI-X: two vectors, then the configuration") {
    LegacyDisk g;
    CHECK(g.read_port<std::uint32_t>(20) == 2048); // capacity in sectors
    g.fill_vector(0);
    g.fill_vector(1);
    g.set_msix_control(0x8000);
    CHECK(g.read_port<std::uint16_t>(20) == 0xffff);
    CHECK(g.read_port<std::uint16_t>(22) == 0xffff);
    CHECK(g.read_port<std::uint32_t>(24) == 2048);
    for (unsigned i = 0; i < 8; ++i)
        CHECK(g.read_port<std::uint8_t>(24 + i) == (i == 1 ? 8 : 0));
    g.start_legacy(1, 1U << 29);
    g.write_port<std::uint16_t>(20, 0);
    CHECK(g.read_port<std::uint16_t>(20) == 0);
    g.write_port<std::uint16_t>(22, 2); // not in the table
    CHECK(g.read_port<std::uint16_t>(22) == 0xffff);
    g.write_port<std::uint16_t>(22, 1);
    CHECK(g.read_port<std::uint16_t>(22) == 1);
    g.queue().chain().readable(16, 0).writable(512).writable(1).submit();
    g.notify_legacy();
    CHECK(g.wait_used().length == 513);
    REQUIRE(g.wires.messages.size() == 1);
    CHECK(g.wires.messages[0].second == 0x41);
    CHECK_FALSE(g.line());
}

TEST_CASE("a legacy driver may use a queue before DRIVER_OK") {
    LegacyRng g;
    g.write_port<std::uint8_t>(18, 1);
    g.write_port<std::uint8_t>(18, 3);
    g.make_legacy_queue(0);
    g.serves_a_request();
    g.write_port<std::uint8_t>(18, 7);
    g.serves_a_request();
    // Its page number taken away and given again.
    g.write_port<std::uint32_t>(8, 0);
    CHECK(g.read_port<std::uint32_t>(8) == 0);
    g.notify_legacy();
    g.turn();
    g.make_legacy_queue(0);
    g.serves_a_request();
    // Without a sign of life in the status it stays off.
    g.write_port<std::uint8_t>(18, 0);
    g.make_legacy_queue(0);
    g.queue().chain().writable(16).submit();
    g.notify_legacy();
    g.turn();
    CHECK(g.queue().used_index() == 0);
}

TEST_CASE("a legacy queue outside memory stays off") {
    LegacyRng g;
    constexpr auto last_page = static_cast<std::uint32_t>(Guest::ram_bytes / 4096 - 1);
    for (std::uint32_t page : {last_page, last_page + 1, 0xfffffU, 0xfffffffU, 0xffffffffU}) {
        g.write_port<std::uint32_t>(8, page); // a queue needs two
        CHECK(g.read_port<std::uint32_t>(8) == 0);
    }
    g.start_legacy();
    g.serves_a_request();
}

TEST_CASE("a guest that uses both interfaces at once hurts itself only") {
    LegacyRng g;
    // Features that were never offered nor accepted, then a start without FEATURES_OK.
    g.set_status(1);
    g.set_status(3);
    g.accept(~std::uint64_t{0});
    g.make_legacy_queue(0);
    g.write_port<std::uint8_t>(18, 7);
    g.serves_a_request();
    g.accept(0); // too late
    g.set_status(15);
    g.serves_a_request();
    // The modern side cannot enable the queue once more, nor size it; the legacy one can drop it.
    g.write<std::uint16_t>(24, 8);
    CHECK(g.read<std::uint16_t>(24) == 64);
    g.queue().chain().writable(16).submit();
    g.write_port<std::uint32_t>(8, 0);
    CHECK(g.read<std::uint16_t>(28) == 0);
    g.notify();
    g.turn();
    g.reset();
    g.start();
    auto sent = g.queue().chain().writable(16).submit();
    g.notify();
    CHECK(g.wait_used() == Used{sent.head, 16});
}

TEST_CASE("legacy registers in every width, with every queue selected") {
    LegacyDisk g;
    for (std::uint16_t select : {0, 1, 2, 255, 0x7fff, 0xffff})
        for (unsigned size : {1, 2, 4})
            for (unsigned offset = 0; offset + size <= 128; ++offset) {
                if (offset <= 19 && offset + size > 18)
                    continue; // status: a start is the other tests' matter
                g.write_port<std::uint16_t>(14, select);
                std::array<std::uint8_t, 4> raw;
                raw.fill(0xff);
                g.bus.write(Space::port, g.ports + offset, Bytes(raw).first(size));
                g.bus.read(Space::port, g.ports + offset, MutableBytes(raw).first(size));
            }
    CHECK(g.read_port<std::uint32_t>(20) == 2048);
    g.start_legacy();
    g.queue().chain().readable(16, 0).writable(512).writable(1).submit();
    g.notify_legacy();
    CHECK(g.wait_used().length == 513);
    g.notify_legacy(1);
    g.notify_legacy(0xffff);
    g.turn();
}

TEST_CASE("a legacy driver without the flush feature has every write made stable") {
    LegacyDisk g;
    g.start_legacy(1, 1U << 9);
    std::vector<std::uint8_t> head(16), data(512, 7);
    store_le<std::uint32_t>(MutableBytes(head), 1);
    g.queue().chain().readable(head).readable(data).writable(1).submit();
    g.notify_legacy();
    CHECK(g.wait_used().length == 1);
    CHECK(static_cast<Block&>(g.transport->device()).counters().flushes == 1);
}
