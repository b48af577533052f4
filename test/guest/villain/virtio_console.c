// virtio console: a flood, requests of every shape, buffers for input that are too small, not
// writable or not there, taken back by a reset while somebody types without a pause.
#include "villain.h"

enum { transmit_index = 1, receive_index = 0, own_buffers = 20 };

static const struct function* line;
static struct queue receive, transmit;

static void open_both(uint32_t features) {
    virtio_attach(&device, line->slot);
    virtio_start(&device, features);
    virtio_queue(&device, &receive, receive_index);
    virtio_queue(&device, &transmit, transmit_index);
    virtio_go(&device);
}

static void send(const struct segment* segments, unsigned readable, unsigned writable) {
    uint16_t head;
    uint32_t length;
    while (queue_add(&transmit, segments, readable, writable) < 0)
        queue_wait(&transmit, &head, &length);
    queue_kick(&transmit);
    queue_wait(&transmit, &head, &length);
}

static void flood(void) {
    memset(scratch, 'y', sizeof scratch);
    for (unsigned i = 79; i < sizeof scratch; i += 80)
        scratch[i] = '\n';
    struct segment parts[7];
    for (unsigned i = 0; i < 7; i++)
        parts[i] = (struct segment){scratch, sizeof scratch};
    for (unsigned turn = 0; turn < 300; turn++)
        send(parts, 7, 0);
}

static void shapes(void) {
    static const uint32_t lengths[] = {0,     1,     4095,  4096,    4097,    65535,
                                       65536, 65537, 70000, 1 << 20, 8 << 20, 13 << 20};
    for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        struct segment parts[60];
        for (unsigned i = 0; i < 60; i++)
            parts[i] = (struct segment){(void*)0x200000, lengths[l]};
        send(parts, 1, 0);
        send(parts, 60, 0);
        send(parts, 0, 1);
        send(parts, 30, 30);
    }
}

static void wait_for_all(void) {
    for (uint32_t start = ticks; receive.used.index != receive.available.index;) {
        if (ticks - start > 20 * ticks_per_second)
            fail("slot %u took %u of %u buffers", device.slot, receive.used.index,
                 receive.available.index);
        wait_for_interrupt();
    }
}

static void small_buffers(void) {
    static const uint32_t lengths[] = {0, 1, 2, 3, 100, 4096};
    for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        open_both(feature_indirect);
        for (unsigned i = 0; i < own_buffers; i++) {
            struct segment parts[] = {{scratch, lengths[l]}, {scratch + 4096, lengths[l]}};
            queue_add(&receive, parts, i % 3 == 1, 1 + (i % 3 == 2));
        }
        struct segment bad[] = {{(void*)0xe0000000, 64}, {(void*)ram_end, 1}, {(void*)(ram_end - 1), 2}};
        for (unsigned i = 0; i < 3; i++)
            queue_add(&receive, &bad[i], 0, 1);
        queue_kick(&receive);
        wait_for_all();
    }
}

static void resets_while_typing(void) {
    for (unsigned turn = 0; turn < 100; turn++) {
        open_both(turn & 1 ? feature_event_index : 0);
        for (unsigned i = 0; i < own_buffers; i++) {
            struct segment one = {scratch, 8};
            queue_add(&receive, &one, 0, 1);
        }
        queue_kick(&receive);
        struct segment whole = {scratch, 64};
        for (unsigned i = 0; i < 5; i++)
            queue_add(&transmit, &whole, 1, 0);
        queue_kick(&transmit);
        if (turn & 2)
            memset(receive.descriptors, 0xff, sizeof receive.descriptors);
        if (turn % 3 == 0)
            virtio_reset(&device);
        else if (turn % 3 == 1)
            receive.available.index = (uint16_t)(receive.available.index + 1000);
    }
}

static void check_receive(void) {
    open_both(0);
    struct segment one = {scratch, 1};
    queue_add(&receive, &one, 0, 1);
    queue_kick(&receive);
    uint16_t head;
    uint32_t length;
    queue_wait(&receive, &head, &length);
    if (length != 1)
        fail("a byte of input has %u bytes", length);
    virtio_reset(&device);
}

void guest(void) {
    find_functions();
    for (unsigned i = 0; i < function_count; i++)
        if (functions[i].type == virtio_console)
            line = &functions[i];
    if (line == NULL)
        fail("no virtio console");
    check_receive();
    open_both(feature_indirect);
    flood();
    shapes();
    for (unsigned offset = 0; offset < 256; offset++)
        *(volatile uint8_t*)(device.device.base + offset) = (uint8_t)chance();
    check_receive();
    small_buffers();
    check_receive();
    resets_while_typing();
    check_receive();
    survive("virtio_console");
}
