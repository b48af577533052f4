// The devices that a guest has, as far as they run without a processor: entropy, a disk over a
// real file, a console, a network device over a real tap (where this process may make one; in
// this order the fuzzer knows them by number), and vmmci, behind
// one PCI host, all reached through the bus as a guest reaches them.
#pragma once

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "loop/loop.h"
#include "machine/loop_clock.h"
#include "machine/pci.h"
#include "machine/virtio/block.h"
#include "machine/virtio/console_port.h"
#include "machine/virtio/net.h"
#include "machine/virtio/pci_transport.h"
#include "machine/virtio/rng.h"
#include "machine/virtio/vmmci.h"

namespace vmhost::fuzz {

inline void must(bool good) {
    if (!good)
        std::abort();
}

// A tap in a network namespace of this process, and a packet socket at its other end.
struct Wire {
    Fd tap, host;

    Wire() {
        const char* missing = open();
        if (missing == nullptr)
            return;
        tap = {};
        std::fprintf(stderr, "%s: fuzzing goes on without a network device\n", missing);
    }
    // What this process may not have; null when it has all.
    const char* open() {
        if (::unshare(CLONE_NEWNET) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
            return "no network namespace";
        tap = Fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
        struct ifreq request {};
        std::strncpy(request.ifr_name, "tap0", IFNAMSIZ - 1);
        request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
        if (!tap || ::ioctl(tap.get(), TUNSETIFF, &request) != 0)
            return "no tap";
        host = Fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)));
        request.ifr_flags = IFF_UP;
        struct sockaddr_ll address {};
        address.sll_family = AF_PACKET;
        address.sll_protocol = htons(ETH_P_ALL);
        if (!host || ::ioctl(host.get(), SIOCSIFFLAGS, &request) != 0)
            return "no link";
        address.sll_ifindex = static_cast<int>(::if_nametoindex("tap0"));
        if (::bind(host.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
            return "no packet socket";
        return nullptr;
    }
    void send(Bytes frame) const {
        if (host)
            (void)!::send(host.get(), frame.data(), frame.size(), MSG_DONTWAIT);
    }
};

class NoWires final : public machine::Interrupts {
public:
    void set_level(unsigned, bool) override {}
    bool send_msi(std::uint64_t address, std::uint32_t) override { return address >> 20 == 0xfee; }
};

// Stands where a guest wants to put its BARs; must stay what it is.
class Marked final : public machine::Device {
public:
    std::string_view name() const override { return "marked"; }
    void read(std::uint64_t, MutableBytes data) override {
        std::fill(data.begin(), data.end(), std::uint8_t{0x77});
    }
    void write(std::uint64_t, Bytes) override {}
};

struct Devices {
    using Space = machine::Space;
    using Transport = machine::virtio::PciTransport;
    static constexpr machine::Gpa low_end = 0x40000, high_start = 0x80000, high_end = 0xc0000;
    static constexpr std::uint64_t image_bytes = 64 * KiB;
    static constexpr std::uint64_t own_port = 0x1500, own_memory = 0xe0100000;

    machine::GuestMemory memory;
    Loop loop;
    machine::Bus bus;
    NoWires wires;
    Marked marked;
    Wire wire;
    std::unique_ptr<disk::Image> image;
    std::unique_ptr<machine::LoopClock> clock;
    std::unique_ptr<machine::PciHost> host;
    std::vector<Transport*> transports;
    std::vector<machine::virtio::Block*> blocks;
    machine::virtio::ConsolePort* console = nullptr;
    unsigned vmmci_slot = 0;
    bool legacy = false; // transitional devices

    Devices() {
        log::set_level("", log::Level::error);
        must(memory.add(0, low_end, true).has_value());
        must(memory.add(high_start, high_end - high_start, true).has_value());
        Fd file(::memfd_create("image", MFD_CLOEXEC));
        must(::ftruncate(file.get(), image_bytes) == 0);
        auto opened = disk::Image::open_raw(std::move(file), false, "image");
        must(opened.has_value());
        image = std::move(*opened);
        auto made = machine::LoopClock::create(loop, bus.lock());
        must(made.has_value());
        clock = std::move(*made);
        must(bus.insert(Space::port, own_port, 16, marked).has_value());
        must(bus.insert(Space::memory, own_memory, 4096, marked).has_value());
    }
    ~Devices() { take_down(); }

    void take_down() {
        if (host)
            bus.remove(Space::port, 0xcf8);
        host.reset();
        transports.clear();
        blocks.clear();
    }
    // Fresh devices; memory and image stay.
    void build(bool transitional) {
        take_down();
        legacy = transitional;
        host = std::make_unique<machine::PciHost>(bus, wires);
        must(bus.insert(Space::port, 0xcf8, 8, *host).has_value());
        add(std::make_unique<machine::virtio::Rng>("rng"));
        auto block = std::make_unique<machine::virtio::Block>(
            machine::virtio::Block::Settings{.name = "disk", .serial = "serial", .queues = 2},
            *image, loop, bus.lock(), *clock);
        blocks.push_back(block.get());
        add(std::move(block));
        auto port = std::make_unique<machine::virtio::ConsolePort>(
            "console", bus.lock(), machine::virtio::ConsolePort::Hooks{[](Bytes) {}, [] {}});
        console = port.get();
        add(std::move(port));
        if (wire.tap) {
            const Mac mac{{0xfe, 0xe1, 0xbb, 0xd1, 0, 1}};
            auto net = machine::virtio::Net::create(
                {.name = "nic", .taps = {wire.tap.get()}, .mac = mac}, loop, bus.lock(), *clock);
            must(net.has_value());
            add(std::move(*net));
        }
        machine::virtio::Vmmci::Hooks hooks{[] {}, [](bool) {}};
        auto vmmci =
            host->add(std::make_unique<machine::virtio::Vmmci>("vmmci", *clock, std::move(hooks)));
        must(vmmci.has_value());
        vmmci_slot = *vmmci;
        host->place_bars();
    }
    void add(std::unique_ptr<machine::virtio::VirtioDevice> device) {
        auto made = std::make_unique<Transport>(
            std::move(device), memory, loop, bus.lock(), nullptr,
            legacy ? Transport::Interface::transitional : Transport::Interface::modern);
        made->set_interrupt(10);
        transports.push_back(made.get());
        must(host->add(std::move(made)).has_value());
    }

    unsigned count() const { return static_cast<unsigned>(transports.size()); }
    unsigned register_bar() const { return legacy ? 2 : 0; }

    // Until nothing is under way.
    void drain() {
        for (int i = 0; i < 4; ++i)
            loop.run_once(false);
        while (blocks[0]->outstanding() != 0)
            loop.run_once(true);
        loop.run_once(false);
    }

    // ---- as the guest

    std::uint32_t config_read(unsigned slot, unsigned offset) {
        out(0xcf8, 0x80000000U | slot << 11 | (offset & 0xfc));
        std::uint8_t raw[4];
        bus.read(Space::port, 0xcfc, raw);
        return load_le<std::uint32_t>(Bytes(raw));
    }
    void config_write(unsigned slot, unsigned offset, std::uint32_t value) {
        out(0xcf8, 0x80000000U | slot << 11 | (offset & 0xfc));
        out(0xcfc, value);
    }
    void out(std::uint64_t port, std::uint32_t value) {
        std::uint8_t raw[4];
        store_le(raw, value);
        bus.write(Space::port, port, raw);
    }
    // Where the guest has put a BAR, so that accesses still meet something after it moved.
    std::uint64_t bar(unsigned slot, unsigned index) {
        auto value = config_read(slot, 0x10 + 4 * index);
        return value & (value & 1 ? ~3U : ~15U);
    }
    template <WireInteger T>
    void write(unsigned device, std::uint64_t offset, T value) {
        std::uint8_t raw[sizeof(T)];
        store_le<T>(raw, value);
        bus.write(Space::memory, bar(device + 1, register_bar()) + offset, raw);
    }
    template <WireInteger T>
    T read(unsigned device, std::uint64_t offset) {
        std::uint8_t raw[sizeof(T)];
        bus.read(Space::memory, bar(device + 1, register_bar()) + offset, raw);
        return load_le<T>(raw);
    }
    template <WireInteger T>
    void write_legacy(unsigned device, std::uint64_t offset, T value) {
        std::uint8_t raw[sizeof(T)];
        store_le<T>(raw, value);
        bus.write(Space::port, bar(device + 1, 0) + offset, raw);
    }

    // What every story ends with: others have kept their places.
    void check_places() {
        std::uint8_t port = 0, byte = 0;
        bus.read(Space::port, own_port + 3, {&port, 1});
        bus.read(Space::memory, own_memory + 3, {&byte, 1});
        must(port == 0x77 && byte == 0x77);
    }
};

} // namespace vmhost::fuzz
