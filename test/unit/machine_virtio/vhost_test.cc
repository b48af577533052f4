// Pairs of queues that vhost-net serves: when they go over, when they come back, and that nothing
// of what the guest published or is told is lost on the way. The kernel is a fake that works on the
// guest's rings as the real one does, by the places that it was told; the real one is asked too,
// where there is /dev/vhost-net.
#include "../machine_device/state.h"
#include "net_guest.h"

using namespace vmhost;
using namespace vmhost::test;
using namespace vmhost::machine::virtio;

namespace {

// One pair's kernel side.
struct Kernel {
    unsigned starts = 0, stops = 0;
    bool runs = false, refuses = false;
    Vhost::Order order;
    std::array<std::uint16_t, 2> next{};

    bool rung(unsigned ring) const { return take(order.rings[ring].wires.doorbell); }
    // Returns so many chains with this length, and interrupts.
    void serve(unsigned ring, unsigned count, std::uint32_t length = 0) {
        REQUIRE(runs);
        const auto& place = order.rings[ring].place;
        for (unsigned i = 0; i < count; ++i, ++next[ring]) {
            REQUIRE(next[ring] != word(place.available + 2));
            auto head = word(place.available + 4 + 2 * (next[ring] % place.size));
            auto* entry = place.used + 4 + 8 * (next[ring] % place.size);
            store_le<std::uint32_t>(MutableBytes(entry, 4), head);
            store_le<std::uint32_t>(MutableBytes(entry + 4, 4), length);
            auto index = static_cast<std::uint16_t>(next[ring] + 1);
            store_le<std::uint16_t>(MutableBytes(place.used + 2, 2), index);
        }
        signal(order.rings[ring].wires.interrupt);
    }
    void complain() const { signal(order.error); }

    static std::uint16_t word(const std::uint8_t* at) {
        return load_le<std::uint16_t>(Bytes(at, 2));
    }
    static void signal(int eventfd) {
        std::uint64_t one = 1;
        REQUIRE(::write(eventfd, &one, sizeof(one)) == sizeof(one));
    }
    static bool take(int eventfd) {
        std::uint64_t count = 0;
        return ::read(eventfd, &count, sizeof(count)) == sizeof(count);
    }
};

class FakeVhost final : public Vhost {
public:
    explicit FakeVhost(Kernel& kernel) : kernel_(kernel) {}
    Result<void> start(const Order& order) override {
        REQUIRE_FALSE(kernel_.runs);
        if (kernel_.refuses)
            return fail(ErrorKind::unsupported, "not today");
        ++kernel_.starts;
        kernel_.runs = true;
        kernel_.order = order;
        for (unsigned i = 0; i < 2; ++i)
            kernel_.next[i] = order.rings[i].place.next_available;
        return {};
    }
    void stop() override {
        ++kernel_.stops;
        kernel_.runs = false;
    }

private:
    Kernel& kernel_;
};

std::vector<std::unique_ptr<Vhost>> fakes(std::vector<Kernel>& kernels) {
    std::vector<std::unique_ptr<Vhost>> all;
    for (auto& kernel : kernels)
        all.push_back(std::make_unique<FakeVhost>(kernel));
    return all;
}

struct VhostGuest {
    explicit VhostGuest(unsigned pairs = 1,
                        PciTransport::Interface interface = PciTransport::Interface::modern)
        : kernels(pairs), g(pairs, {}, interface, fakes(kernels)) {}
    void start(std::uint64_t refuse = 0) {
        g.start(refuse);
        g.turn();
    }
    Kernel& kernel() { return kernels[0]; }
    std::vector<Kernel> kernels;
    NetGuest g;
};

} // namespace

TEST_CASE("vhost-net serves a pair once its driver is ready, and is rung for what was there") {
    VhostGuest v;
    auto& g = v.g;
    g.start();
    CHECK(v.kernel().starts == 0); // not before the loop turns: memory may not be there yet
    g.turn();
    REQUIRE(v.kernel().runs);
    const auto& order = v.kernel().order;
    CHECK(order.tap == g.taps[0].get());
    CHECK(order.memory == &g.memory);
    CHECK((order.features & (feature_version_1 | feature_event_index | net_mergeable)) ==
          (feature_version_1 | feature_event_index | net_mergeable));
    for (unsigned ring : {rx, tx}) {
        const auto& addresses = g.queue(static_cast<std::uint16_t>(ring)).addresses();
        const auto& place = order.rings[ring].place;
        CHECK(place.size == Net::queue_size);
        CHECK(place.next_available == 0);
        CHECK(place.descriptors == g.memory.slice(addresses.descriptors, 1)->data());
        CHECK(place.available == g.memory.slice(addresses.available, 1)->data());
        CHECK(place.used == g.memory.slice(addresses.used, 1)->data());
        CHECK(v.kernel().rung(ring));
    }
    CHECK(g.net->lends_frames());
    // Neither direction is ours.
    g.host_sends(frame(100, 1));
    g.offer_buffer();
    auto sent = g.guest_sends(frame(60, 2));
    for (int i = 0; i < 5; ++i)
        g.turn();
    CHECK(g.queue(rx).used_index() == 0);
    CHECK(g.queue(tx).used_index() == 0);
    CHECK(g.net->counters().sent_frames + g.net->counters().received_frames == 0);
    // A bell rung through the register is passed on.
    CHECK(v.kernel().rung(rx));
    CHECK(v.kernel().rung(tx));
    // One that the backend hears is the kernel's own.
    g.bells.ring(g.base + PciTransport::notify_offset + 4 * tx);
    g.turn();
    CHECK(v.kernel().rung(tx));
    v.kernel().serve(tx, 1);
    CHECK(g.wait_used(tx) == Used{sent.head, 0});
    g.settle([&] { return g.line(); });
}

TEST_CASE("vhost-net's interrupts follow what the guest says of its vectors") {
    VhostGuest v;
    auto& g = v.g;
    const bool bound = GENERATE(true, false); // by a backend that can, and by us
    g.bells.supported = bound;
    v.start();
    g.set_msix_control(0x8000);
    for (unsigned vector = 0; vector < 4; ++vector)
        g.fill_vector(vector);
    g.write<std::uint16_t>(22, tx);
    g.write<std::uint16_t>(26, 2);
    const int interrupt = v.kernel().order.rings[tx].wires.interrupt;
    auto arrives = [&](std::uint32_t data) {
        g.turn(); // whoever listens has changed
        g.wires.messages.clear();
        g.guest_sends(frame(60, 1));
        v.kernel().serve(tx, 1);
        if (bound) {
            CHECK(g.bells.message_of(interrupt) == data);
            for (int i = 0; i < 5; ++i)
                g.turn();
            CHECK(g.wires.messages.empty()); // the loop keeps out of it
            CHECK(Kernel::take(interrupt));
        } else {
            g.settle([&] { return !g.wires.messages.empty(); });
            CHECK(g.wires.messages[0].second == data);
        }
    };
    arrives(0x42);
    g.write_table<std::uint32_t>(16 * 2 + 8, 0x99); // elsewhere
    arrives(0x99);
    // Masked: it waits, and comes when it may.
    g.fill_vector(2, true);
    CHECK_FALSE(g.bells.message_of(interrupt));
    g.turn();
    g.wires.messages.clear();
    g.guest_sends(frame(60, 1));
    v.kernel().serve(tx, 1);
    for (int i = 0; i < 5; ++i)
        g.turn();
    CHECK(g.wires.messages.empty());
    g.fill_vector(2);
    REQUIRE(g.wires.messages.size() == 1);
    CHECK(g.wires.messages[0].second == 0x42);
    arrives(0x42);
    // An address where no interrupt is; another vector; none.
    g.write_table<std::uint64_t>(16 * 2, 0x1000);
    CHECK_FALSE(g.bells.message_of(interrupt));
    g.fill_vector(2);
    g.write<std::uint16_t>(26, 3);
    arrives(0x43);
    g.write<std::uint16_t>(26, 0x7fff);
    CHECK_FALSE(g.bells.message_of(interrupt));
    g.write<std::uint16_t>(26, 1);
    arrives(0x41);
    g.reset();
    CHECK(g.bells.messages.empty());
}

TEST_CASE("vhost-net stands still with the machine and goes on where it was") {
    VhostGuest v;
    auto& g = v.g;
    v.start();
    for (std::uint8_t i = 0; i < 5; ++i)
        g.guest_sends(frame(60, i));
    v.kernel().serve(tx, 3);
    {
        std::scoped_lock guard(g.bus.lock());
        g.transport->pause();
        CHECK_FALSE(v.kernel().runs);
        CHECK(g.line()); // an interrupt on its way has arrived
    }
    g.notify(tx);
    for (int i = 0; i < 5; ++i)
        g.turn();
    CHECK(v.kernel().starts == 1);
    {
        std::scoped_lock guard(g.bus.lock());
        g.transport->resume();
    }
    g.turn();
    REQUIRE(v.kernel().starts == 2);
    CHECK(v.kernel().order.rings[tx].place.next_available == 3);
    CHECK(v.kernel().order.rings[rx].place.next_available == 0);
    CHECK(v.kernel().rung(tx));
    v.kernel().serve(tx, 2);
    CHECK(g.queue(tx).used_index() == 5);
    CHECK(g.transport->malformed_requests() == 0);
}

TEST_CASE("vhost-net stops when the guest takes its memory away, or resets") {
    VhostGuest v;
    auto& g = v.g;
    v.start();
    g.guest_sends(frame(60, 1));
    v.kernel().serve(tx, 1);
    const auto command = g.config<std::uint16_t>(4);
    g.set_config<std::uint16_t>(4, command & ~4);
    CHECK_FALSE(v.kernel().runs);
    g.notify(tx);
    g.turn();
    CHECK_FALSE(v.kernel().runs);
    g.set_config<std::uint16_t>(4, command);
    g.turn();
    REQUIRE(v.kernel().runs);
    CHECK(v.kernel().order.rings[tx].place.next_available == 1);
    g.set_status(0);
    CHECK_FALSE(v.kernel().runs);
    g.notify(tx);
    g.turn();
    CHECK(v.kernel().starts == 2);
    v.start();
    REQUIRE(v.kernel().runs);
    CHECK(v.kernel().order.rings[tx].place.next_available == 0);
    CHECK(v.kernel().stops == 2);
}

TEST_CASE("a ring that vhost-net makes no sense of is ours until a reset") {
    VhostGuest v;
    auto& g = v.g;
    v.start();
    g.guest_sends(frame(60, 1));
    v.kernel().serve(tx, 1);
    // A frame that is none, in a chain that vhost-net takes and does not return; one behind it.
    auto none = g.queue(tx).chain().readable(11, 0).submit();
    auto next = g.guest_sends(frame(60, 2));
    v.kernel().complain();
    CHECK(g.wait_used(tx).length == 0);
    CHECK(g.wait_used(tx) == Used{none.head, 0});
    CHECK(g.wait_used(tx) == Used{next.head, 0});
    CHECK_FALSE(v.kernel().runs);
    CHECK(g.host_receives() == frame(60, 2));
    CHECK(g.net->counters().send_dropped == 1);
    // Both directions, and neither a notification nor a pause changes that.
    std::vector<Submitted> buffers = {g.offer_buffer()};
    g.host_sends(frame(100, 3));
    CHECK(g.guest_receives(buffers).back() == 3);
    {
        std::scoped_lock guard(g.bus.lock());
        g.transport->pause();
        g.transport->resume();
    }
    g.guest_sends(frame(60, 4));
    CHECK(g.host_receives() == frame(60, 4));
    CHECK(v.kernel().starts == 1);
    CHECK(g.status() == 15);
    // What is reported late says nothing of the next driver's rings.
    v.kernel().complain();
    v.start();
    REQUIRE(v.kernel().runs);
    for (int i = 0; i < 5; ++i)
        g.turn();
    CHECK(v.kernel().runs);
    CHECK(v.kernel().starts == 2);
}

TEST_CASE("an index that cannot be breaks the queue under vhost-net as without it") {
    VhostGuest v;
    auto& g = v.g;
    v.start();
    if (GENERATE(true, false)) { // the driver's own, or where we read how far vhost-net was
        g.queue(tx).set_available_index(Net::queue_size + 1);
    } else {
        g.guest_sends(frame(60, 1));
        v.kernel().serve(tx, 1);
        g.memory.write_le<std::uint16_t>(g.queue(tx).addresses().used + 2, 0x1234);
    }
    v.kernel().complain();
    g.settle([&] { return g.transport->malformed_requests() == 1; });
    g.notify(tx);
    g.turn();
    CHECK(g.transport->malformed_requests() == 1);
    CHECK(g.status() == 15);
    v.start();
    CHECK(v.kernel().runs);
}

TEST_CASE("without vhost-net's consent frames go through us") {
    VhostGuest v;
    auto& g = v.g;
    v.kernel().refuses = true;
    v.start();
    CHECK_FALSE(g.net->lends_frames());
    g.guest_sends(frame(60, 1));
    CHECK(g.host_receives() == frame(60, 1));
    std::vector<Submitted> buffers = {g.offer_buffer()};
    g.host_sends(frame(100, 2));
    CHECK(g.guest_receives(buffers).back() == 2);
    CHECK(g.line());
    g.bells.ring(g.base + PciTransport::notify_offset + 4 * tx);
    g.turn();
}

TEST_CASE("a queue that is alone is not lent") {
    VhostGuest v;
    auto& g = v.g;
    // Only the transmit queue is enabled.
    g.reset();
    g.set_status(3);
    g.accept(g.offered());
    g.set_status(11);
    g.make_queue(tx);
    g.set_status(15);
    g.turn();
    CHECK(v.kernel().starts == 0);
    g.guest_sends(frame(60, 1));
    CHECK(g.host_receives() == frame(60, 1));
}

TEST_CASE("pairs are lent as the driver takes them into use") {
    VhostGuest v(2);
    auto& g = v.g;
    v.start();
    CHECK(v.kernels[0].runs);
    CHECK_FALSE(v.kernels[1].runs);
    Command command{g, 4};
    REQUIRE(command(4, 0, std::uint16_t{2}) == 0);
    g.turn();
    REQUIRE(v.kernels[1].runs);
    CHECK(v.kernels[1].order.tap == g.taps[1].get());
    g.guest_sends(frame(60, 1), 0, 1);
    v.kernels[1].serve(tx, 1);
    REQUIRE(command(4, 0, std::uint16_t{1}) == 0);
    CHECK_FALSE(v.kernels[1].runs);
    CHECK(v.kernels[0].starts == 1); // undisturbed
    REQUIRE(command(4, 0, std::uint16_t{2}) == 0);
    REQUIRE(v.kernels[1].runs);
    CHECK(v.kernels[1].order.rings[tx].place.next_available == 1);
}

TEST_CASE("state: what vhost-net served goes on on a host without it, and back") {
    machine::Saved saved;
    std::vector<std::uint8_t> memory;
    auto keep = [&](NetGuest& g) {
        std::scoped_lock guard(g.bus.lock());
        g.transport->pause();
        saved = machine::save(*g.transport);
        auto all = g.memory.slice(0, Guest::ram_bytes);
        memory.assign(all->begin(), all->end());
    };
    {
        VhostGuest before;
        before.start();
        for (std::uint8_t i = 0; i < 4; ++i)
            before.g.guest_sends(frame(60, i));
        before.kernel().serve(tx, 2);
        keep(before.g);
    }
    {
        NetGuest without;
        REQUIRE(machine::load(*without.transport, saved).has_value());
        REQUIRE(without.memory.write(0, memory));
        CHECK(without.host_receives() == frame(60, 2));
        CHECK(without.host_receives() == frame(60, 3));
        keep(without);
    }
    VhostGuest after;
    REQUIRE(machine::load(*after.g.transport, saved).has_value());
    CHECK(after.kernel().starts == 0);
    REQUIRE(after.g.memory.write(0, memory));
    after.g.turn();
    REQUIRE(after.kernel().runs);
    CHECK(after.kernel().order.rings[tx].place.next_available == 4);
}

TEST_CASE("legacy drivers have vhost-net too, and can take single queues away from it") {
    VhostGuest v(1, PciTransport::Interface::transitional);
    auto& g = v.g;
    g.start_legacy(3);
    g.turn();
    REQUIRE(v.kernel().runs);
    CHECK((v.kernel().order.features & feature_version_1) == 0);
    while (v.kernel().rung(tx))
        ;
    g.notify_legacy(tx);
    g.turn();
    CHECK(v.kernel().rung(tx));
    g.write_port<std::uint16_t>(14, tx);
    g.write_port<std::uint32_t>(8, 0);
    CHECK_FALSE(v.kernel().runs);
    g.turn();
    CHECK(v.kernel().starts == 1); // one ring is none
    g.make_legacy_queue(tx);
    g.turn();
    CHECK(v.kernel().starts == 2);
    v.kernel().complain();
    g.settle([&] { return !v.kernel().runs; });
    CHECK(g.read_port<std::uint8_t>(18) == 7);
}

TEST_CASE("a device is destroyed under vhost-net's feet") {
    std::vector<Kernel> kernels(1);
    {
        NetGuest g(1, {}, PciTransport::Interface::modern, fakes(kernels));
        g.start();
        g.turn();
        REQUIRE(kernels[0].runs);
    }
    CHECK_FALSE(kernels[0].runs);
}

TEST_CASE("the real vhost-net moves frames, stops and goes on") {
    Fd device(::open("/dev/vhost-net", O_RDWR | O_CLOEXEC));
    if (!device) {
        WARN("skipped: no /dev/vhost-net");
        return;
    }
    std::vector<std::unique_ptr<Vhost>> vhosts;
    auto opened = open_vhost(device.get());
    REQUIRE(opened);
    vhosts.push_back(*std::move(opened));
    NetGuest g(1, {}, PciTransport::Interface::modern, std::move(vhosts));
    g.start();
    std::vector<Submitted> buffers;
    for (unsigned i = 0; i < 32; ++i)
        buffers.push_back(g.offer_buffer());
    for (std::uint8_t mark = 1; mark <= 3; ++mark) {
        g.guest_sends(frame(60, mark));
        CHECK(g.host_receives() == frame(60, mark));
        g.host_sends(frame(100, mark));
        CHECK(g.guest_receives(buffers).back() == mark);
        std::scoped_lock guard(g.bus.lock());
        g.transport->pause();
        g.transport->resume();
    }
    CHECK(g.net->lends_frames());
    CHECK(g.net->counters().sent_frames == 0); // it was not us
    // Nonsense is ours to answer: a chain outside memory.
    g.queue(tx).chain().raw(Guest::ram_bytes, 100).submit();
    g.guest_sends(frame(60, 9));
    CHECK(g.host_receives() == frame(60, 9));
    CHECK(g.transport->malformed_requests() == 1);
}
