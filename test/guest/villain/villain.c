#include "villain.h"

enum { wait_ticks = 20 * ticks_per_second };

struct function functions[32];
unsigned function_count;
struct virtio device;
struct queue queue;
uint8_t scratch[8192] __attribute__((aligned(4096)));

static struct {
    uint32_t type, reserved;
    uint64_t sector;
} header;
static volatile uint8_t status;
static uint8_t sector_data[512];
// virtio_net_hdr, then an ARP request for the host's end of the switch (RFC 826).
static uint8_t frame[12 + 60];

void find_functions(void) {
    timer_start();
    function_count = 0;
    for (unsigned slot = 0; slot < 32; slot++) {
        uint32_t id = pci_read(slot, 0);
        if ((id & 0xffff) == 0x1af4 && id >> 16 > 0x1040 && id >> 16 < 0x1080)
            functions[function_count++] = (struct function){slot, (id >> 16) - 0x1040};
    }
    if (function_count < 3)
        fail("only %u virtio devices", function_count);
}

static uint16_t request_queue(unsigned type) {
    return type == virtio_net || type == virtio_console ? 1 : 0;
}

void attack(const struct function* function, uint32_t features) {
    virtio_attach(&device, function->slot);
    virtio_start(&device, features);
    virtio_queue(&device, &queue, request_queue(function->type));
    virtio_go(&device);
}

void put(unsigned index, uint64_t address, uint32_t length, unsigned flags, unsigned next) {
    queue.descriptors[index % virtio_max_queue] = (struct descriptor){
        .address = address, .length = length, .flags = (uint16_t)flags, .next = (uint16_t)next};
}

void offer(uint16_t head) {
    queue.available.ring[queue.available.index % queue.size] = head;
    barrier();
    queue.available.index = (uint16_t)(queue.available.index + 1);
}

bool all_returned(void) {
    // Most come at once: a look costs less than a sleep until the next tick.
    for (unsigned looks = 0; looks < 200; looks++)
        if (queue.used.index == queue.available.index)
            return true;
    const uint32_t start = ticks;
    while (queue.used.index != queue.available.index) {
        if (ticks - start > wait_ticks)
            return false;
        wait_for_interrupt();
    }
    return true;
}

static unsigned type_of(unsigned slot) {
    return (pci_read(slot, 0) >> 16) - 0x1040;
}

static void prepare_frame(void) {
    static const uint8_t arp[] = {0, 1, 8, 0, 6, 4, 0, 1, 0xfe, 0xe1, 0xbb, 0xd1, 0, 1};
    memset(frame, 0, sizeof frame);
    memset(frame + 12, 0xff, 6);
    memcpy(frame + 18, arp + 8, 6);
    frame[24] = 8;
    frame[25] = 6;
    memcpy(frame + 26, arp, sizeof arp);
    static const uint8_t mine[4] = {10, 9, 8, 66}, hosts[4] = {10, 9, 8, 1};
    memcpy(frame + 40, mine, 4);
    memcpy(frame + 50, hosts, 4);
}

bool honest(void) {
    switch (type_of(device.slot)) {
    case virtio_block:
        memset(&header, 0, sizeof header);
        status = 0xee;
        put(0, (uint32_t)&header, sizeof header, next_flag, 1);
        put(1, (uint32_t)sector_data, sizeof sector_data, next_flag | write_flag, 2);
        put(2, (uint32_t)&status, 1, write_flag, 0);
        break;
    case virtio_rng:
        memset(sector_data, 0, 64);
        put(0, (uint32_t)sector_data, 64, write_flag, 0);
        break;
    case virtio_console:
        put(0, (uint32_t)"honest\n", 7, 0, 0);
        break;
    case virtio_net:
        prepare_frame();
        put(0, (uint32_t)frame, sizeof frame, 0, 0);
        break;
    default:
        return true; // a device that is started by hand only
    }
    offer(0);
    window_out16(&device.notify, queue.notify_offset * device.notify_multiplier, queue.index);
    if (!all_returned())
        return false;
    if (type_of(device.slot) == virtio_block)
        return status == 0;
    if (type_of(device.slot) == virtio_rng) {
        unsigned sum = 0;
        for (unsigned i = 0; i < 64; i++)
            sum |= sector_data[i];
        return sum != 0;
    }
    return true;
}

void check_queue(const char* after) {
    if (!honest())
        fail("slot %u does not serve an honest request after %s", device.slot, after);
}

void check_devices(const char* after) {
    for (unsigned i = 0; i < function_count; i++) {
        attack(&functions[i], 0);
        check_queue(after);
        virtio_reset(&device);
    }
}

void survive(const char* topic) {
    check_devices(topic);
    say("villain: %s survived, %u devices are honest\n", topic, function_count);
    for (;;)
        wait_for_interrupt();
}

void restore_platform(void) {
    interrupts_off();
    // What a poll command or a lost acknowledgement has left; initialization keeps both.
    for (unsigned chip = 0x20; chip <= 0xa0; chip += 0x80) {
        (void)in8((uint16_t)chip);
        (void)in8((uint16_t)(chip + 1));
    }
    out8(0x3fc, 0); // no loop-back
    kit_setup();
    for (unsigned chip = 0x20; chip <= 0xa0; chip += 0x80)
        for (unsigned line = 0; line < 8; line++)
            out8((uint16_t)chip, 0x20);
    // Lines of PCI functions and of ACPI are level-triggered, as the machine presets them.
    out8(0x4d0, 0xe8);
    out8(0x4d1, 0xde);
    find_functions();
}

uint32_t chance(void) {
    static uint32_t state = 0x2545f491;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

bool is_own_memory(uint64_t address, uint64_t length) {
    extern uint8_t image_end[];
    const uint64_t begin = 0x100000, end = (uint32_t)image_end;
    return address < end && address + length > begin && address + length >= address;
}
