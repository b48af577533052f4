// MSI-X: addresses and vectors that mean nothing, messages that are masked while they storm,
// vectors that are not there, tables and pending bits in every width.
#include "villain.h"

enum { table_bar = 1, enable = 0x8000, mask_all = 0x4000 };

static unsigned capability;

static void find_capability(unsigned slot) {
    for (capability = pci_read8(slot, 0x34); capability != 0;
         capability = pci_read8(slot, capability + 1))
        if (pci_read8(slot, capability) == 0x11)
            return;
    fail("slot %u has no MSI-X", slot);
}

static void control(uint16_t bits) {
    pci_write(device.slot, capability, (uint32_t)bits << 16);
}

// Of any delivery mode, to a processor that is not there; the broadcast below is for fixed
// delivery only, for an INIT would end the villain.
enum { broadcast = 0xfeeff000, delivery_modes = 0x700 };
static const uint32_t addresses[] = {0,          0x100000,   0xe0000000, 0xfec00000, 0xfed00000,
                                     0xfee55000, 0xfee55008, 0xfee5500c, broadcast,  0xfef00000,
                                     0xfffffffc};

static void storm(const struct window* table, uint32_t address, uint32_t high, uint32_t data) {
    for (unsigned vector = 0; vector < 4; vector++) {
        if (vector * 16 + 16 > table->size / 2)
            break;
        window_out32(table, vector * 16, address);
        window_out32(table, vector * 16 + 4, high);
        window_out32(table, vector * 16 + 8, data);
        window_out32(table, vector * 16 + 12, 0);
    }
    for (unsigned turn = 0; turn < 4; turn++) {
        control(turn & 1 ? enable | mask_all : enable);
        put(0, (uint32_t)scratch, 16, write_flag, 0);
        offer(0);
        queue_kick(&queue);
        window_out32(table, 12, turn & 1);
        control(turn & 2 ? 0 : enable);
    }
}

void guest(void) {
    find_functions();
    for (unsigned i = 0; i < function_count; i++) {
        attack(&functions[i], 0);
        find_capability(device.slot);
        struct window table = pci_bar(device.slot, table_bar);
        // A vector that is not there reads back as none (4.1.5.1.2).
        window_out16(&device.common, 22, queue.index);
        static const uint16_t vectors[] = {3000, 0x7ff, 0xfffe, 128};
        for (unsigned v = 0; v < 4; v++) {
            window_out16(&device.common, 26, vectors[v]);
            window_out16(&device.common, 16, vectors[v]);
            if (window_in16(&device.common, 26) != 0xffff)
                fail("slot %u takes vector %u", device.slot, vectors[v]);
        }
        control(enable);
        window_out16(&device.common, 26, 1);
        for (unsigned a = 0; a < sizeof addresses / sizeof *addresses; a++)
            for (unsigned data = 0; data < 0x1000; data += 0x91)
                storm(&table, addresses[a], a & 1,
                      addresses[a] == broadcast ? data & ~delivery_modes : data);
        for (uint32_t offset = 0; offset < table.size; offset++) {
            (void)*(volatile uint32_t*)(table.base + offset);
            *(volatile uint16_t*)(table.base + offset) = 0;
            *(volatile uint8_t*)(table.base + offset) = 0;
            *(volatile uint32_t*)(table.base + offset) = 0;
        }
        // Masked, a storm of requests leaves one pending bit, and unmasking sends it once.
        window_out32(&table, 16, 0xfee55000);
        window_out32(&table, 20, 0);
        window_out32(&table, 28, 1);
        for (unsigned turn = 0; turn < 300; turn++) {
            offer(0);
            queue_kick(&queue);
            if ((turn & 31) == 31 && !all_returned())
                fail("slot %u stops while it is masked", device.slot);
        }
        for (unsigned turn = 0; turn < 300; turn++)
            window_out32(&table, 28, turn & 1);
        control(0);
        attack(&functions[i], 0);
        check_queue("its MSI-X table");
        virtio_reset(&device);
    }
    survive("msix");
}
