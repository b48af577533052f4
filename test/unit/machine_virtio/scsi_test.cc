// The SCSI host with its CD-ROM drive over a real file, driven through PCI.
#include <catch2/catch.hpp>

#include <condition_variable>
#include <mutex>

#include <fcntl.h>

#include "../disk/temporary.h"
#include "../machine_device/state.h"
#include "guest.h"
#include "machine/virtio/scsi.h"

using namespace vmhost;
using namespace vmhost::test;
using machine::virtio::Scsi;

namespace {

using Cdb = std::vector<std::uint8_t>;
constexpr std::uint8_t ok = 0, overrun = 1, aborted = 2, bad_target = 3, succeeded = 10,
                       rejected = 11;
constexpr std::uint8_t good = 0, check_condition = 2;
const Cdb test_unit_ready{0, 0, 0, 0, 0, 0};
const Cdb read_block_3{0x28, 0, 0, 0, 0, 3, 0, 0, 1, 0};
constexpr std::size_t answer_bytes = 12 + 96;

// The medium: every block is full of its number. It can be held up and made to fail.
class Medium final : public disk::Image {
public:
    Medium(std::uint64_t size_bytes, std::uint8_t first) : size_(size_bytes), first_(first) {}
    const std::string& name() const override { return name_; }
    std::uint64_t size_bytes() const override { return size_; }
    bool read_only() const override { return true; }
    Result<void> readv(std::span<const iovec> into, std::uint64_t offset) override {
        ++inside;
        {
            std::unique_lock guard(mutex);
            opened.wait(guard, [this] { return open; });
        }
        --inside;
        if (failing)
            return fail_errno(EIO, "image a.iso: read at {}", offset);
        for (const auto& piece : into) {
            auto* bytes = static_cast<std::uint8_t*>(piece.iov_base);
            for (std::size_t i = 0; i < piece.iov_len; ++i, ++offset)
                bytes[i] = static_cast<std::uint8_t>(first_ + offset / 2048);
        }
        return {};
    }
    Result<void> writev(std::span<const iovec>, std::uint64_t) override {
        return fail(ErrorKind::denied, "read-only");
    }
    Result<void> flush() override { return {}; }
    void let(bool go) {
        std::scoped_lock guard(mutex);
        open = go;
        opened.notify_all();
    }
    std::atomic<bool> failing = false;
    std::atomic<unsigned> inside = 0;

private:
    std::uint64_t size_;
    std::uint8_t first_;
    std::string name_ = "a.iso";
    std::mutex mutex;
    std::condition_variable opened;
    bool open = true;
};

struct Answer {
    std::uint8_t response = 0xff, status = 0xff;
    std::uint32_t residual = 0, length = 0;
    std::vector<std::uint8_t> sense, data;
    bool attention(std::uint8_t code) const {
        return status == check_condition && sense.size() == 18 && sense[2] == 6 &&
               sense[12] == code;
    }
};

struct ScsiGuest : Guest {
    Scsi* scsi;
    Medium* medium = nullptr; // of the drive

    explicit ScsiGuest(std::uint64_t medium_bytes = 100 * 2048,
                       Interface interface = Interface::modern) {
        auto made = std::make_unique<Scsi>("vm-scsi", "vm-cd", loop, bus.lock());
        scsi = made.get();
        add(std::move(made), nullptr, interface);
        if (medium_bytes != 0)
            insert(medium_bytes, 0);
    }
    ~ScsiGuest() {
        if (medium != nullptr)
            medium->let(true);
    }
    void insert(std::uint64_t size_bytes, std::uint8_t first, bool force = false) {
        auto made = std::make_unique<Medium>(size_bytes, first);
        auto* inserted = made.get();
        REQUIRE(scsi->change_medium(std::move(made), force));
        medium = inserted;
    }
    void eject(bool force = false) {
        REQUIRE(scsi->change_medium(nullptr, force));
        medium = nullptr;
    }
    // As a driver begins: the power-on attention is told.
    void begin() {
        start();
        CHECK(command(test_unit_ready).attention(0x29));
    }

    static std::vector<std::uint8_t> request(const Cdb& cdb, std::uint8_t target = 0,
                                             std::uint8_t unit = 0, std::uint64_t id = 1) {
        ByteWriter raw;
        for (std::uint8_t byte : {1, int{target}, 0x40, int{unit}, 0, 0, 0, 0})
            raw.le(byte);
        raw.le(id);
        raw.zeros(3);
        raw.bytes(cdb);
        raw.pad_to(19 + 32);
        return raw.take();
    }
    Submitted submit(const std::vector<std::uint8_t>& head, std::size_t room = 0) {
        auto chain = queue(2).chain();
        chain.readable(head).writable(answer_bytes);
        if (room != 0)
            chain.writable(room);
        auto sent = chain.submit();
        notify(2);
        return sent;
    }
    Answer take(const Submitted& sent) {
        auto used = wait_used(2);
        CHECK(used.id == sent.head);
        Answer answer;
        answer.length = used.length;
        auto raw = queue(2).contents(sent.buffers[1]);
        auto sense_length = load_le<std::uint32_t>(raw);
        REQUIRE(sense_length <= 96);
        answer.residual = load_le<std::uint32_t>(Bytes(raw).subspan(4));
        answer.status = raw[10];
        answer.response = raw[11];
        answer.sense.assign(raw.begin() + 12, raw.begin() + 12 + sense_length);
        if (sent.buffers.size() > 2)
            answer.data = queue(2).contents(sent.buffers[2]);
        return answer;
    }
    Answer command(const Cdb& cdb, std::size_t room = 0) {
        return take(submit(request(cdb), room));
    }

    static std::vector<std::uint8_t> task(std::uint32_t subtype, std::uint64_t id = 0,
                                          std::uint8_t target = 0) {
        ByteWriter raw;
        raw.le<std::uint32_t>(0);
        raw.le(subtype);
        for (std::uint8_t byte : {1, int{target}, 0x40, 0, 0, 0, 0, 0})
            raw.le(byte);
        raw.le(id);
        return raw.take();
    }
    Submitted manage(const std::vector<std::uint8_t>& head, std::size_t room = 1) {
        auto sent = queue(0).chain().readable(head).writable(room).submit();
        notify(0);
        return sent;
    }
    std::uint8_t managed(const Submitted& sent) {
        CHECK(wait_used(0).id == sent.head);
        return queue(0).contents(sent.buffers.back()).back();
    }
};

} // namespace

TEST_CASE("the SCSI host describes itself and its one target") {
    ScsiGuest g;
    CHECK(g.config<std::uint32_t>(0) == 0x10481af4);
    CHECK(g.config<std::uint16_t>(10) == 0x0100);
    CHECK((g.offered() & 0xffffff) == 0);
    CHECK(g.read<std::uint16_t>(18) == 3);
    CHECK(g.read<std::uint32_t>(0x2000) == 1);
    CHECK(g.read<std::uint32_t>(0x2014) == 96);
    CHECK(g.read<std::uint32_t>(0x2018) == 32);
    CHECK(g.read<std::uint16_t>(0x201c) == 0);
    ScsiGuest old(4096, PciTransport::Interface::transitional);
    CHECK(old.config<std::uint32_t>(0) == 0x10041af4);
    CHECK(old.config<std::uint16_t>(0x2e) == 8);
}

TEST_CASE("blocks of the medium are read") {
    ScsiGuest g;
    g.begin();
    auto one = g.command(read_block_3, 2048);
    CHECK(one.response == ok);
    CHECK(one.status == good);
    CHECK(one.residual == 0);
    CHECK(one.length == answer_bytes + 2048);
    CHECK(one.data == std::vector<std::uint8_t>(2048, 3));
    CHECK(g.line());
    // More room than needed; less; a command that fails.
    auto more = g.command(read_block_3, 4096);
    CHECK(more.residual == 2048);
    CHECK(more.data[2047] == 3);
    CHECK(more.data[2048] == 0xaa);
    CHECK(g.command(read_block_3, 2047).response == overrun);
    auto inquiry = g.command({0x12, 0, 0, 0, 255, 0}, 255);
    CHECK(inquiry.residual == 255 - 36);
    CHECK(inquiry.length == answer_bytes + 36);
    CHECK(g.command({0x12, 0, 0, 0, 255, 0}, 8).response == overrun);
    auto past = g.command({0x28, 0, 0, 0, 0, 100, 0, 0, 1, 0}, 2048);
    CHECK(past.response == ok);
    CHECK(past.status == check_condition);
    CHECK(past.sense[12] == 0x21);
    CHECK(past.residual == 2048);
}

TEST_CASE("there is nobody at other targets and units") {
    ScsiGuest g;
    g.start();
    CHECK(g.take(g.submit(ScsiGuest::request(test_unit_ready, 1, 0))).response == bad_target);
    CHECK(g.take(g.submit(ScsiGuest::request(test_unit_ready, 0, 1))).response == bad_target);
    auto nowhere = ScsiGuest::request(test_unit_ready);
    nowhere[0] = 0;
    CHECK(g.take(g.submit(nowhere)).response == bad_target);
    auto without_flag = ScsiGuest::request(test_unit_ready);
    without_flag[2] = 0;
    CHECK(g.take(g.submit(without_flag)).response == ok);
}

TEST_CASE("a medium that cannot be read is a medium error, once per request") {
    ScsiGuest g;
    g.begin();
    g.medium->failing = true;
    auto failed = g.command(read_block_3, 2048);
    CHECK(failed.response == ok);
    CHECK(failed.status == check_condition);
    CHECK(failed.sense[2] == 3);
    CHECK(failed.residual == 2048);
    // SeaBIOS asks for the sense by a command.
    auto sense = g.command({0x03, 0, 0, 0, 18, 0}, 18);
    CHECK(sense.data[12] == 0x11);
    g.medium->failing = false;
    CHECK(g.command(read_block_3, 2048).status == good);
}

TEST_CASE("the host changes the medium while the guest runs") {
    ScsiGuest g(0);
    g.begin();
    CHECK(g.command(test_unit_ready).sense[12] == 0x3a);
    g.insert(50 * 2048, 100);
    CHECK(g.command(test_unit_ready).attention(0x28));
    CHECK(g.command(read_block_3, 2048).data[0] == 103);

    g.eject(false);
    auto gone = g.command(read_block_3, 2048);
    CHECK(gone.status == check_condition);
    CHECK(gone.sense[12] == 0x3a);
    CHECK(gone.sense[13] == 2);

    g.insert(50 * 2048, 7);
    CHECK(g.command(test_unit_ready).attention(0x28));
    CHECK(g.command(read_block_3, 2048).data[0] == 10);
    auto tiny = g.scsi->change_medium(std::make_unique<Medium>(2047, 0), false);
    REQUIRE(!tiny);
    CHECK(tiny.error().kind() == ErrorKind::invalid);
    CHECK(g.command(read_block_3, 2048).data[0] == 10); // and stays
}

TEST_CASE("a locked tray needs force, and the guest is asked") {
    ScsiGuest g;
    g.begin();
    CHECK(g.command({0x1e, 0, 0, 0, 1, 0}).status == good);
    auto refused = g.scsi->change_medium(nullptr, false);
    REQUIRE(!refused);
    CHECK(refused.error().kind() == ErrorKind::busy);
    const Cdb events{0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0};
    CHECK(g.command(events, 8).data[4] == 1);
    CHECK(g.command(read_block_3, 2048).status == good);
    g.eject(true);
    CHECK(g.command(test_unit_ready).sense[12] == 0x3a);
}

TEST_CASE("a medium that is taken out while it is read stays until the read is done") {
    ScsiGuest g;
    g.begin();
    g.medium->let(false);
    auto* old = g.medium;
    auto sent = g.submit(ScsiGuest::request(read_block_3), 2048);
    g.settle([&] { return old->inside == 1; });
    g.insert(50 * 2048, 100);
    old->let(true);
    CHECK(g.take(sent).data[0] == 3);
    CHECK(g.command(test_unit_ready).attention(0x28));
    CHECK(g.command(read_block_3, 2048).data[0] == 103);
}

TEST_CASE("task management waits for what it aborts") {
    ScsiGuest g;
    g.begin();
    CHECK(g.managed(g.manage(ScsiGuest::task(1))) == 0);
    g.medium->let(false);
    auto read = g.submit(ScsiGuest::request(read_block_3, 0, 0, 77), 2048);
    g.settle([&] { return g.medium->inside == 1; });
    CHECK(g.managed(g.manage(ScsiGuest::task(6, 77))) == succeeded); // QUERY TASK
    CHECK(g.managed(g.manage(ScsiGuest::task(6, 78))) == 0);
    CHECK(g.managed(g.manage(ScsiGuest::task(7))) == succeeded);
    CHECK(g.managed(g.manage(ScsiGuest::task(0, 78))) == 0); // ABORT of another one
    auto abort = g.manage(ScsiGuest::task(0, 77));
    g.turn();
    CHECK(!g.queue(0).used());
    g.medium->let(true);
    CHECK(g.take(read).response == aborted);
    CHECK(g.managed(abort) == 0);
    CHECK(g.managed(g.manage(ScsiGuest::task(2))) == rejected);
    CHECK(g.managed(g.manage(ScsiGuest::task(5, 0, 1))) == bad_target);
    CHECK(g.managed(g.manage(ScsiGuest::task(5))) == 0); // LOGICAL UNIT RESET
    CHECK(g.command(test_unit_ready).attention(0x29));
    CHECK(g.managed(g.manage(ScsiGuest::task(4))) == 0); // I_T NEXUS RESET
    CHECK(g.command(test_unit_ready).attention(0x29));
}

TEST_CASE("a driver that subscribed is told of a new medium") {
    ScsiGuest g;
    g.begin();
    auto ask = [&](std::uint32_t type, std::uint32_t wanted) {
        ByteWriter raw;
        raw.le(type);
        for (std::uint8_t byte : {1, 0, 0x40, 0, 0, 0, 0, 0})
            raw.le(byte);
        raw.le(wanted);
        auto sent = g.manage(raw.take(), 5);
        CHECK(g.managed(sent) == ok);
        return load_le<std::uint32_t>(g.queue(0).contents(sent.buffers.back()));
    };
    auto event = [&](const Submitted& buffer) {
        CHECK(g.wait_used(1).length == 16);
        auto raw = g.queue(1).contents(buffer.buffers[0]);
        CHECK(raw[4] == 1);
        return std::pair(load_le<std::uint32_t>(raw),
                         load_le<std::uint32_t>(Bytes(raw).subspan(12)));
    };
    auto offer = [&] {
        auto sent = g.queue(1).chain().writable(16).submit();
        g.notify(1);
        g.turn();
        return sent;
    };
    auto first = offer();
    g.insert(4096, 0);
    g.turn();
    CHECK(!g.queue(1).used()); // nobody asked
    CHECK(ask(1, ~0U) == 16);
    CHECK(ask(2, ~0U) == 16);
    g.insert(4096, 0);
    CHECK(event(first) == std::pair(2U, 16U));
    // Without a buffer events are missed, which the next one says.
    g.insert(4096, 0);
    auto second = offer();
    CHECK(event(second) == std::pair(0x80000000U, 0U));
    // Unsubscribed; and a buffer that is too small is not overrun.
    CHECK(ask(2, 0) == 0);
    offer();
    g.insert(4096, 0);
    g.turn();
    CHECK(!g.queue(1).used());
}

TEST_CASE("an event buffer that is too small is not overrun") {
    ScsiGuest g;
    g.begin();
    ByteWriter raw;
    raw.le<std::uint32_t>(2);
    for (std::uint8_t byte : {1, 0, 0x40, 0, 0, 0, 0, 0})
        raw.le(byte);
    raw.le<std::uint32_t>(16);
    g.managed(g.manage(raw.take(), 5));
    g.queue(1).chain().writable(15).submit();
    g.notify(1);
    g.turn();
    g.insert(4096, 0);
    CHECK(g.wait_used(1).length == 0);
    CHECK(g.scsi->malformed_requests() == 1);
}

TEST_CASE("malformed SCSI requests are counted and done with") {
    ScsiGuest g;
    g.begin();
    auto good_head = ScsiGuest::request(test_unit_ready);
    auto send = [&](std::uint16_t index, ChainBuilder& chain) {
        auto sent = chain.submit();
        g.notify(index);
        auto used = g.wait_used(index);
        CHECK(used.id == sent.head);
        CHECK(used.length == 0);
    };
    send(2, g.queue(2).chain().readable(Bytes(good_head).first(50)).writable(answer_bytes));
    send(2, g.queue(2).chain().readable(good_head).writable(answer_bytes - 1));
    send(2, g.queue(2).chain().readable(good_head));
    send(2, g.queue(2).chain().writable(4096));
    auto task = ScsiGuest::task(0);
    send(0, g.queue(0).chain().readable(task));
    send(0, g.queue(0).chain().readable(Bytes(task).first(23)).writable(1));
    send(0, g.queue(0).chain().readable(std::vector<std::uint8_t>{9, 0, 0, 0}).writable(8));
    send(0, g.queue(0).chain().writable(8));
    CHECK(g.scsi->malformed_requests() == 8);
    CHECK(g.command(test_unit_ready).status == good);
}

TEST_CASE("the driver's sizes for command and sense are kept to, until a reset") {
    ScsiGuest g;
    g.start();
    g.write<std::uint32_t>(0x2014, 18);   // sense
    g.write<std::uint32_t>(0x2018, 12);   // command
    g.write<std::uint32_t>(0x2018, 4096); // more than there can be
    g.write<std::uint16_t>(0x2014, 1);    // not its width
    g.write<std::uint32_t>(0x2000, 7);    // not the driver's
    CHECK(g.read<std::uint32_t>(0x2014) == 18);
    CHECK(g.read<std::uint32_t>(0x2018) == 12);
    CHECK(g.read<std::uint32_t>(0x2000) == 1);
    auto head = ScsiGuest::request(test_unit_ready);
    head.resize(19 + 12);
    auto sent = g.queue(2).chain().readable(head).writable(12 + 18).submit();
    g.notify(2);
    CHECK(g.wait_used(2).length == 12 + 18);
    auto raw = g.queue(2).contents(sent.buffers[1]);
    CHECK(raw[0] == 18);
    CHECK(raw[12 + 2] == 6);
    g.reset();
    CHECK(g.read<std::uint32_t>(0x2014) == 96);
    CHECK(g.read<std::uint32_t>(0x2018) == 32);
}

TEST_CASE("a reset with reads in flight ends when they have, and unlocks the tray") {
    ScsiGuest g;
    g.begin();
    g.command({0x1e, 0, 0, 0, 1, 0});
    g.medium->let(false);
    for (int i = 0; i < 3; ++i)
        g.submit(ScsiGuest::request(read_block_3, 0, 0, 77), 2048);
    g.settle([&] { return g.medium->inside >= 1; });
    auto abort = g.manage(ScsiGuest::task(1));
    g.turn();
    g.set_status(0);
    CHECK(g.status() != 0);
    g.medium->let(true);
    g.settle([&] { return g.status() == 0; });
    g.turn();
    CHECK(!g.queue(2).used());
    CHECK(!g.queue(0).used());
    g.begin();
    g.eject(false);
}

TEST_CASE("reads in flight are bounded, also across resets") {
    ScsiGuest g;
    g.begin();
    g.medium->let(false);
    auto head = ScsiGuest::request(read_block_3);
    for (int i = 0; i < 40; ++i) // three descriptors each
        g.submit(head, 2048);
    g.turn();
    g.set_status(0);
    g.turn();
    g.medium->let(true);
    g.settle([&] { return g.status() == 0; });
    g.begin();
    std::vector<Submitted> sent;
    for (int i = 0; i < 40; ++i)
        sent.push_back(g.submit(head, 2048));
    std::size_t answered = 0;
    g.settle([&] {
        while (g.queue(2).used())
            ++answered;
        return answered == sent.size();
    });
    for (const auto& one : sent)
        CHECK(g.queue(2).contents(one.buffers[2])[0] == 3);
}

TEST_CASE("a paused SCSI host finishes what it reads and begins nothing") {
    ScsiGuest g;
    g.begin();
    g.medium->let(false);
    auto first = g.submit(ScsiGuest::request(read_block_3), 2048);
    g.settle([&] { return g.medium->inside == 1; });
    {
        std::scoped_lock guard(g.bus.lock());
        g.scsi->pause();
        CHECK(!g.scsi->still());
    }
    auto second = g.submit(ScsiGuest::request(read_block_3), 2048);
    g.turn();
    g.medium->let(true);
    g.settle([&] { return g.scsi->still(); });
    CHECK(g.take(first).data[0] == 3);
    g.turn();
    CHECK(!g.queue(2).used());
    {
        std::scoped_lock guard(g.bus.lock());
        g.scsi->resume();
    }
    g.notify(2);
    CHECK(g.take(second).data[0] == 3);
}

TEST_CASE("state: a CD-ROM drive goes on with its lock, its attentions and its subscribers") {
    ScsiGuest before;
    before.begin();
    const Cdb lock_tray{0x1e, 0, 0, 0, 1, 0};
    CHECK(before.command(lock_tray).status == good);
    const Cdb beyond_the_end{0x28, 0, 0, 1, 0, 0, 0, 0, 1, 0};
    CHECK(before.command(beyond_the_end, 2048).status == check_condition);
    before.write<std::uint32_t>(0x2000 + 20, 64); // sense bytes that it wants
    auto saved = machine::save(*before.transport);

    ScsiGuest after;
    REQUIRE(machine::load(*after.transport, saved).has_value());
    CHECK(after.scsi->drive().locked());
    CHECK(after.read<std::uint32_t>(0x2000 + 20) == 64);
    CHECK(after.status() == 15);
    CHECK(machine::save(*after.transport).payload == saved.payload);
    CHECK_FALSE(after.scsi->change_medium(nullptr, false)); // locked here as there
    // The sense of the last command is there to be asked for.
    auto outcome = after.scsi->drive().execute(Cdb{0x03, 0, 0, 0, 18, 0});
    REQUIRE(outcome.data.size() == 18);
    CHECK(outcome.data[2] == 5);
    CHECK(outcome.data[12] == 0x21);

    ScsiGuest other(50 * 2048), empty(0);
    CHECK(machine::refusal(*other.transport, saved) ==
          "blocks of the medium in the CD-ROM drive is 50 here and was 100");
    CHECK(machine::refusal(*empty.transport, saved) ==
          "blocks of the medium in the CD-ROM drive is 0 here and was 100");
    for (std::size_t size = 0; size < saved.payload.size(); size += 3) {
        auto cut = saved;
        cut.payload.resize(size);
        ScsiGuest fresh;
        CHECK_FALSE(machine::load(*fresh.transport, cut).has_value());
    }
}

TEST_CASE("state: a SCSI host that reads is not saved") {
    ScsiGuest g;
    g.begin();
    g.medium->let(false);
    auto sent = g.submit(ScsiGuest::request(read_block_3), 2048);
    g.settle([&] { return g.medium->inside == 1; });
    machine::StateArchive archive;
    g.transport->state(archive);
    auto finished = archive.finish();
    REQUIRE_FALSE(finished.has_value());
    CHECK(finished.error().kind() == ErrorKind::busy);
    g.medium->let(true);
    CHECK(g.take(sent).data[0] == 3);
}
