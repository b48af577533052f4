// virtio-net as the OpenBSD installer would use it: a lease by DHCP, then the answer file
// of its MAC from the server that the lease names. LEASE and the file go to the console.
#include "answers.h"

void guest(void) {
    timer_start();
    ip_open();
    say("net: %m\n", my_mac);

    static struct lease lease;
    if (!dhcp(&lease))
        fail("no lease");
    say_lease(&lease);
    if (!cut_mode(lease.boot_file))
        fail("the boot file names no mode");
    const unsigned status = fetch_answers(&lease);
    if (status != 200)
        fail("HTTP status %u", status);
}
