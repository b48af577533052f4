// Counts a fifth of a second of timer interrupts, asleep in between.
#include "kit.h"

void guest(void) {
    const uint32_t wanted = ticks_per_second / 5;
    timer_start();
    uint32_t sleeps = 0;
    while (ticks < wanted) {
        wait_for_interrupt();
        sleeps++;
    }
    say("timer: %u ticks, %s\n", ticks,
        sleeps >= wanted ? "each woke the processor" : "not by sleeping");
    if (sleeps < wanted)
        finish(1);
}
