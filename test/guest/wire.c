// Says on the wire what it is told on the serial line: each line is a frame in hexadecimal, and
// "sent N" is the answer. After a '*' it is sent fifty times, after two of them fifty times fifty; a
// '?' is another digit each time. What comes in on the wire is not for it.
#include "virtio.h"

enum { serial_data = 0x3f8, serial_status = 0x3fd, data_ready = 1 };
enum { feature_mac = 1 << 5, header_bytes = 12, frame_bytes = 1514, many = 50 };

static struct virtio device;
static struct queue receive_queue, send_queue;
static uint8_t header[header_bytes], frame[frame_bytes];
static uint8_t chosen[frame_bytes]; // which of its bits are another each time

static uint8_t next_typed(void) {
    while (!(in8(serial_status) & data_ready))
        wait_for_interrupt(); // the timer's
    return in8(serial_data);
}

static int digit(uint8_t typed) {
    if (typed >= '0' && typed <= '9')
        return typed - '0';
    return typed >= 'a' && typed <= 'f' ? typed - 'a' + 10 : -1;
}

// A line's digits in frame; how many bytes they are, and how often they are to be sent.
static uint32_t read_frame(uint32_t* times) {
    uint32_t digits = 0;
    *times = 1;
    memset(chosen, 0, sizeof chosen);
    for (;;) {
        const uint8_t typed = next_typed();
        if (typed == '\n' || typed == '\r')
            return digits / 2;
        if (typed == '*') {
            *times *= many;
            continue;
        }
        const int value = typed == '?' ? 0 : digit(typed);
        if (value < 0 || digits / 2 == frame_bytes)
            fail("no frame: %c", typed);
        uint8_t *at = frame + digits / 2, *choice = chosen + digits / 2;
        *at = (uint8_t)(*at << 4 | value);
        *choice = (uint8_t)(*choice << 4 | (typed == '?' ? 0xf : 0));
        ++digits;
    }
}

static void choose(uint32_t length) {
    static uint32_t state = 1;
    for (uint32_t i = 0; i < length; i++)
        if (chosen[i] != 0) {
            state = state * 1664525 + 1013904223;
            frame[i] = (uint8_t)((frame[i] & ~chosen[i]) | (state >> 24 & chosen[i]));
        }
}

static void send_frame(uint32_t length) {
    choose(length);
    struct segment segments[2] = {{header, header_bytes}, {frame, length}};
    uint16_t head;
    uint32_t written;
    if (queue_add(&send_queue, segments, 2, 0) < 0)
        fail("the send queue is full");
    queue_kick(&send_queue);
    queue_wait(&send_queue, &head, &written);
}

void guest(void) {
    timer_start();
    virtio_open(&device, virtio_net, feature_mac);
    virtio_queue(&device, &receive_queue, 0);
    virtio_queue(&device, &send_queue, 1);
    virtio_go(&device);
    uint8_t mac[6];
    for (unsigned i = 0; i < 6; i++)
        mac[i] = window_in8(&device.device, i);
    say("wire: %m ready\n", mac);
    for (uint32_t sent = 0;;) {
        uint32_t times;
        const uint32_t length = read_frame(&times);
        if (length == 0)
            continue;
        for (uint32_t i = 0; i < times; i++)
            send_frame(length);
        say("sent %u\n", ++sent);
    }
}
