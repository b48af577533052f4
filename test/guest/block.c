// virtio-blk: capacity, a pattern written and read back in several segments, flush, the
// serial number, and the errors a driver may count on (section 5.2.6).
#include "virtio.h"

enum { feature_flush = 1 << 9 };
enum { type_in = 0, type_out = 1, type_flush = 4, type_get_id = 8, type_nonsense = 77 };
enum { status_ok = 0, status_error = 1, status_unsupported = 2, status_untouched = 0xee };
enum { sectors = 16, sector_bytes = 512, first_sector = 3 };

static struct virtio device;
static struct queue queue;
static uint8_t pattern[sectors * sector_bytes], back[sectors * sector_bytes];

static uint8_t request(uint32_t type, uint64_t sector, void* data, uint32_t length, bool to_disk) {
    static struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    static volatile uint8_t status;
    header.type = type;
    header.reserved = 0;
    header.sector = sector;
    status = status_untouched;

    // The data in two pieces: nothing says that a request has three segments.
    struct segment segments[4] = {{&header, sizeof header}};
    unsigned count = 1;
    if (length > 0) {
        uint32_t half = length / 2;
        segments[count++] = (struct segment){data, half};
        segments[count++] = (struct segment){(uint8_t*)data + half, length - half};
    }
    segments[count++] = (struct segment){(void*)&status, 1};
    unsigned readable = to_disk ? count - 1 : 1;
    if (queue_add(&queue, segments, readable, count - readable) < 0)
        fail("the queue is full");
    queue_kick(&queue);
    uint16_t head;
    uint32_t written;
    queue_wait(&queue, &head, &written);
    if (status == status_untouched)
        fail("request type %u: no status", type);
    return status;
}

static void expect(const char* what, uint8_t status, uint8_t wanted) {
    if (status != wanted)
        fail("%s: status %u, not %u", what, status, wanted);
    say("block: %s\n", what);
}

void guest(void) {
    timer_start();
    virtio_open(&device, virtio_block, feature_flush);
    virtio_queue(&device, &queue, 0);
    virtio_go(&device);
    uint32_t capacity = window_in32(&device.device, 0);
    say("block: %u sectors, queue of %u, flush %s\n", capacity, queue.size,
        device.features & feature_flush ? "yes" : "no");
    if (capacity < first_sector + sectors || window_in32(&device.device, 4) != 0)
        fail("the disk has not the size the test needs");

    for (unsigned i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)(i * 7 + i / 251);
    expect("write", request(type_out, first_sector, pattern, sizeof pattern, true), status_ok);
    if (device.features & feature_flush)
        expect("flush", request(type_flush, 0, NULL, 0, true), status_ok);
    expect("read", request(type_in, first_sector, back, sizeof back, false), status_ok);
    if (memcmp(pattern, back, sizeof back) != 0)
        fail("what was read is not what was written");

    char id[21] = {0};
    expect("id", request(type_get_id, 0, id, 20, false), status_ok);
    say("block: id \"%s\"\n", id);
    expect("read past the end fails", request(type_in, capacity - 1, back, 1024, false),
           status_error);
    expect("write past the end fails", request(type_out, capacity, pattern, 512, true),
           status_error);
    expect("nonsense is unsupported", request(type_nonsense, 0, NULL, 0, true), status_unsupported);
    expect("and the disk still works", request(type_in, first_sector, back, 512, false), status_ok);
    // The timer goes first on a slow host: give the line a second.
    for (uint32_t end = ticks + ticks_per_second; device.interrupts == 0 && ticks < end;)
        wait_for_interrupt();
    if (device.interrupts == 0)
        fail("no interrupt came");
    say("block: ok\n");
}
