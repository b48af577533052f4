// The DSDT: S5, the processors, the PCI root with its windows and its fixed interrupt
// routing, and the two ISA devices that drivers look up here.
//
// The keyboard controller is left out: it has no keyboard, and SeaBIOS and Linux
// skip the probe then. The power button is fixed hardware: the FADT has it.
#include <fmt/format.h>

#include "machine/acpi/acpi.h"
#include "machine/acpi/aml.h"
#include "machine/acpi/header.h"
#include "machine/device/acpi_pm.h"
#include "machine/irq.h"
#include "machine/layout.h"

namespace vmhost::machine::acpi {

namespace {

using namespace aml;

// One entry per slot and INTA: address (any function), pin, no link device, line.
Code routing() {
    std::vector<Code> entries;
    for (unsigned slot = 1; slot < pci_slots; ++slot)
        entries.push_back(package({integer(slot << 16 | 0xffff), integer(0), integer(0),
                                   integer(pci_line_of_slot(slot))}));
    return package(entries);
}

Code pci_root() {
    return device(
        "PCI0",
        {name("_HID", eisa_id("PNP0A03")), name("_UID", integer(0)), name("_BBN", integer(0)),
         name("_CRS", resources({
                          bus_numbers(0, 0),
                          fixed_ports(0xcf8, 8),
                          port_window(0, 0xcf7),
                          port_window(0xd00, 0xffff),
                          memory_window(pci_memory_start, pci_memory_end - 1),
                      })),
         name("_PRT", routing()),
         device("COM1", {name("_HID", eisa_id("PNP0501")), name("_UID", integer(1)),
                         name("_STA", integer(0xf)),
                         name("_CRS", resources({fixed_ports(0x3f8, 8), isa_interrupt(4)}))}),
         device("RTC_", {name("_HID", eisa_id("PNP0B00")),
                         name("_CRS", resources({fixed_ports(0x70, 2), isa_interrupt(8)}))})});
}

} // namespace

std::vector<std::uint8_t> dsdt(unsigned vcpus) {
    std::vector<Code> system;
    for (unsigned i = 0; i < vcpus; ++i)
        system.push_back(processor(fmt::format("C{:03X}", i), static_cast<std::uint8_t>(i)));
    system.push_back(pci_root());

    ByteWriter out;
    begin_table(out, "DSDT", 2);
    out.bytes(
        name("\\_S5", package({integer(AcpiPm::soft_off), integer(0), integer(0), integer(0)})));
    out.bytes(scope("\\_SB", system));
    return finish_table(out);
}

} // namespace vmhost::machine::acpi
