// A flood on the serial line: a megabyte by string output, as fast as they go.
#include "villain.h"

void guest(void) {
    find_functions();
    memset(scratch, 'y', sizeof scratch);
    for (unsigned i = 79; i < sizeof scratch; i += 80)
        scratch[i] = '\n';
    for (unsigned block = 0; block < 128; block++) {
        const void* from = scratch;
        uint32_t count = sizeof scratch;
        __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0x3f8) : "memory");
    }
    say("\n");
    survive("console");
}
