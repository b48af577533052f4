// Asked to end. The first letter of the command line says how it listens:
//   a  by ACPI: enables the power button, then goes to S5
//   v  by vmmci(4): acknowledges, then resets, as a guest does that was asked to reboot
//   d  by vmmci(4), but never answers
//   s  by vmmci(4): acknowledges and never ends
//   p  nobody asks: powers itself down with the vmmci powerdown hook, and sits there
#include "kit.h"
#include "pci.h"

enum { events = 0x600, enabled = 0x602, control = 0x604, power_button = 0x100 };
enum { features = 0, guest_features = 4, status = 18, isr = 19, command = 20 };
enum { driver_ok = 7, command_shutdown = 1 };

static void soft_off(void) {
    out16(control, 5 << 10 | 1 << 13);
    fail("still here after S5");
}

static void await_button(void) {
    out16(enabled, power_button);
    say("listening\n");
    while (!(in16(events) & power_button))
        ;
    out16(events, power_button);
    say("button pressed\n");
    soft_off();
}

static void await_vmmci(char how) {
    unsigned slot = pci_find(0x0b5d, 0x0777, 0);
    pci_write(slot, 4, pci_read(slot, 4) | 1);
    struct window vmmci = pci_bar(slot, 0);
    window_out8(&vmmci, status, 3);
    window_out32(&vmmci, guest_features, window_in32(&vmmci, features));
    window_out8(&vmmci, status, driver_ok);
    if (how == 'p') {
        say("going down\n");
        window_out32(&vmmci, command, command_shutdown);
        for (;;)
            ;
    }
    say("listening\n");
    while (!(window_in8(&vmmci, isr) & 2))
        ;
    uint32_t asked = window_in32(&vmmci, command);
    say("command %u\n", asked);
    if (how != 'd')
        window_out32(&vmmci, command, asked);
    if (how == 'v')
        out8(0x64, 0xfe);
    for (;;)
        ;
}

void guest(void) {
    char how = *command_line();
    if (how == 'a')
        await_button();
    await_vmmci(how);
}
