// The balloon over the guest's real memory, driven through PCI.
#include <catch2/catch.hpp>

#include <sys/mman.h>

#include "guest.h"
#include "machine/virtio/balloon.h"

using namespace vmhost;
using namespace vmhost::test;
using machine::virtio::Balloon;

namespace {

constexpr Gpa free_area = 0xc00000; // nobody else uses it

struct BalloonGuest : Guest {
    Balloon* balloon;
    explicit BalloonGuest(Interface interface = Interface::modern) {
        auto made = std::make_unique<Balloon>("vm-balloon", memory, bus.lock());
        balloon = made.get();
        add(std::move(made), nullptr, interface);
    }
    void dirty(Gpa start, std::uint64_t length) { REQUIRE(memory.fill(start, 0x5a, length)); }
    bool resident(Gpa page) {
        unsigned char here = 0;
        REQUIRE(::mincore(memory.slice(page, 4096)->data(), 4096, &here) == 0);
        return here & 1;
    }
    std::uint8_t first_byte(Gpa at) { return (*memory.slice(at, 1))[0]; }
    void send(std::uint16_t index, ChainBuilder& chain) {
        auto sent = chain.submit();
        notify(index);
        auto used = wait_used(index);
        CHECK(used.id == sent.head);
        CHECK(used.length == 0);
    }
    void inflate(std::initializer_list<std::uint32_t> pages) {
        ByteWriter raw;
        for (auto page : pages)
            raw.le(page);
        send(0, queue(0).chain().readable(raw.buffer()));
    }
};

} // namespace

TEST_CASE("pages in the balloon go back to the host") {
    BalloonGuest g;
    CHECK(g.config<std::uint32_t>(0) == 0x10451af4);
    CHECK((g.offered() & 0xffffff) == (1 << 2 | 1 << 5));
    CHECK(g.read<std::uint16_t>(18) == 5);
    g.start();
    g.dirty(free_area, 8 * 4096);
    constexpr std::uint32_t first = free_area / 4096;
    g.inflate({first + 3, first + 1, first + 2, first + 6});
    for (unsigned page : {1U, 2U, 3U, 6U}) {
        CHECK(!g.resident(free_area + page * 4096));
        CHECK(g.first_byte(free_area + page * 4096) == 0);
    }
    for (unsigned page : {0U, 4U, 5U, 7U})
        CHECK(g.first_byte(free_area + page * 4096) == 0x5a);
    CHECK(g.balloon->given_bytes() == 4 * 4096);
    g.send(1, g.queue(1).chain().readable(4, 0)); // deflating needs nothing
    CHECK(g.balloon->malformed_requests() == 0);
}

TEST_CASE("free pages are given back as they are reported, at either queue number") {
    auto index = GENERATE(std::uint16_t{2}, std::uint16_t{4});
    BalloonGuest g;
    g.start();
    g.dirty(free_area, 64 * 4096);
    g.send(index, g.queue(index)
                      .chain()
                      .raw(free_area + 4096, 8 * 4096, f_write)
                      .raw(free_area + 32 * 4096 + 100, 2 * 4096, f_write)); // one whole page in it
    CHECK(g.first_byte(free_area) == 0x5a);
    CHECK(g.first_byte(free_area + 4096) == 0);
    CHECK(g.first_byte(free_area + 8 * 4096) == 0);
    CHECK(g.first_byte(free_area + 9 * 4096) == 0x5a);
    CHECK(g.first_byte(free_area + 33 * 4096 - 1) == 0x5a);
    CHECK(g.first_byte(free_area + 33 * 4096) == 0);
    CHECK(g.first_byte(free_area + 34 * 4096) == 0x5a);
    CHECK(g.balloon->given_bytes() == 9 * 4096);
}

TEST_CASE("the host's target reaches the driver, and the driver's word the host") {
    BalloonGuest g;
    CHECK(!g.balloon->set_target_bytes(3 * 4096)); // nobody listens yet
    CHECK(g.read<std::uint32_t>(0x2000) == 3);
    g.start();
    CHECK(!g.line());
    auto generation = g.read<std::uint8_t>(21);
    CHECK(g.balloon->set_target_bytes(10 * 4096 + 4095));
    CHECK(g.line());
    CHECK(g.read<std::uint8_t>(PciTransport::isr_offset) == 2);
    CHECK(!g.line());
    CHECK(g.read<std::uint8_t>(21) != generation);
    CHECK(g.read<std::uint32_t>(0x2000) == 10);
    CHECK(g.balloon->set_target_bytes(10 * 4096)); // no news
    CHECK(!g.line());
    g.write<std::uint32_t>(0x2004, 7);
    g.write<std::uint32_t>(0x2000, 99); // not the driver's
    g.write<std::uint16_t>(0x2004, 1);
    CHECK(g.balloon->actual_bytes() == 7 * 4096);
    CHECK(g.read<std::uint32_t>(0x2000) == 10);
    g.reset();
    CHECK(g.balloon->actual_bytes() == 0);
    CHECK(g.read<std::uint32_t>(0x2000) == 10);
}

TEST_CASE("a change of the configuration has its own vector") {
    BalloonGuest g;
    g.start();
    g.set_config<std::uint16_t>(4, 0x406); // memory, master, no INTx
    g.fill_vector(0);
    g.set_msix_control(0x8000);
    g.write<std::uint16_t>(16, 0);
    CHECK(g.balloon->set_target_bytes(4096));
    REQUIRE(g.wires.messages.size() == 1);
    CHECK(g.wires.messages[0].second == 0x40);
}

TEST_CASE("hostile balloons give nothing that is not the guest's") {
    BalloonGuest g;
    g.start();
    constexpr std::uint32_t end = Guest::ram_bytes / 4096;
    g.dirty(free_area, 4096);
    g.inflate(
        {end, 0xffffffff, 0xfffffffe, 0x80000000}); // outside: two runs and one page, and the end
    CHECK(g.balloon->malformed_requests() == 3);
    g.inflate({end - 1, end, end + 1}); // half in
    CHECK(g.balloon->given_bytes() == 4096);
    g.send(0, g.queue(0).chain().readable(3, 0));
    g.send(0, g.queue(0).chain().readable(Balloon::max_request_bytes + 4, 0));
    g.send(0, g.queue(0).chain().readable(4, 0).writable(4));
    g.send(2, g.queue(2).chain().readable(4, 0));
    g.send(2, g.queue(2).chain().raw(free_area + 1, 4095, f_write)); // not one whole page
    CHECK(g.balloon->malformed_requests() == 8);
    g.inflate({}); // nothing is something
    CHECK(g.first_byte(free_area) == 0x5a);
    CHECK(g.balloon->given_bytes() == 4096);
}

TEST_CASE("memory that is no RAM is not given back") {
    machine::GuestMemory memory;
    REQUIRE(memory.add(0, 0x4000, true));
    REQUIRE(memory.add(0x4000, 0x4000, false));
    REQUIRE(memory.add(0x8000, 0x4000, true));
    std::vector<std::pair<Gpa, std::uint64_t>> told;
    REQUIRE(memory.fill(0, 0x5a, 0x4000));
    REQUIRE(memory.fill(0x4000, 0x5a, 0x4000));
    REQUIRE(memory.fill(0x8000, 0x5a, 0x4000));
    memory.on_written([&](Gpa at, std::uint64_t length) { told.emplace_back(at, length); });
    CHECK(memory.give_back(0x3000, 0x6000) == 0x2000);
    CHECK(told == std::vector<std::pair<Gpa, std::uint64_t>>{{0x3000, 0x1000}, {0x8000, 0x1000}});
    CHECK((*memory.slice(0x4000, 1))[0] == 0x5a);
    CHECK(memory.give_back(0x3001, 0xfff) == 0);
    CHECK(memory.give_back(~Gpa{0} - 10, ~std::uint64_t{0}) == 0);
    CHECK(memory.give_back(0x8000, ~std::uint64_t{0}) == 0x4000);
}
