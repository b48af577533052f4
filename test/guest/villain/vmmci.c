// vmmci: every register in every width, acknowledgements of what nobody asked, resets in between;
// at last the word that it is going down, and then it does not: the machine ends it.
#include "villain.h"

enum { status_register = 18, command = 20 };

void guest(void) {
    find_functions();
    const unsigned slot = pci_find(0x0b5d, 0x0777, 0);
    struct window bar = pci_bar(slot, 0);
    for (unsigned value = 0; value < 4; value++)
        for (unsigned offset = 0; offset < bar.size; offset++) {
            const uint16_t port = (uint16_t)(bar.base + offset);
            const uint32_t data = value == 0 ? 0 : value == 1 ? ~0u : chance() | 0x80;
            (void)in8(port);
            (void)in16(port);
            (void)in32(port);
            out8(port, (uint8_t)data);
            if (offset != command - 1 && offset != command) {
                out16(port, (uint16_t)data);
                out32(port, data);
            }
        }
    for (unsigned turn = 0; turn < 2000; turn++) {
        window_out8(&bar, status_register, (uint8_t)chance());
        uint32_t word = chance() % 300;
        window_out32(&bar, command, word == 1 ? 2 : word);
        (void)window_in32(&bar, 28);
        (void)window_in8(&bar, 19);
    }
    check_devices("vmmci");
    say("villain: vmmci survived\n");
    for (unsigned turn = 0; turn < 100; turn++) {
        window_out32(&bar, command, 1);
        window_out8(&bar, status_register, 0);
    }
    for (;;)
        wait_for_interrupt();
}
