// The answer file as the OpenBSD installer asks for it, and the lease before that; for the guests
// that do so. What they are told goes to the console.
#pragma once

#include "ip.h"

static uint8_t answer[16384];

static char* append(char* at, const char* text) {
    while (*text != '\0')
        *at++ = *text++;
    *at = '\0';
    return at;
}
static char* append_number(char* at, uint32_t value, unsigned base, unsigned digits) {
    char text[12];
    unsigned count = 0;
    do {
        text[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0 || count < digits);
    while (count > 0)
        *at++ = text[--count];
    *at = '\0';
    return at;
}

// The directory of a boot file that ends in auto_install, and what must not follow.
static bool cut_mode(char* boot_file) {
    static const char mode[] = "auto_install";
    const size_t length = strlen(boot_file), mode_length = sizeof mode - 1;
    if (length < mode_length || memcmp(boot_file + length - mode_length, mode, mode_length) != 0)
        return false;
    boot_file[length - mode_length] = '\0';
    return true;
}

static void say_lease(const struct lease* lease) {
    say("LEASE ip=%a mask=%a router=", lease->address, lease->mask);
    if (lease->has_router)
        say("%a", lease->router);
    say(" dns=");
    if (lease->has_dns)
        say("%a", lease->dns);
    say(" siaddr=%a boot_file=%s hostname=%s\n", lease->next_server, lease->boot_file,
        lease->hostname);
}

// Of the directory that the boot file names. The status; 200: the file has been printed.
static unsigned fetch_answers(const struct lease* lease) {
    static char path[256], server[16], text[512];
    char* at = append(append(path, "/"), lease->boot_file);
    for (unsigned i = 0; i < 6; i++)
        at = append_number(i > 0 ? append(at, ":") : at, my_mac[i], 16, 2);
    append(at, "-install.conf?path=7.8/amd64");
    at = server;
    for (unsigned i = 0; i < 4; i++)
        at = append_number(i > 0 ? append(at, ".") : at, lease->next_server[i], 10, 1);
    at = append(append(append(text, "GET "), path), " HTTP/1.1\r\nConnection: close\r\nHost: ");
    append(append(at, server), "\r\nUser-Agent: OpenBSD ftp\r\nAccept: */*\r\n\r\n");

    say("Fetching http://%s%s\n", server, path);
    int got = http_exchange(lease->next_server, text, answer, sizeof answer);
    if (got < 0)
        fail("no answer over HTTP");
    if (got < 12 || memcmp(answer, "HTTP/1.", 7) != 0)
        fail("%u bytes that are no HTTP answer", got);
    const unsigned status =
        (answer[9] - '0') * 100u + (answer[10] - '0') * 10u + (answer[11] - '0');
    if (status != 200)
        return status;
    int body = 0;
    while (body + 4 <= got && memcmp(answer + body, "\r\n\r\n", 4) != 0)
        body++;
    if (body + 4 > got)
        fail("the HTTP head has no end");
    say("ANSWERS begin\n");
    say_bytes(answer + body + 4, (size_t)(got - body - 4));
    say("ANSWERS end\n");
    return status;
}
