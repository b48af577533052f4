// A guest without a processor: memory, bus and PCI of a machine, and a virtio driver that
// touches nothing but what a guest can touch. Interrupt wires and the CPU backend are fakes.
#pragma once

#include <catch2/catch.hpp>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <thread>

#include <unistd.h>

#include "../machine/fake_clock.h"
#include "driver.h"
#include "loop/loop.h"
#include "machine/pci.h"
#include "machine/virtio/pci_transport.h"

namespace vmhost::test {

using machine::Space;
using machine::virtio::PciTransport;

class Wires final : public machine::Interrupts {
public:
    void set_level(unsigned gsi, bool level) override {
        rises += level && !levels[gsi];
        levels[gsi] = level;
    }
    bool send_msi(std::uint64_t address, std::uint32_t data) override {
        if (address >> 20 != 0xfee)
            return false;
        messages.emplace_back(address, data);
        return true;
    }
    std::vector<std::pair<std::uint64_t, std::uint32_t>> messages;
    std::map<unsigned, bool> levels;
    unsigned rises = 0;
};

// Remembers doorbells, and rings them as the kernel would.
class DoorbellBackend final : public machine::Backend {
public:
    const machine::Capabilities& capabilities() const override { return none_; }
    Result<void> map(const machine::GuestMemory::Range&, bool) override { return {}; }
    void unmap(Gpa) override {}
    void ram_written(Gpa, std::uint64_t) override {}
    machine::Interrupts* interrupts() override { return nullptr; }
    Result<std::unique_ptr<machine::Vcpu>> create_vcpu(unsigned, const machine::CpuModel&,
                                                       machine::Bus&) override {
        return fail(ErrorKind::unsupported, "no processor here");
    }
    Result<void> bind_doorbell(Space, std::uint64_t address, unsigned size, int eventfd) override {
        if (!supported)
            return fail(ErrorKind::unsupported, "no doorbells");
        REQUIRE(size == 2);
        REQUIRE(bells.emplace(address, eventfd).second);
        return {};
    }
    void unbind_doorbell(Space, std::uint64_t address, unsigned, int eventfd) override {
        REQUIRE(bells.at(address) == eventfd);
        bells.erase(address);
    }
    bool ring(std::uint64_t address) {
        auto found = bells.find(address);
        std::uint64_t one = 1;
        return found != bells.end() && ::write(found->second, &one, sizeof(one)) == sizeof(one);
    }
    Result<unsigned> bind_message(int eventfd, std::uint64_t address, std::uint32_t data) override {
        if (!supported)
            return fail(ErrorKind::unsupported, "no messages");
        if (address >> 20 != 0xfee)
            return fail(ErrorKind::invalid, "no interrupt there");
        messages[next_message] = {eventfd, data};
        return next_message++;
    }
    void unbind_message(unsigned binding, int eventfd) override {
        REQUIRE(messages.at(binding).first == eventfd);
        messages.erase(binding);
    }
    // What a signal of the eventfd would send.
    std::optional<std::uint32_t> message_of(int eventfd) const {
        for (const auto& [binding, message] : messages)
            if (message.first == eventfd)
                return message.second;
        return std::nullopt;
    }
    bool supported = true;
    std::map<std::uint64_t, int> bells;
    std::map<unsigned, std::pair<int, std::uint32_t>> messages; // eventfd and data
    unsigned next_message = 24;

private:
    machine::Capabilities none_;
};

class Guest {
public:
    static constexpr Gpa ram_bytes = 48 << 20; // seven queues' worth
    static constexpr unsigned interrupt_line = 11;

    using Interface = PciTransport::Interface;

    explicit Guest(std::unique_ptr<machine::virtio::VirtioDevice> device = nullptr,
                   Interface interface = Interface::modern) {
        REQUIRE(memory.add(0, ram_bytes, true));
        REQUIRE(bus.insert(Space::port, 0xcf8, 8, *host));
        if (device)
            add(std::move(device), nullptr, interface);
    }
    ~Guest() {
        host.reset(); // devices go before the loop and the memory
        loop.run_once(false);
    }

    PciTransport& add(std::unique_ptr<machine::virtio::VirtioDevice> device,
                      machine::Backend* backend = nullptr,
                      Interface interface = Interface::modern) {
        auto made = std::make_unique<PciTransport>(std::move(device), memory,
                                                   device_loop ? *device_loop : loop, bus.lock(),
                                                   backend, interface);
        made->set_interrupt(interrupt_line);
        transport = made.get();
        slot = *host->add(std::move(made));
        host->place_bars();
        bool modern = interface == Interface::modern;
        base = config<std::uint32_t>(modern ? 0x10 : 0x18) & ~0xfU;
        REQUIRE(base != 0);
        ports = modern ? 0 : config<std::uint32_t>(0x10) & ~3U;
        return *transport;
    }

    // Configuration space, as mechanism #1 has it.
    template <WireInteger T>
    T config(unsigned offset) {
        select(offset);
        return in<T>(0xcfc + offset % 4);
    }
    template <WireInteger T>
    void set_config(unsigned offset, T value) {
        select(offset);
        std::uint8_t raw[sizeof(T)];
        store_le<T>(raw, value);
        bus.write(Space::port, 0xcfc + offset % 4, raw);
    }
    // The BAR.
    template <WireInteger T>
    T read(std::uint64_t offset) {
        std::uint8_t raw[sizeof(T)];
        bus.read(Space::memory, base + offset, raw);
        return load_le<T>(raw);
    }
    template <WireInteger T>
    void write(std::uint64_t offset, T value) {
        std::uint8_t raw[sizeof(T)];
        store_le<T>(raw, value);
        bus.write(Space::memory, base + offset, raw);
    }

    std::uint8_t status() { return read<std::uint8_t>(20); }
    void set_status(std::uint8_t value) { write<std::uint8_t>(20, value); }
    std::uint64_t offered() {
        write<std::uint32_t>(0, 0);
        std::uint64_t low = read<std::uint32_t>(4);
        write<std::uint32_t>(0, 1);
        return low | std::uint64_t{read<std::uint32_t>(4)} << 32;
    }
    void accept(std::uint64_t features) {
        write<std::uint32_t>(8, 0);
        write<std::uint32_t>(12, static_cast<std::uint32_t>(features));
        write<std::uint32_t>(8, 1);
        write<std::uint32_t>(12, static_cast<std::uint32_t>(features >> 32));
    }
    void set_address(unsigned offset, Gpa address) {
        write<std::uint32_t>(offset, static_cast<std::uint32_t>(address));
        write<std::uint32_t>(offset + 4, static_cast<std::uint32_t>(address >> 32));
    }
    RingDriver& make_queue(std::uint16_t index) {
        write<std::uint16_t>(22, index);
        auto size = read<std::uint16_t>(24);
        REQUIRE(size != 0);
        Gpa at = 0x10000 + 0x10000ULL * index;
        auto driver =
            std::make_unique<RingDriver>(memory, at, size, 0x100000 + 0x600000ULL * index);
        set_address(32, driver->addresses().descriptors);
        set_address(40, driver->addresses().available);
        set_address(48, driver->addresses().used);
        write<std::uint16_t>(28, 1);
        REQUIRE(read<std::uint16_t>(28) == 1);
        queues[index] = std::move(driver);
        return *queues[index];
    }
    // The whole way of section 3.1.1.
    void start(std::uint64_t refuse = 0) {
        reset();
        set_status(1);
        set_status(1 | 2);
        accept(offered() & ~refuse);
        set_status(1 | 2 | 8);
        REQUIRE(status() == (1 | 2 | 8));
        for (std::uint16_t i = 0; i < read<std::uint16_t>(18); ++i)
            make_queue(i);
        set_status(1 | 2 | 8 | 4);
        REQUIRE(status() == 15);
    }
    // The legacy registers of a transitional device.
    template <WireInteger T>
    T read_port(std::uint64_t offset) {
        return in<T>(ports + offset);
    }
    template <WireInteger T>
    void write_port(std::uint64_t offset, T value) {
        std::uint8_t raw[sizeof(T)];
        store_le<T>(raw, value);
        bus.write(Space::port, ports + offset, raw);
    }
    RingDriver& make_legacy_queue(std::uint16_t index) {
        write_port<std::uint16_t>(14, index);
        auto size = read_port<std::uint16_t>(12);
        REQUIRE(size != 0);
        Gpa at = 0x10000 + 0x10000ULL * index;
        queues[index] =
            std::make_unique<RingDriver>(memory, at, size, 0x100000 + 0x600000ULL * index);
        write_port<std::uint32_t>(8, static_cast<std::uint32_t>(at / 4096));
        REQUIRE(read_port<std::uint32_t>(8) == at / 4096);
        return *queues[index];
    }
    // The way of 3.1.2's legacy interface.
    void start_legacy(std::uint16_t queue_count = 1, std::uint32_t refuse = 0) {
        write_port<std::uint8_t>(18, 0);
        settle([&] { return read_port<std::uint8_t>(18) == 0; });
        write_port<std::uint8_t>(18, 1);
        write_port<std::uint8_t>(18, 3);
        write_port<std::uint32_t>(4, read_port<std::uint32_t>(0) & ~refuse);
        for (std::uint16_t i = 0; i < queue_count; ++i)
            make_legacy_queue(i);
        write_port<std::uint8_t>(18, 7);
    }
    void notify_legacy(std::uint16_t index = 0) { write_port<std::uint16_t>(16, index); }
    // Writes zero and waits for it to be read, as drivers do.
    void reset() {
        set_status(0);
        settle([&] { return status() == 0; });
    }
    RingDriver& queue(std::uint16_t index = 0) { return *queues.at(index); }
    void notify(std::uint16_t index = 0) {
        write<std::uint16_t>(PciTransport::notify_offset + 4 * index, index);
    }
    // Serves the loop until the condition holds; five seconds are far more than it takes.
    void settle(const std::function<bool()>& condition) {
        auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
        while (!condition()) {
            if (std::chrono::steady_clock::now() > end)
                FAIL("nothing happened for five seconds");
            loop.run_once(false);
            std::this_thread::yield();
        }
    }
    // Everything that can happen now has happened.
    void turn() {
        for (int i = 0; i < 5; ++i)
            loop.run_once(false);
    }
    Used wait_used(std::uint16_t index = 0) {
        std::optional<Used> got;
        settle([&] { return (got = queue(index).used()).has_value(); });
        return *got;
    }
    // MSI-X: a capability's offset, and the way of section 6.8.2 of the PCI specification.
    unsigned capability(std::uint8_t id) {
        unsigned at = config<std::uint8_t>(0x34);
        while (at != 0 && config<std::uint8_t>(at) != id)
            at = config<std::uint8_t>(at + 1);
        return at;
    }
    void set_msix_control(std::uint16_t value) {
        set_config<std::uint16_t>(capability(0x11) + 2, value);
    }
    std::uint64_t msix_table() {
        auto bar = config<std::uint32_t>(capability(0x11) + 4) & 7;
        return config<std::uint32_t>(0x10 + 4 * bar) & ~0xfU;
    }
    template <WireInteger T>
    T read_table(std::uint64_t offset) {
        std::uint8_t raw[sizeof(T)];
        bus.read(Space::memory, msix_table() + offset, raw);
        return load_le<T>(raw);
    }
    template <WireInteger T>
    void write_table(std::uint64_t offset, T value) {
        std::uint8_t raw[sizeof(T)];
        store_le<T>(raw, value);
        bus.write(Space::memory, msix_table() + offset, raw);
    }
    // Vector v sends data 0x40 + v, unmasked.
    void fill_vector(unsigned vector, bool masked = false) {
        write_table<std::uint64_t>(16 * vector, 0xfee00000);
        write_table<std::uint32_t>(16 * vector + 8, 0x40 + vector);
        write_table<std::uint32_t>(16 * vector + 12, masked);
    }

    bool line() { return wires.levels[interrupt_line]; }

    machine::GuestMemory memory;
    machine::FakeClock clock;
    Loop loop;
    machine::Bus bus;
    Wires wires;
    std::unique_ptr<machine::PciHost> host = std::make_unique<machine::PciHost>(bus, wires);
    Loop* device_loop = nullptr; // null: the same
    PciTransport* transport = nullptr;
    unsigned slot = 0;
    std::uint64_t base = 0;  // of the modern registers
    std::uint64_t ports = 0; // of the legacy ones, 0 = none
    std::map<std::uint16_t, std::unique_ptr<RingDriver>> queues;

private:
    void select(unsigned offset) {
        std::uint8_t raw[4];
        store_le<std::uint32_t>(raw, 0x80000000U | slot << 11 | (offset & 0xfc));
        bus.write(Space::port, 0xcf8, raw);
    }
    template <WireInteger T>
    T in(std::uint64_t port) {
        std::uint8_t raw[sizeof(T)];
        bus.read(Space::port, port, raw);
        return load_le<T>(raw);
    }
};

} // namespace vmhost::test
