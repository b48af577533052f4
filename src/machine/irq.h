// Interrupt wires, as devices see them. Implemented by the backend's in-kernel
// controllers or by machine/irq/ where a backend has none.
#pragma once

#include <array>
#include <cstdint>

namespace vmhost::machine {

// The ISA lines that PCI functions get, in the order in which they are handed out: one each
// for the first ten functions, then shared. None of our ISA devices uses one of them (timer 0,
// keyboard 1, cascade 2, serial 4, clock 8, mathematics 13). Level-triggered from the start,
// because a guest without firmware has nobody who would program that.
inline constexpr std::array<unsigned, 10> pci_lines{5, 10, 11, 9, 3, 6, 7, 12, 14, 15};

class Interrupts {
public:
    virtual ~Interrupts() = default;
    // gsi 0..15 are the ISA lines, 16..23 the upper I/O APIC pins. Any thread.
    virtual void set_level(unsigned gsi, bool level) = 0;
    // A message-signalled interrupt; false when the guest's address is nonsense. Any thread.
    virtual bool send_msi(std::uint64_t address, std::uint32_t data) = 0;
};

} // namespace vmhost::machine
