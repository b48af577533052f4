// Says that it comes to a bad end, and does: the command line tells which.
//   triple  no handler for a fault: the processor shuts down
//   wild    jumps to where there is nothing that can be executed
#include "kit.h"

void guest(void) {
    for (unsigned line = 1; line <= 12; line++)
        say("line %u before the end\n", line);
    say("panic: \033[31mbad end\n");
    if (*command_line() == 'w') {
        void (*nowhere)(void) = (void (*)(void))0xd0000000;
        nowhere();
    }
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) none = {0, 0};
    __asm__ volatile("lidt %0; int3" : : "m"(none));
}
