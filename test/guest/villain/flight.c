// Requests in flight, and what may happen to their device meanwhile.
#include "villain.h"

enum { per_request = 64 << 10 };

static struct {
    uint32_t type, reserved;
    uint64_t sector;
} reads = {0, 0, 64}, writes = {1, 0, 128};
static uint8_t* const data = (uint8_t*)0x200000;
static volatile uint8_t status;

void fill_queue(void) {
    const unsigned type = (pci_read(device.slot, 0) >> 16) - 0x1040;
    if (type == virtio_rng || type == virtio_console) {
        for (unsigned i = 0; i < queue.size; i++) {
            put(i, (uint32_t)data, per_request, type == virtio_rng ? write_flag : 0, 0);
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

void overtake(const struct function* function, unsigned how) {
    attack(function, 0);
    fill_queue();
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
