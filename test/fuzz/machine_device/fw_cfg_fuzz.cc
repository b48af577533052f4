// Selector, data and DMA accesses; the descriptors in guest memory come from the
// input, too.
#include "accesses.h"
#include "machine/device/fw_cfg.h"

using namespace vmhost;
using namespace vmhost::machine;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::uint64_t memory_bytes = 16 << 10;
    Bus bus;
    GuestMemory memory;
    require(memory.add(0, memory_bytes, true).has_value());
    require(memory.add(~std::uint64_t{0} - (8 << 10) + 1 - 4096, 4096, true).has_value());
    FwCfg fw_cfg(memory);
    const MemoryMapRow map[] = {{0, memory_bytes, 1}};
    add_platform_files(fw_cfg, map, 2, "HALT");
    require(bus.insert(Space::port, FwCfg::first_port, FwCfg::port_count, fw_cfg).has_value());

    ByteReader input({data, size});
    do {
        // A descriptor with fields near what matters, then an access that may use it.
        auto shape = input.le<std::uint8_t>();
        if (shape & 1) {
            ByteWriter descriptor;
            descriptor.be(static_cast<std::uint32_t>(input.le<std::uint16_t>() << 16 |
                                                     (input.le<std::uint8_t>() & 0x1f)));
            descriptor.be(shape & 2 ? input.le<std::uint32_t>()
                                    : std::uint32_t{input.le<std::uint8_t>()});
            descriptor.be(shape & 4 ? input.le<std::uint64_t>()
                                    : std::uint64_t{input.le<std::uint16_t>()});
            (void)memory.write(shape & 8 ? memory_bytes - 16 : 0x100, descriptor.buffer());
        }
        if (shape & 16) {
            std::uint8_t address[4];
            store_be<std::uint32_t>(address, shape & 8 ? memory_bytes - 16 : 0x100);
            bus.write(Space::port, FwCfg::first_port + 8, address);
        }
    } while (access_port(bus, input, FwCfg::first_port - 4, FwCfg::port_count + 8));
    return 0;
}
