// SeaBIOS's boot order, fw_cfg's "bootorder": one OpenFirmware-like path a line.
#pragma once

#include <span>
#include <string>

#include "machine/machine.h"

namespace vmhost::machine {

struct BootCandidate {
    BootFrom kind = BootFrom::disk; // never any
    unsigned slot = 0;              // on PCI bus 0
    unsigned function = 0;
};

// The text of the file, without its closing zero. Only what is named is tried (HALT): with
// BootFrom::any every disk, then the CD-ROM drive, then the networks; else the first device of that
// kind, as vmd has it.
std::string boot_order(BootFrom from, std::span<const BootCandidate> candidates);

// Whether a network interface has to bring iPXE: asked for, or there is nothing else.
bool boots_from_net(BootFrom from, std::span<const BootCandidate> candidates);

} // namespace vmhost::machine
