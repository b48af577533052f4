// The 16550's two interrupts: "holding register empty" sends a text, "data available"
// echoes what is typed, until a line ends. Prints how many of each came.
#include "kit.h"

enum { serial = 0x3f8, line = 4 };

static const char* to_send = "sent by interrupts\r\n";
static volatile uint32_t sent, received;
static volatile bool line_ended;

static void service(void* context) {
    (void)context;
    for (;;) {
        switch (in8(serial + 2) & 0x0f) {
        case 0x02: // holding register empty
            if (*to_send == '\0') {
                out8(serial + 1, in8(serial + 1) & ~2);
            } else {
                out8(serial, (uint8_t)*to_send++);
                sent = sent + 1;
            }
            break;
        case 0x04: // data available
        case 0x0c: // and waiting for a while
            while (in8(serial + 5) & 1) {
                uint8_t byte = in8(serial);
                received = received + 1;
                if (byte == '\r' || byte == '\n')
                    line_ended = true;
                else
                    out8(serial, byte);
            }
            break;
        case 0x06: // line status
            in8(serial + 5);
            break;
        case 0x00: // modem status
            in8(serial + 6);
            break;
        default: // nothing is pending
            return;
        }
    }
}

void guest(void) {
    const uint32_t length = (uint32_t)strlen(to_send);
    irq_on(line, service, NULL);
    out8(serial + 4, 0x0b); // OUT2 lets the interrupt through to the line
    out8(serial + 1, 0x02);
    while (sent < length)
        wait_for_interrupt();
    out8(serial + 1, 0x00);
    say("type a line\n");
    out8(serial + 1, 0x01);
    while (!line_ended)
        wait_for_interrupt();
    out8(serial + 1, 0x00);
    say("\ninterrupt: %u bytes sent, %u received\n", sent, received);
}
