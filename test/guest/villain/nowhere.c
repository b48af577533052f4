// Jumps into a device's registers: no processor and no emulator can go on.
#include "villain.h"

void guest(void) {
    find_functions();
    struct window bar = pci_bar(functions[0].slot, 0);
    say("villain: jumps to %x\n", bar.base);
    ((void (*)(void))bar.base)();
    fail("came back from a BAR");
}
