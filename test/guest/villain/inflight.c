// Requests in flight while their device is reset, loses its BAR or its right to DMA, or while
// the machine resets; the disk's first sector counts the boots. Ends with all in flight.
#include "villain.h"

enum { boots_wanted = 2 };

static struct {
    uint32_t type, reserved;
    uint64_t sector;
} reads, writes = {.type = 1};
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
    if (sector[0] < boots_wanted) {
        sector[0]++;
        sector_request(true, sector, 512);
        attack(disk, 1 << 9);
        fill_queue();
        say("villain: boot %u\n", sector[0]);
        out8(0x64, 0xfe);
    }
    for (unsigned turn = 0; turn < 40; turn++)
        for (unsigned i = 0; i < function_count; i++) {
            overtake(&functions[i], turn % overtake_ways);
            if (turn % 10 == 9) {
                attack(&functions[i], 0);
                check_queue("a reset with requests in flight");
            }
        }
    check_devices("resets with requests in flight");
    say("villain: inflight survived\n");
    attack(disk, 0);
    fill_queue();
    finish(0);
}
