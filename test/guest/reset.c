// Asks for a reset as kernels do: 0xfe to the keyboard controller.
#include "kit.h"

void guest(void) {
    say("reset\n");
    out8(0x64, 0xfe);
    fail("still here after the reset");
}
