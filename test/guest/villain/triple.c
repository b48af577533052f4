// No interrupt table and then an exception: a triple fault, which resets the machine.
#include "villain.h"

void guest(void) {
    say("villain: triple fault\n");
    static const struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) nothing = {0, 0};
    __asm__ volatile("lidt %0; divl %1" : : "m"(nothing), "r"(0), "a"(1), "d"(0));
    fail("still here after a triple fault");
}
