// A guest that drives block and entropy correctly up to the rings, and puts mostly valid chains
// into them: each chain is well-formed but for what the input says to spoil. Afterwards a good
// request must still be served (or the queue be known broken), and nothing may be in flight.
#include <array>

#include "machine.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

constexpr Gpa rings = 0x10000, tables = 0x18000, buffers = 0x20000;
constexpr std::uint16_t queue_size = 16;

struct Ring {
    fuzz::Machine& m;
    unsigned device;
    Gpa descriptors, available, used;
    std::uint16_t index = 0;

    Ring(fuzz::Machine& machine, unsigned which)
        : m(machine), device(which), descriptors(rings + 0x1000 * which),
          available(descriptors + 0x400), used(descriptors + 0x800) {}

    void start(bool event_index) {
        m.write<std::uint8_t>(device, 20, 0);
        m.memory.fill(descriptors, 0, 0x1000);
        index = 0;
        m.write<std::uint8_t>(device, 20, 1);
        m.write<std::uint8_t>(device, 20, 3);
        m.write<std::uint32_t>(device, 8, 0);
        m.write<std::uint32_t>(device, 12, 1U << 28 | (event_index ? 1U << 29 : 0));
        m.write<std::uint32_t>(device, 8, 1);
        m.write<std::uint32_t>(device, 12, 1);
        m.write<std::uint8_t>(device, 20, 11);
        m.write<std::uint16_t>(device, 22, 0);
        m.write<std::uint16_t>(device, 24, queue_size);
        m.write<std::uint32_t>(device, 32, static_cast<std::uint32_t>(descriptors));
        m.write<std::uint32_t>(device, 40, static_cast<std::uint32_t>(available));
        m.write<std::uint32_t>(device, 48, static_cast<std::uint32_t>(used));
        m.write<std::uint16_t>(device, 28, 1);
        m.write<std::uint8_t>(device, 20, 15);
        fuzz::Machine::must(m.read<std::uint8_t>(device, 20) == 15);
    }
    void put(Gpa table, unsigned at, Gpa address, std::uint32_t length, std::uint16_t flags,
             std::uint16_t next) {
        ByteWriter raw;
        raw.le(address);
        raw.le(length);
        raw.le(flags);
        raw.le(next);
        m.memory.write(table + 16 * at, raw.buffer());
    }
    void offer(std::uint16_t head) {
        m.memory.write_le<std::uint16_t>(available + 4 + 2 * (index % queue_size), head);
        m.memory.write_le<std::uint16_t>(available + 2, ++index);
    }
    void notify() { m.write<std::uint16_t>(device, 0x3000, 0); }
    std::uint16_t used_index() { return *m.memory.read_le<std::uint16_t>(used + 2); }
};

Gpa spoiled_address(std::uint8_t kind, std::uint8_t delta) {
    constexpr std::array<Gpa, 8> edges = {0,
                                          fuzz::Machine::low_end,
                                          fuzz::Machine::high_start,
                                          fuzz::Machine::high_end,
                                          0xe0000000,
                                          ~Gpa{0},
                                          rings,
                                          Gpa{1} << 63};
    return edges[kind % edges.size()] + delta - 128;
}

void chain(Ring& ring, ByteReader& input) {
    auto shape = input.le<std::uint8_t>();
    auto count = 1U + input.le<std::uint8_t>() % queue_size;
    bool in_table = shape & 1;
    auto start = in_table ? 0U : input.le<std::uint8_t>() % queue_size;
    Gpa table = in_table ? tables : ring.descriptors;
    // A block header where the first buffer will be.
    ByteWriter header;
    constexpr std::array<std::uint32_t, 7> types = {0, 1, 4, 8, 5, 11, 13};
    header.le(types[input.le<std::uint8_t>() % types.size()]);
    header.le<std::uint32_t>(0);
    header.le<std::uint64_t>(input.le<std::uint8_t>());
    ring.m.memory.write(buffers, header.buffer());
    auto writable_from = input.le<std::uint8_t>() % (count + 1);
    for (unsigned i = 0; i < count; ++i) {
        auto how = input.le<std::uint8_t>();
        Gpa address = buffers + 0x400 * i;
        std::uint32_t length = i == 0 ? 16 : i + 1 == count ? 1 : 512;
        auto flags = static_cast<std::uint16_t>((i >= writable_from && i > 0 ? 2 : 0) |
                                                (i + 1 < count ? 1 : 0));
        auto next = static_cast<std::uint16_t>(in_table ? i + 1 : (start + i + 1) % queue_size);
        if ((how & 0xf0) == 0xf0)
            address = spoiled_address(input.le<std::uint8_t>(), input.le<std::uint8_t>());
        if ((how & 0xf0) == 0xe0)
            length = input.le<std::uint32_t>();
        if ((how & 0xf0) == 0xd0)
            flags = input.le<std::uint16_t>();
        if ((how & 0xf0) == 0xc0)
            next = input.le<std::uint16_t>();
        ring.put(table, in_table ? i : (start + i) % queue_size, address, length, flags, next);
    }
    auto head = static_cast<std::uint16_t>(start);
    if (in_table)
        ring.put(ring.descriptors, start, tables,
                 shape & 2 ? input.le<std::uint32_t>() : 16 * count, 4, 0);
    if ((shape & 0xf0) == 0xf0)
        head = input.le<std::uint16_t>();
    ring.offer(head);
}

// A request that any driver may make; served, unless the queue was broken.
void require_works(Ring& ring, bool broken_allowed) {
    ByteWriter header;
    header.zeros(16);
    ring.m.memory.write(buffers, header.buffer());
    bool block = ring.device == 0;
    ring.put(ring.descriptors, 0, block ? buffers : buffers + 0x400, block ? 16 : 64, block ? 1 : 2,
             1);
    ring.put(ring.descriptors, 1, buffers + 0x800, 513, 2, 0);
    auto before = ring.used_index();
    ring.offer(0);
    ring.notify();
    ring.m.drain();
    fuzz::Machine::must(broken_allowed ||
                        ring.used_index() == static_cast<std::uint16_t>(before + 1));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::Machine machine;
    ByteReader input{Bytes(data, size)};
    auto options = input.le<std::uint8_t>();
    Ring rings_of[] = {{machine, 0}, {machine, 1}};
    Ring& ring = rings_of[options & 1];
    ring.start(options & 2);
    for (unsigned step = 0; input.remaining() != 0 && step < 64; ++step) {
        switch (input.le<std::uint8_t>() % 8) {
        case 0:
            ring.notify();
            machine.loop.run_once(false);
            break;
        case 1:
            machine.drain();
            break;
        case 2: // an index out of the blue
            machine.memory.write_le<std::uint16_t>(ring.available + 2, input.le<std::uint16_t>());
            break;
        case 3: // a reset with I/O in flight
            ring.notify();
            machine.loop.run_once(false);
            ring.start(options & 2);
            break;
        default:
            chain(ring, input);
        }
    }
    ring.notify();
    machine.drain();
    // Only data that a device was told to put over the rings, or more chains than the ring holds,
    // may break a queue; after a reset it must always work.
    require_works(ring, true);
    ring.start(options & 2);
    require_works(ring, false);
    return 0;
}
