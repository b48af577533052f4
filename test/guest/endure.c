// A guest that never ends by itself and notices when the world changes under it: it counts the
// timer's ticks, writes numbered sectors with a pattern of its own, reads back and compares an
// older one each round, and keeps a megabyte of memory whose pattern it checks round by round.
// A round is told as "round N tick T"; what is wrong ends it. 'q' on the serial line ends it well.
#include "virtio.h"

enum { type_in = 0, type_out = 1, type_flush = 4, feature_flush = 1 << 9 };
enum { sector_bytes = 512, sectors_kept = 64, memory_words = 256 * 1024 };

static struct virtio device;
static struct queue queue;
static uint32_t sector[sector_bytes / 4], back[sector_bytes / 4];
static uint32_t memory[memory_words];

static uint32_t value_of(uint32_t round, uint32_t index) {
    return round * 2654435761u ^ index * 40503u;
}

static void request(uint32_t type, uint32_t which, void* data, bool to_disk) {
    static struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    static volatile uint8_t status;
    header.type = type;
    header.reserved = 0;
    header.sector = which;
    status = 0xee;
    struct segment segments[3] = {{&header, sizeof header}};
    unsigned count = 1;
    if (data != NULL)
        segments[count++] = (struct segment){data, sector_bytes};
    segments[count++] = (struct segment){(void*)&status, 1};
    unsigned readable = to_disk ? count - 1 : 1;
    if (queue_add(&queue, segments, readable, count - readable) < 0)
        fail("the queue is full");
    queue_kick(&queue);
    uint16_t head;
    uint32_t written;
    queue_wait(&queue, &head, &written);
    if (status != 0)
        fail("request type %u of sector %u: status %u", type, which, status);
}

void guest(void) {
    timer_start();
    virtio_open(&device, virtio_block, feature_flush);
    virtio_queue(&device, &queue, 0);
    virtio_go(&device);
    uint32_t seed = in32(0x608) | 1; // the ACPI timer: another guest has another pattern
    for (uint32_t i = 0; i < memory_words; i++)
        memory[i] = value_of(seed, i);
    for (uint32_t round = 1;; round++) {
        for (uint32_t i = 0; i < sector_bytes / 4; i++)
            sector[i] = value_of(seed + round, i);
        request(type_out, round % sectors_kept, sector, true);
        request(type_flush, 0, NULL, true);
        uint32_t older = round > 7 ? round - 7 : round;
        request(type_in, older % sectors_kept, back, false);
        for (uint32_t i = 0; i < sector_bytes / 4; i++)
            if (back[i] != value_of(seed + older, i))
                fail("round %u: sector %u has changed", round, older % sectors_kept);
        for (uint32_t i = round * 997 % (memory_words - 64), end = i + 64; i < end; i++)
            if (memory[i] != value_of(seed, i))
                fail("round %u: memory word %u has changed", round, i);
        uint32_t before = ticks;
        while (ticks < before + ticks_per_second / 10)
            wait_for_interrupt();
        say("round %u tick %u\n", round, ticks);
        if ((in8(0x3fd) & 1) && in8(0x3f8) == 'q') {
            for (uint32_t i = 0; i < memory_words; i++)
                if (memory[i] != value_of(seed, i))
                    fail("memory word %u has changed", i);
            say("endure: ok after %u rounds\n", round);
            finish(0);
        }
    }
}
