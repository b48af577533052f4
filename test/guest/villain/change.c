// Time of check, time of use: a second processor changes descriptors, indirect tables, the
// available ring and its index while the device reads them. Whatever the device makes of a
// chain, an honest driver after a reset is served.
#include "villain.h"

enum { page = 0x8000, interrupt_command = 0xfee00300 };

extern const uint8_t second_start[], second_end[];
static struct descriptor table[64] __attribute__((aligned(16)));
static volatile bool started, flipping, over;
static volatile uint32_t flips;

static struct {
    uint32_t type, reserved;
    uint64_t sector;
} headers[2] = {{0, 0, 0}, {1, 0, 1u << 20}};

// Good and bad words of each field, in turn.
static void flip(struct descriptor* descriptor, uint32_t turn) {
    volatile uint32_t* word = (volatile uint32_t*)descriptor;
    word[0] = turn & 1 ? (uint32_t)scratch : 0xe0000000;
    word[1] = turn & 2 ? 0 : ~0u;
    word[2] = turn & 1 ? 512 : ~0u;
    word[3] = (turn & 7) << 0 | (turn & 0x3f) << 16;
    word[1] = 0;
    word[0] = (uint32_t)scratch;
    word[2] = 512;
}

void second_processor(void);
// It has no interrupt table: nothing here may fault, such as a division by a queue's size that
// the first processor has just cleared.
void second_processor(void) {
    started = true;
    for (uint32_t turn = 0; !over; turn++) {
        if (!flipping)
            continue;
        flip(&queue.descriptors[turn % virtio_max_queue], turn);
        flip(&table[turn % 64], turn >> 2);
        headers[0].type = turn & 1;
        queue.available.ring[turn % virtio_max_queue] = (uint16_t)(turn % 3 ? turn % virtio_max_queue : turn);
        if (turn % 64 == 0)
            queue.available.index = (uint16_t)(queue.available.index + turn % 128);
        flips = flips + 1;
    }
}

static void start_second(void) {
    memcpy((void*)page, second_start, (size_t)(second_end - second_start));
    volatile uint32_t* command = (volatile uint32_t*)interrupt_command;
    *command = 0x000c4500; // INIT to all but this one
    *command = 0x000c4600 | page >> 12;
    for (uint32_t start = ticks; !started;) {
        if (ticks - start > 10 * ticks_per_second)
            fail("no second processor");
        wait_for_interrupt();
    }
}

static void race(const struct function* function, uint32_t features) {
    attack(function, features);
    for (unsigned i = 0; i < queue.size; i++) {
        const bool indirect = features & feature_indirect && i % 4 == 3;
        put(i, indirect ? (uint32_t)table : (uint32_t)headers, indirect ? sizeof table : 16,
            indirect ? indirect_flag : i % 3 < 2 ? next_flag : write_flag, i + 1);
    }
    flipping = true;
    for (unsigned turn = 0; turn < 300; turn++) {
        for (unsigned i = 0; i < 8; i++)
            offer((uint16_t)((turn * 8 + i) % queue.size));
        window_out16(&device.notify, queue.notify_offset * device.notify_multiplier, queue.index);
        if (turn % 50 == 49) { // it may have broken the queue: once more from the start
            virtio_start(&device, features);
            flipping = false;
            virtio_queue(&device, &queue, queue.index);
            flipping = true;
            virtio_go(&device);
        }
    }
    flipping = false;
    // The second one may be in the middle of a turn.
    for (uint32_t before = flips, start = ticks; flips == before && ticks - start < 3;)
        wait_for_interrupt();
    virtio_reset(&device);
    headers[0].type = 0;
    attack(function, features);
    check_queue("changes under its eyes");
}

void guest(void) {
    find_functions();
    start_second();
    for (unsigned round = 0; round < 4; round++)
        for (unsigned i = 0; i < function_count; i++)
            race(&functions[i], (round & 1 ? feature_indirect : 0) |
                                    (round & 2 ? feature_event_index : 0));
    over = true;
    say("villain: %u changes\n", flips);
    survive("change");
}
