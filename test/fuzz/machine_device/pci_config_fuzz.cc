// Configuration accesses of a hostile guest: three functions with BARs of both
// kinds, beside a device whose ports must stay its own whatever is put on top.
#include "accesses.h"
#include "machine/pci.h"

using namespace vmhost;
using namespace vmhost::machine;

namespace {

class Quiet final : public Interrupts {
public:
    void set_level(unsigned, bool) override {}
    bool send_msi(std::uint64_t, std::uint32_t) override { return true; }
};

class Marked final : public Device {
public:
    explicit Marked(std::uint8_t mark) : mark_(mark) {}
    std::string_view name() const override { return "marked"; }
    void read(std::uint64_t, MutableBytes data) override {
        std::fill(data.begin(), data.end(), mark_);
    }
    void write(std::uint64_t, Bytes) override {}

private:
    std::uint8_t mark_;
};

constexpr std::uint64_t own_port = 0x1080;

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const bool quiet = (log::set_level("pci", log::Level::error), true);
    (void)quiet;
    Bus bus;
    Quiet wires;
    Marked own(0x11), bars(0x22);
    PciHost host(bus, wires);
    require(bus.insert(Space::port, 0xcf8, 8, host).has_value());
    require(bus.insert(Space::port, own_port, 1, own).has_value());
    for (unsigned i = 0; i < 3; i++) {
        auto card = std::make_unique<PciFunction>(
            "card", PciFunction::Identity{.vendor = 0x1af4, .device = 0x1040});
        card->add_bar(0, Space::port, 16U << i, bars);
        card->add_bar(1 + i, Space::memory, 4096U << 4 * i, bars);
        const std::uint8_t body[14] = {};
        card->add_capability(9, body);
        card->set_interrupt(static_cast<std::uint8_t>(5 + i));
        require(host.add(std::move(card)).has_value());
    }
    ByteReader input({data, size});
    while (access_port(bus, input, 0xcf8, 8)) {
        auto kind = input.le<std::uint8_t>();
        if (auto* function = host.at(kind & 3))
            function->raise_interrupt(kind & 4);
        if ((kind & 0xf8) == 0xf8)
            host.place_bars();
        // Identity and ownership hold whatever happened.
        std::uint8_t mark = 0;
        bus.read(Space::port, own_port, {&mark, 1});
        require(mark == 0x11);
        std::uint8_t vendor[2] = {};
        host.at(1)->read_config(0, vendor);
        require(load_le<std::uint16_t>(Bytes(vendor)) == 0x1af4);
    }
    return 0;
}
