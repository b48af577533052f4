// Says that it runs, then sleeps for ever: what is left is what the host needs for it.
#include "kit.h"

void guest(void) {
    say("idle\n");
    interrupts_off();
    for (;;)
        __asm__ volatile("hlt");
}
