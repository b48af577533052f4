// For test/bench: frames out of and into a network device, without interrupts. Frames
// carry the local experimental type 0x88b5 (IEEE 802) and an operation: outside counts
// what comes and sends what goes in. BEGIN and END lines stand around each part. With the
// command line "peer" it is the outside of another one: it sends, with a start and a stop each time.
#include "virtio.h"

enum { feature_mac = 1 << 5 };
enum { header_bytes = 12, depth = 32, frame_bytes = 1514, ether_type = 0x88b5 };
enum { op_data = 1, op_start = 2, op_stop = 3 };

static struct virtio device;
static struct queue receive_queue, send_queue;
static struct buffer {
    uint8_t header[header_bytes];
    uint8_t frame[frame_bytes + 2];
} incoming[depth], outgoing[depth];
static uint8_t slot_of_head[virtio_max_queue], my_mac[6];

static void make_frame(struct buffer* buffer, uint8_t operation) {
    memset(buffer->frame, 0xff, 6);
    memcpy(buffer->frame + 6, my_mac, 6);
    buffer->frame[12] = ether_type >> 8;
    buffer->frame[13] = ether_type & 0xff;
    buffer->frame[14] = operation;
}

static void send_part(const char* name, uint32_t length, uint32_t count) {
    uint32_t offered = 0, done = 0, free_slots = ~0u;
    say("BEGIN %s %u %u\n", name, count, length);
    while (done < count) {
        bool any = false;
        for (; offered < count && free_slots != 0; offered++, any = true) {
            unsigned slot = (unsigned)__builtin_ctz(free_slots);
            struct segment segment = {&outgoing[slot], header_bytes + length};
            int head = queue_add(&send_queue, &segment, 1, 0);
            if (head < 0)
                break;
            free_slots &= free_slots - 1;
            slot_of_head[head] = (uint8_t)slot;
        }
        if (any)
            queue_kick(&send_queue);
        uint16_t head;
        uint32_t written;
        while (queue_take(&send_queue, &head, &written)) {
            free_slots |= 1u << slot_of_head[head];
            done++;
        }
    }
    say("END %s\n", name);
}

// Until nothing is under way, and those who hear them have had time to.
static void send_marks(uint8_t operation, unsigned count) {
    for (unsigned i = 0; i < depth; i++)
        make_frame(&outgoing[i], operation);
    while (count-- > 0) {
        struct segment segment = {&outgoing[0], header_bytes + 60};
        uint16_t head;
        uint32_t written;
        queue_add(&send_queue, &segment, 1, 0);
        queue_kick(&send_queue);
        while (!queue_take(&send_queue, &head, &written)) {
        }
        for (uint32_t then = ticks + 5; ticks < then;)
            wait_for_interrupt();
    }
    for (unsigned i = 0; i < depth; i++)
        make_frame(&outgoing[i], op_data);
}

static void send_marked(const char* name, uint32_t length, uint32_t count) {
    send_marks(op_start, 2);
    send_part(name, length, count);
    send_marks(op_stop, 20);
}

static struct buffer* buffer_of_head[virtio_max_queue];

static void offer(struct buffer* buffer) {
    struct segment segment = {buffer, sizeof *buffer};
    int head = queue_add(&receive_queue, &segment, 0, 1);
    if (head < 0)
        fail("the receive queue is full");
    buffer_of_head[head] = buffer;
}

// Counts data frames from the start frame to the stop frame.
static void receive_part(const char* name) {
    uint32_t frames = 0, bytes = 0;
    bool started = false;
    say("BEGIN %s 0 0\n", name);
    for (;;) {
        uint16_t head;
        uint32_t length;
        bool any = false;
        while (queue_take(&receive_queue, &head, &length)) {
            struct buffer* buffer = buffer_of_head[head];
            const uint8_t* frame = buffer->frame;
            bool ours = frame[12] == ether_type >> 8 && frame[13] == (ether_type & 0xff);
            uint8_t operation = ours ? frame[14] : 0;
            offer(buffer);
            any = true;
            if (operation == op_start)
                started = true;
            if (operation == op_data && started) {
                frames++;
                bytes += length - header_bytes;
            }
            if (operation == op_stop && started) {
                queue_kick(&receive_queue);
                say("RECEIVED %s %u %u\n", name, frames, bytes);
                return;
            }
        }
        if (any)
            queue_kick(&receive_queue);
    }
}

void guest(void) {
    virtio_open(&device, virtio_net, feature_mac);
    virtio_queue(&device, &receive_queue, 0);
    virtio_queue(&device, &send_queue, 1);
    virtio_go(&device);
    receive_queue.available.flags = send_queue.available.flags = 1;
    for (unsigned i = 0; i < 6; i++)
        my_mac[i] = window_in8(&device.device, i);
    for (unsigned i = 0; i < depth; i++) {
        make_frame(&outgoing[i], op_data);
        offer(&incoming[i]);
    }
    queue_kick(&receive_queue);
    if (command_line()[0] == 'p') {
        timer_start();
        send_marked("small", 60, 20000);
        send_marked("large", frame_bytes, 10000);
        say("END all\n");
        return;
    }
    send_part("send-small", 60, 20000);
    send_part("send-large", frame_bytes, 10000);
    receive_part("receive-small");
    receive_part("receive-large");
    say("END all\n");
}
