// INIT to itself: the processor starts where firmware would be, and there is none.
#include "villain.h"

void guest(void) {
    say("villain: INIT\n");
    volatile uint32_t* command = (volatile uint32_t*)0xfee00300;
    *command = 0x00044500;
    for (unsigned i = 0; i < 1000000; i++)
        barrier();
    fail("still here after INIT");
}
