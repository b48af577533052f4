// Whole machines under tiny firmware images. The images are 64 KiB: the reset vector
// jumps to offset 0, where a test puts its code; it runs at f000:0000 of the high copy.
#include <catch2/catch.hpp>

#include <dirent.h>
#include <thread>

#include "rig.h"

using namespace vmhost;
using namespace vmhost::test;

namespace {

std::size_t threads() {
    std::size_t count = 0;
    DIR* tasks = ::opendir("/proc/self/task");
    while (const dirent* entry = ::readdir(tasks))
        count += entry->d_name[0] != '.';
    ::closedir(tasks);
    return count;
}

} // namespace

TEST_CASE("counters of machines with the same devices add up") {
    machine::MachineCounters sum, one;
    one.port_exits = 3;
    one.disks = {{.reads = 1, .failed = 2}, {.written_bytes = 512}};
    one.nics = {{.received_frames = 4, .malformed = 5}};
    sum += one; // from nothing
    sum += one;
    CHECK(sum.port_exits == 6);
    REQUIRE(sum.disks.size() == 2);
    CHECK(sum.disks[0].reads == 2);
    CHECK(sum.disks[0].failed == 4);
    CHECK(sum.disks[1].written_bytes == 1024);
    REQUIRE(sum.nics.size() == 1);
    CHECK(sum.nics[0].received_frames == 8);
    CHECK(sum.nics[0].malformed == 10);
    sum += {}; // one that was never built
    CHECK(sum.disks[1].written_bytes == 1024);
}

TEST_CASE("a guest prints on its console and ends with a code") {
    Rig rig;
    rig.run({
        0xba,
        0xf8,
        0x03,
        0xb0,
        'h',
        0xee,
        0xb0,
        'i',
        0xee, // print
        0xb0,
        0x07,
        0xe6,
        0xf4, // mov al, 7; out 0xf4, al
        0xeb,
        0xfe,
    });
    auto end = rig.end();
    CHECK(end.how == MachineEnd::How::debug_exit);
    CHECK(end.code == 7);
    CHECK(rig.output == "hi");
    auto counters = rig.machine->counters();
    CHECK(counters.malformed_requests == 0);
    CHECK(counters.unclaimed_accesses == 0);
    CHECK(rig.machine->resident_bytes() >= 64 * KiB);
    CHECK(rig.machine->resident_bytes() < 2 * MiB);
}

TEST_CASE("what is typed reaches the guest, in order and whole") {
    Rig rig;
    rig.run({
        0xba, 0xfd, 0x03,       // mov dx, 0x3fd
        0xec, 0xa8, 0x01,       // in al, dx; test al, 1
        0x74, 0xfb,             // jz: nothing yet
        0xba, 0xf8, 0x03, 0xec, // mov dx, 0x3f8; in al, dx
        0xee,                   // out dx, al
        0x3c, 'q',  0x75, 0xef, // cmp al, 'q'; jne from the start
        0xb0, 0x01, 0xe6, 0xf4, 0xeb, 0xfe,
    });
    std::string text;
    for (unsigned i = 0; i < 100; ++i)
        text += fmt::format("line {}\n", i);
    text += "q";
    rig.type(text);
    CHECK(rig.end().code == 1);
    CHECK(rig.output == text);
}

TEST_CASE("every way to reset") {
    Rig rig;
    SECTION("keyboard controller") {
        rig.run({0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe});
    }
    SECTION("port 0x92") {
        rig.run({0xb0, 0x01, 0xe6, 0x92, 0xeb, 0xfe});
    }
    SECTION("port 0xcf9") {
        rig.run({0xba, 0xf9, 0x0c, 0xb0, 0x02, 0xee, 0xb0, 0x06, 0xee, 0xeb, 0xfe});
    }
    CHECK(rig.end().how == MachineEnd::How::reset);
}

TEST_CASE("a guest powers itself off through S5") {
    Rig rig;
    rig.run({0xba, 0x04, 0x06, 0xb8, 0x00, 0x34, 0xef, 0xeb, 0xfe}); // out 0x604, SLP_EN | 5
    auto end = rig.end();
    CHECK(end.how == MachineEnd::How::power_off);
    CHECK(end.text == "the guest powered itself off");
}

TEST_CASE("the power button reaches a guest that listens, and no other") {
    Rig rig;
    rig.run({
        0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, // until something is typed
        0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef,       // enable the button
        0xba, 0xf8, 0x03, 0xb0, 'e',  0xee,             // say so
        0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01,       // in ax, dx; test ah, 1
        0x74, 0xfa,                                     // jz: not pressed
        0xef,                                           // take note
        0xba, 0xf8, 0x03, 0xb0, 'p',  0xee,             //
        0xba, 0x04, 0x06, 0xb8, 0x00, 0x34, 0xef, 0xeb, 0xfe,
    });
    CHECK_FALSE(rig.machine->press_power_button());
    rig.type("x");
    rig.wait("e");
    CHECK(rig.ends.empty());
    CHECK(rig.machine->press_power_button());
    CHECK(rig.end().how == MachineEnd::How::power_off);
    CHECK(rig.output == "ep");
    CHECK_FALSE(rig.machine->power_button_pending());
}

TEST_CASE("a button that is pressed stays pending until the guest takes note") {
    Rig rig;
    rig.run({
        0xba,
        0x02,
        0x06,
        0xb8,
        0x00,
        0x01,
        0xef, // enable the button
        0xba,
        0xf8,
        0x03,
        0xb0,
        'e',
        0xee,
        0xfa,
        0xf4,
        0xeb,
        0xfd,
    });
    rig.wait("e");
    CHECK_FALSE(rig.machine->power_button_pending());
    CHECK(rig.machine->press_power_button());
    CHECK(rig.machine->power_button_pending());
}

TEST_CASE("a processor that cannot go on is a failure with its reason") {
    Rig rig;
    // Protected mode, flat, then a jump to where no memory is.
    rig.run({
        0x2e, 0x66, 0x0f, 0x01, 0x16, 0x40, 0x00,       // lgdt cs:[0x40]
        0x0f, 0x20, 0xc0, 0x0c, 0x01,                   // mov eax, cr0; or al, 1
        0x0f, 0x22, 0xc0,                               // mov cr0, eax
        0x66, 0xea, 0x00, 0x00, 0x00, 0xd0, 0x08, 0x00, // jmp 0x08:0xd0000000
        0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
        0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
        0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, // to offset
                                                                          // 0x40
        0x0f, 0x00, 0x50, 0x00, 0xff, 0xff, 0x90, 0x90,                   // limit 15 at 0xffff0050
        0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,                   //
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,                   // null
        0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xcf, 0x00,                   // flat code
    });
    auto end = rig.end();
    CHECK(end.how == MachineEnd::How::failed);
    CHECK_THAT(end.text, Catch::StartsWith("vcpu 0: kvm: internal error") &&
                             Catch::Contains("rip 0xd0000000"));
}

TEST_CASE("a running machine is destroyed without a trace") {
    const auto before = threads();
    for (unsigned vcpus : {1U, 4U}) {
        Rig rig;
        rig.spec.vcpus = vcpus;
        SECTION("spinning") {
            rig.run({0xeb, 0xfe});
        }
        SECTION("asleep") {
            rig.run({0xfa, 0xf4, 0xeb, 0xfc});
        }
        SECTION("printing") {
            rig.run({0xba, 0xf8, 0x03, 0xb0, 'x', 0xee, 0xeb, 0xfd});
        }
        SECTION("ending") {
            rig.run({0xe6, 0xf4, 0xeb, 0xfe});
        }
        SECTION("not started") {
            rig.image = firmware({0xeb, 0xfe});
            rig.spec.boot.image_fd = rig.image.get();
            rig.build();
        }
        rig.loop.run_once(false);
        std::this_thread::sleep_for(5ms);
        rig.machine.reset();
        CHECK(threads() == before);
        for (unsigned i = 0; i < 5; ++i)
            rig.loop.run_once(false);
    }
}

TEST_CASE("a machine may be replaced while it reports its end") {
    Rig rig;
    rig.image = firmware({0xba, 0xf8, 0x03, 0xb0, 'r', 0xee, 0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe});
    rig.spec.boot.image_fd = rig.image.get();
    unsigned boots = 0;
    std::function<void(MachineEnd)> again = [&](MachineEnd end) {
        REQUIRE(end.how == MachineEnd::How::reset);
        rig.machine.reset();
        if (++boots == 5) {
            rig.ends.push_back(end);
            return;
        }
        rig.machine = Machine::build(rig.loop, rig.spec, *rig.console, again).value();
        REQUIRE(rig.machine->start());
    };
    rig.machine = Machine::build(rig.loop, rig.spec, *rig.console, again).value();
    REQUIRE(rig.machine->start());
    rig.wait();
    CHECK(boots == 5);
    CHECK(rig.output == "rrrrr");
}

TEST_CASE("SeaBIOS comes up on the serial console") {
    Rig rig;
    auto disk = file_of(std::vector<std::uint8_t>(64 * KiB));
    rig.spec.memory_bytes = 64 * MiB;
    rig.spec.disks.push_back({.fd = disk.get(), .serial = "disk0"});
    rig.build();
    REQUIRE(rig.machine->start());
    rig.wait("SeaBIOS (version");
    CHECK(rig.output.find("SeaBIOS (version") != std::string::npos);
    rig.wait("Booting from Hard Disk"); // the virtio disk was found and read
    CHECK(rig.output.find("Booting from Hard Disk") != std::string::npos);
}

// The firmware waits until every processor has answered INIT and SIPI.
TEST_CASE("SeaBIOS starts all processors and installs ACPI and MP tables") {
    Rig rig;
    // A boot sector that looks for both in the BIOS area. Code: 1 "RSD PTR ", 2 "_MP_".
    // SeaBIOS counts in cylinders of 504 KiB: a smaller disk has none and cannot be read.
    std::vector<std::uint8_t> sector(1 * MiB);
    std::size_t at = 0;
    for (int byte : {
             0xb8, 0x00, 0xe0, 0x31, 0xdb,                   // mov ax, 0xe000; xor bx, bx
             0x8e, 0xc0,                                     // again: mov es, ax
             0x66, 0x26, 0x81, 0x3e, 0x00, 0x00, 0x52, 0x53, // cmp dword es:[0], "RSD "
             0x44, 0x20, 0x75, 0x10,                         // jne next
             0x66, 0x26, 0x81, 0x3e, 0x04, 0x00, 0x50, 0x54, // cmp dword es:[4], "PTR "
             0x52, 0x20, 0x75, 0x04,                         // jne next
             0x80, 0xcb, 0x01, 0x90,                         // or bl, 1
             0x66, 0x26, 0x81, 0x3e, 0x00, 0x00, 0x5f, 0x4d, // next: cmp dword es:[0], "_MP_"
             0x50, 0x5f, 0x75, 0x03,                         // jne on
             0x80, 0xcb, 0x02,                               // or bl, 2
             0x40, 0x75, 0xd0,                               // on: inc ax; jnz again
             0x88, 0xd8, 0xe6, 0xf4, 0xeb, 0xfe,             // mov al, bl; out 0xf4, al
         })
        sector[at++] = static_cast<std::uint8_t>(byte);
    sector[510] = 0x55;
    sector[511] = 0xaa;
    auto disk = file_of(sector);
    rig.spec.vcpus = 3;
    rig.spec.memory_bytes = 64 * MiB;
    rig.spec.disks.push_back({.fd = disk.get()});
    rig.build();
    REQUIRE(rig.machine->start());
    auto end = rig.end();
    INFO(rig.output);
    CHECK(end.how == MachineEnd::How::debug_exit);
    CHECK(end.code == 3);
}

TEST_CASE("what cannot be built is refused with the reason") {
    Rig rig;
    rig.image = firmware({0xeb, 0xfe});
    rig.spec.boot.image_fd = rig.image.get();
    SECTION("no vcpu") {
        rig.spec.vcpus = 0;
        CHECK(rig.refuse().kind() == ErrorKind::limit);
    }
    SECTION("too many vcpus") {
        rig.spec.vcpus = limits::max_vcpus + 1;
        CHECK(rig.refuse().kind() == ErrorKind::limit);
    }
    SECTION("memory") {
        for (auto bytes : {std::uint64_t{0}, limits::min_memory_bytes - 1,
                           limits::max_memory_bytes + 1, ~std::uint64_t{0}}) {
            rig.spec.memory_bytes = bytes;
            CHECK(rig.refuse().kind() == ErrorKind::limit);
        }
    }
    SECTION("no /dev/kvm") {
        rig.spec.kvm_fd = -1;
        CHECK_THAT(rig.refuse().text(), Catch::StartsWith("/dev/kvm: descriptor -1"));
    }
    SECTION("an image that is none") {
        auto text = file_of(as_bytes("just some text, and not a kernel at all"));
        rig.spec.boot.image_fd = text.get();
        rig.spec.boot.image_name = "notes.txt";
        CHECK_THAT(rig.refuse().text(), Catch::StartsWith("notes.txt is no kernel"));
    }
    SECTION("an image that is a pipe") {
        auto [a, b] = socket_pair(SOCK_STREAM).value();
        rig.spec.boot.image_fd = a.get();
        CHECK(rig.refuse().text() == "boot image test: not a regular file");
    }
    SECTION("a disk that is none") {
        rig.spec.disks.push_back({.fd = rig.kvm.get()});
        CHECK_THAT(rig.refuse().text(), Catch::Contains("test-disk0"));
    }
    SECTION("too many devices for the bus") {
        auto disk = file_of(std::vector<std::uint8_t>(512));
        rig.spec.disks.resize(40, {.fd = disk.get()});
        CHECK(rig.refuse().kind() == ErrorKind::limit);
    }
}

TEST_CASE("a machine is built and started quickly", "[.][time]") {
    Rig rig;
    rig.image = firmware({0xe6, 0xf4, 0xeb, 0xfe});
    rig.spec.boot.image_fd = rig.image.get();
    for (unsigned round = 0; round < 5; ++round) {
        auto start = std::chrono::steady_clock::now();
        rig.build();
        auto built = std::chrono::steady_clock::now();
        REQUIRE(rig.machine->start());
        rig.wait();
        auto ended = std::chrono::steady_clock::now();
        rig.machine.reset();
        auto gone = std::chrono::steady_clock::now();
        rig.ends.clear();
        fmt::print("build {} us, run {} us, destroy {} us\n", (built - start) / 1us,
                   (ended - built) / 1us, (gone - ended) / 1us);
    }
}

namespace {
// Prints dots without end; ends with code 1 when something is typed.
constexpr std::initializer_list<int> dots = {
    0xba, 0xf8, 0x03, 0xb0, '.',  0xee, // out 0x3f8, '.'
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf2, 0xb0, 0x01, 0xe6, 0xf4, 0xeb, 0xfe,
};

void pause(Rig& rig) {
    bool still = false;
    rig.machine->pause([&] { still = true; });
    while (!still && rig.ends.empty())
        rig.loop.run_once(true);
    CHECK(rig.machine->paused());
}

void turn(Loop& loop, std::chrono::milliseconds duration) {
    bool over = false;
    Timer timer(loop, [&] { over = true; });
    timer.start(duration);
    while (!over)
        loop.run_once(true);
}
} // namespace

TEST_CASE("a paused guest does nothing, and goes on where it was") {
    Rig rig;
    rig.spec.vcpus = GENERATE(1U, 3U); // those that have not been woken are parked too
    rig.run(dots);
    rig.wait(".");
    pause(rig);
    auto before = rig.console->output_bytes();
    rig.type("x"); // waits with the console
    turn(rig.loop, 50ms);
    CHECK(rig.console->output_bytes() == before);
    pause(rig); // twice is once
    CHECK(rig.ends.empty());
    rig.machine->unpause();
    CHECK_FALSE(rig.machine->paused());
    rig.machine->unpause();
    CHECK(rig.end().code == 1);
    CHECK(rig.console->output_bytes() >= before);
}

TEST_CASE("a machine is paused and let go many times") {
    Rig rig;
    rig.run(dots);
    for (unsigned i = 0; i < 50; ++i) {
        pause(rig);
        auto before = rig.console->output_bytes();
        rig.machine->unpause();
        while (rig.console->output_bytes() == before)
            rig.loop.run_once(false);
    }
    rig.type("x");
    CHECK(rig.end().code == 1);
}

TEST_CASE("a paused machine can be taken down, and be paused before its start") {
    Rig rig;
    SECTION("paused") {
        rig.run(dots);
        pause(rig);
    }
    SECTION("about to be still") {
        rig.run(dots);
        rig.machine->pause([] { FAIL("the machine was destroyed"); });
    }
    SECTION("before the start") {
        rig.image = firmware(dots);
        rig.spec.boot.image_fd = rig.image.get();
        rig.build();
        pause(rig);
        REQUIRE(rig.machine->start());
        turn(rig.loop, 30ms);
        CHECK(rig.console->output_bytes() == 0);
        rig.machine->unpause();
        rig.wait(".");
    }
    rig.machine.reset();
    CHECK(rig.ends.empty());
    CHECK(threads() <= 5); // no vCPU is left, only the pool
}

TEST_CASE("a machine that ends while it is to be paused tells of its end") {
    for (unsigned round = 0; round < 20; ++round) {
        Rig rig;
        rig.run({0xb0, 0x07, 0xe6, 0xf4, 0xeb, 0xfe}); // out 0xf4, 7
        bool still = false;
        rig.machine->pause([&] { still = true; });
        while (!still && rig.ends.empty())
            rig.loop.run_once(true);
        if (still)
            rig.machine->unpause();
        CHECK(rig.end().code == 7);
    }
}
