// Every address and length around each edge of memory and of what is not memory: as data, as a
// header or status, as an indirect table, and as rings. What lies in memory is served; what
// does not comes back, and nothing of it was touched.
#include "villain.h"

static const uint32_t lengths[] = {0,     1,          15,         16,         17,        511, 512,
                                   0x1000, 0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff};
static const int32_t deltas[] = {-4096, -512, -16, -1, 0, 1, 16, 512};
static uint64_t edges[64];
static unsigned edge_count;

static void find_edges(void) {
    static const uint64_t fixed[] = {0,          0xa0000,     0x100000,     ram_end,     0xe0000000,
                                     0xfec00000, 0xfee00000,  0xfeffc000,   0xfffc0000,  1ull << 32,
                                     1ull << 47, 1ull << 52, 1ull << 63};
    for (unsigned i = 0; i < sizeof fixed / sizeof *fixed; i++)
        edges[edge_count++] = fixed[i];
    // DMA into a BAR: the first memory BAR of each function, and its MSI-X table.
    for (unsigned i = 0; i < function_count; i++)
        for (unsigned bar = 0; bar < 2; bar++) {
            struct window window = pci_bar(functions[i].slot, bar);
            if (!window.port && edge_count < 64)
                edges[edge_count++] = window.base;
        }
}

static bool in_ram(uint64_t address, uint64_t length) {
    return length != 0 && address < ram_end && length <= ram_end - address;
}

static struct {
    uint32_t type, reserved;
    uint64_t sector;
} good_header;

// The hostile pair as the part number `role` of a request in descriptors first to first + 2.
static void request(unsigned first, unsigned role, uint64_t address, uint32_t length) {
    // Only into memory that is nobody's, and small enough for the disk.
    bool writes = in_ram(address, length) && !is_own_memory(address, length) && address >= 0x200000;
    switch (role) {
    case 0: // data: to the device when it must not be overwritten
        put(first, (uint32_t)&good_header, 16, next_flag, first + 1);
        put(first + 1, address, length, next_flag | (writes ? write_flag : 0), first + 2);
        put(first + 2, (uint32_t)scratch, 1, write_flag, 0);
        break;
    case 1: // what a header is
        put(first, address, length, next_flag, first + 1);
        put(first + 1, (uint32_t)scratch, 512, next_flag | write_flag, first + 2);
        put(first + 2, (uint32_t)scratch + 512, 1, write_flag, 0);
        break;
    case 2: // all of it, for the device to write
        put(first, (uint32_t)&good_header, 16, next_flag, first + 1);
        put(first + 1, address, writes || !in_ram(address, length) ? length : 0, write_flag, 0);
        break;
    default: // a table of descriptors
        put(first, address, length, indirect_flag, 0);
    }
    offer((uint16_t)first);
}

static void every_pair(unsigned role) {
    unsigned first = 0;
    for (unsigned e = 0; e < edge_count; e++)
        for (unsigned d = 0; d < sizeof deltas / sizeof *deltas; d++)
            for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; l++) {
                request(first, role, edges[e] + (uint64_t)(int64_t)deltas[d], lengths[l]);
                first += 3;
                if (first + 3 <= queue.size)
                    continue;
                first = 0;
                queue_kick(&queue);
                if (!all_returned())
                    fail("slot %u keeps a chain, edge %x role %u", device.slot, (uint32_t)edges[e],
                         role);
            }
    queue_kick(&queue);
    if (!all_returned())
        fail("slot %u keeps a chain, role %u", device.slot, role);
}

// Rings of a queue at each edge: enabled or refused, and then used.
static void every_ring(const struct function* function) {
    static const unsigned registers[] = {32, 40, 48};
    for (unsigned r = 0; r < 3; r++)
        for (unsigned e = 0; e < edge_count; e++)
            for (unsigned d = 0; d < sizeof deltas / sizeof *deltas; d++) {
                uint64_t address = edges[e] + (uint64_t)(int64_t)deltas[d];
                if (is_own_memory(address, 4096) || (address >= 0x100000 && address < 0x200000))
                    continue;
                virtio_start(&device, feature_indirect);
                virtio_queue(&device, &queue, function->type == virtio_net ? 1 : 0);
                // The kit has enabled it: once more, elsewhere.
                virtio_start(&device, feature_indirect);
                window_out16(&device.common, 22, queue.index);
                window_out16(&device.common, 24, 16);
                const uint32_t good[] = {(uint32_t)queue.descriptors, (uint32_t)&queue.available,
                                         (uint32_t)&queue.used};
                for (unsigned i = 0; i < 3; i++) {
                    window_out32(&device.common, registers[i],
                                 i == r ? (uint32_t)address : good[i]);
                    window_out32(&device.common, registers[i] + 4,
                                 i == r ? (uint32_t)(address >> 32) : 0);
                }
                window_out16(&device.common, 28, 1);
                virtio_go(&device);
                queue.available.index = 3;
                window_out16(&device.notify, queue.notify_offset * device.notify_multiplier,
                             queue.index);
            }
}

void guest(void) {
    find_functions();
    find_edges();
    uint32_t before[64];
    for (unsigned e = 13; e < edge_count; e++)
        before[e] = *(volatile uint32_t*)(uint32_t)(edges[e] + 16);
    for (unsigned i = 0; i < function_count; i++) {
        attack(&functions[i], feature_indirect);
        for (unsigned role = 0; role < 4; role++) {
            every_pair(role);
            check_queue("descriptors around the edges of memory");
            // The device puts data where it belongs, and so perhaps over its own descriptors.
            attack(&functions[i], feature_indirect);
        }
        every_ring(&functions[i]);
        virtio_reset(&device);
        say("villain: slot %u\n", device.slot);
    }
    for (unsigned e = 13; e < edge_count; e++)
        if (before[e] != *(volatile uint32_t*)(uint32_t)(edges[e] + 16))
            fail("a device has written into the BAR at %x", (uint32_t)edges[e]);
    survive("descriptors");
}
