// The block device over a real file, driven through PCI.
#include <catch2/catch.hpp>

#include <condition_variable>
#include <mutex>
#include <numeric>

#include <sys/stat.h>

#include "../disk/temporary.h"
#include "guest.h"
#include "machine/io_thread.h"
#include "machine/virtio/block.h"

using namespace vmhost;
using namespace vmhost::test;
using machine::virtio::Block;

namespace {

constexpr std::uint32_t type_in = 0, type_out = 1, type_flush = 4, type_get_id = 8,
                        type_discard = 11, type_write_zeroes = 13;
constexpr std::uint8_t ok = 0, io_error = 1, unsupported = 2;
constexpr std::uint64_t feature_flush = 1 << 9, feature_config_wce = 1 << 11;

std::vector<std::uint8_t> header(std::uint32_t type, std::uint64_t sector) {
    ByteWriter raw;
    raw.le(type);
    raw.le<std::uint32_t>(0);
    raw.le(sector);
    return raw.take();
}

// An image that can be held up and made to fail, and counts what it is asked; the bytes
// are in a real file behind it.
class Gate final : public disk::Image {
public:
    explicit Gate(std::unique_ptr<disk::Image> inner) : inner_(std::move(inner)) {}
    const std::string& name() const override { return inner_->name(); }
    std::uint64_t size_bytes() const override { return inner_->size_bytes(); }
    bool read_only() const override { return inner_->read_only(); }
    Result<void> readv(std::span<const iovec> into, std::uint64_t offset) override {
        Visit visit(*this);
        if (failing)
            return fail_errno(EIO, "image a.raw: read at {}", offset);
        return inner_->readv(into, offset);
    }
    Result<void> writev(std::span<const iovec> from, std::uint64_t offset) override {
        Visit visit(*this);
        if (failing)
            return fail_errno(ENOSPC, "image a.raw: write at {}", offset);
        return inner_->writev(from, offset);
    }
    Result<void> flush() override {
        Visit visit(*this);
        ++flushes;
        return inner_->flush();
    }
    Result<void> discard(std::uint64_t offset, std::uint64_t length) override {
        Visit visit(*this);
        if (failing)
            return fail_errno(EIO, "image a.raw: discard at {}", offset);
        discarded += length;
        return inner_->discard(offset, length);
    }
    Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap) override {
        Visit visit(*this);
        unmapping += may_unmap;
        return inner_->write_zeroes(offset, length, may_unmap);
    }
    // Only when it is near, else everything goes through the gate.
    std::optional<Direct> direct(std::uint64_t offset, std::uint64_t length, bool write) override {
        auto place = near ? inner_->direct(offset, length, write) : std::nullopt;
        if (place)
            place->hold = std::shared_ptr<void>(this, [](void* gate) {
                if (auto tell = std::exchange(static_cast<Gate*>(gate)->moved, {}))
                    tell();
            });
        return place;
    }
    void close() {
        std::scoped_lock guard(mutex_);
        open_ = false;
    }
    void open() {
        std::scoped_lock guard(mutex_);
        open_ = true;
        opened_.notify_all();
    }
    std::atomic<bool> failing = false, near = false;
    std::function<void()> moved; // called once, when a near request was moved
    std::atomic<unsigned> flushes = 0, inside = 0, visits = 0, unmapping = 0;
    std::atomic<std::uint64_t> discarded = 0;

private:
    struct Visit {
        explicit Visit(Gate& entered) : gate(entered) {
            ++gate.inside;
            ++gate.visits;
            std::unique_lock guard(gate.mutex_);
            gate.opened_.wait(guard, [this] { return gate.open_; });
        }
        ~Visit() { --gate.inside; }
        Gate& gate;
    };
    std::unique_ptr<disk::Image> inner_;
    std::mutex mutex_;
    std::condition_variable opened_;
    bool open_ = true;
};

struct Disk {
    TemporaryDirectory directory;
    std::unique_ptr<Gate> gate;

    explicit Disk(std::uint64_t size_bytes = MiB, bool read_only = false) {
        auto path = directory / "a.raw";
        REQUIRE(disk::create_raw(path, size_bytes));
        gate = std::make_unique<Gate>(
            *disk::Image::open_raw(*disk::open_image(path, read_only), read_only, "a.raw"));
    }
};

struct BlockGuest : Disk, Guest {
    machine::IoThread io; // not running but where a test starts it
    Block* block;
    explicit BlockGuest(std::uint64_t size_bytes = MiB, bool read_only = false,
                        unsigned queue_count = 1, machine::IoLimit limit = {},
                        bool own_thread = false)
        : Disk(size_bytes, read_only) {
        if (own_thread)
            device_loop = &io.loop();
        auto made =
            std::make_unique<Block>(Block::Settings{.name = "vm-disk0",
                                                    .serial = "serial-number-1",
                                                    .queues = queue_count,
                                                    .limit = limit},
                                    *gate, own_thread ? io.loop() : loop, bus.lock(), clock);
        block = made.get();
        add(std::move(made));
    }
    ~BlockGuest() {
        gate->open();
        io.stop();
        host.reset(); // before the image
    }

    struct Answer {
        std::uint8_t status = 0xff;
        std::uint32_t length = 0;
        std::vector<std::uint8_t> data;
    };
    Answer answer_to(const Submitted& sent, std::uint16_t index = 0) {
        notify(index);
        auto used = wait_used(index);
        CHECK(used.id == sent.head);
        Answer answer;
        answer.length = used.length;
        answer.status = queue().contents(sent.buffers.back()).back();
        for (const auto& buffer : sent.buffers)
            if ((buffer.flags & f_write) && &buffer != &sent.buffers.back()) {
                auto bytes = queue().contents(buffer);
                answer.data.insert(answer.data.end(), bytes.begin(), bytes.end());
            }
        return answer;
    }
    Answer read_sectors(std::uint64_t sector, std::size_t size_bytes) {
        return answer_to(queue()
                             .chain()
                             .readable(header(type_in, sector))
                             .writable(size_bytes)
                             .writable(1)
                             .submit());
    }
    Answer write_sectors(std::uint64_t sector, Bytes data) {
        return answer_to(
            queue().chain().readable(header(type_out, sector)).readable(data).writable(1).submit());
    }
    Answer change_ranges(std::uint32_t type, Bytes ranges) {
        return answer_to(
            queue().chain().readable(header(type, 0)).readable(ranges).writable(1).submit());
    }
    Answer change_range(std::uint32_t type, std::uint64_t sector, std::uint32_t sectors,
                        std::uint32_t flags = 0) {
        ByteWriter raw;
        raw.le(sector);
        raw.le(sectors);
        raw.le(flags);
        return change_ranges(type, raw.buffer());
    }
    std::uint64_t allocated_bytes() {
        struct stat status {};
        REQUIRE(::stat((directory / "a.raw").c_str(), &status) == 0);
        return static_cast<std::uint64_t>(status.st_blocks) * 512;
    }
    Answer command(std::uint32_t type) {
        return answer_to(queue().chain().readable(header(type, 0)).writable(1).submit());
    }
};

std::vector<std::uint8_t> pattern(std::size_t size_bytes, std::uint8_t first = 1) {
    std::vector<std::uint8_t> data(size_bytes);
    std::iota(data.begin(), data.end(), first);
    return data;
}

} // namespace

TEST_CASE("the disk says how large it is and what it can") {
    BlockGuest g(MiB + 100);
    CHECK(g.config<std::uint32_t>(0) == 0x10421af4);
    CHECK(g.config<std::uint16_t>(10) == 0x0100);
    CHECK((g.offered() & 0xffffff) ==
          (1 << 2 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 13 | 1 << 14));
    CHECK(g.read<std::uint32_t>(0x2000) == 2048); // the remainder is dropped
    CHECK(g.read<std::uint32_t>(0x2004) == 0);
    CHECK(g.read<std::uint32_t>(0x200c) == 254);
    CHECK(g.read<std::uint32_t>(0x2014) == 512);
    CHECK(g.read<std::uint8_t>(0x2018) == 3); // blocks of 4 KiB below
    CHECK(g.read<std::uint8_t>(0x2020) == 1); // write-back
    CHECK(g.read<std::uint16_t>(0x2022) == 1);
    CHECK(g.read<std::uint32_t>(0x2024) == limits::max_discard_sectors);
    CHECK(g.read<std::uint32_t>(0x2028) == limits::max_discard_ranges);
    CHECK(g.read<std::uint32_t>(0x2030) == limits::max_write_zeroes_sectors);
    CHECK(g.read<std::uint32_t>(0x2034) == 1);
    g.start();
    auto answer = g.answer_to(
        g.queue().chain().readable(header(type_get_id, 0)).writable(20).writable(1).submit());
    CHECK(answer.status == ok);
    CHECK(answer.length == 21);
    CHECK(std::string(answer.data.begin(), answer.data.end()) ==
          std::string("serial-number-1\0\0\0\0\0", 20));
}

TEST_CASE("what was written is read back, however it is cut into buffers") {
    BlockGuest g;
    g.start(GENERATE(std::uint64_t{0}, machine::virtio::feature_event_index));
    auto data = pattern(8 * 512);
    auto written = g.write_sectors(100, data);
    CHECK(written.status == ok);
    CHECK(written.length == 1);
    auto read = g.read_sectors(100, data.size());
    CHECK(read.status == ok);
    CHECK(read.length == data.size() + 1);
    CHECK(read.data == data);
    CHECK(g.line());

    // Header in two pieces, data in uneven ones, the status at the end of a data buffer.
    auto head = header(type_in, 100);
    auto sent = g.queue()
                    .chain()
                    .readable(Bytes(head).first(5))
                    .readable(Bytes(head).subspan(5))
                    .writable(1)
                    .writable(4000)
                    .writable(4096 - 4001 + 1)
                    .submit();
    auto answer = g.answer_to(sent);
    CHECK(answer.status == ok);
    CHECK(answer.length == 4097);
    auto all = answer.data;
    auto last = g.queue().contents(sent.buffers.back());
    all.insert(all.end(), last.begin(), last.end() - 1);
    CHECK(all == data);
    // Header and data in one buffer, through a table.
    auto whole = header(type_out, 7);
    whole.insert(whole.end(), data.begin(), data.end());
    CHECK(
        g.answer_to(g.queue().chain().readable(whole).writable(1).through_indirect_table().submit())
            .status == ok);
    CHECK(g.read_sectors(7, data.size()).data == data);
}

TEST_CASE("a flush reaches the image; without FLUSH every write is made stable") {
    BlockGuest g;
    g.start();
    CHECK(g.write_sectors(0, pattern(512)).status == ok);
    CHECK(g.gate->flushes == 0);
    CHECK(g.command(type_flush).status == ok);
    CHECK(g.gate->flushes == 1);
    g.start(feature_flush);
    CHECK(g.write_sectors(0, pattern(512)).status == ok);
    CHECK(g.gate->flushes == 2);
    CHECK(g.read_sectors(0, 512).status == ok);
    CHECK(g.gate->flushes == 2);
}

TEST_CASE("sectors outside the disk are I/O errors, whatever the arithmetic") {
    BlockGuest g; // 2048 sectors
    g.start();
    for (std::uint64_t sector :
         {std::uint64_t{2048}, std::uint64_t{2047}, UINT64_MAX, UINT64_MAX / 512,
          UINT64_MAX / 512 + 1, std::uint64_t{1} << 55, std::uint64_t{1} << 63, UINT64_MAX - 1}) {
        CHECK(g.read_sectors(sector, 1024).status == io_error);
        CHECK(g.write_sectors(sector, pattern(1024)).status == io_error);
    }
    CHECK(g.read_sectors(2046, 1024).status == ok);
    CHECK(g.read_sectors(0, 511).status == io_error);
    CHECK(g.read_sectors(0, 513).status == io_error);
    CHECK(g.write_sectors(0, pattern(100)).status == io_error);
    CHECK(g.read_sectors(2048, 0).status == ok); // nothing, from the very end
    CHECK(g.gate->visits == 2);
    CHECK(g.transport->malformed_requests() == 0);
}

TEST_CASE("what is published while requests are moved is found without a doorbell") {
    BlockGuest g;
    g.gate->near = true;
    g.start(machine::virtio::feature_event_index); // flags say it plainly
    std::uint16_t flags_meanwhile = 0;
    Submitted late;
    g.gate->moved = [&] {
        flags_meanwhile = g.queue().used_flags();
        late = g.queue().chain().readable(header(type_in, 3)).writable(512).writable(1).submit();
    };
    REQUIRE(g.write_sectors(3, pattern(512)).status == ok);
    CHECK(g.wait_used() == Used{late.head, 513});
    CHECK(g.queue().contents(late.buffers[1]) == pattern(512));
    CHECK(flags_meanwhile == 1);        // need not ring
    CHECK(g.queue().used_flags() == 0); // needs to again
    CHECK(g.read_sectors(3, 512).data == pattern(512));
    CHECK(g.gate->visits == 0);
}

TEST_CASE("unknown requests are unsupported") {
    BlockGuest g;
    g.start();
    for (std::uint32_t type : {2U, 3U, 5U, 6U, 7U, 9U, 10U, 12U, 14U, 0x80000000U, 0xffffffffU}) {
        auto answer = g.command(type);
        CHECK(answer.status == unsupported);
        CHECK(answer.length == 1);
    }
}

TEST_CASE("a request without header or status is malformed, and the next one works") {
    BlockGuest g;
    g.start();
    auto head = header(type_in, 0);
    std::vector<Submitted> bad;
    bad.push_back(g.queue().chain().readable(head).submit());
    bad.push_back(g.queue().chain().writable(513).submit());
    bad.push_back(g.queue().chain().readable(Bytes(head).first(15)).writable(513).submit());
    bad.push_back(
        g.queue().chain().readable(Bytes(head).first(8)).writable(8).writable(1).submit());
    g.notify();
    for (auto& sent : bad)
        CHECK(g.wait_used() == Used{sent.head, 0});
    CHECK(g.transport->malformed_requests() == 4);
    CHECK(g.read_sectors(0, 512).status == ok);
}

TEST_CASE("a read-only disk takes no writes") {
    BlockGuest g(MiB, true);
    CHECK((g.offered() & (1 << 5)) != 0);
    CHECK((g.offered() & (1 << 13 | 1 << 14)) == 0);
    g.start();
    CHECK(g.change_range(type_discard, 0, 8).status == io_error);
    CHECK(g.change_range(type_write_zeroes, 0, 8).status == io_error);
    CHECK(g.write_sectors(0, pattern(512)).status == io_error);
    CHECK(g.read_sectors(0, 512).status == ok);
    CHECK(g.command(type_flush).status == ok);
}

TEST_CASE("an image that fails is an I/O error to the guest, and nothing more") {
    BlockGuest g;
    g.start();
    g.gate->failing = true;
    auto read = g.read_sectors(0, 512);
    CHECK(read.status == io_error);
    CHECK(read.length == 1);
    CHECK(g.write_sectors(0, pattern(512)).status == io_error);
    CHECK(g.block->counters().failed == 2);
    CHECK(g.block->counters().reads + g.block->counters().writes == 0);
    g.gate->failing = false;
    CHECK(g.read_sectors(0, 512).status == ok);
    CHECK(g.write_sectors(0, pattern(1024)).status == ok);
    CHECK(g.block->counters().reads == 1);
    CHECK(g.block->counters().read_bytes == 512);
    CHECK(g.block->counters().writes == 1);
    CHECK(g.block->counters().written_bytes == 1024);
}

TEST_CASE("each failure is the guest's, a log line comes once in a while") {
    BlockGuest g;
    g.start();
    g.gate->failing = true;
    for (unsigned round = 1; round <= 3; ++round) {
        for (unsigned i = 0; i < 20; ++i)
            CHECK(g.read_sectors(0, 512).status == io_error);
        CHECK(g.block->failure_log_lines() == round);
        g.clock.advance(limits::io_failure_log_interval_ms * 1'000'000);
    }
    CHECK(g.block->counters().failed == 60);
}

TEST_CASE("discarded ranges give their space back and read as zeros, others stay") {
    BlockGuest g(8 * MiB);
    g.start();
    auto data = pattern(2 * MiB);
    REQUIRE(g.write_sectors(0, data).status == ok);
    REQUIRE(g.command(type_flush).status == ok);
    auto before = g.allocated_bytes();
    ByteWriter ranges;
    for (std::uint64_t sector : {std::uint64_t{2048}, std::uint64_t{512}}) {
        ranges.le(sector);
        ranges.le<std::uint32_t>(1024);
        ranges.le<std::uint32_t>(0);
    }
    auto answer = g.change_ranges(type_discard, ranges.buffer());
    CHECK(answer.status == ok);
    CHECK(answer.length == 1);
    CHECK(g.gate->discarded == 1 * MiB);
    CHECK(g.block->counters().discarded_bytes == 1 * MiB);
    CHECK(g.allocated_bytes() + MiB <= before);
    CHECK(g.read_sectors(2048, 4096).data == std::vector<std::uint8_t>(4096, 0));
    CHECK(g.read_sectors(512, 4096).data == std::vector<std::uint8_t>(4096, 0));
    CHECK(g.read_sectors(0, 4096).data == pattern(4096));
}

TEST_CASE("zeros are written, with or without giving space back") {
    BlockGuest g;
    g.start();
    REQUIRE(g.write_sectors(0, pattern(64 * KiB)).status == ok);
    CHECK(g.change_range(type_write_zeroes, 8, 8).status == ok);
    CHECK(g.gate->unmapping == 0);
    CHECK(g.change_range(type_write_zeroes, 24, 8, 1).status == ok);
    CHECK(g.gate->unmapping == 1);
    auto data = pattern(64 * KiB);
    std::fill(data.begin() + 4096, data.begin() + 8192, std::uint8_t{0});
    std::fill(data.begin() + 12288, data.begin() + 16384, std::uint8_t{0});
    CHECK(g.read_sectors(0, 64 * KiB).data == data);
    CHECK(g.block->counters().zeroed_bytes == 8192);
}

TEST_CASE("ranges that are wrong are refused before anything is done") {
    BlockGuest g; // 2048 sectors
    g.start();
    for (auto type : {type_discard, type_write_zeroes}) {
        CHECK(g.change_range(type, 2048, 1).status == io_error);
        CHECK(g.change_range(type, 2047, 2).status == io_error);
        CHECK(g.change_range(type, UINT64_MAX, 2).status == io_error);
        CHECK(g.change_range(type, 0, UINT32_MAX).status == io_error);
        CHECK(g.change_range(type, 0, 8, 2).status == unsupported);
        CHECK(g.change_range(type, 0, 0).status == ok); // nothing
        CHECK(g.change_ranges(type, {}).status == ok);
        CHECK(g.change_ranges(type, std::vector<std::uint8_t>(15, 0)).status == io_error);
        CHECK(g.change_ranges(type, std::vector<std::uint8_t>(17 * 16, 0)).status == io_error);
    }
    CHECK(g.change_range(type_discard, 0, 8, 1).status == unsupported);
    ByteWriter two;
    for (std::uint64_t sector : {std::uint64_t{0}, std::uint64_t{4096}}) {
        two.le(sector);
        two.le<std::uint64_t>(8);
    }
    CHECK(g.change_ranges(type_discard, two.buffer()).status == io_error);
    CHECK(g.change_ranges(type_write_zeroes, two.buffer()).status == io_error);
    CHECK(g.gate->visits == 0);
    BlockGuest large(4ULL << 30);
    large.start();
    CHECK(large.change_range(type_discard, 0, limits::max_discard_sectors).status == ok);
    CHECK(large.change_range(type_discard, 0, limits::max_discard_sectors + 1).status == io_error);
    CHECK(large.change_range(type_write_zeroes, 0, limits::max_write_zeroes_sectors + 1).status ==
          io_error);
    large.gate->failing = true;
    CHECK(large.change_range(type_discard, 0, 8).status == io_error);
}

TEST_CASE("the driver chooses between write-back and write-through") {
    BlockGuest g;
    g.start();
    CHECK(g.write_sectors(0, pattern(512)).status == ok);
    CHECK(g.gate->flushes == 0);
    g.write<std::uint8_t>(0x2020, 0);
    CHECK(g.read<std::uint8_t>(0x2020) == 0);
    CHECK(g.write_sectors(0, pattern(512)).status == ok);
    CHECK(g.gate->flushes == 1);
    CHECK(g.change_range(type_write_zeroes, 8, 8).status == ok);
    CHECK(g.gate->flushes == 2);
    g.write<std::uint8_t>(0x2020, 1);
    CHECK(g.write_sectors(0, pattern(512)).status == ok);
    CHECK(g.gate->flushes == 2);
    // The rest of the configuration cannot be written.
    for (unsigned offset = 0; offset < 64; ++offset)
        if (offset != 0x20)
            g.write<std::uint8_t>(0x2000 + offset, 0x5a);
    CHECK(g.read<std::uint32_t>(0x2000) == 2048);
    CHECK(g.read<std::uint32_t>(0x2014) == 512);
    // Without FLUSH there is nobody who would empty a cache.
    g.start(feature_flush);
    CHECK(g.read<std::uint8_t>(0x2020) == 0);
    g.start(feature_flush | feature_config_wce);
    CHECK(g.write_sectors(0, pattern(512)).status == ok);
    CHECK(g.gate->flushes == 3);
    g.start();
    CHECK(g.read<std::uint8_t>(0x2020) == 1); // a reset forgets
}

TEST_CASE("several queues: each has its own requests, vector and doorbell") {
    BlockGuest g(MiB, false, 9);
    CHECK((g.offered() & (1 << 12)) != 0);
    CHECK(g.read<std::uint16_t>(18) == limits::max_block_queues);
    CHECK(g.read<std::uint16_t>(0x2022) == limits::max_block_queues);
    g.start();
    for (unsigned vector = 0; vector <= limits::max_block_queues; ++vector)
        g.fill_vector(vector);
    g.set_msix_control(0x8000);
    for (std::uint16_t i = 0; i < limits::max_block_queues; ++i) {
        g.write<std::uint16_t>(22, i);
        g.write<std::uint16_t>(26, static_cast<std::uint16_t>(i + 1));
    }
    for (std::uint16_t i = 0; i < limits::max_block_queues; ++i) {
        g.wires.messages.clear();
        auto data = pattern(512, static_cast<std::uint8_t>(i + 1));
        auto sent =
            g.queue(i).chain().readable(header(type_out, i)).readable(data).writable(1).submit();
        CHECK(g.answer_to(sent, i).status == ok);
        REQUIRE(g.wires.messages.size() == 1);
        CHECK(g.wires.messages[0].second == 0x41U + i);
        CHECK(g.read_sectors(i, 512).data == data);
    }
    // All at once, and none waits for another queue's.
    std::vector<std::pair<std::uint16_t, Submitted>> all;
    for (unsigned round = 0; round < 50; ++round)
        for (std::uint16_t i = 0; i < limits::max_block_queues; ++i)
            all.emplace_back(
                i,
                g.queue(i).chain().readable(header(type_in, i)).writable(512).writable(1).submit());
    for (std::uint16_t i = 0; i < limits::max_block_queues; ++i)
        g.notify(i);
    g.settle([&] {
        for (std::uint16_t i = 0; i < limits::max_block_queues; ++i)
            if (g.queue(i).used_index() != g.queue(i).available_index())
                return false;
        return true;
    });
    for (const auto& [i, sent] : all)
        CHECK(g.queue(i).contents(sent.buffers[1])[0] == i + 1);
    CHECK(g.block->outstanding() == 0);
}

TEST_CASE("a limit keeps requests waiting with the guest, and loses none") {
    BlockGuest g(MiB, false, 1, {.operations_per_s = 100, .burst_ms = 50});
    g.start();
    std::vector<Submitted> sent;
    for (unsigned i = 0; i < 60; ++i)
        sent.push_back(
            g.queue().chain().readable(header(type_in, i)).writable(512).writable(1).submit());
    g.notify();
    g.settle([&] { return g.queue().used_index() >= 5; });
    g.turn();
    CHECK(g.queue().used_index() <= 7);
    g.notify(); // asking again does not help
    g.turn();
    CHECK(g.queue().used_index() <= 7);
    for (unsigned ms = 0; ms < 600; ms += 10) {
        g.clock.advance(10'000'000);
        g.turn(); // in which the device's thread hears of it
        g.settle([&] { return g.block->outstanding() == 0; });
        CHECK(g.queue().used_index() <= 7 + (ms + 10) / 10);
    }
    CHECK(g.queue().used_index() == 60);
    // A reset while requests wait, and a new driver.
    for (unsigned i = 0; i < 20; ++i)
        g.queue().chain().readable(header(type_flush, 0)).writable(1).submit();
    g.notify();
    g.turn();
    g.reset();
    g.clock.advance(1'000'000'000);
    g.start();
    CHECK(g.read_sectors(0, 512).status == ok);
}

TEST_CASE("a hundred requests at once all come back, each with its own data") {
    BlockGuest g;
    g.start();
    std::vector<Submitted> writes, reads;
    for (std::uint8_t i = 0; i < 80; ++i)
        writes.push_back(
            g.queue().chain().readable(header(type_out, i)).readable(512, i).writable(1).submit());
    g.notify();
    for (unsigned i = 0; i < 80; ++i)
        CHECK(g.wait_used().length == 1);
    for (std::uint8_t i = 0; i < 80; ++i)
        reads.push_back(g.queue()
                            .chain()
                            .readable(header(type_in, i))
                            .writable(512, 0xff)
                            .writable(1)
                            .submit());
    g.notify();
    for (unsigned i = 0; i < 80; ++i)
        CHECK(g.wait_used().length == 513);
    for (std::uint8_t i = 0; i < 80; ++i)
        CHECK(g.queue().contents(reads[i].buffers[1]) == std::vector<std::uint8_t>(512, i));
    CHECK(g.block->counters().written_bytes == 80 * 512);
    CHECK(g.block->outstanding() == 0);
    CHECK(g.queue().available_event() == 160); // notifications are wanted again
}

// "use after reset or completion" (QEMU CVE-2021-3748, Cloud Hypervisor CVE-2026-45782)

TEST_CASE("a reset with I/O in flight ends when the I/O has, and nothing comes back") {
    BlockGuest g;
    g.start();
    CHECK(g.write_sectors(5, pattern(512)).status == ok);
    g.gate->close();
    auto sent = g.queue().chain().readable(header(type_in, 5)).writable(512).writable(1).submit();
    g.notify();
    g.settle([&] { return g.gate->inside == 1; });
    g.set_status(0);
    CHECK(g.status() == 15); // not yet: the buffer is still being written
    g.turn();
    CHECK(g.status() == 15);
    g.gate->open();
    g.settle([&] { return g.status() == 0; });
    // Where the rings were there may be anything by now.
    auto used = g.queue().used_index();
    g.settle([&] { return g.block->outstanding() == 0; });
    g.turn();
    CHECK(g.queue().used_index() == used);
    CHECK(g.queue().contents(sent.buffers[2])[0] == 0xaa); // no status either
    CHECK_FALSE(g.line());
    g.start();
    CHECK(g.read_sectors(5, 512).data == pattern(512));
}

TEST_CASE("a driver that does not wait for its reset gets a working device all the same") {
    BlockGuest g;
    g.start();
    g.gate->close();
    g.queue().chain().readable(header(type_in, 5)).writable(512).writable(1).submit();
    g.notify();
    g.settle([&] { return g.gate->inside == 1; });
    g.set_status(0);
    g.set_status(1);
    g.set_status(3);
    g.accept(g.offered());
    g.set_status(11);
    auto& again = g.make_queue(0);
    g.set_status(15);
    auto sent = again.chain().readable(header(type_in, 0)).writable(512).writable(1).submit();
    g.notify();
    g.turn();
    CHECK(again.used_index() == 0);
    g.gate->open();
    CHECK(g.wait_used() == Used{sent.head, 513});
    g.turn();
    CHECK(again.used_index() == 1); // the one of before went nowhere
}

// "unbounded requests in flight" (QEMU CVE-2016-5403)

TEST_CASE("resets do not pile up requests: never more than a queue's worth with the image") {
    BlockGuest g;
    g.gate->close();
    for (unsigned round = 0; round < 5; ++round) {
        g.set_status(0);
        g.set_status(1);
        g.set_status(3);
        g.accept(g.offered());
        g.set_status(11);
        g.make_queue(0);
        g.set_status(15);
        for (unsigned i = 0; i < 80; ++i)
            g.queue().chain().readable(header(type_flush, 0)).writable(1).submit();
        g.notify();
        g.turn();
        CHECK(g.block->outstanding() <= Block::queue_size);
    }
    CHECK(g.block->outstanding() == Block::queue_size);
    g.gate->open();
    for (unsigned i = 0; i < 80; ++i)
        CHECK(g.wait_used().length == 1); // the last round is served as there is room
    CHECK(g.block->outstanding() == 0);
    CHECK(g.read_sectors(0, 512).status == ok);
}

TEST_CASE("a device that goes away waits for the I/O that is under way, and cancels the rest") {
    BlockGuest g;
    g.start();
    g.gate->close();
    for (unsigned i = 0; i < 80; ++i)
        g.queue().chain().readable(header(type_in, i)).writable(512).writable(1).submit();
    g.notify();
    g.settle([&] { return g.gate->inside > 0; });
    std::jthread later([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        g.gate->open();
    });
    g.host.reset();
    CHECK(g.gate->inside == 0);
    auto visits = g.gate->visits.load();
    CHECK(visits < 80);
    g.turn(); // completions find nobody
    CHECK(g.gate->visits == visits);
    CHECK(g.queue().used_index() == 0);
}

TEST_CASE("bus mastering taken away with I/O in flight: the completion comes when it is back") {
    BlockGuest g;
    g.start();
    g.gate->close();
    auto sent = g.queue().chain().readable(header(type_in, 5)).writable(512).writable(1).submit();
    g.notify();
    g.settle([&] { return g.gate->inside == 1; });
    g.set_config<std::uint16_t>(4, 2);
    g.gate->open();
    g.settle([&] { return g.block->outstanding() == 0; });
    CHECK(g.queue().used_index() == 0);
    CHECK_FALSE(g.line());
    g.set_config<std::uint16_t>(4, 6);
    CHECK(g.line());
    CHECK(g.wait_used() == Used{sent.head, 513});
    CHECK(g.queue().contents(sent.buffers[2])[0] == ok);
    CHECK(g.read_sectors(0, 512).status == ok);
}

// A machine's disks have a thread of their own; the driver's side is the test's.

TEST_CASE("on a thread of its own a disk serves, is reset in the middle, and comes to a stop") {
    BlockGuest g(MiB, false, 1, {}, true);
    g.gate->near = true;
    REQUIRE(g.io.start());
    for (unsigned round = 0; round < 20; ++round) {
        g.start(round % 2 ? feature_flush : 0); // every write made stable, or not
        auto data = pattern(4096, static_cast<std::uint8_t>(round));
        REQUIRE(g.write_sectors(8, data).status == ok);
        REQUIRE(g.read_sectors(8, data.size()).data == data);
        for (unsigned i = 0; i < 60; ++i)
            g.queue().chain().readable(header(type_in, 8)).writable(4096).writable(1).submit();
        g.notify();
        if (round % 3 == 0) {
            {
                std::scoped_lock guard(g.bus.lock());
                g.transport->pause();
            }
            g.settle([&] {
                std::scoped_lock guard(g.bus.lock());
                return g.block->still();
            });
            auto used = g.queue().used_index();
            g.turn();
            CHECK(g.queue().used_index() == used);
            std::scoped_lock guard(g.bus.lock());
            g.transport->resume();
        }
        if (round % 3 == 1)
            g.settle([&] { return g.queue().used_index() == 62; });
        g.reset(); // else in the middle
    }
    CHECK(g.transport->malformed_requests() == 0);
    g.io.stop();
}

// "time of check, time of use": the header is read once.

TEST_CASE("a request that changes while it is served stays inside the disk") {
    BlockGuest g(64 * KiB);
    g.start();
    auto at = g.queue().place(header(type_in, 0));
    std::atomic<bool> done = false;
    std::jthread flipper([&] {
        auto raw = g.memory.slice(at, 16);
        for (std::uint64_t round = 0; !done; ++round) {
            store_le<std::uint32_t>(*raw, static_cast<std::uint32_t>(round % 3));
            store_le<std::uint64_t>(raw->subspan(8), round % 2 ? 0 : UINT64_MAX - round % 1000);
        }
    });
    unsigned fine = 0;
    auto buffer = g.queue().allocate(512);
    auto status = g.queue().allocate(1);
    for (unsigned i = 0; i < 2000; ++i) {
        g.queue().chain().raw(at, 16).raw(buffer, 512, f_write).raw(status, 1, f_write).submit();
        g.notify();
        g.wait_used();
        std::uint8_t byte = 0xff;
        REQUIRE(g.memory.read(status, MutableBytes(&byte, 1)));
        REQUIRE(byte <= 2);
        fine += byte == ok;
    }
    done = true;
    flipper.join();
    CHECK(fine > 0);
    CHECK(g.transport->malformed_requests() == 0);
}

TEST_CASE("paused, requests in flight come to their end and no other is begun") {
    BlockGuest g;
    g.start();
    g.gate->close();
    std::vector<Submitted> sent;
    for (std::uint8_t i = 0; i < 4; ++i)
        sent.push_back(
            g.queue().chain().readable(header(type_out, i)).readable(512, i).writable(1).submit());
    g.notify();
    g.settle([&] { return g.gate->inside > 0; });
    {
        std::scoped_lock guard(g.bus.lock());
        g.transport->pause();
        CHECK_FALSE(g.block->still());
    }
    auto late = g.queue().chain().readable(header(type_in, 0)).writable(512).writable(1).submit();
    g.notify();
    g.gate->open();
    g.settle([&] { return g.block->still(); });
    for (unsigned i = 0; i < 4; ++i)
        CHECK(g.wait_used().length == 1);
    g.turn();
    CHECK(g.queue().used_index() == 4); // the late one waits
    CHECK(g.queue().contents(late.buffers[2])[0] == 0xaa);
    {
        std::scoped_lock guard(g.bus.lock());
        g.transport->resume();
    }
    CHECK(g.wait_used().length == 513);
    CHECK(g.queue().contents(late.buffers[1]) == std::vector<std::uint8_t>(512, 0));
}
