// The PCI transport as a guest sees it: capabilities, registers, status, doorbells, interrupts.
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <unistd.h>

#include "guest.h"
#include "machine/virtio/rng.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::machine::virtio;

namespace {

// A device with two queues and a configuration, that does nothing but note what it is told.
class Probe final : public VirtioDevice {
public:
    std::string_view name() const override { return "probe"; }
    DeviceType type() const override { return DeviceType::net; }
    std::uint64_t features() const override { return 1 << 5; }
    std::vector<std::uint16_t> queue_sizes() const override { return {64, 16}; }
    Bytes config() const override { return config_; }
    void activate(std::uint64_t features, std::vector<Queue*> given) override {
        accepted = features;
        queues = std::move(given);
        ++activations;
    }
    bool notify(std::uint16_t queue) override {
        notified.push_back(queue);
        while (queues[queue]) {
            auto chain = queues[queue]->pop();
            if (!chain)
                break;
            chain->complete(static_cast<std::uint32_t>(chain->writable_bytes()));
        }
        if (queues[queue])
            queues[queue]->signal_used();
        return again-- > 0;
    }
    void reset() override {
        queues.clear();
        ++resets;
    }
    bool quiescent() const override { return !busy; }
    std::uint64_t malformed_requests() const override { return 0; }

    std::uint64_t accepted = 0;
    std::vector<Queue*> queues;
    std::vector<std::uint16_t> notified;
    unsigned activations = 0, resets = 0;
    int again = 0;
    bool busy = false;

private:
    std::array<std::uint8_t, 10> config_ = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
};

struct ProbeGuest : Guest {
    explicit ProbeGuest(machine::Backend* backend = nullptr) {
        auto made = std::make_unique<Probe>();
        probe = made.get();
        add(std::move(made), backend);
    }
    Probe* probe;
};

constexpr std::uint64_t all_offered = (1 << 5) | (3ULL << 28) | (1ULL << 32);

} // namespace

TEST_CASE("the function says what it is and where its registers are") {
    ProbeGuest g;
    CHECK(g.config<std::uint32_t>(0) == 0x10411af4);
    CHECK(g.config<std::uint8_t>(8) == 1);
    CHECK(g.config<std::uint16_t>(10) == 0x0200);
    CHECK((g.config<std::uint16_t>(6) & 0x10) != 0);
    std::map<std::uint8_t, std::array<std::uint32_t, 3>> found;
    for (unsigned at = g.config<std::uint8_t>(0x34); at != 0; at = g.config<std::uint8_t>(at + 1)) {
        CHECK(at % 4 == 0);
        if (g.config<std::uint8_t>(at) == 0x11)
            continue; // MSI-X has tests of its own
        REQUIRE(g.config<std::uint8_t>(at) == 0x09);
        CHECK(g.config<std::uint8_t>(at + 4) == 0);
        auto type = g.config<std::uint8_t>(at + 3);
        auto length = g.config<std::uint8_t>(at + 2);
        CHECK(length == (type == 2 || type == 5 ? 20 : 16));
        if (type == 2)
            CHECK(g.config<std::uint32_t>(at + 16) == 4);
        found[type] = {g.config<std::uint32_t>(at + 8), g.config<std::uint32_t>(at + 12), at};
    }
    REQUIRE(found.size() == 5);
    CHECK(found[1][0] == 0x0000);
    CHECK(found[1][1] == 56);
    CHECK(found[2][0] == 0x3000);
    CHECK(found[2][1] == 8);
    CHECK(found[3][0] == 0x1000);
    CHECK(found[3][1] == 1);
    CHECK(found[4][0] == 0x2000);
    CHECK(found[4][1] == 10);
}

TEST_CASE("a device without configuration has no such capability") {
    Guest g(std::make_unique<Rng>("rng"));
    for (unsigned at = g.config<std::uint8_t>(0x34); at != 0; at = g.config<std::uint8_t>(at + 1))
        CHECK((g.config<std::uint8_t>(at) != 0x09 || g.config<std::uint8_t>(at + 3) != 4));
    CHECK(g.config<std::uint64_t>(0) != 0); // not an access of ours: eight bytes at a port
    CHECK(g.config<std::uint32_t>(0) == 0x10441af4);
}

TEST_CASE("features are settled by FEATURES_OK, and only as offered") {
    ProbeGuest g;
    CHECK(g.offered() == all_offered);
    g.write<std::uint32_t>(0, 2);
    CHECK(g.read<std::uint32_t>(4) == 0);
    g.write<std::uint32_t>(0, 0xffffffff);
    CHECK(g.read<std::uint32_t>(4) == 0);
    g.set_status(1);
    g.set_status(3);
    SECTION("all that is offered") {
        g.accept(all_offered);
    }
    SECTION("VERSION_1 alone") {
        g.accept(1ULL << 32);
    }
    SECTION("without VERSION_1") {
        g.accept(all_offered & ~(1ULL << 32));
    }
    SECTION("a bit that was not offered") {
        g.accept(all_offered | 1);
    }
    SECTION("a high bit that was not offered") {
        g.accept(all_offered | 1ULL << 33);
    }
    SECTION("nothing") {}
    SECTION("a bit above 63") {
        g.accept(all_offered);
        g.write<std::uint32_t>(8, 2);
        g.write<std::uint32_t>(12, 1);
    }
    auto low = (g.write<std::uint32_t>(8, 0), g.read<std::uint32_t>(12));
    auto high = (g.write<std::uint32_t>(8, 1), g.read<std::uint32_t>(12));
    auto accepted = low | std::uint64_t{high} << 32;
    bool beyond = (g.write<std::uint32_t>(8, 2), false);
    (void)beyond;
    g.set_status(11);
    bool settled = g.status() & 8;
    bool fine = (accepted & (1ULL << 32)) && !(accepted & ~all_offered);
    if (settled) {
        CHECK(fine);
        g.accept(0); // too late
        g.write<std::uint32_t>(8, 0);
        CHECK(g.read<std::uint32_t>(12) == low);
    }
    g.set_status(15);
    CHECK(((g.status() & 4) != 0) == settled);
    CHECK(g.probe->activations == (settled ? 1 : 0));
}

TEST_CASE("FEATURES_OK is refused for a bit above 63, and granted again after a reset") {
    ProbeGuest g;
    g.set_status(3);
    g.set_status(3);
    g.accept(all_offered);
    g.write<std::uint32_t>(8, 7);
    g.write<std::uint32_t>(12, 0x100);
    g.set_status(11);
    CHECK(g.status() == 3);
    g.start();
    CHECK(g.probe->accepted == all_offered);
}

TEST_CASE("status bits come in order and are never taken back but by a reset") {
    ProbeGuest g;
    g.set_status(2);
    CHECK(g.status() == 0); // DRIVER before ACKNOWLEDGE
    g.set_status(1);
    g.set_status(9);
    CHECK(g.status() == 1); // FEATURES_OK before DRIVER
    g.set_status(3);
    g.set_status(7);
    CHECK(g.status() == 3); // DRIVER_OK before FEATURES_OK
    g.set_status(0x40);
    CHECK(g.status() == 3); // NEEDS_RESET is the device's
    g.set_status(1);
    CHECK(g.status() == 3);
    g.start();
    g.set_status(15);
    CHECK(g.probe->activations == 1); // not twice
    g.set_status(0x80);
    CHECK(g.status() == 0x8f);
    CHECK(g.probe->resets == 0);
    g.set_status(0);
    CHECK(g.status() == 0); // at once: nothing is under way
    CHECK(g.probe->resets == 1);
    g.set_status(0x81);
    g.set_status(0x8f);
    CHECK(g.probe->activations == 1); // FAILED stays failed
}

TEST_CASE("a reset forgets everything") {
    ProbeGuest g;
    g.start();
    g.write<std::uint16_t>(22, 1);
    g.queue(0).chain().writable(4).submit();
    g.notify();
    g.settle([&] { return g.line(); });
    g.set_status(0);
    CHECK(g.read<std::uint16_t>(22) == 0);
    CHECK_FALSE(g.line());
    CHECK(g.read<std::uint8_t>(0x1000) == 0);
    for (std::uint16_t queue : {0, 1}) {
        g.write<std::uint16_t>(22, queue);
        CHECK(g.read<std::uint16_t>(28) == 0);
        for (unsigned at = 32; at < 56; at += 4)
            CHECK(g.read<std::uint32_t>(at) == 0);
    }
    g.notify();
    g.probe->notified.clear();
    g.turn();
    CHECK(g.probe->notified.empty()); // a doorbell of before reaches nobody
    g.start();
    g.queue(1).chain().writable(4).submit();
    g.notify(1);
    CHECK(g.wait_used(1).length == 4);
}

TEST_CASE("the guest sees a reset end when nothing touches its memory any more") {
    ProbeGuest g;
    g.start();
    g.probe->busy = true;
    g.set_status(0);
    CHECK(g.status() == 15);
    CHECK(g.probe->resets == 1);
    g.set_status(0);
    CHECK(g.status() == 15);
    g.probe->busy = false;
    CHECK(g.status() == 0);
    g.start();
}

// "index from the guest used raw" (Cloud Hypervisor #7917, QEMU CVE-2011-2512)

TEST_CASE("every register with every kind of queue_select and width") {
    ProbeGuest g;
    const std::map<unsigned, unsigned> natural = {
        {0, 4},  {4, 4},  {8, 4},  {12, 4}, {16, 2}, {18, 2}, {20, 1}, {21, 1}, {22, 2}, {24, 2},
        {26, 2}, {28, 2}, {30, 2}, {32, 4}, {36, 4}, {40, 4}, {44, 4}, {48, 4}, {52, 4}};
    std::vector<std::uint16_t> samples = {0,   1,    2,    3,      63,     64,     255,
                                          256, 1023, 1024, 0x7fff, 0x8000, 0xfffe, 0xffff};
    for (unsigned i = 0; i < 300; ++i)
        samples.push_back(static_cast<std::uint16_t>(i * 219));
    for (auto select : samples) {
        g.write<std::uint16_t>(22, select);
        REQUIRE(g.read<std::uint16_t>(22) == select);
        bool exists = select < 2;
        CHECK(g.read<std::uint16_t>(24) == (select == 0 ? 64 : select == 1 ? 16 : 0));
        CHECK(g.read<std::uint16_t>(26) == 0xffff);
        CHECK(g.read<std::uint16_t>(30) == (exists ? select : 0));
        std::array<std::uint8_t, 128 + 8> whole{}; // register by register; zeros behind the last
        for (auto [offset, size] : natural)
            g.bus.read(Space::memory, g.base + offset,
                       MutableBytes(whole).subspan(offset).first(size));
        for (unsigned offset = 0; offset < 128; ++offset)
            for (unsigned size : {1, 2, 4, 8}) {
                std::array<std::uint8_t, 8> raw{};
                auto read = MutableBytes(raw).first(size);
                g.bus.read(Space::memory, g.base + offset, read);
                if (!std::ranges::equal(read, Bytes(whole).subspan(offset, size)))
                    FAIL("offset " << offset << " size " << size << " reads something else");
            }
        for (unsigned offset = 0; offset < 128; ++offset)
            for (unsigned size : {1, 2, 4, 8}) {
                if (offset == 20 || offset == 22)
                    continue; // not to be disturbed here
                std::array<std::uint8_t, 8> raw;
                raw.fill(0x5a);
                g.bus.write(Space::memory, g.base + offset, MutableBytes(raw).first(size));
            }
        // 0x5a5a is neither a size nor a way to enable.
        CHECK(g.read<std::uint16_t>(24) == (select == 0 ? 64 : select == 1 ? 16 : 0));
        CHECK(g.read<std::uint16_t>(28) == 0);
        CHECK(g.read<std::uint32_t>(32) == (exists ? 0x5a5a5a5a : 0));
        g.write<std::uint16_t>(28, 1); // rings at nonsense addresses
        CHECK(g.read<std::uint16_t>(28) == 0);
        g.set_status(0);
    }
    g.start();
}

// A guest that tried in a loop filled the log with a line for each.
TEST_CASE("queues with rings outside memory are counted, and logged once") {
    ProbeGuest g;
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    Fd reader(ends[0]), writer(ends[1]), terminal(::dup(STDERR_FILENO));
    log::set_level("virtio", log::Level::debug);
    ::dup2(writer.get(), STDERR_FILENO);
    auto before = g.transport->malformed_requests();
    g.set_status(1);
    g.set_status(3);
    for (int turn = 0; turn < 20; ++turn) {
        g.set_address(32, 0xfffff000);
        g.write<std::uint16_t>(28, 1);
    }
    ::dup2(terminal.get(), STDERR_FILENO);
    log::set_level("virtio", log::Level::info);
    CHECK(g.transport->malformed_requests() - before == 20);
    std::array<char, 4096> text{};
    auto count = ::read(reader.get(), text.data(), text.size());
    REQUIRE(count > 0);
    CHECK(std::count(text.begin(), text.end(), '\n') == 1);
}

TEST_CASE("queue sizes are validated") {
    ProbeGuest g;
    for (std::uint16_t bad : {0, 3, 65, 128, 0x8000, 0xffff}) {
        g.write<std::uint16_t>(24, bad);
        CHECK(g.read<std::uint16_t>(24) == 64);
    }
    g.write<std::uint16_t>(24, 8);
    CHECK(g.read<std::uint16_t>(24) == 8);
    g.make_queue(0);
    g.write<std::uint16_t>(24, 4); // enabled: settled
    CHECK(g.read<std::uint16_t>(24) == 8);
    g.set_address(32, 0x80000);
    CHECK(g.read<std::uint32_t>(32) == 0x10000);
    g.write<std::uint16_t>(28, 0);
    CHECK(g.read<std::uint16_t>(28) == 1); // only a reset disables
}

// "device-config bounds"

TEST_CASE("device configuration ends where it ends, at every offset and size") {
    ProbeGuest g;
    for (unsigned offset = 0; offset <= 4096; ++offset)
        for (unsigned size : {1, 2, 4, 8}) {
            std::array<std::uint8_t, 8> raw;
            raw.fill(0xee);
            g.bus.write(Space::memory, g.base + 0x2000 + offset, Bytes(raw).first(size));
            g.bus.read(Space::memory, g.base + 0x2000 + offset, MutableBytes(raw).first(size));
            for (unsigned i = 0; i < size && offset + i < 4096; ++i) {
                std::uint8_t expected = offset + i < 10 ? static_cast<std::uint8_t>(offset + i) : 0;
                if (raw[i] != expected)
                    FAIL("offset " << offset << " size " << size);
            }
        }
    g.turn();
    CHECK(g.probe->notified.empty());
}

TEST_CASE("a chain interrupts, and reading ISR makes the line fall") {
    ProbeGuest g;
    g.start();
    g.queue().chain().writable(4).submit();
    g.notify();
    g.settle([&] { return g.line(); });
    CHECK(g.read<std::uint16_t>(0x1000) == 0); // not its width
    CHECK(g.line());
    CHECK(g.read<std::uint8_t>(0x1000) == 1);
    CHECK_FALSE(g.line());
    CHECK(g.read<std::uint8_t>(0x1000) == 0);
    CHECK(g.wires.rises == 1);
}

TEST_CASE("doorbells that nobody owns do nothing") {
    ProbeGuest g;
    g.start();
    g.turn();
    g.probe->notified.clear();
    for (unsigned offset = 0; offset < 0x1000; ++offset)
        if (offset != 0 && offset != 4)
            g.write<std::uint16_t>(0x3000 + offset, 0);
    g.write<std::uint8_t>(0x3000, 0);
    g.write<std::uint32_t>(0x3004, 0);
    g.turn();
    CHECK(g.probe->notified.empty());
    g.notify(1);
    g.turn();
    CHECK(g.probe->notified == std::vector<std::uint16_t>{1});
}

TEST_CASE("a device that has more to do is called again on a later turn") {
    ProbeGuest g;
    g.start();
    g.turn();
    g.probe->notified.clear();
    g.probe->again = 3;
    g.notify(1);
    g.settle([&] { return g.probe->notified.size() == 4; });
    g.turn();
    CHECK(g.probe->notified.size() == 4);
}

TEST_CASE("what was published before DRIVER_OK is served after it") {
    ProbeGuest g;
    g.set_status(1);
    g.set_status(3);
    g.accept(all_offered);
    g.set_status(11);
    g.make_queue(0);
    g.queue().chain().writable(4).submit();
    g.notify();
    g.turn();
    CHECK(g.queue().used_index() == 0);
    g.set_status(15);
    CHECK(g.wait_used().length == 4);
    REQUIRE(g.probe->queues.size() == 2);
    CHECK(g.probe->queues[1] == nullptr); // never enabled
    g.notify(1);
    g.turn();
}

TEST_CASE("doorbells of the backend follow the driver and the BAR") {
    DoorbellBackend backend;
    ProbeGuest g(&backend);
    CHECK(backend.bells.empty());
    g.start();
    CHECK(backend.bells.size() == 2);
    g.turn();
    g.probe->notified.clear();
    REQUIRE(backend.ring(g.base + 0x3004));
    g.turn();
    CHECK(g.probe->notified == std::vector<std::uint16_t>{1});

    auto moved = static_cast<std::uint32_t>(g.base) + 0x100000;
    g.set_config<std::uint32_t>(0x10, moved);
    CHECK(backend.bells.size() == 2);
    CHECK_FALSE(backend.ring(g.base + 0x3004));
    CHECK(backend.ring(moved + 0x3000));
    g.base = moved;
    CHECK(g.status() == 15);
    g.set_config<std::uint16_t>(4, 4); // decoding off
    CHECK(backend.bells.empty());
    g.set_config<std::uint16_t>(4, 6);
    CHECK(backend.bells.size() == 2);
    g.set_status(0);
    CHECK(backend.bells.empty());
    g.start();
    CHECK(backend.bells.size() == 2);
    g.host.reset();
    CHECK(backend.bells.empty());
}

TEST_CASE("a doorbell is never where the bus decodes somebody else") {
    DoorbellBackend backend;
    ProbeGuest g(&backend);
    g.start();
    auto home = static_cast<std::uint32_t>(g.base), taken = home + 0x100000;
    struct Other final : machine::Device {
        std::string_view name() const override { return "other"; }
        void read(std::uint64_t, MutableBytes) override {}
        void write(std::uint64_t, Bytes) override {}
    } other;
    REQUIRE(g.bus.insert(Space::memory, taken + 0x3000, 16, other));
    for (unsigned round = 0; round < 3; ++round) {
        g.set_config<std::uint32_t>(0x10, taken);
        CHECK(backend.bells.empty());
        CHECK(g.config<std::uint32_t>(0x10) == taken);
        g.set_config<std::uint32_t>(0x10, home);
        CHECK(backend.bells.size() == 2);
    }
    g.set_config<std::uint32_t>(0x10, taken);
    g.bus.remove(Space::memory, taken + 0x3000);
    g.set_config<std::uint32_t>(0x14, g.config<std::uint32_t>(0x14)); // there is room now
    CHECK(backend.bells.size() == 2);
    CHECK(backend.ring(taken + 0x3004));
}

TEST_CASE("without doorbells in the backend the register serves") {
    DoorbellBackend backend;
    backend.supported = false;
    ProbeGuest g(&backend);
    g.start();
    g.queue().chain().writable(4).submit();
    g.notify();
    CHECK(g.wait_used().length == 4);
}

TEST_CASE("without bus mastering there is no DMA, with it the rest follows") {
    ProbeGuest g;
    g.start();
    g.turn();
    g.set_config<std::uint16_t>(4, 2);
    g.queue().chain().writable(4).submit();
    g.notify();
    g.turn();
    CHECK(g.queue().used_index() == 0);
    CHECK(g.queue().used_flags() == 0);
    g.set_config<std::uint16_t>(4, 6);
    CHECK(g.wait_used().length == 4);
}

// "re-entrancy by DMA into a device" (QEMU CVE-2021-20255)

TEST_CASE("DMA into a BAR is refused") {
    Guest g(std::make_unique<Rng>("rng"));
    g.start();
    auto own = g.queue().chain().raw(g.base, 64, f_write).submit();
    g.notify();
    CHECK(g.wait_used() == Used{own.head, 0});
    CHECK(g.status() == 15);
    CHECK(g.transport->malformed_requests() == 1);
    // Nor can a ring lie there.
    g.reset();
    g.set_status(3);
    g.set_status(3);
    g.accept(g.offered());
    g.set_status(11);
    g.set_address(32, g.base);
    g.set_address(40, 0x20000);
    g.set_address(48, 0x30000);
    g.write<std::uint16_t>(28, 1);
    CHECK(g.read<std::uint16_t>(28) == 0);
    g.start();
    auto good = g.queue().chain().writable(16).submit();
    g.notify();
    CHECK(g.wait_used() == Used{good.head, 16});
}

TEST_CASE("the window in configuration space reaches the registers") {
    ProbeGuest g;
    unsigned window = 0;
    for (unsigned at = g.config<std::uint8_t>(0x34); at != 0; at = g.config<std::uint8_t>(at + 1))
        if (g.config<std::uint8_t>(at) == 0x09 && g.config<std::uint8_t>(at + 3) == 5)
            window = at;
    REQUIRE(window != 0);
    auto point = [&](std::uint8_t bar, std::uint32_t offset, std::uint32_t length) {
        g.set_config<std::uint8_t>(window + 4, bar);
        g.set_config<std::uint32_t>(window + 8, offset);
        g.set_config<std::uint32_t>(window + 12, length);
    };
    point(0, 18, 2);
    CHECK(g.config<std::uint16_t>(window + 16) == 2);
    CHECK(g.config<std::uint32_t>(window + 16) == 2);
    point(0, 20, 1);
    g.set_config<std::uint8_t>(window + 16, 1);
    CHECK(g.status() == 1);
    CHECK(g.config<std::uint8_t>(window + 16) == 1);
    point(0, 22, 2);
    g.set_config<std::uint32_t>(window + 16, 0xffff0001);
    CHECK(g.read<std::uint16_t>(22) == 1);
    point(0, 0x2004, 4);
    CHECK(g.config<std::uint32_t>(window + 16) == 0x07060504);
    CHECK(g.config<std::uint8_t>(window + 18) == 6);
    // Nothing that a BAR of this size could not be asked.
    const std::array<std::array<std::uint32_t, 3>, 8> bad = {{{1, 20, 1},
                                                              {0, 0x4000, 1},
                                                              {0, 0x3fff, 2},
                                                              {0, 20, 8},
                                                              {0, 20, 0},
                                                              {0, 20, 3},
                                                              {0, 0xffffffff, 1},
                                                              {0, 0xfffffffc, 4}}};
    for (auto [bar, offset, length] : bad) {
        point(static_cast<std::uint8_t>(bar), offset, length);
        g.set_config<std::uint32_t>(window + 16, 0);
        CHECK(g.config<std::uint32_t>(window + 16) == 0);
        CHECK(g.status() == 1);
    }
}

// Entropy

TEST_CASE("the entropy device fills what it is given, up to its limit") {
    Guest g(std::make_unique<Rng>("rng"));
    g.start();
    auto small = g.queue().chain().writable(16, 0).submit();
    auto two = g.queue().chain().writable(8, 0).writable(8, 0).submit();
    auto large = g.queue().chain().writable(limits::max_random_request_bytes + 100, 0).submit();
    auto readable = g.queue().chain().readable(16, 0).submit();
    auto mixed = g.queue().chain().readable(16, 0).writable(16, 0).submit();
    g.notify();
    CHECK(g.wait_used() == Used{small.head, 16});
    CHECK(g.wait_used() == Used{two.head, 16});
    CHECK(g.wait_used() == Used{large.head, limits::max_random_request_bytes});
    CHECK(g.wait_used() == Used{readable.head, 0});
    CHECK(g.wait_used() == Used{mixed.head, 16});
    CHECK(g.transport->malformed_requests() == 1);
    auto bytes = g.queue().contents(large.buffers[0]);
    auto tail = Bytes(bytes).subspan(limits::max_random_request_bytes);
    CHECK(std::all_of(tail.begin(), tail.end(), [](auto byte) { return byte == 0; }));
    std::array<unsigned, 256> counts{};
    for (auto byte : Bytes(bytes).first(limits::max_random_request_bytes))
        ++counts[byte];
    for (auto count : counts)
        CHECK((count > 150 && count < 380)); // 256 expected, sixteen deviations of it
    CHECK(g.queue().contents(small.buffers[0]) != g.queue().contents(mixed.buffers[1]));
}

TEST_CASE("a queue full of requests is served over several turns") {
    Guest g(std::make_unique<Rng>("rng"));
    g.start();
    for (unsigned i = 0; i < 64; ++i)
        g.queue().chain().writable(4, 0).submit();
    g.notify();
    for (unsigned i = 0; i < 64; ++i)
        CHECK(g.wait_used().length == 4);
    // Under an event index the next one needs to be announced: the event has moved along.
    g.turn();
    CHECK(g.queue().available_event() == 64);
}
