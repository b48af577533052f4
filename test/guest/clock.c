// Tells, ten times a second of its own, how many timer interrupts it had and what the ACPI
// timer shows; for ever.
#include "kit.h"

enum { acpi_timer = 0x608 };

void guest(void) {
    timer_start();
    for (uint32_t next = ticks_per_second / 10;; next += ticks_per_second / 10) {
        while (ticks < next)
            wait_for_interrupt();
        say("tick %u acpi %u\n", ticks, in32(acpi_timer));
    }
}
