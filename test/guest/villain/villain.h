// What the villain's topics share. Each topic is a guest of its own that does one class of
// nonsense to every device, checks that honest requests are still served, and rests; or ends
// the machine in a way that has a name.
//
// No topic knows what the machine answers to nonsense, only what it must not do: end, hang, lose
// a queue that was reset, or touch memory that it was not given.
#pragma once

#include "virtio.h"

enum { feature_indirect = 1 << 28, feature_event_index = 1 << 29 };
enum { next_flag = 1, write_flag = 2, indirect_flag = 4 };
enum { ram_end = 16 << 20 }; // the stories give the villain this much

struct function {
    unsigned slot, type; // of virtio
};
extern struct function functions[32];
extern unsigned function_count;
// Also starts the timer.
void find_functions(void);

// The device under attack and its queue; the descriptors are the topic's to write.
extern struct virtio device;
extern struct queue queue;

// Reset, negotiated, with the queue that carries its requests running.
void attack(const struct function* function, uint32_t features);
void put(unsigned index, uint64_t address, uint32_t length, unsigned flags, unsigned next);
void offer(uint16_t head);
// Has the device given back everything that was offered? False after some seconds.
bool all_returned(void);
// An honest request on the running queue: descriptors 0 to 2.
bool honest(void);
// The same, and it must be served.
void check_queue(const char* after);
// Every device: reset, negotiated, an honest request served.
void check_devices(const char* after);
// Says so, checks the devices, and sleeps for ever.
_Noreturn void survive(const char* topic);

// flight.c: as many requests as the queue holds; the same, and then the device loses its queues,
// its right to DMA or its place in one of so many ways.
enum { overtake_ways = 5 };
void fill_queue(void);
void overtake(const struct function* function, unsigned how);

// Pseudo-random, the same in each run.
uint32_t chance(void);

// After storms on the platform: serial line, interrupt controllers and timer work again.
void restore_platform(void);

// The villain's own code, data and stack.
bool is_own_memory(uint64_t address, uint64_t length);

// Buffers that hostile descriptors may name as good places.
extern uint8_t scratch[8192];
