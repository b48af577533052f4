// Slots of the PCI bus for a machine's devices: host bridge, entropy, NICs, disks, then the rest,
// which is vmd's order: OpenBSD numbers its devices by it.
#include "machine/places.h"

#include "machine/irq.h"

namespace vmhost::machine {

namespace {

constexpr unsigned first_slot = 2; // behind the host bridge and the entropy source
// Those two, vmmci, and room for a CD-ROM drive, a balloon, a console and two that are not
// thought of yet.
constexpr std::size_t other_slots = 8;
constexpr std::size_t functions_per_slot = 8; // of PCI

bool fits(std::size_t nics, std::size_t disks) {
    return nics + disks + other_slots <= pci_slots;
}

PciPlace place(std::size_t first, std::size_t index, bool shared) {
    auto slot = first + (shared ? index / functions_per_slot : index);
    return {static_cast<unsigned>(slot),
            static_cast<unsigned>(shared ? index % functions_per_slot : 0)};
}

} // namespace

PciPlace place_of_nic(std::size_t index, std::size_t nics, std::size_t disks) {
    return place(first_slot, index, !fits(nics, disks));
}

PciPlace place_of_disk(std::size_t index, std::size_t nics, std::size_t disks) {
    bool shared = !fits(nics, disks);
    auto nic_slots = shared ? (nics + functions_per_slot - 1) / functions_per_slot : nics;
    return place(first_slot + nic_slots, index, shared);
}

} // namespace vmhost::machine
