#include "pci.h"

uint32_t pci_read(unsigned slot, unsigned offset) {
    out32(0xcf8, 0x80000000u | slot << 11 | (offset & 0xfc));
    return in32(0xcfc);
}
void pci_write(unsigned slot, unsigned offset, uint32_t value) {
    out32(0xcf8, 0x80000000u | slot << 11 | (offset & 0xfc));
    out32(0xcfc, value);
}
uint8_t pci_read8(unsigned slot, unsigned offset) {
    return (uint8_t)(pci_read(slot, offset) >> (offset & 3) * 8);
}

unsigned pci_find(uint16_t vendor, uint16_t device, unsigned count) {
    const uint32_t wanted = (uint32_t)device << 16 | vendor;
    for (unsigned slot = 0; slot < 32; slot++)
        if (pci_read(slot, 0) == wanted && count-- == 0)
            return slot;
    fail("no PCI function %x:%x", vendor, device);
}

struct window pci_bar(unsigned slot, unsigned index) {
    const unsigned offset = 0x10 + index * 4;
    uint32_t value = pci_read(slot, offset);
    struct window window = {.port = value & 1};
    window.base = value & (window.port ? ~3u : ~15u);
    if (!window.port && (value & 6) == 4 && pci_read(slot, offset + 4) != 0)
        fail("BAR %u of slot %u lies above 4 GiB", index, slot);
    if (window.base == 0)
        fail("BAR %u of slot %u has no address", index, slot);
    pci_write(slot, offset, ~0u);
    uint32_t mask = pci_read(slot, offset) & (window.port ? ~3u : ~15u);
    pci_write(slot, offset, value);
    window.size = window.port ? (~mask + 1) & 0xffff : ~mask + 1;
    // I/O space, memory space, bus master.
    pci_write(slot, 4, (pci_read(slot, 4) & 0xffff) | 7);
    return window;
}

static void check(const struct window* window, uint32_t offset, uint32_t size) {
    if (offset + size > window->size)
        fail("access at %x of a window of %x bytes", offset, window->size);
}

#define ACCESSORS(bits)                                                                            \
    uint##bits##_t window_in##bits(const struct window* window, uint32_t offset) {                 \
        check(window, offset, bits / 8);                                                           \
        if (window->port)                                                                          \
            return in##bits((uint16_t)(window->base + offset));                                    \
        return *(volatile uint##bits##_t*)(window->base + offset);                                 \
    }                                                                                              \
    void window_out##bits(const struct window* window, uint32_t offset, uint##bits##_t value) {    \
        check(window, offset, bits / 8);                                                           \
        if (window->port)                                                                          \
            out##bits((uint16_t)(window->base + offset), value);                                   \
        else                                                                                       \
            *(volatile uint##bits##_t*)(window->base + offset) = value;                            \
    }
ACCESSORS(8)
ACCESSORS(16)
ACCESSORS(32)
