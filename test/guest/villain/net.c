// virtio-net: frames of every length and split, headers of nonsense, receive buffers that are
// too small, not writable, not there, or taken back by a reset while frames arrive.
#include "villain.h"

enum { header_bytes = 12 };
// Checksums, segmentation in both directions, mergeable buffers (5.1.3).
enum { offloads = 1 << 0 | 1 << 1 | 0xf << 7 | 0xf << 11 | 1 << 15 };

static const struct function* nic;
static struct queue receive, transmit;
static uint8_t frame[70000], buffers[64][1600];

static void open_both(void) {
    virtio_attach(&device, nic->slot);
    // With every offload that there is: headers mean something then.
    virtio_start(&device, offloads | feature_indirect);
    virtio_queue(&device, &receive, 0);
    virtio_queue(&device, &transmit, 1);
    virtio_go(&device);
}

static void send(const struct segment* segments, unsigned count) {
    uint16_t head;
    uint32_t length;
    while (queue_add(&transmit, segments, count, 0) < 0)
        queue_wait(&transmit, &head, &length);
    queue_kick(&transmit);
    queue_wait(&transmit, &head, &length);
}

static void ask_host(void) {
    static const uint8_t arp[] = {0, 1, 8, 0, 6, 4, 0, 1, 0xfe, 0xe1, 0xbb, 0xd1, 0, 1, 10, 9, 8, 66};
    memset(frame, 0, header_bytes + 60);
    memset(frame + header_bytes, 0xff, 6);
    for (unsigned i = 0; i < 6; i++)
        frame[header_bytes + 6 + i] = window_in8(&device.device, i);
    frame[header_bytes + 12] = 8;
    frame[header_bytes + 13] = 6;
    memcpy(frame + header_bytes + 14, arp, sizeof arp);
    memcpy(frame + header_bytes + 22, frame + header_bytes + 6, 6);
    static const uint8_t host[4] = {10, 9, 8, 1};
    memcpy(frame + header_bytes + 38, host, 4);
    struct segment whole = {frame, header_bytes + 60};
    send(&whole, 1);
}

static void frames(void) {
    static const uint32_t lengths[] = {0,    1,    11,   12,   13,   25,    26,    27,    72,   1525,
                                       1526, 1527, 4096, 9018, 9030, 65535, 65561, 65562, 65563, 70000};
    for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        struct segment whole = {frame, lengths[l]};
        send(&whole, 1);
        struct segment parts[16];
        for (unsigned i = 0; i < 16; i++)
            parts[i] = (struct segment){frame + i, i < 15 ? 1 : lengths[l]};
        send(parts, 16);
    }
    // Every field of the header at its edges (5.1.6).
    for (unsigned at = 0; at < header_bytes; at++)
        for (unsigned value = 0; value < 256; value += at < 2 ? 1 : 51) {
            ask_host();
            frame[at] = (uint8_t)value;
            frame[(at + 1) % header_bytes] = (uint8_t)~value;
            struct segment whole = {frame, header_bytes + 60};
            send(&whole, 1);
        }
    for (unsigned i = 0; i < 500; i++) {
        for (unsigned at = 0; at < header_bytes; at++)
            frame[at] = (uint8_t)chance();
        struct segment whole = {frame, header_bytes + 14 + chance() % 1500};
        send(&whole, 1);
    }
}

// Buffers of each kind are offered and the host is made to answer into them.
static void small_buffers(void) {
    static const uint32_t lengths[] = {0, 1, 11, 12, 13, 25, 26, 60, 72, 100};
    for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        open_both();
        for (unsigned i = 0; i < 20; i++) {
            struct segment one = {buffers[i], lengths[l]};
            queue_add(&receive, &one, i % 5 == 4, i % 5 != 4);
        }
        queue_kick(&receive);
        for (unsigned i = 0; i < 6; i++)
            ask_host();
        wait_for_interrupt();
    }
}

static void resets_under_fire(void) {
    for (unsigned turn = 0; turn < 100; turn++) {
        open_both();
        for (unsigned i = 0; i < 20; i++) {
            struct segment one = {buffers[i], sizeof buffers[i]};
            queue_add(&receive, &one, 0, 1);
        }
        queue_kick(&receive);
        struct segment whole = {frame, header_bytes + 60};
        for (unsigned i = 0; i < 5; i++)
            queue_add(&transmit, &whole, 1, 0);
        queue_kick(&transmit);
        if (turn & 1)
            memset(receive.descriptors, 0xff, sizeof receive.descriptors);
        if (turn % 3 == 0)
            virtio_reset(&device);
    }
}

// Commands of the control queue (5.1.6.5): every class and number with data of every length, and
// a MAC table that says it has more entries than it has.
static void commands(void) {
    enum { feature_control = 1 << 17 };
    static struct queue control;
    static uint8_t command[512];
    static volatile uint8_t answer;
    virtio_attach(&device, nic->slot);
    virtio_start(&device, feature_control);
    if (!(device.features & feature_control))
        return;
    virtio_queue(&device, &control, (uint16_t)(window_in16(&device.common, 18) - 1));
    virtio_go(&device);
    static const uint32_t lengths[] = {0, 1, 2, 4, 6, 10, 64, sizeof command - 2};
    for (unsigned class = 0; class < 8; class++)
        for (unsigned number = 0; number < 6; number++)
            for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; l++)
                for (unsigned shape = 0; shape < 4; shape++) {
                    memset(command, shape & 1 ? 0xff : 0, sizeof command);
                    command[0] = (uint8_t)class;
                    command[1] = (uint8_t)number;
                    struct segment parts[] = {{command, shape & 2 ? 1 : 2},
                                              {command + (shape & 2 ? 1 : 2), lengths[l] + 1},
                                              {(void*)&answer, shape == 3 ? 0 : 1}};
                    uint16_t head;
                    uint32_t length;
                    queue_add(&control, parts, 2, 1);
                    queue_kick(&control);
                    queue_wait(&control, &head, &length);
                }
    virtio_reset(&device);
}

static void check_receive(void) {
    open_both();
    for (unsigned i = 0; i < 20; i++) {
        struct segment one = {buffers[i], sizeof buffers[i]};
        queue_add(&receive, &one, 0, 1);
    }
    queue_kick(&receive);
    ask_host();
    uint16_t head;
    uint32_t length;
    queue_wait(&receive, &head, &length);
    if (length < header_bytes + 14)
        fail("a received frame of %u bytes", length);
    virtio_reset(&device);
}

void guest(void) {
    find_functions();
    for (unsigned i = 0; i < function_count; i++)
        if (functions[i].type == virtio_net)
            nic = &functions[i];
    if (nic == NULL)
        fail("no NIC");
    check_receive();
    open_both();
    frames();
    check_receive();
    small_buffers();
    check_receive();
    resets_under_fire();
    check_receive();
    commands();
    check_receive();
    survive("net");
}
