// virtio-scsi and the CD-ROM drive behind it: every command with every hostile length, units that
// are not there, sizes of fields that change under the requests, task management and events.
#include "villain.h"

enum { virtio_scsi = 8, sense_size = 20, cdb_size = 24 };
enum { blocks = 32, block_bytes = 2048 }; // of the medium that the story puts in

static struct queue control, events;
static uint8_t head[19 + 255], answer[12 + 255], data[64 << 10];

static void open_all(const struct function* function) {
    virtio_attach(&device, function->slot);
    virtio_start(&device, feature_indirect);
    virtio_queue(&device, &control, 0);
    virtio_queue(&device, &events, 1);
    virtio_queue(&device, &queue, 2);
    virtio_go(&device);
}

static void send(uint32_t head_bytes, uint32_t answer_bytes, uint32_t data_bytes) {
    put(0, (uint32_t)head, head_bytes, next_flag, 1);
    put(1, (uint32_t)answer, answer_bytes, (data_bytes ? next_flag : 0) | write_flag, 2);
    put(2, (uint32_t)data, data_bytes, write_flag, 0);
    offer(0);
    queue_kick(&queue);
    if (!all_returned())
        fail("slot %u keeps command %x", device.slot, head[19]);
}

static void address_unit(void) {
    memset(head, 0, sizeof head);
    head[0] = 1;
    head[2] = 0x40;
}

// The response of a command to the drive.
static uint8_t command(const uint8_t* cdb, unsigned cdb_bytes, uint32_t room) {
    address_unit();
    memcpy(head + 19, cdb, cdb_bytes);
    memset(answer, 0xee, sizeof answer);
    send(19 + 32, 12 + 96, room);
    return answer[11];
}

static void every_command(void) {
    static const uint32_t rooms[] = {0, 1, 7, 8, 36, 2047, 2048, sizeof data};
    for (unsigned operation = 0; operation < 256; operation++)
        for (unsigned shape = 0; shape < 6; shape++) {
            uint8_t cdb[32];
            for (unsigned i = 0; i < sizeof cdb; i++)
                cdb[i] = shape == 0 ? 0 : shape == 1 ? 0xff : (uint8_t)chance();
            cdb[0] = (uint8_t)operation;
            // Load and eject would make all that follows end at "no medium".
            if (operation == 0x1b)
                cdb[4] = 0;
            if (command(cdb, sizeof cdb, rooms[(operation + shape) % 8]) == 0xee)
                fail("no response to command %x", operation);
        }
}

static void reads(void) {
    static const uint32_t firsts[] = {0, 1, blocks - 1, blocks, blocks + 1, 0x7fffffff, ~0u};
    static const uint32_t counts[] = {0, 1, 2, blocks, blocks + 1, 0x8000, 0xffff};
    static const uint8_t operations[] = {0x08, 0x28, 0xa8, 0x88, 0xbe, 0x2b};
    for (unsigned o = 0; o < sizeof operations; o++)
        for (unsigned f = 0; f < sizeof firsts / sizeof *firsts; f++)
            for (unsigned c = 0; c < sizeof counts / sizeof *counts; c++) {
                uint8_t cdb[32] = {operations[o]};
                for (unsigned i = 0; i < 4; i++) {
                    cdb[2 + i] = (uint8_t)(firsts[f] >> (24 - 8 * i));
                    cdb[6 + i] = (uint8_t)(counts[c] >> (24 - 8 * i));
                }
                cdb[7] |= (uint8_t)(counts[c] >> 8);
                cdb[8] |= (uint8_t)counts[c];
                cdb[9] |= 0x10;
                command(cdb, sizeof cdb, c & 1 ? sizeof data : 2048 * (c + 1));
            }
}

static void shapes(void) {
    static const uint32_t heads[] = {0, 1, 18, 19, 20, 50, 51, 52, 200};
    static const uint32_t answers[] = {0, 1, 11, 12, 13, 107, 108, 200};
    for (unsigned h = 0; h < sizeof heads / sizeof *heads; h++)
        for (unsigned a = 0; a < sizeof answers / sizeof *answers; a++) {
            address_unit();
            send(heads[h], answers[a], a & 1 ? 4096 : 0);
        }
    for (unsigned byte = 0; byte < 8; byte++)
        for (unsigned value = 0; value < 256; value += 17) {
            address_unit();
            head[byte] = (uint8_t)value;
            send(51, 108, 64);
        }
    static const uint32_t sizes[] = {0, 1, 12, 18, 32, 96, 255, 256, 0x8000, ~0u};
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        window_out32(&device.device, sense_size, sizes[s]);
        window_out32(&device.device, cdb_size, sizes[s]);
        address_unit();
        head[19] = 0x12;
        send(19 + 32, 12 + 96, 36);
        send(sizeof head, sizeof answer, 36);
    }
    window_out32(&device.device, sense_size, 96);
    window_out32(&device.device, cdb_size, 32);
}

// Functions of task management and subscriptions, while reads are in flight.
static void management(const struct function* function) {
    static uint8_t request[64];
    static volatile uint8_t response[8];
    for (unsigned turn = 0; turn < 120; turn++) {
        address_unit();
        head[19] = 0x28;
        head[27] = blocks;
        for (unsigned i = 0; i < 20; i++) {
            put(3 * i, (uint32_t)head, 51, next_flag, 3 * i + 1);
            put(3 * i + 1, (uint32_t)answer, 108, next_flag | write_flag, 3 * i + 2);
            put(3 * i + 2, (uint32_t)data, sizeof data, write_flag, 0);
            offer((uint16_t)(3 * i));
        }
        queue_kick(&queue);
        memset(request, 0, sizeof request);
        request[0] = (uint8_t)(turn % 5);
        request[4] = (uint8_t)(turn % 11);
        request[8] = turn % 3 ? 1 : 0xff;
        request[10] = 0x40;
        struct segment parts[] = {{request, turn % 7 ? 24 : turn % 30},
                                  {(void*)response, turn % 13 ? 8 : 0}};
        uint16_t first;
        uint32_t length;
        queue_add(&control, parts, 1, 1);
        queue_kick(&control);
        if (turn % 10 == 9) {
            virtio_reset(&device);
            open_all(function);
            continue;
        }
        queue_wait(&control, &first, &length);
        struct segment event = {data, turn & 1 ? 16 : turn % 16};
        queue_add(&events, &event, 0, 1);
        queue_kick(&events);
        if (!all_returned())
            fail("slot %u keeps a read that was managed", device.slot);
    }
}

void guest(void) {
    find_functions();
    const struct function* drive = NULL;
    for (unsigned i = 0; i < function_count; i++)
        if (functions[i].type == virtio_scsi)
            drive = &functions[i];
    if (drive == NULL)
        fail("no drive");
    open_all(drive);
    shapes();
    every_command();
    reads();
    management(drive);
    // The first block comes as it is on the medium.
    open_all(drive);
    static const uint8_t ready[6] = {0}, first[10] = {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0};
    for (unsigned tries = 0; tries < 4; tries++)
        command(ready, sizeof ready, 0);
    memset(data, 0, block_bytes);
    if (command(first, sizeof first, block_bytes) != 0 || answer[10] != 0)
        fail("the first block cannot be read: response %u, status %u", answer[11], answer[10]);
    for (unsigned i = 0; i < block_bytes; i++)
        if (data[i] != 'c')
            fail("byte %u of the medium is %x", i, data[i]);
    virtio_reset(&device);
    survive("scsi");
}
