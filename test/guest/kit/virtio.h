// A driver's half of virtio 1.x over PCI with split queues (Virtual I/O Device
// Specification 1.2, sections 2.7, 3.1 and 4.1), interrupts by INTx.
#pragma once

#include "pci.h"

enum { virtio_net = 1, virtio_block = 2, virtio_console = 3, virtio_rng = 4 };
enum { virtio_max_queue = 64 };

struct virtio {
    unsigned slot;
    struct window common, notify, isr, device;
    uint32_t notify_multiplier;
    uint32_t features;            // negotiated, bits 0..31
    volatile uint32_t interrupts; // that were for this device
};

struct segment {
    void* address;
    uint32_t length;
};

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

struct queue {
    struct virtio* device;
    uint16_t index, size, notify_offset, free_head, free_count, last_used;
    struct descriptor descriptors[virtio_max_queue] __attribute__((aligned(16)));
    struct {
        volatile uint16_t flags, index, ring[virtio_max_queue], used_event;
    } available __attribute__((aligned(4)));
    struct {
        volatile uint16_t flags, index;
        struct {
            volatile uint32_t head, length;
        } ring[virtio_max_queue];
        volatile uint16_t available_event;
    } used __attribute__((aligned(8)));
};

// Finds the first device of a type, resets it and negotiates: version 1 and those of
// `wanted` that it has. The interrupt handler counts.
void virtio_open(struct virtio* device, unsigned type, uint32_t wanted);
// The same in two steps, for the function in a slot: find its registers; reset and negotiate.
void virtio_attach(struct virtio* device, unsigned slot);
void virtio_start(struct virtio* device, uint32_t wanted);
void virtio_queue(struct virtio* device, struct queue* queue, uint16_t index);
void virtio_go(struct virtio* device); // DRIVER_OK
void virtio_reset(struct virtio* device);

// Offers a chain: `readable` segments for the device to read, then `writable` ones. The
// head, or -1 when the queue is full. Nothing is told to the device before queue_kick().
int queue_add(struct queue* queue, const struct segment* segments, unsigned readable,
              unsigned writable);
void queue_kick(struct queue* queue);
// A chain that the device has given back.
bool queue_take(struct queue* queue, uint16_t* head, uint32_t* length);
// The same, asleep until it comes; fails the guest after some seconds of the timer.
void queue_wait(struct queue* queue, uint16_t* head, uint32_t* length);
