// A guest that does everything at once, in the order that the input says: drives its devices as
// modern and as legacy driver, builds chains that are valid but for what the input spoils, moves
// BARs, turns decoding and mastering on and off, resets with requests in flight, rewrites
// rings and tables behind the devices' backs, and receives frames. Every step is a guest's: ports
// and memory through the bus, rings in its RAM. At the end each device, put back, must
// serve an honest driver.
#include "devices.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

constexpr Gpa first_ring = 0x4000, ring_bytes = 0x3000, tables = 0x28000, buffers = 0x30000;
constexpr unsigned max_queues = 3; // of one device
constexpr std::uint16_t legacy_size = 256, modern_size = 16;
enum : std::uint16_t { has_next = 1, is_writable = 2, is_indirect = 4 };

struct Ring {
    Gpa descriptors = 0, available = 0, used = 0;
    std::uint16_t size = 0, index = 0;
};

class Guest {
public:
    explicit Guest(fuzz::Devices& devices) : m(devices) {
        for (unsigned device = 0; device < 4; ++device)
            for (unsigned queue = 0; queue < max_queues; ++queue)
                place(device, queue);
    }
    void step(ByteReader& input);
    void require_honest();

private:
    Ring& ring(unsigned device, unsigned queue) {
        return rings_[device % 4 * max_queues + queue % max_queues];
    }
    void place(unsigned device, unsigned queue) {
        auto& one = ring(device, queue);
        one.size = m.legacy ? legacy_size : modern_size;
        one.index = 0;
        one.descriptors = first_ring + ring_bytes * ((device * max_queues + queue) % 12);
        one.available = one.descriptors + 16ULL * one.size;
        one.used = (one.available + 6 + 2ULL * one.size + 4095) & ~Gpa{4095};
    }
    void start(unsigned device, std::uint32_t features);
    void start_legacy(unsigned device, std::uint32_t features);
    void notify(unsigned device, unsigned queue);
    void put(Gpa table, unsigned at, Gpa address, std::uint32_t length, std::uint16_t flags,
             std::uint16_t next);
    void offer(Ring& to, std::uint16_t head);
    void chain(unsigned device, unsigned queue, ByteReader& input);
    void access(ByteReader& input, unsigned device);
    void configure(ByteReader& input);
    void rewrite(ByteReader& input);

    fuzz::Devices& m;
    std::array<Ring, 4 * max_queues> rings_;
};

void Guest::start(unsigned device, std::uint32_t features) {
    m.write<std::uint8_t>(device, 20, 0);
    for (std::uint8_t status : {1, 3})
        m.write<std::uint8_t>(device, 20, status);
    // Those of the device that the input wants, and VERSION_1.
    m.write<std::uint32_t>(device, 0, 0);
    auto offered = m.read<std::uint32_t>(device, 4);
    m.write<std::uint32_t>(device, 8, 0);
    m.write<std::uint32_t>(device, 12, offered & features);
    m.write<std::uint32_t>(device, 8, 1);
    m.write<std::uint32_t>(device, 12, 1);
    m.write<std::uint8_t>(device, 20, 11);
    for (unsigned queue = 0; queue < max_queues; ++queue) {
        place(device, queue);
        auto& one = ring(device, queue);
        m.memory.fill(one.descriptors, 0, ring_bytes);
        m.write<std::uint16_t>(device, 22, static_cast<std::uint16_t>(queue));
        m.write<std::uint16_t>(device, 24, modern_size);
        one.size = modern_size;
        m.write<std::uint32_t>(device, 32, static_cast<std::uint32_t>(one.descriptors));
        m.write<std::uint32_t>(device, 40, static_cast<std::uint32_t>(one.available));
        m.write<std::uint32_t>(device, 48, static_cast<std::uint32_t>(one.used));
        m.write<std::uint16_t>(device, 28, 1);
    }
    m.write<std::uint8_t>(device, 20, 15);
}

void Guest::start_legacy(unsigned device, std::uint32_t features) {
    m.write_legacy<std::uint8_t>(device, 18, 0);
    m.write_legacy<std::uint8_t>(device, 18, 3);
    m.write_legacy<std::uint32_t>(device, 4, features);
    for (unsigned queue = 0; queue < max_queues; ++queue) {
        place(device, queue);
        auto& one = ring(device, queue);
        m.memory.fill(one.descriptors, 0, ring_bytes);
        m.write_legacy<std::uint16_t>(device, 14, static_cast<std::uint16_t>(queue));
        m.write_legacy<std::uint32_t>(device, 8, static_cast<std::uint32_t>(one.descriptors >> 12));
    }
    if (features & 1)
        m.write_legacy<std::uint8_t>(device, 18, 7); // else the first notification starts it
}

void Guest::notify(unsigned device, unsigned queue) {
    if (m.legacy)
        m.write_legacy<std::uint16_t>(device, 16, static_cast<std::uint16_t>(queue));
    else
        m.write<std::uint16_t>(device, 0x3000 + 4 * queue, static_cast<std::uint16_t>(queue));
}

void Guest::put(Gpa table, unsigned at, Gpa address, std::uint32_t length, std::uint16_t flags,
                std::uint16_t next) {
    ByteWriter raw;
    raw.le(address);
    raw.le(length);
    raw.le(flags);
    raw.le(next);
    m.memory.write(table + 16 * at, raw.buffer());
}

void Guest::offer(Ring& to, std::uint16_t head) {
    m.memory.write_le<std::uint16_t>(to.available + 4 + 2ULL * (to.index % to.size), head);
    m.memory.write_le<std::uint16_t>(to.available + 2, ++to.index);
}

Gpa spoiled_address(std::uint8_t kind, std::uint8_t delta) {
    constexpr std::array<Gpa, 10> edges = {0,
                                           fuzz::Devices::low_end,
                                           fuzz::Devices::high_start,
                                           fuzz::Devices::high_end,
                                           0xe0000000,
                                           0xfee00000,
                                           Gpa{1} << 32,
                                           Gpa{1} << 63,
                                           first_ring,
                                           tables};
    return edges[kind % edges.size()] + delta - 128;
}

// A request as the device wants it; then each descriptor as the input spoils it.
void Guest::chain(unsigned device, unsigned queue, ByteReader& input) {
    auto& to = ring(device, queue);
    auto shape = input.le<std::uint8_t>();
    auto count = 1U + (shape >> 2 & 7);
    bool in_table = shape & 1;
    auto start = in_table ? 0U : input.le<std::uint8_t>() % to.size;
    Gpa table = in_table ? tables : to.descriptors;
    // A disk's header, or a frame's with a type of the input's; the rest of the page stays.
    ByteWriter header;
    if (device == 1) {
        constexpr std::array<std::uint32_t, 8> types = {0, 1, 4, 8, 11, 13, 5, 77};
        header.le(types[input.le<std::uint8_t>() % types.size()]);
        header.le<std::uint32_t>(0);
        header.le<std::uint64_t>(input.le<std::uint8_t>());
    } else {
        header.bytes(input.bytes(std::min<std::size_t>(12, input.remaining())));
    }
    m.memory.write(buffers, header.buffer());
    auto writable_from = device == 0 || (device >= 2 && queue == 0) ? 0U : 1U + (shape >> 5);
    for (unsigned i = 0; i < count; ++i) {
        auto how = input.le<std::uint8_t>();
        Gpa address = buffers + 0x400 * i;
        std::uint32_t length = device == 1 ? (i == 0           ? 16
                                              : i + 1 == count ? 1
                                                               : 512)
                                           : 64 + how % 64;
        auto flags = static_cast<std::uint16_t>((i >= writable_from ? is_writable : 0) |
                                                (i + 1 < count ? has_next : 0));
        if (device == 1 && i > 0 && i + 1 == count)
            flags |= is_writable;
        auto next = static_cast<std::uint16_t>(in_table ? i + 1 : (start + i + 1) % to.size);
        switch (how >> 4) {
        case 15:
            address = spoiled_address(input.le<std::uint8_t>(), input.le<std::uint8_t>());
            break;
        case 14:
            length = input.le<std::uint32_t>();
            break;
        case 13:
            flags = input.le<std::uint16_t>();
            break;
        case 12:
            next = input.le<std::uint16_t>();
            break;
        case 11:
            length = 0;
            break;
        default:
            break;
        }
        put(table, in_table ? i : (start + i) % to.size, address, length, flags, next);
    }
    if (in_table)
        put(to.descriptors, start, tables, shape & 2 ? input.le<std::uint32_t>() : 16 * count,
            is_indirect, 0);
    offer(to, static_cast<std::uint16_t>(start));
}

// An access of any width to a BAR.
void Guest::access(ByteReader& input, unsigned device) {
    auto what = input.le<std::uint8_t>();
    auto index = what >> 2 & 3;
    bool port = m.legacy ? index == 0 : index == 3;
    auto slot = what & 0x80 ? m.vmmci_slot : device + 1;
    if (slot == m.vmmci_slot || index == 3)
        port = true, index = 0;
    auto length = std::size_t{1} << (what & 3);
    auto offset = port || what & 0x20 ? input.le<std::uint8_t>() % 64 : input.le<std::uint16_t>();
    auto address = m.bar(slot, index) + offset % 0x4000;
    std::uint8_t raw[8] = {};
    auto space = port ? Space::port : Space::memory;
    if (port)
        length = std::min<std::size_t>(length, 4);
    if (what & 0x10)
        return m.bus.read(space, address, MutableBytes(raw).first(length));
    auto given = input.bytes(std::min(length, input.remaining()));
    std::copy(given.begin(), given.end(), raw);
    m.bus.write(space, address, Bytes(raw).first(length));
}

// Configuration space: any register, or a BAR to a place of interest.
void Guest::configure(ByteReader& input) {
    auto what = input.le<std::uint8_t>();
    auto slot = what % 6;
    if (what & 0x80) {
        constexpr std::array<std::uint32_t, 12> places = {
            0,          0x1000,     0x1500,     0xe0000000, 0xe0004000, 0xe0100000,
            0xfec00000, 0xfee00000, 0xffffc000, 0xffffffff, 0x0,        0xcf8};
        auto where = input.le<std::uint8_t>();
        m.config_write(slot, 0x10 + 4 * (where & 7), places[(where >> 3) % places.size()]);
        return;
    }
    if (what & 0x40)
        return m.config_write(slot, 4, input.le<std::uint8_t>());
    m.out(0xcf8, 0x80000000U | slot << 11 | (input.le<std::uint8_t>() & 0xfcU));
    std::uint8_t raw[4];
    store_le(raw, input.le<std::uint32_t>());
    auto length = std::size_t{1} << (what >> 4 & 1);
    m.bus.write(Space::port, 0xcfc + (what >> 3 & 1),
                Bytes(raw).first(length + (what >> 5 & 1) * 2));
    m.bus.read(Space::port, 0xcfc, raw);
}

void Guest::rewrite(ByteReader& input) {
    auto at = input.le<std::uint16_t>();
    auto bytes = input.bytes(std::min<std::size_t>(16, input.remaining()));
    m.memory.write(at & 0x8000 ? tables + (at & 0xfff) : first_ring + at, bytes);
}

void Guest::step(ByteReader& input) {
    auto what = input.le<std::uint8_t>();
    unsigned device = (what >> 4 & 3) % m.count(), queue = what >> 6;
    switch (what & 15) {
    case 0:
        m.legacy ? start_legacy(device, input.le<std::uint32_t>())
                 : start(device, input.le<std::uint32_t>());
        break;
    case 1:
        access(input, device);
        break;
    case 2:
    case 3:
        configure(input);
        break;
    case 4:
        rewrite(input);
        break;
    case 5: { // something comes from outside
        auto given = input.bytes(std::min<std::size_t>(14 + what, input.remaining()));
        if (device != 2)
            m.wire.send(given);
        else if (m.console->receive(given) == 0 && given.size() >= 4)
            m.console->set_size(load_le<std::uint16_t>(given),
                                load_le<std::uint16_t>(given.subspan(2)));
        break;
    }
    case 6:
        m.loop.run_once(false);
        break;
    case 7:
        m.drain();
        break;
    case 8:
        start(device, ~0U); // as a modern driver, also of a transitional device
        break;
    case 9: // an index out of the blue
        m.memory.write_le<std::uint16_t>(ring(device, queue).available + 2,
                                         input.le<std::uint16_t>());
        break;
    case 10:
        notify(device, queue);
        break;
    default:
        chain(device, queue, input);
        if (what & 1)
            notify(device, queue);
    }
}

// Puts the function back where firmware would, and asks for something that must be given.
void Guest::require_honest() {
    m.drain();
    for (unsigned slot = 1; slot <= m.vmmci_slot; ++slot)
        m.config_write(slot, 4, 0);
    m.host->place_bars();
    m.check_places();
    for (unsigned device = 0; device < m.count(); ++device) {
        m.write<std::uint8_t>(device, 20, 0);
        m.drain();
        fuzz::must(m.read<std::uint8_t>(device, 20) == 0);
        start(device, 0);
        auto queue = device >= 2 ? 1U : 0U;
        auto& to = ring(device, queue);
        ByteWriter header;
        header.zeros(16);
        m.memory.write(buffers, header.buffer());
        if (device == 1) {
            put(to.descriptors, 0, buffers, 16, has_next, 1);
            put(to.descriptors, 1, buffers + 0x800, 513, is_writable, 0);
        } else {
            put(to.descriptors, 0, buffers, 80, device == 0 ? is_writable : 0, 0);
        }
        offer(to, 0);
        m.write<std::uint16_t>(device, 0x3000 + 4 * queue, static_cast<std::uint16_t>(queue));
        for (unsigned turn = 0; turn < 100; ++turn) {
            m.drain();
            if (*m.memory.read_le<std::uint16_t>(to.used + 2) == 1)
                break;
        }
        fuzz::must(*m.memory.read_le<std::uint16_t>(to.used + 2) == 1);
        m.write<std::uint8_t>(device, 20, 0);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::Devices devices;
    ByteReader input{Bytes(data, size)};
    devices.build(input.le<std::uint8_t>() & 1);
    Guest guest(devices);
    for (unsigned step = 0; input.remaining() != 0 && step < 256; ++step)
        guest.step(input);
    guest.require_honest();
    devices.take_down();
    return 0;
}
