// Requests in flight while their device is reset, loses its BAR or its right to DMA, or while
// the machine resets; the disk's first sector counts the boots. Ends with all in flight.
#include "villain.h"

enum { per_request = 64 << 10, boots_wanted = 2 };

static struct {
    uint32_t type, reserved;
    uint64_t sector;
} reads, writes = {.type = 1};
static uint8_t* const data = (uint8_t*)0x200000;
static volatile uint8_t status;

static void sector_request(bool write, void* buffer, uint32_t bytes) {
    put(0, (uint32_t)(write ? &writes : &reads), 16, next_flag, 1);
    put(1, (uint32_t)buffer, bytes, next_flag | (write ? 0 : write_flag), 2);
    put(2, (uint32_t)&status, 1, write_flag, 0);
    offer(0);
    queue_kick(&queue);
    if (!all_returned() || status != 0)
        fail("the disk's first sector: status %u", status);
}

static void fill(void) {
    if (device.slot == functions[0].slot && functions[0].type == virtio_rng) {
        for (unsigned i = 0; i < queue.size; i++) {
            put(i, (uint32_t)data, per_request, write_flag, 0);
            offer((uint16_t)i);
        }
    } else {
        for (unsigned i = 0; i + 3 <= queue.size; i += 3) {
            put(i, (uint32_t)(i & 1 ? &writes : &reads), 16, next_flag, i + 1);
            put(i + 1, (uint32_t)data + i * 512, per_request, next_flag | (i & 1 ? 0 : write_flag),
                i + 2);
            put(i + 2, (uint32_t)&status, 1, write_flag, 0);
            offer((uint16_t)i);
        }
    }
    queue_kick(&queue);
}

static void overtake(const struct function* function, unsigned how) {
    attack(function, 0);
    fill();
    const uint32_t before = pci_read(function->slot, 0x10);
    switch (how) {
    case 0:
        window_out8(&device.common, 20, 0);
        window_out8(&device.common, 20, 0);
        break;
    case 1:
        pci_write(function->slot, 4, 0);
        break;
    case 2:
        pci_write(function->slot, 4, 3);
        break;
    case 3:
        pci_write(function->slot, 0x10, 0xe8000000);
        break;
    default: // rings that change under it
        memset(&queue, 0xff, sizeof queue.descriptors);
    }
    pci_write(function->slot, 0x10, before);
    pci_write(function->slot, 4, 7);
}

void guest(void) {
    static uint8_t sector[512];
    find_functions();
    const struct function* disk = NULL;
    for (unsigned i = 0; i < function_count; i++)
        if (functions[i].type == virtio_block)
            disk = &functions[i];
    if (disk == NULL)
        fail("no disk");
    attack(disk, 1 << 9);
    sector_request(false, sector, 512);
    writes.sector = 128;
    reads.sector = 64;
    if (sector[0] < boots_wanted) {
        sector[0]++;
        writes.sector = 0;
        sector_request(true, sector, 512);
        writes.sector = 128;
        attack(disk, 1 << 9);
        fill();
        say("villain: boot %u\n", sector[0]);
        out8(0x64, 0xfe);
    }
    for (unsigned turn = 0; turn < 40; turn++)
        for (unsigned i = 0; i < function_count; i++) {
            overtake(&functions[i], turn % 5);
            if (turn % 10 == 9) {
                attack(&functions[i], 0);
                check_queue("a reset with requests in flight");
            }
        }
    check_devices("resets with requests in flight");
    say("villain: inflight survived\n");
    attack(disk, 0);
    fill();
    finish(0);
}
