// SeaBIOS compares a line with paths of its own making, "/pci@i0cf8/*@SLOT[,FUNCTION]" and for
// SCSI "/*@CHANNEL/*@TARGET,LUN" behind it: numbers in hexadecimal, the names do not matter, and
// a line may go on behind what is compared. HALT, as the last line, keeps it from trying what is
// not listed.
#include "machine/boot_order.h"

#include <algorithm>

namespace vmhost::machine {

namespace {

std::string path_of(const BootCandidate& candidate) {
    const char* name = candidate.kind == BootFrom::net ? "ethernet" : "scsi";
    auto path = fmt::format("/pci@i0cf8/{}@{:x}", name, candidate.slot);
    if (candidate.function != 0)
        path += fmt::format(",{:x}", candidate.function);
    switch (candidate.kind) {
    case BootFrom::disk:
        return path + "/disk@0,0";
    case BootFrom::cdrom:
        return path + "/channel@0/disk@0,0";
    default:
        return path + "/ethernet-phy@0";
    }
}

} // namespace

bool boots_from_net(BootFrom from, std::span<const BootCandidate> candidates) {
    return from == BootFrom::net ||
           (from == BootFrom::any && std::ranges::all_of(candidates, [](const auto& one) {
                return one.kind == BootFrom::net;
            }));
}

std::string boot_order(BootFrom from, std::span<const BootCandidate> candidates) {
    std::string text;
    for (auto kind : {BootFrom::disk, BootFrom::cdrom, BootFrom::net}) {
        if (from != BootFrom::any && from != kind)
            continue;
        for (const auto& candidate : candidates) {
            if (candidate.kind != kind)
                continue;
            text += path_of(candidate) + "\n";
            if (from == kind)
                break;
        }
    }
    return text + "HALT";
}

} // namespace vmhost::machine
