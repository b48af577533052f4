// An installer's kernel in small, by keys on the serial line: d asks for a lease, i for a lease and
// with it for the answer file, as often as wished; r reboots.
#include "answers.h"

enum { serial = 0x3f8, line_status = serial + 5, data_ready = 1 };

static char key(void) {
    while (!(in8(line_status) & data_ready))
        ;
    return (char)in8(serial);
}

void guest(void) {
    timer_start();
    ip_open();
    for (;;) {
        say("installer [ready]\n");
        const char wish = key();
        if (wish == 'r')
            out8(0x64, 0xfe);
        static struct lease lease;
        if (wish != 'd' && wish != 'i')
            continue;
        if (!dhcp(&lease))
            fail("no lease");
        say_lease(&lease);
        if (wish == 'd')
            continue;
        cut_mode(lease.boot_file); // asks all the same when it names none
        say("STATUS %u\n", fetch_answers(&lease));
    }
}
