// Any access of any width to the BARs and configuration spaces of virtio devices, in any order.
// Registers never leave their block, devices always come back from a reset.
#include "machine.h"

using namespace vmhost;
using namespace vmhost::machine;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::Machine machine;
    machine.build();
    ByteReader input{Bytes(data, size)};
    for (unsigned step = 0; input.remaining() != 0 && step < 512; ++step) {
        auto what = input.le<std::uint8_t>();
        unsigned device = what & 1;
        std::uint8_t raw[8];
        auto length = std::size_t{1} << (what >> 1 & 3);
        auto access = [&](Space space, std::uint64_t address) {
            if (what & 0x10) {
                machine.bus.read(space, address, MutableBytes(raw).first(length));
                return;
            }
            store_le<std::uint64_t>(raw, length == 8 ? input.le<std::uint64_t>()
                                                     : input.le<std::uint32_t>());
            machine.bus.write(space, address, Bytes(raw).first(length));
        };
        switch (what >> 5) {
        case 0: { // configuration space
            auto offset = input.le<std::uint8_t>();
            store_le<std::uint32_t>(raw, 0x80000000U | (device + 1) << 11 | (offset & 0xfcU));
            machine.host->write(0, Bytes(raw).first(4));
            length = std::min<std::size_t>(length, 4);
            auto at = 4 + (offset & 3U & ~(length - 1));
            if (what & 0x10) {
                machine.host->read(at, MutableBytes(raw).first(length));
            } else {
                store_le<std::uint32_t>(raw, input.le<std::uint32_t>());
                machine.host->write(at, Bytes(raw).first(length));
            }
            break;
        }
        case 1:
            if (what & 8) // a driver that enables MSI-X and gives the queue a vector
                machine.use_vectors(device, input.le<std::uint8_t>());
            machine.loop.run_once(false);
            break;
        case 2: // the way of a driver, so that deeper states are met
            machine.write<std::uint8_t>(device, 20, 1);
            machine.write<std::uint8_t>(device, 20, 3);
            machine.write<std::uint32_t>(device, 8, 1);
            machine.write<std::uint32_t>(device, 12, 1);
            machine.write<std::uint8_t>(device, 20, 11);
            break;
        case 3:
            machine.write<std::uint16_t>(device, 28, 1);
            machine.write<std::uint8_t>(device, 20, 15);
            break;
        case 4:
            if (what & 8) { // the MSI-X table and the pending bits
                auto offset = input.le<std::uint8_t>();
                access(Space::memory,
                       machine.bar(device, 1) + (offset & 0x80 ? 2048 : 0) + (offset & 0x7f));
                break;
            }
            access(Space::memory, machine.bar(device) + 0x3000 + input.le<std::uint8_t>());
            break;
        case 5:
            access(Space::memory, machine.bar(device) + input.le<std::uint16_t>() % 0x4000);
            break;
        default: // common configuration
            access(Space::memory, machine.bar(device) + input.le<std::uint8_t>() % 64);
        }
    }
    machine.drain();
    // Firmware places BARs where nothing is decoded yet; the input may have put them anywhere.
    const std::uint8_t off[2] = {0, 0};
    for (auto* transport : machine.transports)
        transport->write_config(4, off);
    machine.host->place_bars();
    for (unsigned device = 0; device < 2; ++device) {
        machine.write<std::uint8_t>(device, 20, 0);
        fuzz::Machine::must(machine.read<std::uint8_t>(device, 20) == 0);
    }
    return 0;
}
