// An installer's kernel in small, by keys on the serial line: d asks for a lease, i for a lease and
// with it for the answer file, as often as wished; s and f say what an installer says of a set and
// of its failure; m asks as its menu does, and says what it is told; r reboots.
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
        if (wish == 's')
            say("Installing   man78.tgz    |****|  8 MB\n");
        if (wish == 'f')
            say("failed; check /tmp/ai/ai.log\n");
        if (wish == 'm') {
            say("(I)nstall, (U)pgrade, (A)utoinstall or (S)hell? ");
            char told[2] = {key(), 0};
            while (key() != '\r')
                ;
            say("%s\nTOLD %s\n", told, told);
        }
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
