// A virtio console: says its terminal's size whenever that changes, and repeats what is typed,
// until a q. What it has said and heard is printed on the serial line.
#include "virtio.h"

enum { feature_size = 1, buffer_bytes = 32, buffers = 8 };

static struct virtio console;
static struct queue receive, transmit;
static uint8_t rooms[buffers][buffer_bytes];
static uint32_t size;

static void print(const void* text, uint32_t length) {
    struct segment segment = {(void*)text, length};
    uint16_t head;
    uint32_t written;
    if (queue_add(&transmit, &segment, 1, 0) < 0)
        fail("the transmit queue is full");
    queue_kick(&transmit);
    queue_wait(&transmit, &head, &written);
}

static void make_room(uint8_t* buffer) {
    struct segment segment = {buffer, buffer_bytes};
    if (queue_add(&receive, &segment, 0, 1) < 0)
        fail("the receive queue is full");
    queue_kick(&receive);
}

static char* number(char* at, unsigned value) {
    if (value >= 10)
        at = number(at, value / 10);
    *at = (char)('0' + value % 10);
    return at + 1;
}

static void look_at_size(void) {
    const uint32_t now = window_in32(&console.device, 0);
    if (now == size)
        return;
    size = now;
    char text[32] = "size ";
    char* end = number(text + 5, size & 0xffff);
    *end++ = 'x';
    end = number(end, size >> 16);
    *end++ = '\n';
    print(text, (uint32_t)(end - text));
}

void guest(void) {
    timer_start();
    virtio_open(&console, virtio_console, feature_size);
    if (!(console.features & feature_size))
        fail("the console has no size");
    virtio_queue(&console, &receive, 0);
    virtio_queue(&console, &transmit, 1);
    virtio_go(&console);
    for (unsigned i = 0; i < buffers; i++)
        make_room(rooms[i]);
    print("line: ready\n", 12);
    say("line: ready\n");
    for (uint32_t heard = 0;;) {
        uint16_t head;
        uint32_t length;
        look_at_size();
        if (!queue_take(&receive, &head, &length)) {
            wait_for_interrupt();
            continue;
        }
        uint8_t* buffer = (uint8_t*)(uint32_t)receive.descriptors[head].address;
        if (length == 0 || length > buffer_bytes)
            fail("a piece of %u bytes", length);
        print(buffer, length);
        heard += length;
        if (buffer[length - 1] == 'q') {
            say("line: %u bytes heard\n", heard);
            finish(0);
        }
        make_room(buffer);
    }
}
