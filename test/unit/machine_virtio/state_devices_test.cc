// What disks and balloons keep beside their queues: saved, loaded into a fresh device, compared;
// and what differs is refused by its name.
#include <catch2/catch.hpp>

#include "../disk/temporary.h"
#include "../machine_device/state.h"
#include "guest.h"
#include "machine/virtio/balloon.h"
#include "machine/virtio/block.h"

using namespace vmhost;
using namespace vmhost::test;
using machine::load;
using machine::refusal;
using machine::save;
using machine::virtio::Balloon;
using machine::virtio::Block;

namespace {

constexpr std::uint64_t cache_mode = 0x2000 + 32; // in the BAR

struct DiskGuest : TemporaryDirectory, Guest {
    std::unique_ptr<disk::Image> image, other;
    Block* block;

    explicit DiskGuest(unsigned queue_count, bool read_only = false) {
        image = make("a.raw", read_only);
        auto made = std::make_unique<Block>(
            Block::Settings{.name = "vm-disk0", .serial = "s", .queues = queue_count}, *image, loop,
            bus.lock(), clock);
        block = made.get();
        add(std::move(made));
    }
    ~DiskGuest() { host.reset(); } // before the images
    std::unique_ptr<disk::Image> make(const char* name, bool read_only = false) {
        auto path = *this / name;
        REQUIRE(disk::create_raw(path, MiB));
        return *disk::Image::open_raw(*disk::open_image(path, read_only), read_only, name);
    }
    // Sector 1 full of a byte, or what is there.
    std::uint8_t move(std::uint16_t index, bool write, std::uint8_t byte = 0) {
        ByteWriter header;
        header.le<std::uint32_t>(write ? 1 : 0);
        header.le<std::uint32_t>(0);
        header.le<std::uint64_t>(1);
        auto chain = queue(index).chain();
        chain.readable(header.buffer());
        write ? chain.readable(512, byte) : chain.writable(512);
        auto sent = chain.writable(1).submit();
        notify(index);
        wait_used(index);
        CHECK(queue(index).contents(sent.buffers[2])[0] == 0);
        return queue(index).contents(sent.buffers[1])[0];
    }
    // The driver of the other guest, whose queue of this number has not been used there.
    void take_driver(const Guest& from, std::uint16_t index) {
        queues[index] =
            std::make_unique<RingDriver>(memory, 0x10000 + 0x10000ULL * index, Block::queue_size,
                                         0x100000 + 0x600000ULL * index);
        REQUIRE(memory.write(0, *from.memory.slice(0, ram_bytes)));
    }
};

} // namespace

TEST_CASE("state: a disk of several queues keeps its cache mode and serves each of them") {
    DiskGuest before(3);
    before.start();
    before.move(0, true, 0x11);
    before.move(2, true, 0x22);
    before.write<std::uint8_t>(cache_mode, 0);
    auto saved = save(*before.transport);

    DiskGuest after(3);
    REQUIRE(load(*after.transport, saved).has_value());
    CHECK(after.status() == 15);
    CHECK(after.read<std::uint8_t>(cache_mode) == 0);
    CHECK(save(*after.transport).payload == saved.payload);
    after.take_driver(before, 1);
    after.move(1, true, 0x33);
    CHECK(after.move(1, false) == 0x33);

    DiskGuest fewer(2), fixed(3, true);
    CHECK(refusal(*fewer.transport, saved) == "number of MSI-X vectors is 3 here and was 4");
    CHECK(refusal(*fixed.transport, saved).find("are not offered here") != std::string::npos);
    auto damaged = saved;
    damaged.payload.back() = 2; // the cache mode is its last byte
    DiskGuest fresh(3);
    CHECK(refusal(*fresh.transport, damaged) == "cache mode is 2, at most 1 is possible");
}

TEST_CASE("a disk goes on with another image of the same size") {
    DiskGuest g(1);
    g.start();
    g.move(0, true, 0x11);
    g.other = g.make("b.raw");
    {
        std::scoped_lock guard(g.bus.lock());
        g.transport->pause();
        REQUIRE(g.block->still());
        g.block->use(*g.other);
        g.transport->resume();
    }
    CHECK(g.move(0, false) == 0);
    g.move(0, true, 0x22);
    CHECK(g.move(0, false) == 0x22);
    std::uint8_t first = 0;
    iovec vector{&first, 1};
    REQUIRE(g.image->readv({&vector, 1}, 512));
    CHECK(first == 0x11);
}

TEST_CASE("state: a balloon keeps what was asked for and what was given") {
    auto make = [](Guest& guest) {
        auto made = std::make_unique<Balloon>("vm-balloon", guest.memory, guest.bus.lock());
        auto* balloon = made.get();
        guest.add(std::move(made));
        return balloon;
    };
    Guest before, after;
    auto* asked = make(before);
    auto* goes_on = make(after);
    before.start();
    CHECK(asked->set_target_bytes(100 * 4096));
    before.write<std::uint32_t>(0x2004, 60);
    auto saved = save(*before.transport);
    REQUIRE(load(*after.transport, saved).has_value());
    CHECK(after.read<std::uint32_t>(0x2000) == 100);
    CHECK(goes_on->actual_bytes() == 60 * 4096);
    CHECK(save(*after.transport).payload == saved.payload);
    CHECK(goes_on->set_target_bytes(50 * 4096)); // its driver still listens
    CHECK(after.line());
    for (std::size_t size = 0; size < saved.payload.size(); size += 7) {
        auto cut = saved;
        cut.payload.resize(size);
        Guest fresh;
        make(fresh);
        CHECK_FALSE(load(*fresh.transport, cut).has_value());
    }
    // Another device cannot take its place.
    DiskGuest disk(1);
    CHECK(refusal(*disk.transport, saved).find("PCI vendor and device is") == 0);
}
