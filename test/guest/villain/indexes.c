// Available indexes that cannot be: one more than the queue holds, far ahead, behind. The
// queue may stop until its reset but must not spin. Then an honest driver's index wraps.
#include "villain.h"

static void publish(uint16_t index) {
    queue.available.index = index;
    barrier();
    window_out16(&device.notify, queue.notify_offset * device.notify_multiplier, queue.index);
}

static void impossible(const struct function* function, uint16_t ahead, uint32_t features) {
    attack(function, features);
    check_queue("its start");
    for (unsigned i = 0; i < queue.size; i++) {
        put(i, (uint32_t)scratch, 64, write_flag, 0);
        queue.available.ring[i] = (uint16_t)i;
    }
    publish((uint16_t)(queue.available.index + ahead));
    // And on: a driver that goes on publishing into a broken queue.
    for (unsigned i = 0; i < 100; i++)
        publish((uint16_t)(queue.available.index + i));
    wait_for_interrupt();
    attack(function, features);
    check_queue("an index that cannot be");
}

// 65536 requests and some, so that both indexes wrap.
static void wrap(const struct function* function, uint32_t features) {
    attack(function, features);
    for (unsigned i = 0; i < queue.size; i++) {
        put(i, (uint32_t)scratch, 16, write_flag, 0);
        queue.available.ring[i] = (uint16_t)i;
    }
    queue.used.index = 0;
    for (unsigned round = 0; round < 65536u / queue.size + 3; round++) {
        publish((uint16_t)(queue.available.index + queue.size));
        if (!all_returned())
            fail("slot %u stops at index %u", device.slot, queue.used.index);
    }
    check_queue("a wrap of its indexes");
}

void guest(void) {
    find_functions();
    for (unsigned i = 0; i < function_count; i++)
        for (unsigned events = 0; events < 2; events++) {
            const uint32_t features = events ? feature_event_index : 0;
            static const uint16_t ahead[] = {65, 66, 255, 256, 257, 0x7fff, 0x8000, 0xffff};
            for (unsigned a = 0; a < sizeof ahead / sizeof *ahead; a++)
                impossible(&functions[i], ahead[a], features);
            if (functions[i].type == virtio_rng)
                wrap(&functions[i], features);
        }
    survive("indexes");
}
