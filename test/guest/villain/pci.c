// PCI: every register of every function in every width, addresses where nobody is, and BARs on
// top of each other, of memory, of the interrupt controllers and of other devices' ports, while
// a driver uses them. Put back, everything works.
#include "villain.h"

enum { address_port = 0xcf8, data_port = 0xcfc, command = 4 };

static void select_register(unsigned bus, unsigned slot, unsigned function, unsigned offset) {
    out32(address_port, 0x80000000u | bus << 16 | slot << 11 | function << 8 | (offset & 0xfc));
}

static void nobody_home(void) {
    static const unsigned buses[] = {0, 1, 127, 255};
    for (unsigned b = 0; b < 4; b++)
        for (unsigned slot = 0; slot < 32; slot++)
            for (unsigned function = b == 0 ? 1 : 0; function < 8; function++) {
                select_register(buses[b], slot, function, 0);
                (void)in32(data_port);
                out32(data_port, ~0u);
            }
    // Without the enable bit, with reserved bits, and the address register by halves.
    static const uint32_t addresses[] = {0, 0x800, 0x7fffffff, 0xff000800, ~0u, 0x80000801};
    for (unsigned i = 0; i < 6; i++) {
        out32(address_port, addresses[i]);
        (void)in32(data_port);
        out32(data_port, 0x5a5a5a5a);
        for (unsigned byte = 0; byte < 8; byte++) {
            if (byte == 1)
                continue; // 0xcf9 resets
            (void)in8((uint16_t)(address_port + byte));
            out8((uint16_t)(address_port + byte), 0);
            (void)in16((uint16_t)(address_port + byte));
            (void)in32((uint16_t)(address_port + byte));
        }
    }
}

static uint32_t kept[32][16];

static void keep(unsigned slot) {
    for (unsigned i = 0; i < 16; i++)
        kept[slot][i] = pci_read(slot, 4 * i);
}

static void put_back(unsigned slot) {
    pci_write(slot, command, 0);
    for (unsigned i = 4; i < 10; i++)
        pci_write(slot, 4 * i, kept[slot][i]);
    pci_write(slot, command, kept[slot][1] & 0xffff);
}

static void every_register(unsigned slot) {
    static const uint32_t values[] = {~0u, 0x5a5a5a5a, 0};
    for (unsigned v = 0; v < 3; v++)
        for (unsigned offset = 0; offset < 256; offset++) {
            select_register(0, slot, 0, offset);
            const uint16_t port = (uint16_t)(data_port + (offset & 3));
            (void)in8(port);
            out8(port, (uint8_t)values[v]);
            (void)in16(port);
            out16(port, (uint16_t)values[v]);
            (void)in32(port);
            out32(port, values[v]);
        }
    if (pci_read(slot, 0) != kept[slot][0])
        fail("slot %u has changed its identity", slot);
}

// The window into the BARs that is in configuration space (4.1.4.9).
static void every_window(unsigned slot) {
    for (unsigned at = pci_read8(slot, 0x34), guard = 0; at != 0 && guard < 48;
         at = pci_read8(slot, at + 1), guard++) {
        if (pci_read8(slot, at) != 9 || pci_read8(slot, at + 3) != 5)
            continue;
        static const uint32_t offsets[] = {0,      20,     0xfff,  0x1000,     0x2000,     0x2001,
                                           0x3000, 0x3ffc, 0x4000, 0x7ffffffe, 0xfffffffc, ~0u};
        for (unsigned bar = 0; bar < 7; bar++)
            for (unsigned length = 0; length < 6; length++)
                for (unsigned o = 0; o < sizeof offsets / sizeof *offsets; o++) {
                    pci_write(slot, at + 4, bar);
                    pci_write(slot, at + 8, offsets[o]);
                    pci_write(slot, at + 12, length);
                    (void)pci_read(slot, at + 16);
                    pci_write(slot, at + 16, chance());
                }
    }
}

static void move_bars(const struct function* function) {
    static const uint32_t places[] = {0,          0x1000,     0x100000,   0x9f000,    0xfff000,
                                      0xe0000000, 0xe0004000, 0xe0008000, 0xe0010000, 0xfebfc000,
                                      0xfec00000, 0xfee00000, 0xfeffc000, 0xfffc0000, 0xffffc000,
                                      0x3f8,      0x70,       0x20,       0x40,       0x60,
                                      0x510,      0x600,      0xcf8,      0xfffc,     0x1f0};
    attack(function, 0);
    for (unsigned bar = 0; bar < 6; bar++)
        for (unsigned p = 0; p < sizeof places / sizeof *places; p++)
            for (unsigned decode = 0; decode < 4; decode++) {
                if (decode == 1)
                    pci_write(function->slot, command, 0);
                pci_write(function->slot, 0x10 + 4 * bar, places[p]);
                if (decode == 2)
                    pci_write(function->slot, command, 7);
                if (decode == 3)
                    pci_write(function->slot, 0x10 + 4 * bar, ~0u);
            }
    put_back(function->slot);
    attack(function, 0);
    check_queue("moves of its BARs");
}

// Two functions at one place, exchanging places, each in use.
static void share_places(void) {
    for (unsigned i = 0; i + 1 < function_count; i++) {
        const unsigned a = functions[i].slot, b = functions[i + 1].slot;
        attack(&functions[i], 0);
        attack(&functions[i + 1], 0);
        for (unsigned turn = 0; turn < 20; turn++) {
            pci_write(b, 0x10, kept[a][4]);
            pci_write(b, command, turn & 1 ? 7 : 5);
            pci_write(b, command, 7);
            pci_write(a, 0x10, kept[b][4]);
            pci_write(b, 0x10, kept[a][4]);
            pci_write(a, 0x10, kept[a][4]);
        }
        put_back(a);
        put_back(b);
        attack(&functions[i], 0);
        check_queue("a place that was shared");
        virtio_reset(&device);
        attack(&functions[i + 1], 0);
        check_queue("a place that was shared");
        virtio_reset(&device);
    }
}

// Without bus mastering nothing moves, with it again everything does.
static void toggle_mastering(const struct function* function) {
    attack(function, 0);
    for (unsigned i = 0; i < 50; i++) {
        put(0, (uint32_t)scratch, 16, write_flag, 0);
        offer(0);
        queue_kick(&queue);
        pci_write(function->slot, command, 3);
        offer(0);
        queue_kick(&queue);
        pci_write(function->slot, command, 7);
    }
    attack(function, 0);
    check_queue("changes of bus mastering");
    virtio_reset(&device);
}

void guest(void) {
    find_functions();
    for (unsigned slot = 0; slot < 32; slot++)
        if (pci_read(slot, 0) != ~0u)
            keep(slot);
    nobody_home();
    for (unsigned i = 0; i < function_count; i++) {
        attack(&functions[i], 0);
        every_window(functions[i].slot);
        attack(&functions[i], 0);
        check_queue("its window");
    }
    for (unsigned slot = 0; slot < 32; slot++) {
        if (pci_read(slot, 0) == ~0u)
            continue;
        every_register(slot);
        put_back(slot);
    }
    check_devices("their configuration space");
    for (unsigned i = 0; i < function_count; i++) {
        move_bars(&functions[i]);
        toggle_mastering(&functions[i]);
    }
    share_places();
    survive("pci");
}
