// Slots and functions of a machine's NICs and disks.
#pragma once

#include <cstddef>

namespace vmhost::machine {

// Where a device is on PCI bus 0. Each NIC and each disk of a machine has a slot of its own, NICs
// first; when there are more of them than slots, eight NICs or eight disks share one, in order.
struct PciPlace {
    unsigned slot = 0, function = 0;
    bool operator==(const PciPlace&) const = default;
};
PciPlace place_of_nic(std::size_t index, std::size_t nics, std::size_t disks);
PciPlace place_of_disk(std::size_t index, std::size_t nics, std::size_t disks);

} // namespace vmhost::machine
