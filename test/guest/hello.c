// The smallest guest: one line, then the debug-exit port.
#include "kit.h"

void guest(void) {
    say("hello\n");
}
