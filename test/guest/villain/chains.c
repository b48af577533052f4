// Malformed chains, each followed by an honest request on the same queue, which must be served:
// loops, too long, out of range, readable after writable, indirect in every wrong way, the same
// head many times, heads that are not there.
#include "villain.h"

static struct descriptor table[512] __attribute__((aligned(16)));
static uint8_t bytes[64];

static void entry(unsigned index, uint64_t address, uint32_t length, unsigned flags,
                  unsigned next) {
    table[index] = (struct descriptor){address, length, (uint16_t)flags, (uint16_t)next};
}

static void go(const char* what) {
    queue_kick(&queue);
    if (!all_returned())
        fail("slot %u keeps a chain: %s", device.slot, what);
    check_queue(what);
}

static void loops(void) {
    put(5, (uint32_t)bytes, 1, next_flag, 5);
    offer(5);
    go("a chain that is its own next");
    put(5, (uint32_t)bytes, 1, next_flag, 6);
    put(6, (uint32_t)bytes, 1, next_flag, 5);
    offer(5);
    go("a chain of two that go in a circle");
    put(5, (uint32_t)bytes, 0, next_flag, 6);
    put(6, (uint32_t)bytes, 0, next_flag, 5);
    offer(5);
    go("a circle of empty descriptors");
    for (unsigned i = 0; i < queue.size; i++)
        put(i, (uint32_t)bytes, 1, next_flag | write_flag, (i + 1) % queue.size);
    offer(0);
    go("all descriptors in a circle");
}

static void out_of_range(void) {
    put(5, (uint32_t)bytes, 1, next_flag, queue.size);
    offer(5);
    go("a next that is the queue's size");
    put(5, (uint32_t)bytes, 1, next_flag, 0xffff);
    offer(5);
    go("a next of 65535");
    offer(queue.size);
    go("a head that is the queue's size");
    offer(0xffff);
    go("a head of 65535");
}

static void order(void) {
    put(5, (uint32_t)bytes, 16, next_flag | write_flag, 6);
    put(6, (uint32_t)bytes, 16, next_flag, 7);
    put(7, (uint32_t)bytes, 1, write_flag, 0);
    offer(5);
    go("readable after writable");
    put(5, (uint32_t)bytes, 1, write_flag, 0);
    offer(5);
    go("a status and nothing else");
    put(5, (uint32_t)bytes, 15, next_flag, 6);
    put(6, (uint32_t)bytes, 1, write_flag, 0);
    offer(5);
    go("half a header");
    put(5, (uint32_t)bytes, 16, 0, 0);
    offer(5);
    go("a header and nothing else");
    put(5, 0, 0, 0, 0);
    offer(5);
    go("nothing at all");
    // Sixteen bytes of a header in sixteen descriptors, and flags that do not exist.
    for (unsigned i = 0; i < 16; i++)
        put(10 + i, (uint32_t)bytes + i, 1, next_flag | 0xfff8, 11 + i);
    put(26, (uint32_t)scratch, 512, next_flag | write_flag, 27);
    put(27, (uint32_t)scratch + 512, 1, write_flag, 0);
    offer(10);
    go("a header in pieces");
    for (unsigned i = 0; i < queue.size - 3u; i++)
        offer(5);
    go("one head many times");
}

static void tables(void) {
    const uint32_t at = (uint32_t)table;
    for (unsigned i = 0; i < 512; i++)
        entry(i, (uint32_t)bytes, 1, i < 511 ? next_flag : 0, i + 1);
    static const uint32_t sizes[] = {0, 1, 15, 17, 16, 16 * 64, 16 * 65, 16 * 512, 0xfffffff0, ~0u};
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        put(5, at, sizes[s], indirect_flag, 0);
        offer(5);
        go("an indirect table of any size");
    }
    put(5, at, 32, indirect_flag | next_flag, 6);
    put(6, (uint32_t)bytes, 1, write_flag, 0);
    offer(5);
    go("indirect with a next");
    put(5, at, 32, indirect_flag | write_flag, 0);
    offer(5);
    go("a writable table");
    entry(0, at, 32, indirect_flag, 0);
    put(5, at, 32, indirect_flag, 0);
    offer(5);
    go("a table in a table");
    entry(0, (uint32_t)bytes, 1, next_flag, 0);
    offer(5);
    go("a loop in a table");
    entry(0, (uint32_t)bytes, 1, next_flag, 2);
    offer(5);
    go("a next outside the table");
    put(4, (uint32_t)bytes, 1, next_flag, 5);
    entry(0, (uint32_t)bytes, 1, 0, 0);
    offer(4);
    go("a table at the end of a chain");
    // More than 4 GiB in one chain.
    for (unsigned i = 0; i < 400; i++)
        entry(i, 0x200000, 12 << 20, i < 399 ? next_flag | write_flag : write_flag, i + 1);
    put(5, at, 16 * 400, indirect_flag, 0);
    offer(5);
    go("a chain of 4.8 GB");
    for (unsigned i = 0; i < 60; i++)
        entry(i, 0x200000, 12 << 20, i < 59 ? next_flag : 0, i + 1);
    put(5, at, 16 * 60, indirect_flag, 0);
    offer(5);
    go("a chain of 700 MB");
}

void guest(void) {
    find_functions();
    for (unsigned i = 0; i < function_count; i++)
        for (unsigned mode = 0; mode < 4; mode++) {
            attack(&functions[i],
                   (mode & 1 ? feature_indirect : 0) | (mode & 2 ? feature_event_index : 0));
            loops();
            out_of_range();
            order();
            tables();
            virtio_reset(&device);
        }
    survive("chains");
}
