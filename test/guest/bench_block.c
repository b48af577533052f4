// For test/bench: a disk's random 4 KiB reads and writes, then sequential ones, with a full
// queue and without interrupts. Each part stands between BEGIN and END lines with the number
// of its requests and their size; the clock is outside.
#include "virtio.h"

enum { type_in = 0, type_out = 1, status_ok = 0 };
enum { depth = 16, most_bytes = 128 << 10, sector_bytes = 512 };

static struct virtio device;
static struct queue queue;
static uint32_t disk_bytes;
static struct request {
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    volatile uint8_t status;
} requests[depth];
static uint8_t buffers[depth][most_bytes] __attribute__((aligned(4096)));
static uint8_t slot_of_head[virtio_max_queue];
static uint32_t seed = 2463534242u;

static uint32_t random32(void) {
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

static void offer(unsigned slot, uint32_t type, uint32_t offset, uint32_t length) {
    struct request* request = &requests[slot];
    request->header.type = type;
    request->header.sector = offset / sector_bytes;
    request->status = 0xee;
    struct segment segments[3] = {{&request->header, sizeof request->header},
                                  {buffers[slot], length},
                                  {(void*)&request->status, 1}};
    unsigned readable = type == type_out ? 2 : 1;
    int head = queue_add(&queue, segments, readable, 3 - readable);
    if (head < 0)
        fail("the queue is full");
    slot_of_head[head] = (uint8_t)slot;
}

static void part(const char* name, uint32_t type, uint32_t length, uint32_t count, bool random) {
    uint32_t offset = 0, offered = 0, done = 0;
    say("BEGIN %s %u %u\n", name, count, length);
    uint32_t free_slots = (1u << depth) - 1;
    while (done < count) {
        bool any = false;
        while (offered < count && free_slots != 0) {
            unsigned slot = (unsigned)__builtin_ctz(free_slots);
            free_slots &= free_slots - 1;
            uint32_t place = random ? random32() % (disk_bytes / length) * length : offset;
            offset += length;
            if (offset > disk_bytes - length)
                offset = 0;
            offer(slot, type, place, length);
            offered++;
            any = true;
        }
        if (any)
            queue_kick(&queue);
        uint16_t head;
        uint32_t written;
        while (queue_take(&queue, &head, &written)) {
            unsigned slot = slot_of_head[head];
            if (requests[slot].status != status_ok)
                fail("request %u: status %u", done, requests[slot].status);
            free_slots |= 1u << slot;
            done++;
        }
    }
    say("END %s\n", name);
}

void guest(void) {
    virtio_open(&device, virtio_block, 0);
    virtio_queue(&device, &queue, 0);
    virtio_go(&device);
    queue.available.flags = 1; // no interrupts: the used ring is watched
    uint32_t sectors = window_in32(&device.device, 0);
    if (window_in32(&device.device, 4) != 0 || sectors > 1u << 21)
        sectors = 1u << 21; // 1 GiB is enough
    disk_bytes = sectors * sector_bytes;
    if (disk_bytes < 16u << 20)
        fail("the disk is smaller than 16 MiB");
    part("sequential-write", type_out, most_bytes, 512, false);
    part("sequential-read", type_in, most_bytes, 512, false);
    part("random-write", type_out, 4096, 2000, true);
    part("random-read", type_in, 4096, 4000, true);
    say("END all\n");
}
