// For test/bench: bytes to the serial port as fast as the processor gives them, an exit
// for each. FLOOD and END stand around them; dots between them are counted outside.
#include "kit.h"

enum { serial = 0x3f8, bytes = 30000, a_line = 64 };

void guest(void) {
    say("FLOOD %u\n", bytes);
    for (unsigned i = 0; i < bytes; i++)
        out8(serial, i % a_line == a_line - 1 ? '\n' : '.');
    say("\nEND flood\n");
}
