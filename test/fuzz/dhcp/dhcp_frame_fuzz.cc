// Any frame: parsed within its bounds, and what is accepted can be built again.
#include <algorithm>
#include <cstdlib>

#include "dhcp/frame.h"

using namespace vmhost;
using namespace vmhost::dhcp;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::vector<std::uint8_t> exact(data, data + size); // ASan sees a read past the end
    (void)parse_frame(exact, UdpChecksum::verify);
    auto datagram = parse_frame(exact, UdpChecksum::trusted);
    if (!datagram || datagram->payload.size() > 0xffff - 28)
        return 0;
    auto again = build_frame(*datagram);
    auto back = parse_frame(again, UdpChecksum::verify);
    if (!back || back->source != datagram->source || back->destination != datagram->destination ||
        back->source_port != datagram->source_port ||
        back->ethernet_source != datagram->ethernet_source ||
        !std::ranges::equal(back->payload, datagram->payload))
        std::abort();
    return 0;
}
