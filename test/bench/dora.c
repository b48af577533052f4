/* Asks a DHCP server for leases as a relay agent with many clients, one after the other:
 *   dora SERVER LOCAL RATE SECONDS CLIENTS
 * A DISCOVER is due every 1/RATE s, whatever the server does; an OFFER is answered by a REQUEST
 * at once. An answer counts that comes within a second. Prints four numbers: DISCOVERs sent, OFFERs
 * in time, REQUESTs sent, ACKs in time.
 *
 * It measures what perfdhcp measures, by the same rules, at a fraction of its cost: perfdhcp needs
 * more of a processor for an exchange than the servers that it is to measure. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    port = 67,
    batch = 64,
    message_bytes = 300,
    max_reply_bytes = 1500,
    options_at = 240, /* RFC 2131: after the header and the cookie */
    discover = 1, offer = 2, request = 3, ack = 5,
    answer_ns = 1000000000, /* later is dropped */
    turn_ns = 200000,       /* so often it looks what is due */
};

struct asking {
    int64_t asked_ns; /* DISCOVER or REQUEST */
    uint8_t waits_for;
};

static struct asking *asking; /* by xid */
static long long sent[2], received[2]; /* DISCOVERs and OFFERs, REQUESTs and ACKs */
static uint32_t different;
static uint8_t out[batch][message_bytes];
static struct iovec out_parts[batch];
static struct mmsghdr out_headers[batch];
static unsigned waiting;
static in_addr_t own;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* splitmix64: addresses without an order. */
static uint64_t mixed(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void flush(int fd) {
    for (unsigned at = 0; at < waiting;) {
        int count = sendmmsg(fd, out_headers + at, waiting - at, 0);
        if (count < 0) { /* the buffer is full: what waits is lost, as on any wire */
            perror("dora: send");
            break;
        }
        at += (unsigned)count;
    }
    waiting = 0;
}

static uint8_t *option(uint8_t *at, uint8_t code, uint8_t length, const void *data) {
    *at++ = code;
    *at++ = length;
    memcpy(at, data, length);
    return at + length;
}

/* The address and the server are of the offer, in network order; zero for a DISCOVER. */
static void ask(int fd, uint8_t type, uint32_t number, in_addr_t address, in_addr_t server) {
    static const uint8_t wanted[] = {1, 28, 2, 3, 15, 6, 12}; /* what perfdhcp asks for */
    uint8_t *message = out[waiting];
    uint64_t mac = mixed(number % different);
    uint32_t xid = htonl(number);
    memset(message, 0, message_bytes);
    message[0] = 1; /* BOOTREQUEST, Ethernet, 6 bytes, through one relay agent */
    message[1] = 1;
    message[2] = 6;
    message[3] = 1;
    memcpy(message + 4, &xid, 4);
    memcpy(message + 24, &own, 4);
    message[28] = 2; /* locally administered */
    memcpy(message + 29, &mac, 5);
    memcpy(message + 236, "\x63\x82\x53\x63", 4);
    uint8_t *end = option(message + options_at, 53, 1, &type);
    if (type == request) {
        end = option(end, 50, 4, &address);
        end = option(end, 54, 4, &server);
    }
    end = option(end, 55, sizeof wanted, wanted);
    *end = 255;
    asking[number] = (struct asking){now_ns(), type == discover ? offer : ack};
    sent[type == request]++;
    if (++waiting == batch)
        flush(fd);
}

/* The data of an option of length bytes; null when there is none. */
static const uint8_t *find(const uint8_t *message, size_t bytes, uint8_t code, uint8_t length) {
    for (size_t at = options_at; at + 2 <= bytes && message[at] != 255;) {
        if (message[at] == 0) {
            at++;
            continue;
        }
        size_t end = at + 2 + message[at + 1];
        if (end > bytes)
            return NULL;
        if (message[at] == code)
            return message[at + 1] == length ? message + at + 2 : NULL;
        at = end;
    }
    return NULL;
}

static void take(int fd, const uint8_t *message, size_t bytes, uint32_t known, int64_t now) {
    uint32_t number;
    in_addr_t address, server;
    const uint8_t *type = find(message, bytes, 53, 1), *by = find(message, bytes, 54, 4);
    if (!type || !by)
        return;
    memcpy(&number, message + 4, 4);
    number = ntohl(number);
    if (number >= known || asking[number].waits_for != *type)
        return;
    asking[number].waits_for = 0;
    if (now - asking[number].asked_ns > answer_ns)
        return;
    received[*type == ack]++;
    memcpy(&address, message + 16, 4);
    memcpy(&server, by, 4);
    if (*type == offer)
        ask(fd, request, number, address, server);
}

static void take_all(int fd, uint32_t known) {
    static uint8_t in[batch][max_reply_bytes];
    struct iovec parts[batch];
    struct mmsghdr headers[batch];
    int count;
    do {
        memset(headers, 0, sizeof headers);
        for (int i = 0; i < batch; i++) {
            parts[i] = (struct iovec){in[i], max_reply_bytes};
            headers[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
        }
        count = recvmmsg(fd, headers, batch, MSG_DONTWAIT, NULL);
        int64_t now = now_ns();
        for (int i = 0; i < count; i++)
            take(fd, in[i], headers[i].msg_len, known, now);
    } while (count == batch);
}

static int open_socket(const char *server, const char *local) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), bytes = 8 << 20;
    struct sockaddr_in near = {.sin_family = AF_INET, .sin_port = htons(port)}, far = near;
    if (inet_pton(AF_INET, local, &near.sin_addr) != 1 ||
        inet_pton(AF_INET, server, &far.sin_addr) != 1)
        return -1;
    own = near.sin_addr.s_addr;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
    if (bind(fd, (struct sockaddr *)&near, sizeof near) < 0 ||
        connect(fd, (struct sockaddr *)&far, sizeof far) < 0)
        return -1;
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 6)
        return 2;
    int64_t rate = atoll(argv[3]), most = rate * atoll(argv[4]);
    different = (uint32_t)atol(argv[5]);
    int fd = open_socket(argv[1], argv[2]);
    asking = calloc((size_t)most + 1, sizeof *asking);
    if (fd < 0 || rate <= 0 || different == 0 || !asking) {
        perror("dora");
        return 1;
    }
    for (int i = 0; i < batch; i++) {
        out_parts[i] = (struct iovec){out[i], message_bytes};
        out_headers[i].msg_hdr = (struct msghdr){.msg_iov = &out_parts[i], .msg_iovlen = 1};
    }
    int64_t begin = now_ns(), number = 0, last = begin;
    while (number < most || now_ns() - last < answer_ns) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        struct timespec turn = {.tv_nsec = turn_ns};
        ppoll(&ready, 1, &turn, NULL);
        take_all(fd, (uint32_t)number);
        int64_t now = now_ns(), due = (now - begin) * rate / 1000000000;
        for (; number < due && number < most; number++, last = now)
            ask(fd, discover, (uint32_t)number, 0, 0);
        flush(fd);
    }
    printf("%lld %lld %lld %lld\n", sent[0], received[0], sent[1], received[1]);
    return 0;
}
