// Storms on the devices of the platform: serial line, clock, keyboard controller, power
// management, timer, interrupt controllers, fw_cfg and its DMA with hostile descriptors.
#include "villain.h"

static void storm(const char* what, uint16_t first, unsigned count, unsigned turns) {
    for (unsigned turn = 0; turn < turns; turn++) {
        const uint32_t dice = chance();
        const uint16_t port = (uint16_t)(first + (dice >> 8) % count);
        const uint32_t value = chance();
        switch (dice & 7) {
        case 0:
            (void)in8(port);
            break;
        case 1:
            (void)in16(port);
            break;
        case 2:
            (void)in32(port);
            break;
        case 3:
            out16(port, (uint16_t)value);
            break;
        case 4:
            out32(port, value);
            break;
        default:
            out8(port, (uint8_t)value);
        }
    }
    restore_platform();
    say("villain: %s\n", what);
}

static void keyboard(void) {
    for (unsigned turn = 0; turn < 2000; turn++) {
        unsigned word = chance() & 0xff;
        if (word >= 0xf0 || word == 0xd1) // pulses of the reset line are another topic
            word = 0xaa;
        out8(0x64, (uint8_t)word);
        out8(0x60, (uint8_t)chance());
        (void)in8(0x60);
        (void)in8(0x64);
    }
    say("villain: keyboard controller\n");
}

static void clock_chip(void) {
    for (unsigned value = 0; value < 256; value += 15)
        for (unsigned index = 0; index < 256; index++) {
            out8(0x70, (uint8_t)index);
            (void)in8(0x71);
            out8(0x71, (uint8_t)(value + index));
            (void)in8(0x71);
        }
    // The fastest periodic interrupt, every alarm, and never an acknowledgement.
    for (unsigned rate = 0; rate < 16; rate++) {
        out8(0x70, 10);
        out8(0x71, (uint8_t)(0x20 | rate));
        out8(0x70, 11);
        out8(0x71, 0x72);
        for (unsigned i = 0; i < 200; i++) {
            out8(0x70, i & 1 ? 12 : 11);
            (void)in8(0x71);
        }
    }
    out8(0x70, 11);
    out8(0x71, 2);
    say("villain: clock\n");
}

// Everything but S5: the type of a sleep is 5 there.
static void power_management(void) {
    for (unsigned turn = 0; turn < 3000; turn++) {
        uint16_t offset = chance() % 12;
        uint32_t value = chance();
        (void)in32((uint16_t)(0x600 + offset));
        if (offset > 1 && offset < 6)
            value &= ~0x20202020u; // SLP_EN may be in any byte of these
        out8((uint16_t)(0x600 + offset), (uint8_t)value);
        if (offset < 2 || offset > 5)
            continue;
        for (unsigned type = 0; type < 8; type++)
            if (type != 5)
                out16(0x604, (uint16_t)(type << 10 | 0x2000));
    }
    out16(0x602, 0);
    out16(0x600, 0xffff);
    say("villain: power management\n");
}

static uint32_t swap(uint32_t value) {
    return value >> 24 | (value >> 8 & 0xff00) | (value << 8 & 0xff0000) | value << 24;
}

static struct {
    uint32_t control, length, high, low; // big-endian
} dma __attribute__((aligned(16)));

static void transfer(uint32_t control, uint32_t length, uint64_t address) {
    dma.control = swap(control);
    dma.length = swap(length);
    dma.high = swap((uint32_t)(address >> 32));
    dma.low = swap((uint32_t)address);
    barrier();
    out32(0x514, 0);
    out32(0x518, swap((uint32_t)&dma));
}

static void fw_cfg(void) {
    for (unsigned selector = 0; selector < 0x10000; selector += selector < 0x100 ? 1 : 61) {
        out16(0x510, (uint16_t)selector);
        for (unsigned i = 0; i < 8; i++)
            (void)in8(0x511);
    }
    static const uint64_t edges[] = {0,          0x9fff0,    0xa0000,    0xfffff,   ram_end - 16,
                                     ram_end,    0xe0000000, 0xfec00000, 0xfee00000, 0xfffc0000,
                                     1ull << 32, 1ull << 63, ~0ull - 15, ~0ull};
    static const uint32_t lengths[] = {0, 1, 15, 16, 17, 4096, 0x100000, 0x7fffffff, ~0u};
    for (unsigned e = 0; e < sizeof edges / sizeof *edges; e++) {
        for (unsigned l = 0; l < sizeof lengths / sizeof *lengths; l++)
            for (unsigned control = 0; control < 32; control++)
                if (!is_own_memory(edges[e], lengths[l]))
                    transfer(control | (control & 1 ? 0x190000 : 0xffff0000), lengths[l],
                             edges[e]);
        // The descriptor itself is there.
        out32(0x514, swap((uint32_t)(edges[e] >> 32)));
        out32(0x518, swap((uint32_t)edges[e]));
    }
    // It writes over its own descriptor.
    transfer(8 | 2 | 0x190000, 16, (uint32_t)&dma);
    transfer(8 | 2 | 0x190000, 12, (uint32_t)&dma + 4);
    // And still answers.
    static uint8_t text[4];
    transfer(8 | 2, 4, (uint32_t)text);
    if (memcmp(text, "QEMU", 4) != 0 || dma.control != 0)
        fail("fw_cfg no longer answers");
    say("villain: fw_cfg\n");
}

void guest(void) {
    find_functions();
    keyboard();
    clock_chip();
    power_management();
    fw_cfg();
    interrupts_off();
    storm("serial line", 0x3f9, 7, 4000);
    storm("clock ports", 0x70, 2, 4000);
    storm("timer", 0x40, 4, 3000);
    storm("speaker", 0x61, 1, 500);
    storm("interrupt controllers", 0x20, 2, 2000);
    storm("second interrupt controller", 0xa0, 2, 2000);
    storm("trigger modes", 0x4d0, 2, 500);
    storm("fw_cfg ports", 0x510, 12, 4000);
    survive("platform");
}
