// Never at rest: requests, resets, moving BARs, masked vectors, and a flood on the console, until
// somebody outside ends it, holds it or saves it.
#include "villain.h"

static void move(const struct function* function) {
    const uint32_t before = pci_read(function->slot, 0x10);
    for (unsigned i = 0; i < 8; i++) {
        pci_write(function->slot, 0x10, i & 1 ? before : 0xe8000000 + (chance() & 0xff0000));
        pci_write(function->slot, 4, i & 2 ? 7 : 0);
    }
    pci_write(function->slot, 0x10, before);
    pci_write(function->slot, 4, 7);
}

void guest(void) {
    find_functions();
    say("villain: storm\n");
    for (uint32_t turn = 0;; turn++) {
        const struct function* function = &functions[chance() % function_count];
        overtake(function, chance() % overtake_ways);
        if (turn % 4 == 0)
            move(function);
        for (unsigned i = 0; i < 50; i++) {
            out8(0x70, (uint8_t)i);
            (void)in8(0x71);
            out32((uint16_t)(0x600 + i % 2), 0);
        }
        if (turn % 16 == 0)
            say("villain: turn %u\n", turn);
    }
}
