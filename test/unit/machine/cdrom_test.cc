// SeaBIOS and the CD-ROM drive of a whole machine: which of several media is started.
#include "rig.h"

using namespace vmhost;
using namespace vmhost::test;

namespace {

constexpr std::size_t block = 2048;

// Code that ends the machine with a number through the debug-exit device.
std::vector<std::uint8_t> exits_with(std::uint8_t code) {
    return {0xba, 0xf4, 0x00, 0xb0, code, 0xee, 0xf4, 0xeb, 0xfd};
}

void put(std::vector<std::uint8_t>& image, std::size_t at, Bytes bytes) {
    std::ranges::copy(bytes, image.begin() + static_cast<std::ptrdiff_t>(at));
}

// El Torito, no emulation: boot record in block 17, catalog in 19, code in 20.
Fd cd(Bytes code) {
    std::vector<std::uint8_t> image(64 * block);
    put(image, 16 * block, as_bytes(std::string_view("\1CD001\1", 7)));
    put(image, 17 * block, as_bytes(std::string_view("\0CD001\1EL TORITO SPECIFICATION", 30)));
    image[17 * block + 0x47] = 19;
    auto* catalog = &image[19 * block];
    catalog[0] = 1;
    catalog[28] = 0xaa; // makes the words sum up to zero
    catalog[29] = 0x55;
    catalog[30] = 0x55;
    catalog[31] = 0xaa;
    catalog[32] = 0x88;
    catalog[38] = 4; // sectors of 512
    catalog[40] = 20;
    put(image, 20 * block, code);
    return file_of(image);
}

Fd disk(Bytes code) {
    std::vector<std::uint8_t> image(MiB);
    put(image, 0, code);
    if (!code.empty()) {
        image[510] = 0x55;
        image[511] = 0xaa;
    }
    return file_of(image);
}

struct Bench : Rig {
    Fd medium = cd(exits_with(7)), bootable = disk(exits_with(5)), empty = disk({});
    Bench() { spec.memory_bytes = 64 * MiB; }
    void start() {
        build();
        REQUIRE(machine->start());
    }
    int code() {
        start();
        auto how = end();
        INFO(output);
        CHECK(how.how == MachineEnd::How::debug_exit);
        return how.code;
    }
};

} // namespace

TEST_CASE("the CD-ROM is started when it is asked for, or when no disk can be") {
    Bench bench;
    bench.spec.cdrom = {.fd = bench.medium.get()};
    SECTION("alone") {
        CHECK(bench.code() == 7);
    }
    SECTION("behind a disk") {
        bench.spec.disks.push_back({.fd = bench.bootable.get()});
        CHECK(bench.code() == 5);
    }
    SECTION("behind a disk, asked for") {
        bench.spec.disks.push_back({.fd = bench.bootable.get()});
        bench.spec.boot.from = BootFrom::cdrom;
        CHECK(bench.code() == 7);
    }
    SECTION("behind an empty disk") {
        bench.spec.disks.push_back({.fd = bench.empty.get()});
        CHECK(bench.code() == 7);
    }
    SECTION("never, when the disk is asked for") {
        bench.spec.disks.push_back({.fd = bench.empty.get()});
        bench.spec.boot.from = BootFrom::disk;
        bench.start();
        bench.wait("No bootable device");
        CHECK(bench.ends.empty());
    }
}

TEST_CASE("a tray that the guest left open stays open") {
    Bench bench;
    bench.spec.cdrom = {.fd = bench.medium.get(), .tray_open = true};
    bench.start();
    CHECK(bench.machine->tray_open());
    bench.wait("No bootable device");
    CHECK(bench.ends.empty());
    REQUIRE(bench.machine->change_medium(bench.medium.get(), false));
    CHECK(!bench.machine->tray_open());
}

TEST_CASE("what is no medium is refused, and a machine without a drive takes none") {
    Bench bench;
    bench.build();
    auto no_drive = bench.machine->change_medium(bench.medium.get(), false);
    REQUIRE(!no_drive);
    CHECK(no_drive.error().kind() == ErrorKind::unsupported);
    auto tiny = file_of(std::vector<std::uint8_t>(2047));
    bench.spec.cdrom = {.fd = tiny.get()};
    CHECK(bench.refuse().kind() == ErrorKind::invalid);
    bench.spec.cdrom = CdromSpec{};
    bench.machine.reset();
    bench.build();
    CHECK(bench.machine->tray_open() == false);
}
