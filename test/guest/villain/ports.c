// Every port from 0 to 0xffff in each width, in and out, and as strings. The ports that end the
// machine or the villain's own line to the outside are done by other topics.
#include "villain.h"

static uint8_t text[64];

static void string_in(uint16_t port, unsigned width, unsigned count) {
    void* to = scratch;
    if (width == 1)
        __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(port) : "memory");
    else if (width == 2)
        __asm__ volatile("rep insw" : "+D"(to), "+c"(count) : "d"(port) : "memory");
    else
        __asm__ volatile("rep insl" : "+D"(to), "+c"(count) : "d"(port) : "memory");
}
static void string_out(uint16_t port, unsigned width, unsigned count) {
    const void* from = text;
    if (width == 1)
        __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(port) : "memory");
    else if (width == 2)
        __asm__ volatile("rep outsw" : "+S"(from), "+c"(count) : "d"(port) : "memory");
    else
        __asm__ volatile("rep outsl" : "+S"(from), "+c"(count) : "d"(port) : "memory");
}

// Writes of a double word at `port` reach port to port + 3.
static bool ends_machine(unsigned port) {
    static const uint16_t ends[] = {0x64,  0x92,  0xf4, 0xcf9,
                                    0x604, 0x605, // sleep
                                    0x0d};        // DMA controller: not there, but be safe
    for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++)
        if (port <= ends[i] && port + 3 >= ends[i])
            return true;
    return false;
}

static unsigned vmmci_base, vmmci_end;

// Ports where only some values end the machine: vmmci's command.
static bool is_delicate(unsigned port) {
    return port + 3 >= vmmci_base && port < vmmci_end;
}

void guest(void) {
    find_functions();
    for (unsigned slot = 0; slot < 32; slot++)
        if (pci_read(slot, 0) == 0x07770b5d) {
            struct window bar = pci_bar(slot, 0);
            vmmci_base = bar.base;
            vmmci_end = bar.base + bar.size;
        }
    interrupts_off();
    for (unsigned i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(0x5a ^ i << 3);
    for (unsigned port = 0; port < 0x10000; port++) {
        (void)in8((uint16_t)port);
        (void)in16((uint16_t)port);
        (void)in32((uint16_t)port);
        if (!ends_machine(port) && !is_delicate(port)) {
            const uint32_t value = port & 1 ? ~0u : 0x5a5a5a5a;
            out8((uint16_t)port, (uint8_t)value);
            out16((uint16_t)port, (uint16_t)value);
            out32((uint16_t)port, value);
        }
    }
    for (unsigned port = 0; port < 0x10000; port++) {
        // Each width where something is, one in turn elsewhere.
        const unsigned first = port < 0x1200 ? 1 : 1u << port % 3, last = port < 0x1200 ? 4 : first;
        for (unsigned width = first; width <= last; width *= 2) {
            string_in((uint16_t)port, width, 5);
            if (!ends_machine(port) && !is_delicate(port) && !(port >= 0x3f8 - 3 && port < 0x400))
                string_out((uint16_t)port, width, 5);
        }
    }
    // A whole buffer in one instruction, to a port that is there and one that is not.
    string_in(0x71, 1, sizeof scratch);
    string_in(0x511, 1, sizeof scratch);
    string_in(0x3f8, 4, sizeof scratch / 4);
    string_in(0x4321, 4, sizeof scratch / 4);

    // The address register and the BARs have had it, too.
    for (unsigned slot = 0; slot < 32; slot++)
        if (pci_read(slot, 0) != ~0u)
            pci_write(slot, 4, 7);
    restore_platform();
    survive("ports");
}
