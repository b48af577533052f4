// Every register of every queue number in every width; every offset of the BAR, the device
// configuration among them, aligned or not; doorbells of queues that are and are not there.
#include "villain.h"

enum { status_offset = 20, select_offset = 22, registers = 64 };

static void every_width(const struct window* bar, uint32_t offset, uint32_t value) {
    // Not by the accessors of the kit, which refuse what leaves the window.
    volatile uint8_t* at = (volatile uint8_t*)(bar->base + offset);
    (void)*at;
    *at = (uint8_t)value;
    (void)*(volatile uint16_t*)at;
    *(volatile uint16_t*)at = (uint16_t)value;
    (void)*(volatile uint32_t*)at;
    *(volatile uint32_t*)at = value;
}

static void every_register(const struct window* bar, uint16_t number) {
    static const uint32_t values[] = {0, 0x5a5a5a5a, ~0u};
    for (unsigned v = 0; v < 3; v++)
        for (unsigned offset = 0; offset < registers; offset++) {
            window_out16(bar, select_offset, number);
            every_width(bar, offset, values[v]);
        }
    // What is not there reads as nothing.
    window_out16(bar, select_offset, number);
    if (number >= window_in16(bar, 18) && (window_in16(bar, 24) != 0 || window_in16(bar, 28) != 0))
        fail("slot %u has a queue %u", device.slot, number);
}

static void every_doorbell(const struct window* bar) {
    for (uint32_t offset = 0x3000; offset < 0x3100; offset++)
        every_width(bar, offset, offset);
}

void guest(void) {
    static const uint16_t numbers[] = {0,     1,     2,      3,      4,      0x7f, 0xff,
                                       0x100, 0x3ff, 0x7fff, 0x8000, 0xfffe, 0xffff};
    find_functions();
    for (unsigned i = 0; i < function_count; i++) {
        attack(&functions[i], 0);
        check_queue("its start");
        struct window bar = device.common;
        bar.base &= ~0x3fffu;
        bar.size = 0x4000;
        every_doorbell(&bar);
        for (unsigned n = 0; n < sizeof numbers / sizeof *numbers; n++)
            every_register(&bar, numbers[n]);
        every_doorbell(&bar);
        attack(&functions[i], 0);
        check_queue("its registers");
        for (uint32_t offset = 0x1000; offset <= 0x3000; offset++)
            every_width(&bar, offset, chance());
        attack(&functions[i], 0);
        check_queue("its device configuration");
        say("villain: slot %u\n", device.slot);
    }
    survive("registers");
}
