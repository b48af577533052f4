// Where NICs and disks are on the PCI bus.
#include <catch2/catch.hpp>

#include <algorithm>
#include <vector>

#include "base/base.h"
#include "machine/irq.h"
#include "machine/places.h"

using namespace vmhost;
using namespace vmhost::machine;

TEST_CASE("few devices have a slot each, in vmd's order") {
    CHECK(place_of_nic(0, 2, 3) == PciPlace{2, 0});
    CHECK(place_of_nic(1, 2, 3) == PciPlace{3, 0});
    CHECK(place_of_disk(0, 2, 3) == PciPlace{4, 0});
    CHECK(place_of_disk(2, 2, 3) == PciPlace{6, 0});
    CHECK(place_of_disk(0, 0, 1) == PciPlace{2, 0});
}

TEST_CASE("any number of devices has its place, in order, and leaves room for others") {
    for (std::size_t nics = 0; nics <= limits::max_interfaces; ++nics)
        for (std::size_t disks = 0; disks <= limits::max_disks; ++disks) {
            std::vector<std::pair<unsigned, unsigned>> all;
            for (std::size_t i = 0; i < nics; ++i)
                all.emplace_back(place_of_nic(i, nics, disks).slot,
                                 place_of_nic(i, nics, disks).function);
            for (std::size_t i = 0; i < disks; ++i)
                all.emplace_back(place_of_disk(i, nics, disks).slot,
                                 place_of_disk(i, nics, disks).function);
            INFO(nics << " nics, " << disks << " disks");
            CHECK(std::ranges::is_sorted(all));
            CHECK(std::ranges::adjacent_find(all) == all.end());
            unsigned last = 1;
            for (auto [slot, function] : all) {
                // A slot is begun by its first function, and none is left out.
                CHECK((function == 0 ? slot == last + 1 : slot == last));
                last = slot;
                CHECK(function < 8);
            }
            CHECK(last + 6 < pci_slots);
        }
}
