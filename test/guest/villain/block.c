// virtio-blk beyond reads and writes: discard and write-zeroes with every hostile range, unknown
// types, all queues of a device at once, and the driver's part of the configuration.
#include "villain.h"

enum { type_discard = 11, type_write_zeroes = 13, untouched = 0xee };
enum { feature_write_cache = 1 << 11, feature_discard = 1 << 13, feature_write_zeroes = 1 << 14 };
enum { feature_queues = 1 << 12, max_queues = 8 };

static struct {
    uint32_t type, reserved;
    uint64_t sector;
} header;
struct range {
    uint64_t sector;
    uint32_t sectors, flags;
};
static struct range ranges[300];
static volatile uint8_t status;
static uint8_t kept[512];

static void request(uint32_t type, uint64_t sector, void* data, uint32_t bytes, bool writable) {
    header.type = type;
    header.sector = sector;
    status = untouched;
    put(0, (uint32_t)&header, sizeof header, next_flag, 1);
    put(1, (uint32_t)data, bytes, next_flag | (writable ? write_flag : 0), 2);
    put(2, (uint32_t)&status, 1, write_flag, 0);
    offer(0);
    queue_kick(&queue);
    if (!all_returned())
        fail("slot %u keeps a request of type %u", device.slot, type);
}

// The first sector of the disk holds what no request below may change: none that names it is
// well-formed.
static void hostile_ranges(uint32_t type, uint64_t capacity) {
    const uint64_t sectors[] = {0, 1, capacity - 1, capacity, capacity + 1, 1ull << 55, ~0ull};
    static const uint32_t counts[] = {0, 1, 8, 0x7fffffff, 0x80000000, ~0u};
    static const uint32_t flags[] = {0, 1, 2, ~0u};
    for (unsigned s = 0; s < sizeof sectors / sizeof *sectors; s++)
        for (unsigned c = 0; c < sizeof counts / sizeof *counts; c++)
            for (unsigned f = 0; f < sizeof flags / sizeof *flags; f++) {
                if (sectors[s] == 0 && counts[c] != 0 && counts[c] < 0x7fffffff)
                    continue; // well-formed, perhaps
                ranges[0] = (struct range){sectors[s], counts[c], flags[f]};
                request(type, 0, ranges, sizeof *ranges, false);
                if (status == untouched)
                    fail("no status for type %u", type);
                const bool outside = sectors[s] > capacity || counts[c] > capacity - sectors[s];
                if (outside && status == 0)
                    fail("type %u of %u sectors past the end is good", type, counts[c]);
            }
    static const uint32_t lengths[] = {0, 1, 15, 17, 31, 16 * 2, 16 * 257, sizeof ranges};
    for (unsigned i = 0; i < 300; i++)
        ranges[i] = (struct range){capacity - 1, 0x80000000u + i, 0};
    for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; l++)
        request(type, 0, ranges, lengths[l], false);
    request(type, 0, scratch, 16, true); // for the device to write
}

static void all_types(void) {
    for (uint32_t type = 2; type < 64; type++)
        if (type != type_discard && type != type_write_zeroes && type != 8) {
            request(type, 0, scratch, 512, false);
            request(type, 0, scratch, 512, true);
        }
    request(0x80000000, 0, scratch, 512, true);
    request(~0u, 0, scratch, 512, false);
}

// One queue's memory for all of them, which each device queue reads and writes at once.
static void all_queues(const struct function* function) {
    virtio_attach(&device, function->slot);
    virtio_start(&device, feature_queues);
    const unsigned count = window_in16(&device.common, 18);
    for (unsigned index = 0; index < count && index < max_queues; index++)
        virtio_queue(&device, &queue, (uint16_t)index);
    virtio_go(&device);
    header.type = 0;
    header.sector = 0;
    for (unsigned turn = 0; turn < 100; turn++) {
        for (unsigned i = 0; i + 3 <= queue.size; i += 3) {
            put(i, (uint32_t)&header, sizeof header, next_flag, i + 1);
            put(i + 1, (uint32_t)scratch, 4096, next_flag | write_flag, i + 2);
            put(i + 2, (uint32_t)&status, 1, write_flag, 0);
        }
        for (unsigned i = 0; i < 16; i++)
            offer((uint16_t)(3 * i));
        for (unsigned index = 0; index < max_queues; index++)
            window_out16(&device.notify, index % count * device.notify_multiplier,
                         (uint16_t)index);
    }
    virtio_reset(&device);
}

static void configuration(void) {
    for (unsigned offset = 0; offset < device.device.size; offset++)
        for (unsigned value = 0; value < 256; value += 51)
            window_out8(&device.device, offset, (uint8_t)value);
}

void guest(void) {
    find_functions();
    for (unsigned i = 0; i < function_count; i++) {
        if (functions[i].type != virtio_block)
            continue;
        attack(&functions[i], feature_discard | feature_write_zeroes | feature_write_cache);
        const uint64_t capacity = window_in32(&device.device, 0);
        memset(kept, 0x42, sizeof kept);
        request(1, 0, kept, sizeof kept, false);
        if (status != 0)
            fail("the first sector cannot be written");
        hostile_ranges(type_discard, capacity);
        hostile_ranges(type_write_zeroes, capacity);
        all_types();
        configuration();
        memset(kept, 0, sizeof kept);
        request(0, 0, kept, sizeof kept, true);
        for (unsigned at = 0; at < sizeof kept; at++)
            if (kept[at] != 0x42)
                fail("byte %u of the first sector has changed", at);
        check_queue("ranges and types");
        all_queues(&functions[i]);
        attack(&functions[i], 0);
        check_queue("all queues at once");
        virtio_reset(&device);
    }
    survive("block");
}
