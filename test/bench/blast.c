/* Sends broadcast frames of a local experimental type out of an interface as fast as the
 * kernel takes them:  blast INTERFACE LENGTH MILLISECONDS
 * A start frame precedes, several stop frames follow (see test/guest/bench_net.c). Prints
 * the number of frames sent and the microseconds it took. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ether_type = 0x88b5, batch = 32, op_data = 1, op_start = 2, op_stop = 3, stops = 20 };

static long long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

int main(int argc, char **argv) {
    static unsigned char frame[1514] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1,
                                        ether_type >> 8, ether_type & 0xff};
    if (argc != 4)
        return 2;
    size_t length = (size_t)atoi(argv[2]);
    int descriptor = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_halen = 6,
                             .sll_ifindex = (int)if_nametoindex(argv[1])};
    if (descriptor < 0 || to.sll_ifindex == 0 || length < 60 || length > sizeof frame) {
        perror("blast");
        return 1;
    }
    memset(to.sll_addr, 0xff, 6);
    struct iovec piece = {frame, length};
    struct mmsghdr messages[batch];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < batch; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to,
                                              .msg_iov = &piece, .msg_iovlen = 1};
    frame[14] = op_start;
    sendmmsg(descriptor, messages, 1, 0);
    usleep(50000);
    frame[14] = op_data;
    long long begin = now_us(), end = begin + atoi(argv[3]) * 1000LL, sent = 0;
    while (now_us() < end) {
        int count = sendmmsg(descriptor, messages, batch, 0);
        if (count > 0)
            sent += count;
    }
    long long took = now_us() - begin;
    frame[14] = op_stop;
    for (int i = 0; i < stops; i++) {
        usleep(50000);
        sendmmsg(descriptor, messages, 1, 0);
    }
    printf("%lld %lld\n", sent, took);
    return 0;
}
