// Split virtqueues against a driver that keeps the rules, and one that breaks them all.
#include <catch2/catch.hpp>

#include <array>
#include <atomic>
#include <numeric>
#include <thread>

#include "driver.h"

using namespace vmhost;
using namespace vmhost::test;
using machine::virtio::Chain;
using machine::virtio::Queue;

namespace {

constexpr Gpa low_end = 0x100000, high_start = 0x200000, high_end = 0x300000;

struct Fixture {
    GuestMemory memory;
    std::uint64_t reported_bytes = 0;
    std::unique_ptr<Queue> queue;
    std::unique_ptr<RingDriver> driver;
    unsigned interrupts = 0;

    explicit Fixture(std::uint16_t size = 8) {
        REQUIRE(memory.add(0, low_end, true));
        REQUIRE(memory.add(high_start, high_end - high_start, true));
        memory.on_written([this](Gpa, std::uint64_t length) { reported_bytes += length; });
        queue = std::make_unique<Queue>(memory, size);
        driver = std::make_unique<RingDriver>(memory, 0x10000, size, 0x40000);
        queue->on_interrupt([this] { ++interrupts; });
        queue->allow_indirect(true);
        REQUIRE(queue->enable(driver->addresses()));
    }
    void enable_again() {
        driver->start_over();
        queue->allow_indirect(true);
        REQUIRE(queue->enable(driver->addresses()));
    }
    // A good chain goes all the way: what every test of a bad one ends with.
    void require_works() {
        std::array<std::uint8_t, 3> question = {1, 2, 3};
        auto sent = driver->chain().readable(question).writable(4).submit();
        auto chain = queue->pop();
        REQUIRE(chain);
        std::uint8_t got[3] = {};
        REQUIRE(chain->read(0, got) == 3);
        CHECK(got[2] == 3);
        REQUIRE(chain->write(0, question) == 3);
        chain->complete(3);
        std::optional<Used> last;
        while (auto used = driver->used())
            last = used;
        REQUIRE(last);
        CHECK(*last == Used{sent.head, 3});
        CHECK(driver->contents(sent.buffers[1]) == std::vector<std::uint8_t>{1, 2, 3, 0xaa});
    }
    // The queue refuses what is in the ring, gives it back empty, and lives on.
    void require_malformed(std::uint16_t head) {
        auto before = queue->malformed();
        CHECK_FALSE(queue->pop());
        CHECK(queue->malformed() == before + 1);
        CHECK(driver->used() == Used{head, 0});
        CHECK(queue->in_flight() == 0);
        require_works();
    }
};

} // namespace

TEST_CASE("a chain is read, written and returned") {
    Fixture f;
    f.require_works();
    CHECK_FALSE(f.queue->pop());
    CHECK(f.queue->malformed() == 0);
    CHECK(f.reported_bytes > 0);
}

TEST_CASE("a chain of several buffers is one run of bytes") {
    Fixture f;
    std::vector<std::uint8_t> data(100);
    std::iota(data.begin(), data.end(), std::uint8_t{0});
    bool through_table = GENERATE(false, true);
    auto builder = f.driver->chain();
    builder.readable(Bytes(data).first(1)).readable(Bytes(data).subspan(1, 59));
    builder.readable(Bytes(data).subspan(60)).writable(10).writable(0).writable(30);
    if (through_table)
        builder.through_indirect_table();
    auto sent = builder.submit();
    auto chain = f.queue->pop();
    REQUIRE(chain);
    CHECK(chain->readable_bytes() == 100);
    CHECK(chain->writable_bytes() == 40);
    std::vector<std::uint8_t> got(200);
    CHECK(chain->read(0, got) == 100);
    CHECK(std::equal(data.begin(), data.end(), got.begin()));
    CHECK(chain->read(59, MutableBytes(got).first(2)) == 2);
    CHECK(got[0] == 59);
    CHECK(got[1] == 60);
    CHECK(chain->read(99, got) == 1);
    CHECK(chain->read(100, got) == 0);
    CHECK(chain->read(UINT64_MAX, got) == 0);
    CHECK(chain->write(5, data) == 35);
    CHECK(chain->write(40, data) == 0);
    CHECK(f.driver->contents(sent.buffers[3])[5] == 0);
    CHECK(f.driver->contents(sent.buffers[5])[29] == 34);

    std::vector<iovec> vectors;
    chain->gather_writable(8, 4, vectors);
    REQUIRE(vectors.size() == 2);
    CHECK(vectors[0].iov_len == 2);
    CHECK(vectors[1].iov_len == 2);
    chain->gather_readable(0, UINT64_MAX, vectors);
    CHECK(vectors.size() == 5);
}

TEST_CASE("a thousand chains pass through a small ring") {
    Fixture f(4);
    for (unsigned round = 0; round < 70'000; ++round) { // past the wrap of the 16-bit indexes
        auto head = static_cast<std::uint16_t>(round % 4);
        f.driver->put_descriptor(head, {0x50000, 4, f_write, 0});
        f.driver->offer(head);
        f.driver->publish();
        auto chain = f.queue->pop();
        REQUIRE(chain);
        chain->complete(4);
        auto used = f.driver->used();
        REQUIRE(used);
        REQUIRE(*used == Used{head, 4});
    }
    CHECK(f.queue->malformed() == 0);
}

TEST_CASE("a chain that is dropped goes back with length 0, exactly once") {
    Fixture f;
    auto sent = f.driver->chain().writable(8).submit();
    {
        auto chain = f.queue->pop();
        REQUIRE(chain);
        Chain moved = std::move(*chain);
        CHECK(moved.writable_bytes() == 8);
        CHECK(f.driver->used_index() == 0);
    }
    CHECK(f.driver->used() == Used{sent.head, 0});
    CHECK(f.driver->used_index() == 1);
    f.driver->chain().writable(8).submit();
    auto chain = f.queue->pop();
    chain->complete(8);
    chain->complete(8);
    CHECK(f.driver->used_index() == 2);
    CHECK(chain->write(0, std::vector<std::uint8_t>(8)) == 0);
}

TEST_CASE("an unpopped chain comes again, the one after it does not") {
    Fixture f;
    auto first = f.driver->chain().writable(8).submit();
    auto second = f.driver->chain().writable(9).submit();
    auto one = f.queue->pop();
    auto two = f.queue->pop();
    REQUIRE((one && two));
    f.queue->unpop(std::move(*two));
    CHECK(f.queue->in_flight() == 1);
    auto again = f.queue->pop();
    REQUIRE(again);
    CHECK(again->writable_bytes() == 9);
    f.queue->unpop(std::move(*one)); // not the last one: all that can be done is to return it
    CHECK(f.driver->used() == Used{first.head, 0});
    again->complete(1);
    CHECK(f.driver->used() == Used{second.head, 1});
    CHECK_FALSE(f.queue->pop());
}

// Ring addresses

TEST_CASE("rings must be aligned and inside memory") {
    GuestMemory memory;
    REQUIRE(memory.add(0, low_end, true));
    Queue queue(memory, 256);
    auto good = RingDriver(memory, 0x10000, 256, 0x40000).addresses();
    for (Gpa off : {1, 2, 4, 8}) {
        auto bad = good;
        bad.descriptors += off;
        CHECK_FALSE(queue.enable(bad));
    }
    auto bad = good;
    bad.available += 1;
    CHECK_FALSE(queue.enable(bad));
    for (Gpa off : {1, 2}) {
        bad = good;
        bad.used += off;
        CHECK_FALSE(queue.enable(bad));
    }
    for (Gpa edge : {low_end, low_end - 16, Gpa{0x180000}, Gpa{1} << 63, ~Gpa{15}}) {
        for (auto ring : {&machine::virtio::QueueAddresses::descriptors,
                          &machine::virtio::QueueAddresses::available,
                          &machine::virtio::QueueAddresses::used}) {
            bad = good;
            bad.*ring = edge;
            CHECK_FALSE(queue.enable(bad));
        }
    }
    CHECK_FALSE(queue.enabled());
    auto last = good;
    last.descriptors = low_end - 16 * 256;
    CHECK(queue.enable(last));
    CHECK_FALSE(queue.enable(good)); // not twice
}

TEST_CASE("a queue takes powers of two up to its size while it is not enabled") {
    GuestMemory memory;
    REQUIRE(memory.add(0, low_end, true));
    Queue queue(memory, 256);
    for (unsigned size = 0; size <= 0xffff; ++size) {
        bool good = size != 0 && size <= 256 && (size & (size - 1)) == 0;
        if (queue.set_size(static_cast<std::uint16_t>(size)) != good)
            FAIL("size " << size);
    }
    REQUIRE(queue.set_size(16));
    REQUIRE(queue.enable(RingDriver(memory, 0x10000, 16, 0x40000).addresses()));
    CHECK_FALSE(queue.set_size(8));
    queue.reset();
    CHECK(queue.size() == 256);
}

// Malformed chains: style.md's "chain loop or oversize", "descriptor bounds logic",
// "malformed chain leaks its head or wedges the device".

TEST_CASE("chain loops end: self-loop, two-cycle, longer than the queue") {
    Fixture f;
    SECTION("a descriptor that names itself") {
        f.driver->put_descriptor(3, {0x50000, 4, f_next, 3});
        f.driver->offer(3);
    }
    SECTION("two that name each other") {
        f.driver->put_descriptor(3, {0x50000, 4, f_next, 5});
        f.driver->put_descriptor(5, {0x50000, 4, f_next, 3});
        f.driver->offer(3);
    }
    SECTION("a loop of descriptors without length") {
        f.driver->put_descriptor(3, {0x50000, 0, f_next, 3});
        f.driver->offer(3);
    }
    SECTION("an indirect table that loops") {
        f.driver->put_descriptor(0x60000, 0, {0x50000, 4, f_next, 1});
        f.driver->put_descriptor(0x60000, 1, {0x50000, 4, f_next, 0});
        f.driver->put_descriptor(3, {0x60000, 32, f_indirect, 0});
        f.driver->offer(3);
    }
    SECTION("an indirect table with one descriptor more than the queue") {
        for (std::uint16_t i = 0; i < 9; ++i)
            f.driver->put_descriptor(
                0x60000, i,
                {0x50000, 4, i < 8 ? f_next : std::uint16_t{0}, static_cast<std::uint16_t>(i + 1)});
        f.driver->put_descriptor(3, {0x60000, 9 * 16, f_indirect, 0});
        f.driver->offer(3);
    }
    f.driver->publish();
    f.require_malformed(3);
}

TEST_CASE("a chain as long as the queue is fine, also in a table") {
    Fixture f;
    bool through_table = GENERATE(false, true);
    auto builder = f.driver->chain();
    for (unsigned i = 0; i < 8; ++i)
        builder.writable(1);
    if (through_table)
        builder.through_indirect_table();
    auto sent = builder.submit();
    auto chain = f.queue->pop();
    REQUIRE(chain);
    CHECK(chain->writable_bytes() == 8);
    chain->complete(0);
    CHECK(f.driver->used() == Used{sent.head, 0});
}

TEST_CASE("indirect tables that break the rules are malformed") {
    Fixture f;
    f.driver->put_descriptor(0x60000, 0, {0x50000, 4, 0, 0});
    SECTION("not a multiple of 16") {
        f.driver->put_descriptor(3, {0x60000, 24, f_indirect, 0});
    }
    SECTION("empty") {
        f.driver->put_descriptor(3, {0x60000, 0, f_indirect, 0});
    }
    SECTION("outside memory") {
        f.driver->put_descriptor(3, {low_end, 16, f_indirect, 0});
    }
    SECTION("partly outside memory") {
        f.driver->put_descriptor(3, {low_end - 16, 32, f_indirect, 0});
    }
    SECTION("at the end of the address space") {
        f.driver->put_descriptor(3, {~Gpa{15}, 32, f_indirect, 0});
    }
    SECTION("larger than memory") {
        f.driver->put_descriptor(3, {0x60000, 0xfffffff0, f_indirect, 0});
    }
    SECTION("followed by another descriptor") {
        f.driver->put_descriptor(4, {0x50000, 4, 0, 0});
        f.driver->put_descriptor(3, {0x60000, 16, f_indirect | f_next, 4});
    }
    SECTION("inside a table") {
        f.driver->put_descriptor(0x60000, 0, {0x60000, 16, f_indirect, 0});
        f.driver->put_descriptor(3, {0x60000, 16, f_indirect, 0});
    }
    SECTION("next outside the table") {
        f.driver->put_descriptor(0x60000, 0, {0x50000, 4, f_next, 1});
        f.driver->put_descriptor(3, {0x60000, 16, f_indirect, 0});
    }
    SECTION("not negotiated") {
        f.queue->allow_indirect(false);
        f.driver->put_descriptor(3, {0x60000, 16, f_indirect, 0});
    }
    f.driver->offer(3);
    f.driver->publish();
    f.require_malformed(3);
}

TEST_CASE("a table may follow ordinary descriptors") {
    Fixture f;
    f.driver->put_descriptor(0x60000, 0, {0x51000, 5, f_write, 0});
    f.driver->put_descriptor(3, {0x50000, 4, f_next, 4});
    f.driver->put_descriptor(4, {0x60000, 16, f_indirect, 0});
    f.driver->offer(3);
    f.driver->publish();
    auto chain = f.queue->pop();
    REQUIRE(chain);
    CHECK(chain->readable_bytes() == 4);
    CHECK(chain->writable_bytes() == 5);
}

TEST_CASE("readable after writable, and indexes beyond the queue, are malformed") {
    Fixture f;
    std::uint16_t head = 3;
    SECTION("order") {
        f.driver->put_descriptor(3, {0x50000, 4, f_write | f_next, 4});
        f.driver->put_descriptor(4, {0x50000, 4, 0, 0});
    }
    SECTION("next is the queue's size") {
        f.driver->put_descriptor(3, {0x50000, 4, f_next, 8});
    }
    SECTION("next is the last index") {
        f.driver->put_descriptor(3, {0x50000, 4, f_next, 0xffff});
    }
    SECTION("head is the queue's size") {
        head = 8;
    }
    SECTION("head is the last index") {
        head = 0xffff;
    }
    f.driver->offer(head);
    f.driver->publish();
    f.require_malformed(head);
}

TEST_CASE("every descriptor around each edge of memory (Firecracker CVE-2019-18960)") {
    Fixture f;
    const std::vector<Gpa> edges = {0,       low_end,      high_start,  high_end,
                                    ~Gpa{0}, Gpa{1} << 32, Gpa{1} << 63};
    std::vector<std::uint32_t> lengths = {
        1, 2, 15, 16, 4096, 0x100000, 0x100001, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    auto inside = [](Gpa address, std::uint64_t length) {
        return (address < low_end && length <= low_end - address) ||
               (address >= high_start && address < high_end && length <= high_end - address);
    };
    unsigned good = 0, bad = 0;
    for (auto edge : edges)
        for (int delta = -17; delta <= 17; ++delta)
            for (auto length : lengths) {
                auto address = edge + static_cast<Gpa>(static_cast<std::int64_t>(delta));
                auto sent = f.driver->chain().raw(address, length, f_write).submit();
                auto before = f.queue->malformed();
                auto chain = f.queue->pop();
                bool expected = inside(address, length);
                if (chain.has_value() != expected || (f.queue->malformed() == before) != expected)
                    FAIL("address " << address << " length " << length);
                if (chain) {
                    // The last byte is really there.
                    std::uint8_t byte = 0;
                    REQUIRE(chain->writable_bytes() == length);
                    if (address > 0x50000) // not over our own rings
                        REQUIRE(chain->write(length - 1, Bytes(&byte, 1)) == 1);
                    chain->complete(0);
                }
                REQUIRE(f.driver->used() == Used{sent.head, 0});
                ++(expected ? good : bad);
            }
    CHECK(good > 100);
    CHECK(bad > 1000);
    f.require_works();
}

TEST_CASE("a chain of more than four gigabytes is malformed, one byte less is not") {
    GuestMemory memory;
    REQUIRE(memory.add(0, 5 * GiB, true)); // touched where the rings are, nowhere else
    Queue queue(memory, 8);
    RingDriver driver(memory, 0x10000, 8, 0x40000);
    REQUIRE(queue.enable(driver.addresses()));
    driver.chain().raw(0, 0x80000000).raw(GiB, 0x7fffffff, f_write).submit();
    auto most = queue.pop();
    REQUIRE(most);
    CHECK(most->readable_bytes() + most->writable_bytes() == UINT32_MAX);
    driver.chain().raw(0, 0x80000000).raw(GiB, 0x80000000, f_write).submit();
    CHECK_FALSE(queue.pop());
    CHECK(queue.malformed() == 1);
}

TEST_CASE("a descriptor without length needs no place in memory") {
    Fixture f;
    f.driver->chain().raw(~Gpa{0}, 0).writable(4).submit();
    auto chain = f.queue->pop();
    REQUIRE(chain);
    CHECK(chain->readable_bytes() == 0);
    CHECK(chain->writable_bytes() == 4);
}

TEST_CASE("bad chains between good ones are skipped in one go") {
    Fixture f;
    auto bad = [&] { return f.driver->chain().raw(low_end, 1).prepare().head; };
    auto one = bad(), two = bad();
    auto good = f.driver->chain().writable(4).submit();
    auto three = f.driver->chain().raw(low_end, 1).submit();
    auto chain = f.queue->pop();
    REQUIRE(chain);
    chain->complete(4);
    CHECK_FALSE(f.queue->pop());
    for (auto expected : {Used{one, 0}, Used{two, 0}, Used{good.head, 4}, Used{three.head, 0}})
        CHECK(f.driver->used() == expected);
    CHECK(f.queue->malformed() == 3);
    f.queue->signal_used();
    CHECK(f.interrupts == 1); // also what was skipped is announced
}

// "available index ahead" (Cloud Hypervisor #7605)

TEST_CASE("an available index ahead of the queue stops it until reset, without spinning") {
    Fixture f;
    f.require_works();
    std::uint16_t ahead = GENERATE(as<std::uint16_t>(), 9, 0x7fff, 0x8000, 0xffff, 0xfff0);
    f.driver->set_available_index(static_cast<std::uint16_t>(1 + ahead));
    for (int i = 0; i < 1000; ++i)
        REQUIRE_FALSE(f.queue->pop());
    CHECK(f.queue->malformed() == 1); // counted once, not once per look
    CHECK(f.queue->broken());
    CHECK(f.driver->used_index() == 1);
    f.driver->set_available_index(1); // mending it is too late
    CHECK_FALSE(f.queue->pop());
    f.queue->reset();
    f.enable_again();
    f.require_works();
}

TEST_CASE("an available index that goes backwards is as bad as one ahead") {
    Fixture f;
    f.require_works();
    f.driver->set_available_index(0);
    CHECK_FALSE(f.queue->pop());
    CHECK(f.queue->broken());
}

// "unbounded requests in flight" (QEMU CVE-2016-5403)

TEST_CASE("never more in flight than the queue is long") {
    Fixture f;
    std::vector<Chain> held;
    f.driver->put_descriptor(0, {0x50000, 4, f_write, 0});
    for (unsigned i = 0; i < 8; ++i)
        f.driver->offer(0); // one buffer eight times: a liar, but within the queue's size
    f.driver->publish();
    while (auto chain = f.queue->pop())
        held.push_back(std::move(*chain));
    CHECK(held.size() == 8);
    CHECK(f.queue->in_flight() == 8);
    f.driver->offer(0);
    f.driver->publish();
    CHECK_FALSE(f.queue->pop());
    CHECK(f.queue->broken());
    CHECK(f.queue->in_flight() == 8);
    held.clear();
    CHECK(f.driver->used_index() == 8);
}

// "use after reset or completion" (QEMU CVE-2021-3748)

TEST_CASE("a chain from before a reset goes nowhere") {
    Fixture f;
    auto sent = f.driver->chain().readable(4, 1).writable(8).submit();
    auto chain = f.queue->pop();
    REQUIRE(chain);
    f.queue->reset();
    f.enable_again();
    CHECK_FALSE(chain->alive());
    std::uint8_t byte = 7;
    CHECK(chain->write(0, Bytes(&byte, 1)) == 0);
    CHECK(chain->read(0, MutableBytes(&byte, 1)) == 0);
    std::vector<iovec> vectors;
    chain->gather_writable(0, 8, vectors);
    CHECK(vectors.empty());
    auto before = f.reported_bytes;
    chain->report_written(0, 8); // what was under way reached memory all the same
    CHECK(f.reported_bytes == before + 8);
    chain->complete(8);
    CHECK(f.driver->used_index() == 0);
    CHECK(f.queue->in_flight() == 0);
    CHECK(f.driver->contents(sent.buffers[1])[0] == 0xaa);
    f.require_works();
}

TEST_CASE("a chain may outlive its queue and the memory") {
    auto f = std::make_unique<Fixture>();
    f->driver->chain().writable(8).submit();
    f->driver->chain().writable(8).submit();
    auto first = f->queue->pop(), second = f->queue->pop();
    REQUIRE((first && second));
    f.reset();
    std::uint8_t byte = 7;
    CHECK(first->write(0, Bytes(&byte, 1)) == 0);
    first->report_written(0, 8);
    first->complete(8);
    CHECK_FALSE(second->alive());
}

TEST_CASE("without DMA nothing is taken, and what is returned waits for it") {
    Fixture f;
    f.driver->chain().writable(8).submit();
    auto chain = f.queue->pop();
    REQUIRE(chain);
    f.driver->chain().writable(8).submit();
    f.queue->allow_dma(false);
    CHECK_FALSE(f.queue->pop());
    auto before = f.reported_bytes;
    chain->complete(8);
    f.queue->want_notifications(false);
    f.queue->signal_used();
    CHECK(f.reported_bytes == before);
    CHECK(f.driver->used_index() == 0);
    CHECK(f.interrupts == 0);
    CHECK(f.queue->in_flight() == 1);
    f.queue->allow_dma(true);
    CHECK(f.driver->used() == Used{0, 8});
    CHECK(f.interrupts == 1);
    CHECK(f.queue->in_flight() == 0);
    CHECK(f.queue->pop());
}

TEST_CASE("completions that wait for DMA keep their order, and a reset forgets them") {
    Fixture f;
    std::vector<Submitted> sent;
    std::vector<Chain> chains;
    for (unsigned i = 0; i < 8; ++i)
        sent.push_back(f.driver->chain().writable(8).submit());
    for (unsigned i = 0; i < 8; ++i)
        chains.push_back(*f.queue->pop());
    f.queue->allow_dma(false);
    for (unsigned i = 8; i-- > 1;)
        chains[i].complete(i);
    f.queue->allow_dma(true);
    for (unsigned i = 8; i-- > 1;)
        CHECK(f.driver->used() == Used{sent[i].head, i});
    f.queue->allow_dma(false);
    chains[0].complete(8);
    f.queue->reset();
    f.enable_again();
    f.queue->allow_dma(true);
    CHECK(f.driver->used_index() == 0);
    f.require_works();
}

TEST_CASE("storage of returned chains is kept, but no more than the limit says") {
    Fixture f(256);
    f.driver = std::make_unique<RingDriver>(f.memory, 0x10000, 256, 0x40000);
    f.queue->reset();
    f.enable_again();
    for (unsigned i = 0; i < 100; ++i) {
        ChainBuilder builder = f.driver->chain();
        for (unsigned piece = 0; piece < 200; ++piece)
            builder.raw(0x50000, 4, f_write);
        builder.through_indirect_table().submit();
    }
    {
        std::vector<Chain> chains;
        while (auto chain = f.queue->pop())
            chains.push_back(std::move(*chain));
        REQUIRE(chains.size() == 100);
        CHECK(chains[99].writable().size() == 200);
    }
    CHECK(f.queue->spare_bytes() == 0);
    {
        std::vector<Chain> chains;
        for (unsigned i = 0; i < 100; ++i) {
            f.driver->chain().raw(0x50000, 4, f_write).raw(0x50000, 4, f_write).submit();
            chains.push_back(*f.queue->pop());
        }
    }
    CHECK(f.queue->spare_bytes() > 0);
    CHECK(f.queue->spare_bytes() <=
          limits::max_spare_chains * limits::max_spare_segments * sizeof(machine::virtio::Segment));
    f.require_works();
}

// "time of check, time of use on descriptors"

TEST_CASE("descriptors that change while the device looks never lead outside memory") {
    Fixture f(8);
    f.driver->put_descriptor(0x60000, 0, {0x50000, 64, f_write, 0});
    std::atomic<bool> done = false;
    // A second processor of the guest that keeps rewriting what the first one published.
    std::jthread flipper([&] {
        auto raw = f.memory.slice(f.driver->addresses().descriptors, 16 * 8);
        auto poke = [&](unsigned index, const Descriptor& d) {
            auto at = raw->subspan(16 * index, 16);
            store_le<std::uint64_t>(at, d.address);
            store_le<std::uint32_t>(at.subspan(8), d.length);
            store_le<std::uint16_t>(at.subspan(12), d.flags);
            store_le<std::uint16_t>(at.subspan(14), d.following);
        };
        for (unsigned round = 0; !done; ++round) {
            poke(0, {0x50000, 64, f_write, 0});
            poke(0, {low_end - 32, 64, f_write, 0});
            poke(0, {0x50000, 0xffffffff, f_write | f_next, 0});
            poke(0, {0x60000, 16, f_indirect, 0});
            poke(0, {~Gpa{0} - 8, 64, f_next, static_cast<std::uint16_t>(round)});
        }
    });
    unsigned good = 0;
    std::vector<std::uint8_t> data(4096, 1);
    for (unsigned i = 0; i < 100'000; ++i) {
        f.driver->offer(0);
        f.driver->publish();
        if (auto chain = f.queue->pop()) {
            ++good;
            for (const auto& segment : chain->writable())
                if (!(segment.address < low_end && segment.length <= low_end - segment.address))
                    FAIL("segment outside memory");
            if (chain->writable().size() == 1 && chain->writable()[0].address == 0x50000)
                chain->write(0, data);
        }
    }
    done = true;
    flipper.join();
    CHECK(f.driver->used_index() == static_cast<std::uint16_t>(100'000));
    CHECK(good + f.queue->malformed() == 100'000);
    f.driver->put_descriptor(0, {0, 0, 0, 0});
    while (f.driver->used())
        ;
    f.require_works();
}

// Notifications and interrupts

TEST_CASE("interrupts follow the driver's flag") {
    Fixture f;
    auto round_trip = [&] {
        f.driver->chain().writable(4).submit();
        f.queue->pop()->complete(4);
        f.queue->signal_used();
    };
    round_trip();
    CHECK(f.interrupts == 1);
    f.queue->signal_used();
    CHECK(f.interrupts == 1); // nothing new
    f.driver->set_available_flags(1);
    round_trip();
    CHECK(f.interrupts == 1);
    f.driver->set_available_flags(0);
    round_trip();
    CHECK(f.interrupts == 2);
    f.queue->want_notifications(false);
    CHECK(f.driver->used_flags() == 1);
    f.queue->want_notifications(true);
    CHECK(f.driver->used_flags() == 0);
}

TEST_CASE("with an event index interrupts come when the driver's index is passed") {
    Fixture f;
    f.queue->use_event_index(true);
    auto round_trip = [&](unsigned count) {
        for (unsigned i = 0; i < count; ++i) {
            f.driver->chain().writable(4).submit();
            f.queue->pop()->complete(4);
        }
        f.queue->signal_used();
    };
    f.driver->set_available_flags(1); // means nothing now
    f.driver->set_used_event(0);
    round_trip(1);
    CHECK(f.interrupts == 1);
    f.driver->set_used_event(3); // the fourth completion
    round_trip(1);
    round_trip(1);
    CHECK(f.interrupts == 1);
    round_trip(1);
    CHECK(f.interrupts == 2);
    f.driver->set_used_event(6);
    round_trip(8); // the event lies inside the batch
    CHECK(f.interrupts == 3);
    f.driver->set_used_event(6); // long gone
    round_trip(8);
    CHECK(f.interrupts == 3);

    f.queue->want_notifications(false);
    CHECK(f.driver->used_flags() == 0); // the flag is not used, 2.7.7.2
    f.queue->want_notifications(true);
    CHECK(f.driver->available_event() == f.driver->available_index());
}

TEST_CASE("looking once more after asking for notifications loses nothing") {
    Fixture f;
    f.queue->use_event_index(true);
    CHECK_FALSE(f.queue->pop_or_wait());
    CHECK(f.driver->available_event() == 0);
    f.driver->chain().writable(4).submit();
    CHECK(f.queue->pop_or_wait());
    CHECK_FALSE(f.queue->pop_or_wait());
    CHECK(f.driver->available_event() == 1);
}
