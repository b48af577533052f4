#include <catch2/catch.hpp>

#include "machine/boot_order.h"

using namespace vmhost::machine;

TEST_CASE("the boot order names devices as SeaBIOS does, and nothing else is tried") {
    const std::vector<BootCandidate> all = {{.kind = BootFrom::net, .slot = 2},
                                            {.kind = BootFrom::net, .slot = 3},
                                            {.kind = BootFrom::disk, .slot = 10},
                                            {.kind = BootFrom::disk, .slot = 11, .function = 2},
                                            {.kind = BootFrom::cdrom, .slot = 30}};
    CHECK(boot_order(BootFrom::any, all) == "/pci@i0cf8/scsi@a/disk@0,0\n"
                                            "/pci@i0cf8/scsi@b,2/disk@0,0\n"
                                            "/pci@i0cf8/scsi@1e/channel@0/disk@0,0\n"
                                            "/pci@i0cf8/ethernet@2/ethernet-phy@0\n"
                                            "/pci@i0cf8/ethernet@3/ethernet-phy@0\n"
                                            "HALT");
    CHECK(boot_order(BootFrom::disk, all) == "/pci@i0cf8/scsi@a/disk@0,0\nHALT");
    CHECK(boot_order(BootFrom::cdrom, all) == "/pci@i0cf8/scsi@1e/channel@0/disk@0,0\nHALT");
    CHECK(boot_order(BootFrom::net, all) == "/pci@i0cf8/ethernet@2/ethernet-phy@0\nHALT");
    CHECK(boot_order(BootFrom::cdrom, {}) == "HALT");

    CHECK(boots_from_net(BootFrom::net, all));
    CHECK(!boots_from_net(BootFrom::any, all));
    CHECK(!boots_from_net(BootFrom::disk, std::span(all).first(2)));
    CHECK(boots_from_net(BootFrom::any, std::span(all).first(2)));
}
