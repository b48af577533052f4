// A machine for fuzzing: memory, bus, a PCI host, and the virtio devices that need nothing from
// outside. No processor; the fuzzer is the guest.
#pragma once

#include <cstdlib>

#include <sys/mman.h>

#include "../../unit/machine/fake_clock.h"
#include "loop/loop.h"
#include "machine/pci.h"
#include "machine/virtio/block.h"
#include "machine/virtio/pci_transport.h"
#include "machine/virtio/rng.h"

namespace vmhost::fuzz {

class NoWires final : public machine::Interrupts {
public:
    void set_level(unsigned, bool) override {}
    bool send_msi(std::uint64_t address, std::uint32_t) override { return address >> 20 == 0xfee; }
};

struct Machine {
    static constexpr machine::Gpa low_end = 0x40000, high_start = 0x80000, high_end = 0xc0000;
    static constexpr std::uint64_t image_bytes = 64 * KiB;

    machine::GuestMemory memory;
    Loop loop;
    machine::Bus bus;
    machine::FakeClock clock;
    NoWires wires;
    std::unique_ptr<disk::Image> image;
    std::unique_ptr<machine::PciHost> host;
    std::vector<machine::virtio::PciTransport*> transports;
    std::vector<machine::virtio::Block*> blocks;

    Machine() {
        must(memory.add(0, low_end, true).has_value());
        must(memory.add(high_start, high_end - high_start, true).has_value());
        Fd file(::memfd_create("image", MFD_CLOEXEC));
        must(::ftruncate(file.get(), image_bytes) == 0);
        auto opened = disk::Image::open_raw(std::move(file), false, "image");
        must(opened.has_value());
        image = std::move(*opened);
        build();
    }
    ~Machine() { host.reset(); }

    // Fresh devices; memory and image stay.
    void build() {
        host.reset();
        transports.clear();
        blocks.clear();
        host = std::make_unique<machine::PciHost>(bus, wires);
        auto block = std::make_unique<machine::virtio::Block>(
            machine::virtio::Block::Settings{.name = "disk", .serial = "serial", .queues = 2},
            *image, loop, bus.lock(), clock);
        blocks.push_back(block.get());
        add(std::move(block));
        add(std::make_unique<machine::virtio::Rng>("rng"));
        host->place_bars();
    }
    void add(std::unique_ptr<machine::virtio::VirtioDevice> device) {
        auto made = std::make_unique<machine::virtio::PciTransport>(std::move(device), memory, loop,
                                                                    bus.lock(), nullptr);
        made->set_interrupt(10);
        transports.push_back(made.get());
        must(host->add(std::move(made)).has_value());
    }
    // Until all requests are done.
    void drain() {
        for (int i = 0; i < 4; ++i)
            loop.run_once(false);
        while (blocks[0]->outstanding() != 0)
            loop.run_once(true);
        loop.run_once(false);
    }
    static void must(bool good) {
        if (!good)
            std::abort();
    }
    // Where the guest has put a BAR, so that accesses still meet something after it moved.
    std::uint64_t bar(unsigned device, unsigned index = 0) const {
        std::uint8_t raw[4];
        host->at(device + 1)->read_config(0x10 + 4 * index, raw);
        return load_le<std::uint32_t>(Bytes(raw)) & ~0xfU;
    }
    // As a driver does it: MSI-X on, vector 1 filled in, the queue on some vector.
    void use_vectors(unsigned device, std::uint8_t how) {
        auto& function = *host->at(device + 1);
        auto byte = [&](unsigned at) {
            std::uint8_t value = 0;
            function.read_config(at, {&value, 1});
            return value;
        };
        unsigned at = byte(0x34);
        while (byte(at) != 0x11)
            at = byte(at + 1);
        std::uint8_t raw[4];
        store_le<std::uint16_t>(raw, static_cast<std::uint16_t>((how & 3) << 14));
        function.write_config(at + 2, Bytes(raw).first(2));
        auto set = [&](unsigned offset, std::uint32_t value) {
            store_le<std::uint32_t>(raw, value);
            bus.write(machine::Space::memory, bar(device, 1) + offset, raw);
        };
        set(16, 0xfee00000);
        set(28, 0);
        write<std::uint16_t>(device, 26, how >> 4);
    }
    template <WireInteger T>
    void write(unsigned device, std::uint64_t offset, T value) {
        std::uint8_t raw[sizeof(T)];
        store_le<T>(raw, value);
        bus.write(machine::Space::memory, bar(device) + offset, raw);
    }
    template <WireInteger T>
    T read(unsigned device, std::uint64_t offset) {
        std::uint8_t raw[sizeof(T)];
        bus.read(machine::Space::memory, bar(device) + offset, raw);
        return load_le<T>(raw);
    }
};

} // namespace vmhost::fuzz
