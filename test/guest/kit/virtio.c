#include "virtio.h"

enum {
    acknowledge = 1,
    driver = 2,
    driver_ok = 4,
    features_ok = 8,
};
// struct virtio_pci_common_cfg (4.1.4.3)
enum {
    device_feature_select = 0,
    device_feature = 4,
    driver_feature_select = 8,
    driver_feature = 12,
    num_queues = 18,
    device_status = 20,
    queue_select = 22,
    queue_size = 24,
    queue_enable = 28,
    queue_notify_offset = 30,
    queue_descriptors = 32,
    queue_available = 40,
    queue_used = 48,
};
enum { flag_next = 1, flag_write = 2 };
enum { wait_seconds = 10 };

static void interrupt(void* context) {
    struct virtio* device = context;
    // Reading the status lowers the line (4.1.4.5).
    if (window_in8(&device->isr, 0) & 3)
        device->interrupts = device->interrupts + 1;
}

static struct window part_of_bar(unsigned slot, unsigned capability) {
    struct window bar = pci_bar(slot, pci_read8(slot, capability + 4));
    uint32_t offset = pci_read(slot, capability + 8), length = pci_read(slot, capability + 12);
    if (offset > bar.size || length > bar.size - offset)
        fail("a capability of slot %u lies outside its BAR", slot);
    bar.base += offset;
    bar.size = length;
    return bar;
}

static void find_capabilities(struct virtio* device) {
    unsigned slot = device->slot, found = 0;
    if (!(pci_read(slot, 4) & 0x100000))
        fail("slot %u has no capability list", slot);
    for (unsigned at = pci_read8(slot, 0x34), guard = 0; at != 0; at = pci_read8(slot, at + 1)) {
        if (++guard > 48)
            fail("the capability list of slot %u has no end", slot);
        if (pci_read8(slot, at) != 9)
            continue;
        unsigned type = pci_read8(slot, at + 3);
        if (type < 1 || type > 4 || (found & 1u << type))
            continue; // the first of each type counts (4.1.4.1)
        found |= 1u << type;
        struct window window = part_of_bar(slot, at);
        if (type == 1)
            device->common = window;
        else if (type == 2) {
            device->notify = window;
            device->notify_multiplier = pci_read(slot, at + 16);
        } else if (type == 3)
            device->isr = window;
        else
            device->device = window;
    }
    if ((found & 0x0e) != 0x0e)
        fail("slot %u lacks virtio capabilities: %x", slot, found);
}

static void add_status(struct virtio* device, uint8_t bit) {
    window_out8(&device->common, device_status, window_in8(&device->common, device_status) | bit);
}

void virtio_reset(struct virtio* device) {
    window_out8(&device->common, device_status, 0);
    while (window_in8(&device->common, device_status) != 0)
        ;
}

void virtio_open(struct virtio* device, unsigned type, uint32_t wanted) {
    virtio_attach(device, pci_find(0x1af4, (uint16_t)(0x1040 + type), 0));
    virtio_start(device, wanted);
}

void virtio_attach(struct virtio* device, unsigned slot) {
    memset(device, 0, sizeof *device);
    device->slot = slot;
    find_capabilities(device);
}

void virtio_start(struct virtio* device, uint32_t wanted) {
    virtio_reset(device);
    add_status(device, acknowledge);
    add_status(device, driver);

    const struct window* common = &device->common;
    window_out32(common, device_feature_select, 1);
    if (!(window_in32(common, device_feature) & 1))
        fail("slot %u does not offer version 1", device->slot);
    window_out32(common, device_feature_select, 0);
    device->features = window_in32(common, device_feature) & wanted;
    window_out32(common, driver_feature_select, 0);
    window_out32(common, driver_feature, device->features);
    window_out32(common, driver_feature_select, 1);
    window_out32(common, driver_feature, 1);
    add_status(device, features_ok);
    if (!(window_in8(common, device_status) & features_ok))
        fail("slot %u refuses its own features", device->slot);
    irq_on_level(pci_read8(device->slot, 0x3c), interrupt, device);
}

static void set_address(const struct window* common, unsigned offset, const volatile void* ring) {
    window_out32(common, offset, (uint32_t)ring);
    window_out32(common, offset + 4, 0);
}

void virtio_queue(struct virtio* device, struct queue* queue, uint16_t index) {
    const struct window* common = &device->common;
    memset(queue, 0, sizeof *queue);
    queue->device = device;
    queue->index = index;
    if (index >= window_in16(common, num_queues))
        fail("slot %u has no queue %u", device->slot, index);
    window_out16(common, queue_select, index);
    queue->size = window_in16(common, queue_size);
    if (queue->size > virtio_max_queue)
        queue->size = virtio_max_queue;
    if (queue->size == 0)
        fail("queue %u of slot %u has no size", index, device->slot);
    window_out16(common, queue_size, queue->size);
    queue->notify_offset = window_in16(common, queue_notify_offset);
    for (uint16_t i = 0; i < queue->size; i++)
        queue->descriptors[i].next = (uint16_t)(i + 1);
    queue->free_count = queue->size;
    set_address(common, queue_descriptors, queue->descriptors);
    set_address(common, queue_available, &queue->available);
    set_address(common, queue_used, &queue->used);
    window_out16(common, queue_enable, 1);
}

void virtio_go(struct virtio* device) {
    add_status(device, driver_ok);
}

int queue_add(struct queue* queue, const struct segment* segments, unsigned readable,
              unsigned writable) {
    const unsigned count = readable + writable;
    if (count == 0 || count > queue->free_count)
        return -1;
    const uint16_t head = queue->free_head;
    uint16_t at = head;
    for (unsigned i = 0; i < count; i++) {
        struct descriptor* descriptor = &queue->descriptors[at];
        descriptor->address = (uint32_t)segments[i].address;
        descriptor->length = segments[i].length;
        descriptor->flags =
            (uint16_t)((i >= readable ? flag_write : 0) | (i + 1 < count ? flag_next : 0));
        at = descriptor->next;
    }
    queue->free_head = at;
    queue->free_count = (uint16_t)(queue->free_count - count);
    queue->available.ring[queue->available.index % queue->size] = head;
    barrier();
    queue->available.index = (uint16_t)(queue->available.index + 1);
    return head;
}

void queue_kick(struct queue* queue) {
    barrier();
    if (!(queue->used.flags & 1))
        window_out16(&queue->device->notify,
                     queue->notify_offset * queue->device->notify_multiplier, queue->index);
}

bool queue_take(struct queue* queue, uint16_t* head, uint32_t* length) {
    if (queue->used.index == queue->last_used)
        return false;
    barrier();
    const unsigned slot = queue->last_used % queue->size;
    *head = (uint16_t)queue->used.ring[slot].head;
    *length = queue->used.ring[slot].length;
    queue->last_used++;
    if (*head >= queue->size)
        fail("queue %u gave back chain %u", queue->index, *head);
    uint16_t last = *head;
    unsigned count = 1;
    for (; queue->descriptors[last].flags & flag_next; last = queue->descriptors[last].next)
        count++;
    queue->descriptors[last].next = queue->free_head;
    queue->free_head = *head;
    queue->free_count = (uint16_t)(queue->free_count + count);
    return true;
}

void queue_wait(struct queue* queue, uint16_t* head, uint32_t* length) {
    const uint32_t end = ticks + wait_seconds * ticks_per_second;
    while (!queue_take(queue, head, length)) {
        if ((int32_t)(ticks - end) > 0)
            fail("queue %u of slot %u gave nothing back", queue->index, queue->device->slot);
        wait_for_interrupt();
    }
}
