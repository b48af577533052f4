// PCI configuration mechanism #1 and windows into BARs (PCI Local Bus 3.0, 3.2.2.3, 6.2.5).
#pragma once

#include "kit.h"

// Where registers are: memory or ports.
struct window {
    uint32_t base, size;
    bool port;
};

uint32_t pci_read(unsigned slot, unsigned offset);
void pci_write(unsigned slot, unsigned offset, uint32_t value);
uint8_t pci_read8(unsigned slot, unsigned offset);
// The slot of the count-th function with these ids on bus 0; fails the guest if absent.
unsigned pci_find(uint16_t vendor, uint16_t device, unsigned count);
struct window pci_bar(unsigned slot, unsigned index);

uint8_t window_in8(const struct window* window, uint32_t offset);
uint16_t window_in16(const struct window* window, uint32_t offset);
uint32_t window_in32(const struct window* window, uint32_t offset);
void window_out8(const struct window* window, uint32_t offset, uint8_t value);
void window_out16(const struct window* window, uint32_t offset, uint16_t value);
void window_out32(const struct window* window, uint32_t offset, uint32_t value);
