// Interrupt wires, as devices see them. Implemented by the backend's in-kernel
// controllers or by machine/irq/ where a backend has none.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace vmhost::machine {

inline constexpr unsigned isa_lines = 16;
// ACPI's own interrupt, where PCs have it.
inline constexpr unsigned sci_line = 9;
// The ISA lines that PCI functions get, in the order in which they are handed out: one each
// for the first nine functions, then shared. None of our ISA devices uses one of them (timer 0,
// keyboard 1, cascade 2, serial 4, clock 8, ACPI 9, mathematics 13).
inline constexpr std::array<unsigned, 9> pci_lines{5, 10, 11, 3, 6, 7, 12, 14, 15};

// The line of the function in a slot of PCI bus 0; slot 0 is the host bridge and has none. The
// tables for guests name it for slots that are empty, too.
inline constexpr unsigned pci_slots = 32;
constexpr unsigned pci_line_of_slot(unsigned slot) {
    return pci_lines[(slot - 1) % pci_lines.size()];
}

// Level-triggered from the start, because a guest without firmware has nobody who would program
// that; the other lines are edge-triggered.
constexpr bool is_level_line(unsigned line) {
    return line == sci_line || std::ranges::find(pci_lines, line) != pci_lines.end();
}

class Interrupts {
public:
    virtual ~Interrupts() = default;
    // gsi 0..15 are the ISA lines, 16..23 the upper I/O APIC pins. Any thread.
    virtual void set_level(unsigned gsi, bool level) = 0;
    // A message-signalled interrupt; false when the guest's address is nonsense. Any thread.
    virtual bool send_msi(std::uint64_t address, std::uint32_t data) = 0;
};

} // namespace vmhost::machine
