// Interrupt wires, as devices see them. Implemented by the backend's in-kernel
// controllers or by machine/irq/ where a backend has none.
#pragma once

#include <cstdint>

namespace vmhost::machine {

class Interrupts {
public:
    virtual ~Interrupts() = default;
    // gsi 0..15 are the ISA lines, 16..23 the upper I/O APIC pins. Any thread.
    virtual void set_level(unsigned gsi, bool level) = 0;
    // A message-signalled interrupt; false when the guest's address is nonsense. Any thread.
    virtual bool send_msi(std::uint64_t address, std::uint32_t data) = 0;
};

} // namespace vmhost::machine
