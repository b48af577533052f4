// PCI functions and virtio devices into bytes, and the bytes into fresh ones that go on where
// the first ones stood. The driver is the same one on both sides: its memory goes along.
#include <catch2/catch.hpp>

#include "../disk/temporary.h"
#include "../machine/fake_clock.h"
#include "../machine_device/state.h"
#include "guest.h"
#include "machine/virtio/block.h"
#include "machine/virtio/rng.h"
#include "machine/virtio/vmmci.h"

using namespace vmhost;
using namespace vmhost::test;
using machine::load;
using machine::refusal;
using machine::save;
using machine::Saved;
using machine::virtio::Block;
using machine::virtio::Rng;
using machine::virtio::Vmmci;

namespace {

std::unique_ptr<Rng> rng() {
    return std::make_unique<Rng>("vm-rng");
}

void copy_memory(const Guest& from, Guest& to) {
    auto source = from.memory.slice(0, Guest::ram_bytes);
    REQUIRE(to.memory.write(0, *source));
}

// A driver that has sent what the other one has, without any device.
RingDriver& driver_like(Guest& guest, std::uint16_t size, unsigned chains) {
    guest.queues[0] = std::make_unique<RingDriver>(guest.memory, 0x10000, size, 0x100000);
    for (unsigned i = 0; i < chains; ++i)
        guest.queue().chain().writable(64, 0).submit();
    return guest.queue();
}

} // namespace

TEST_CASE("state: a virtio queue goes on with what was published but not announced") {
    Guest before(rng());
    before.start();
    for (int i = 0; i < 3; ++i)
        before.queue().chain().writable(64, 0).submit();
    before.notify();
    for (int i = 0; i < 3; ++i)
        before.wait_used();
    before.queue().chain().writable(64, 0).submit(); // no doorbell
    auto saved = save(*before.transport);

    DoorbellBackend bells;
    Guest after;
    after.add(rng(), &bells);
    REQUIRE(load(*after.transport, saved).has_value());
    auto& driver = driver_like(after, Rng::queue_size, 4);
    copy_memory(before, after);
    for (int i = 0; i < 3; ++i)
        REQUIRE(driver.used().has_value());
    CHECK(after.status() == 15);
    CHECK(after.wait_used().length == 64);
    CHECK(bells.bells.size() == 1);
    CHECK(after.line());
    // And with new ones, by doorbell.
    driver.chain().writable(32, 0).submit();
    CHECK(bells.ring(after.base + PciTransport::notify_offset));
    CHECK(after.wait_used().length == 32);
    CHECK(save(*after.transport).payload.size() == saved.payload.size());
}

TEST_CASE("state: an interrupt that was not acknowledged is asserted again") {
    Guest before(rng());
    before.start();
    before.queue().chain().writable(64, 0).submit();
    before.notify();
    before.wait_used();
    REQUIRE(before.line());
    auto saved = save(*before.transport);
    Guest after(rng());
    REQUIRE(load(*after.transport, saved).has_value());
    CHECK(after.line());
    CHECK(after.read<std::uint8_t>(PciTransport::isr_offset) == 1);
    CHECK_FALSE(after.line());
}

TEST_CASE("state: MSI-X table, pending bits and vectors") {
    Guest before(rng());
    before.set_msix_control(0x8000);
    before.fill_vector(0);
    before.fill_vector(1, true);
    before.start();
    before.write<std::uint16_t>(22, 0);
    before.write<std::uint16_t>(26, 1);
    before.queue().chain().writable(64, 0).submit();
    before.notify();
    before.wait_used();
    REQUIRE(before.wires.messages.empty()); // masked: it is pending
    auto saved = save(*before.transport);
    Guest after(rng());
    REQUIRE(load(*after.transport, saved).has_value());
    CHECK(after.wires.messages.empty());
    CHECK(after.read_table<std::uint32_t>(16 + 8) == 0x41);
    after.write_table<std::uint32_t>(16 + 12, 0);
    REQUIRE(after.wires.messages.size() == 1);
    CHECK(after.wires.messages[0].second == 0x41);
}

TEST_CASE("state: a BAR is decoded where the guest had put it") {
    Guest before(rng());
    before.set_config<std::uint32_t>(0x10, 0xe4000000);
    before.set_config<std::uint16_t>(4, 0x6);
    before.base = 0xe4000000;
    REQUIRE(before.offered() != 0);
    auto saved = save(*before.transport);
    Guest after(rng());
    auto placed = after.base;
    REQUIRE(load(*after.transport, saved).has_value());
    CHECK(after.offered() == 0xffffffffffffffff); // nothing is where place_bars() had put it
    after.base = 0xe4000000;
    CHECK(after.offered() == before.offered());
    CHECK(placed != after.base);
}

TEST_CASE("state: two functions that change places find room in the end") {
    Guest before(rng());
    auto first = before.base;
    before.add(rng());
    auto second = before.base;
    auto* one = before.host->at(1);
    auto* two = before.host->at(2);
    auto move = [&](unsigned slot, std::uint64_t to) {
        before.slot = slot;
        before.set_config<std::uint32_t>(0x10, static_cast<std::uint32_t>(to));
    };
    move(1, second);
    move(2, first);
    auto saved_one = save(*one), saved_two = save(*two);
    Guest after(rng());
    after.add(rng());
    REQUIRE(load(*after.host->at(1), saved_one).has_value());
    REQUIRE(load(*after.host->at(2), saved_two).has_value());
    after.host->place_again();
    CHECK(after.host->at(1)->decoded_base(0) == second);
    CHECK(after.host->at(2)->decoded_base(0) == first);
}

TEST_CASE("state: a legacy driver's device") {
    Guest before(rng(), Guest::Interface::transitional);
    before.start_legacy();
    before.queue().chain().writable(64, 0).submit();
    before.notify_legacy();
    before.wait_used();
    auto saved = save(*before.transport);
    Guest after(rng(), Guest::Interface::transitional);
    REQUIRE(load(*after.transport, saved).has_value());
    auto& driver = driver_like(after, Rng::queue_size, 1);
    copy_memory(before, after);
    REQUIRE(driver.used().has_value());
    driver.chain().writable(16, 0).submit();
    after.notify_legacy();
    CHECK(after.wait_used().length == 16);
    // A modern device cannot take its place.
    Guest modern(rng());
    CHECK(refusal(*modern.transport, saved).find("PCI vendor and device is") == 0);
}

TEST_CASE("state: completions that wait for bus mastering wait on the other side") {
    Guest before(rng());
    before.start();
    before.queue().chain().writable(64, 0).submit();
    auto chain = std::optional<machine::virtio::Chain>();
    before.set_config<std::uint16_t>(4, 0x2); // before the doorbell is answered
    before.notify();
    before.turn();
    auto saved = save(*before.transport);
    Guest after(rng());
    REQUIRE(load(*after.transport, saved).has_value());
    auto& driver = driver_like(after, Rng::queue_size, 1);
    copy_memory(before, after);
    after.turn();
    CHECK_FALSE(driver.used().has_value());
    after.set_config<std::uint16_t>(4, 0x6);
    CHECK(after.wait_used().length == 64);
}

TEST_CASE("state: damaged virtio state") {
    Guest before(rng());
    before.set_msix_control(0x8000);
    before.fill_vector(0);
    before.fill_vector(1);
    before.start();
    before.queue().chain().writable(64, 0).submit();
    auto saved = save(*before.transport);
    struct Holder {
        Guest guest{rng()};
        PciTransport& part() { return *guest.transport; }
    };
    auto make = [] { return std::make_unique<Holder>(); };
    for (std::size_t size = 0; size < saved.payload.size(); size += 5) {
        auto cut = saved;
        cut.payload.resize(size);
        CHECK_FALSE(load(make()->part(), cut).has_value());
    }
    // Every byte that a guest may have influence on, and the rest.
    for (std::size_t at = 0; at < saved.payload.size(); ++at) {
        auto changed = saved;
        changed.payload[at] ^= 0xff;
        auto fresh = make();
        if (!load(fresh->part(), changed))
            continue;
        fresh->guest.turn();
        fresh->guest.set_config<std::uint16_t>(4, 0x7);
        fresh->guest.notify();
        fresh->guest.turn();
    }
}

TEST_CASE("state: a queue whose rings are not in memory is refused") {
    Guest before(rng());
    before.start();
    auto saved = save(*before.transport);
    Guest small;
    auto reduced = std::make_unique<machine::GuestMemory>();
    REQUIRE(reduced->add(0, 0x8000, true)); // the rings are at 64 KiB
    machine::Bus bus;
    Wires wires;
    machine::PciHost host(bus, wires);
    auto made = std::make_unique<PciTransport>(rng(), *reduced, small.loop, bus.lock(), nullptr);
    made->set_interrupt(11);
    auto* transport = made.get();
    REQUIRE(host.add(std::move(made)));
    CHECK(refusal(*transport, saved) == "a queue of 64 entries cannot be where it is");
}

TEST_CASE("state: a disk of another size is refused, and so are requests in flight") {
    TemporaryDirectory directory;
    auto open = [&](const char* name, std::uint64_t bytes) {
        auto path = directory / name;
        REQUIRE(disk::create_raw(path, bytes));
        return *disk::Image::open_raw(*disk::open_image(path, false), false, name);
    };
    auto small = open("a.raw", MiB), large = open("b.raw", 2 * MiB);
    auto add = [](Guest& guest, disk::Image& image) {
        guest.add(std::make_unique<Block>(Block::Settings{.name = "vm-disk0", .serial = "s"}, image,
                                          guest.loop, guest.bus.lock(), guest.clock));
    };
    Guest before, other;
    add(before, *small);
    add(other, *large);
    before.start();
    auto saved = save(*before.transport);
    CHECK(refusal(*other.transport, saved) == "number of sectors is 4096 here and was 2048");

    ByteWriter header;
    header.le<std::uint32_t>(0);
    header.zeros(12);
    before.queue().chain().readable(header.buffer()).writable(512).writable(1).submit();
    before.notify();
    before.loop.run_once(false); // taken from the queue; its completion comes later
    machine::StateArchive archive;
    before.transport->state(archive);
    auto finished = archive.finish();
    if (!before.queue().used().has_value()) {
        REQUIRE_FALSE(finished.has_value());
        CHECK(finished.error().kind() == ErrorKind::busy);
    }
    before.turn();
    before.host.reset(); // before the images
    other.host.reset();
}

TEST_CASE("state: vmmci goes on with what is left of its time-out") {
    constexpr std::uint64_t second = 1'000'000'000;
    struct Rig {
        machine::Bus bus;
        Wires wires;
        machine::FakeClock clock;
        std::unique_ptr<machine::PciHost> host = std::make_unique<machine::PciHost>(bus, wires);
        Vmmci* vmmci = nullptr;
        std::vector<bool> gave_up;
        Rig() {
            auto made = std::make_unique<Vmmci>(
                "vm-vmmci", clock,
                Vmmci::Hooks{.powers_off = [] {},
                             .gave_up = [this](bool acked) { gave_up.push_back(acked); }});
            vmmci = made.get();
            made->set_interrupt(5);
            REQUIRE(host->add(std::move(made)));
            host->place_bars();
        }
        void write(std::uint64_t offset, std::size_t size, std::uint32_t value) {
            std::uint8_t raw[4];
            store_le(MutableBytes(raw), value);
            bus.write(Space::port, *vmmci->decoded_base(0) + offset, Bytes(raw).first(size));
        }
        std::uint32_t read(std::uint64_t offset) {
            std::uint8_t raw[4];
            bus.read(Space::port, *vmmci->decoded_base(0) + offset, raw);
            return load_le<std::uint32_t>(raw);
        }
    };
    Rig before;
    before.write(4, 4, Vmmci::features);
    before.write(18, 1, 7);
    REQUIRE(before.vmmci->send(Vmmci::Command::shutdown));
    before.clock.advance(2 * second);
    auto saved = save(*before.vmmci);

    Rig after;
    after.clock.advance(2 * second);
    REQUIRE(load(*after.vmmci, saved).has_value());
    CHECK(after.wires.levels[5]);
    CHECK(after.read(20) == 1);
    CHECK(after.read(4) == Vmmci::features);
    after.clock.advance(second - 1000);
    CHECK(after.gave_up.empty());
    after.clock.advance(1000);
    CHECK(after.gave_up == std::vector<bool>{false});
    CHECK(save(*before.vmmci).payload == saved.payload);
    Rig damaged;
    for (std::size_t size = 0; size < saved.payload.size(); ++size) {
        auto cut = saved;
        cut.payload.resize(size);
        CHECK_FALSE(load(*damaged.vmmci, cut).has_value());
    }
}
