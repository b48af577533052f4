// Whole machines into a file and back. The guests are real-mode code in 64 KiB of firmware, as
// in machine_test.cc.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "machine/snapshot/stream.h"
#include "rig.h"

using namespace vmhost;
using namespace vmhost::machine;
using namespace vmhost::test;
using namespace std::chrono_literals;

namespace {

std::vector<std::uint8_t> contents(const Fd& file) {
    auto size = ::lseek(file.get(), 0, SEEK_END);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
    REQUIRE(::pread(file.get(), bytes.data(), bytes.size(), 0) == size);
    ::lseek(file.get(), 0, SEEK_SET);
    return bytes;
}

// Prints "a", waits for a byte on the serial port, prints it, ends with code 7. What it has
// printed so far it keeps in BL: a state that loses registers shows.
const std::initializer_list<int> waits_for_a_key = {
    0xb3, 'a',              // mov bl, 'a'
    0x88, 0xd8,             // mov al, bl
    0xba, 0xf8, 0x03, 0xee, // mov dx, 0x3f8; out dx, al
    0xba, 0xfd, 0x03,       // mov dx, 0x3fd
    0xec, 0xa8, 0x01,       // in al, dx; test al, 1
    0x74, 0xfb,             // jz: nothing yet
    0xba, 0xf8, 0x03, 0xec, // mov dx, 0x3f8; in al, dx
    0xee,                   // out dx, al
    0x88, 0xd8, 0xee,       // mov al, bl; out dx, al
    0xb0, 0x07, 0xe6, 0xf4, // mov al, 7; out 0xf4, al
    0xeb, 0xfe,
};

struct SavedRig : test::Rig {
    Fd disk = file_of(std::vector<std::uint8_t>(MiB));
    Fd state;

    SavedRig() {
        spec.vcpus = 2;
        spec.disks.push_back({disk.get(), false, "serial-1"});
    }
    void boot() {
        image = firmware(waits_for_a_key);
        spec.boot.image_fd = image.get();
        auto built = try_build();
        INFO((built ? "" : built.error().text()));
        REQUIRE(built.has_value());
    }
    Result<void> receive(Bytes bytes) {
        state = file_of(bytes);
        ::lseek(state.get(), 0, SEEK_SET);
        spec.state_fd = state.get();
        return try_build();
    }
    std::string refusal(Bytes bytes) {
        auto built = receive(bytes);
        return built ? "" : built.error().text();
    }
    template <class Condition>
    void until(Condition condition) {
        Timer guard(loop, [&] { timed_out = true; });
        guard.start(20s);
        while (!condition() && !timed_out) {
            loop.run_once(true);
            read_console();
        }
        REQUIRE_FALSE(timed_out);
    }
    std::vector<std::uint8_t> save() {
        auto out = file_of({});
        Fd copy(::dup(out.get()));
        std::optional<Result<std::uint64_t>> saved;
        machine->save(std::move(copy), [&](Result<std::uint64_t> result) { saved = result; });
        until([&] { return saved.has_value(); });
        INFO((*saved ? "" : saved->error().text()));
        REQUIRE(saved->has_value());
        auto bytes = contents(out);
        CHECK(**saved == bytes.size());
        return bytes;
    }
};

// The machine before its first instruction.
std::vector<std::uint8_t> some_state() {
    SavedRig rig;
    rig.boot();
    return rig.save();
}

} // namespace

TEST_CASE("state: a machine that never ran runs elsewhere, without its image") {
    auto bytes = some_state();
    CHECK(bytes.size() < 200'000); // eight megabytes of memory, nearly all of it zero
    SavedRig after;
    auto received = after.receive(bytes);
    INFO((received ? "" : received.error().text()));
    REQUIRE(received.has_value());
    REQUIRE(after.machine->start());
    after.until([&] { return after.output == "a"; });
    after.type("x");
    after.until([&] { return !after.ends.empty(); });
    CHECK(after.ends[0].how == MachineEnd::How::debug_exit);
    CHECK(after.ends[0].code == 7);
    after.until([&] { return after.output.size() >= 3; });
    CHECK(after.output == "axa");
}

TEST_CASE("state: a machine is paused in the middle, saved, and goes on with its registers") {
    SavedRig before;
    before.boot();
    REQUIRE(before.machine->start());
    before.until([&] { return before.output == "a"; });
    bool still = false;
    before.machine->pause([&] { still = true; });
    before.until([&] { return still; });
    auto bytes = before.save();
    CHECK(before.machine->paused());
    before.machine.reset();

    SavedRig after;
    auto received = after.receive(bytes);
    INFO((received ? "" : received.error().text()));
    REQUIRE(received.has_value());
    after.type("x"); // before it runs: it waits on the line
    REQUIRE(after.machine->start());
    after.until([&] { return !after.ends.empty(); });
    CHECK(after.ends[0].code == 7);
    after.until([&] { return after.output.size() >= 2; });
    CHECK(after.output == "xa");
}

TEST_CASE("state: a machine goes on after it was saved, and after a save that fails") {
    SavedRig rig;
    rig.boot();
    REQUIRE(rig.machine->start());
    rig.until([&] { return rig.output == "a"; });
    bool still = false;
    rig.machine->pause([&] { still = true; });
    rig.until([&] { return still; });
    (void)rig.save();
    Fd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
    std::optional<Result<std::uint64_t>> saved;
    rig.machine->save(std::move(full), [&](Result<std::uint64_t> result) { saved = result; });
    rig.until([&] { return saved.has_value(); });
    REQUIRE_FALSE(saved->has_value());
    CHECK(saved->error().text().find("No space left") != std::string::npos);
    rig.machine->unpause();
    rig.type("x");
    rig.until([&] { return !rig.ends.empty(); });
    CHECK(rig.ends[0].code == 7);
}

TEST_CASE("a paused machine goes on with overlays on its disks, or as it was") {
    SavedRig rig;
    rig.boot();
    REQUIRE(rig.machine->start());
    rig.until([&] { return rig.output == "a"; });
    bool still = false;
    rig.machine->pause([&] { still = true; });
    rig.until([&] { return still; });
    auto overlay = file_of({}), larger = file_of(std::vector<std::uint8_t>(2 * MiB));
    REQUIRE(disk::fill_image(overlay, "/o.qcow2", disk::Format::qcow2, MiB,
                             disk::BaseName{"/base.raw", disk::Format::raw}));
    DiskSpec good{.fd = overlay.get(),
                  .serial = "serial-1",
                  .format = disk::Format::qcow2,
                  .path = "/o.qcow2",
                  .bases = {{rig.disk.get(), disk::Format::raw, "/base.raw"}}};
    auto other = good, bad = good;
    other.bases[0].path = "/other.raw";
    bad = {.fd = larger.get(), .serial = "serial-1"};
    auto refusal = [&](std::size_t index, const DiskSpec& disk) {
        auto replaced = rig.machine->replace_disks({{index, disk}});
        return replaced ? "" : replaced.error().text();
    };
    CHECK(refusal(0, bad) == "test-disk0: 2097152 bytes instead of 1048576");
    CHECK(refusal(0, other).find("it names the backing file /base.raw") != std::string::npos);
    CHECK(refusal(1, good) == "machine test: it has no disk 1");
    CHECK(refusal(0, good).empty());
    rig.machine->unpause();
    rig.type("x");
    rig.until([&] { return !rig.ends.empty(); });
    CHECK(rig.ends[0].code == 7);
}

TEST_CASE("state: a save into a pipe that nobody reads ends with the machine") {
    SavedRig rig;
    rig.boot();
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    Fd reading(ends[0]), writing(ends[1]);
    REQUIRE(::fcntl(writing.get(), F_SETPIPE_SZ, 4096) > 0);
    bool told = false;
    rig.machine->save(std::move(writing), [&](Result<std::uint64_t>) { told = true; });
    rig.loop.run_once(false);
    std::optional<Result<std::uint64_t>> second;
    rig.machine->save(file_of({}), [&](Result<std::uint64_t> result) { second = result; });
    REQUIRE(second.has_value());
    CHECK(second->error().kind() == ErrorKind::busy);
    rig.machine.reset();
    rig.loop.run_once(false);
    CHECK_FALSE(told);
}

TEST_CASE("state: what differs is refused by its name") {
    auto bytes = some_state();
    SavedRig here;
    SECTION("memory") {
        here.spec.memory_bytes = 16 * MiB;
        CHECK(here.refusal(bytes) == "memory: 8.0M in the saved machine, 16.0M here");
    }
    SECTION("vcpus") {
        here.spec.vcpus = 1;
        CHECK(here.refusal(bytes) == "vcpus: 2 in the saved machine, 1 here");
    }
    SECTION("a missing disk") {
        here.spec.disks.clear();
        CHECK(here.refusal(bytes) == "disks: 1 in the saved machine, 0 here");
    }
    SECTION("the disk's size") {
        auto larger = file_of(std::vector<std::uint8_t>(2 * MiB));
        here.spec.disks[0].fd = larger.get();
        CHECK(here.refusal(bytes) == "disk 0: 1048576 bytes in the saved machine, 2097152 here");
    }
    SECTION("the disk's serial number") {
        here.spec.disks[0].serial = "serial-2";
        CHECK(here.refusal(bytes) == "disk 0: serial number serial-1 in the saved machine, "
                                     "serial-2 here");
    }
    SECTION("a disk that may not be written") {
        here.spec.disks[0].read_only = true;
        CHECK(here.refusal(bytes) == "disk 0: writable in the saved machine, not so here");
    }
    SECTION("the debug-exit device") {
        here.spec.debug_exit = false;
        CHECK(here.refusal(bytes) == "the saved machine has the debug-exit device");
    }
    SECTION("something else") {
        CHECK(here.refusal(as_bytes("#!/bin/sh\nexit 0\n")) ==
              "this is not the state of a vmhost machine");
        CHECK(here.refusal({}) == "the state is cut short");
    }
    CHECK(here.machine == nullptr);
}

TEST_CASE("state: cut at every section and between, and damaged, it is refused") {
    auto bytes = some_state();
    std::vector<std::size_t> edges = {0, 8, 16};
    for (std::size_t at = 16; at + 32 <= bytes.size();) {
        auto length = load_le<std::uint32_t>(Bytes(bytes).subspan(at + 20));
        edges.push_back(at + 32);
        edges.push_back(at + 32 + length / 2);
        at += 32 + length;
        edges.push_back(at);
    }
    REQUIRE(edges.back() == bytes.size());
    edges.pop_back();
    for (auto edge : edges) {
        SavedRig here;
        INFO(edge);
        CHECK(here.refusal(Bytes(bytes).first(edge)) == "the state is cut short");
    }
    for (std::size_t at = 5; at < bytes.size(); at += bytes.size() / 40) {
        auto damaged = bytes;
        damaged[at] ^= 0x10;
        SavedRig here;
        INFO(at);
        CHECK(here.refusal(damaged) != "");
    }
}
