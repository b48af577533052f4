// Register accesses of serial port, CMOS clock and keyboard controller between
// input, breaks and the passing of time. The promises checked: a wire that is high
// has its reason in the device's own register, and deadlines do not pile up.
#include "../../unit/machine_device/fakes.h"
#include "accesses.h"
#include "machine/device/cmos.h"
#include "machine/device/reset.h"
#include "machine/device/serial.h"

using namespace vmhost;
using namespace vmhost::machine;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bus bus;
    SteppedClock clock;
    clock.wall_at_start = 1'700'000'000;
    RecordingInterrupts wires;
    GuestMemory memory;
    Serial serial(wires, 4, clock, [](Bytes) {});
    Cmos cmos(clock, wires, memory, 1);
    KeyboardController keyboard([] {});
    require(bus.insert(Space::port, 0x3f8, Serial::port_count, serial).has_value());
    require(bus.insert(Space::port, 0x70, Cmos::port_count, cmos).has_value());
    require(bus.insert(Space::port, 0x60, 1, keyboard.data_port()).has_value());
    require(bus.insert(Space::port, 0x64, 1, keyboard.command_port()).has_value());

    ByteReader input({data, size});
    Bytes waiting;
    auto feed = [&] { waiting = waiting.subspan(serial.receive(waiting)); };
    serial.on_receive_space(feed);
    bool more = true;
    while (more) {
        auto choice = input.le<std::uint8_t>();
        switch (choice & 7) {
        case 0:
            waiting = input.bytes(std::min<std::size_t>(choice >> 3, input.remaining()));
            feed();
            break;
        case 1:
            serial.receive_break();
            break;
        case 2:
            clock.advance(1ULL << (choice >> 3)); // at most about two seconds
            break;
        case 3:
            clock.wall_at_start += choice & 8 ? 40'000'000 : -3'000;
            break;
        case 4:
            more = access_port(bus, input, 0x60, 32);
            continue;
        default:
            more = access_port(bus, input, 0x3f8 - 2, Serial::port_count + 4);
            continue;
        }
        more = input.ok() && input.remaining() != 0;
        require(clock.pending() <= 1);
    }
    // Answering everything silences both wires.
    out(serial, 3, std::uint8_t{0});
    for (unsigned i = 0; i < 64; i++)
        for (unsigned index : {2U, 5U, 0U, 6U})
            (void)inb(serial, index);
    waiting = {};
    (void)serial.receive({});
    for (unsigned i = 0; i < 64; i++)
        for (unsigned index : {2U, 5U, 0U, 6U})
            (void)inb(serial, index);
    require(!wires.lines[4].level || (inb(serial, 4) & 0x10));
    outb(cmos, 0, 0x0c);
    (void)inb(cmos, 1);
    require(!wires.lines[8].level);
    return 0;
}
