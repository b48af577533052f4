// PCI bus 0 with configuration mechanism #1 (ports 0xcf8 and 0xcfc): slots of one to
// eight functions (PCI Local Bus Specification 3.0, sections 3.2 and 6).
//
// Threads: under the device lock of the Bus.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/msix.h"

namespace vmhost::machine {

class PciFunction {
public:
    static constexpr std::size_t config_bytes = 256;
    static constexpr std::size_t bar_count = 6;
    struct Identity {
        std::uint16_t vendor = 0, device = 0, subsystem_vendor = 0, subsystem = 0;
        std::uint8_t revision = 0, base_class = 0, subclass = 0, interface = 0;
    };

    PciFunction(std::string name, const Identity& identity);
    virtual ~PciFunction() = default;
    const std::string& name() const { return name_; }

    // offset and size are inside the 256 bytes and naturally aligned to size 1, 2 or 4.
    virtual void read_config(unsigned offset, MutableBytes data);
    virtual void write_config(unsigned offset, Bytes data);

    // Called while the machine is built. size is a power of two; the handler is inserted into
    // the bus whenever the guest (or place_bars) has given the BAR an address and enabled
    // decoding in the command register.
    void add_bar(unsigned index, Space space, std::uint32_t size, Device& handler);
    // Called while the machine is built: what firmware finds in the expansion ROM, padded with ones
    // to a power of two.
    void add_rom(std::vector<std::uint8_t> content);
    // Appends a capability; body begins after the two bytes id and next. Returns its offset, or 0
    // when the 256 bytes are full.
    unsigned add_capability(std::uint8_t id, Bytes body);
    // INTA on this interrupt line (the PCI interrupt line register) and controller input. The
    // register is read-only: the wiring is fixed, and SeaBIOS would write what a PIIX3 routes.
    void set_interrupt(std::uint8_t line);
    std::uint8_t interrupt_line() const { return config_[0x3c]; }
    // While the guest has MSI-X enabled the line stays down, whatever is asked here.
    void raise_interrupt(bool level);

    // Called while the machine is built: gives the function MSI-X with this many vectors, in a
    // memory BAR of its own.
    void add_msix(unsigned bar, unsigned vectors);
    // Null without add_msix.
    const MsixTable* msix() const { return msix_.get(); }
    bool msix_enabled() const;
    // Sends the message of a vector; of one that is not there, nothing.
    void send_message(unsigned vector);
    bool bus_master() const { return config_[4] & 4; }
    // Where the bus decodes a BAR; nothing while it does not, whatever the register says.
    std::optional<std::uint32_t> decoded_base(unsigned bar) const;
    std::uint32_t vendor_and_device() const { return load_le<std::uint32_t>(config_); }

    // What the guest has written, BARs and MSI-X. Into a fresh function on a bus whose functions
    // are the same; a device adds its own, and says again what its interrupt line asks.
    virtual void state(StateArchive& archive);

protected:
    // Some BAR is decoded now that was not, or elsewhere, or no longer.
    virtual void decoding_changed() {}
    // The messages of vectors, or whether they may be sent, may be others than before.
    virtual void messages_changed() {}
    MutableBytes config() { return config_; }
    // More bits of the configuration that the guest may write; the rest is read-only.
    void allow_writes(unsigned offset, Bytes mask);

private:
    friend class PciHost;
    struct Bar {
        Space space = Space::port;
        std::uint32_t size = 0; // 0 = not there
        Device* handler = nullptr;
        bool decoded = false;
        bool refused = false;   // wanted at base, but the bus has something there
        std::uint32_t base = 0; // where it is decoded or was refused
    };
    // Behind the BARs stands the one of the expansion ROM, which has a bit of its own to enable it.
    static constexpr unsigned rom_bar = bar_count;
    static unsigned bar_offset(unsigned index) {
        return index == rom_bar ? 0x30 : 0x10 + 4 * index;
    }
    // Where the guest wants the BAR decoded, if anywhere.
    std::optional<std::uint32_t> wanted_base(unsigned index) const;
    void update_decoding();
    bool release_bars(); // true when a BAR was given back
    bool claim_bars();   // true when a BAR was taken
    void update_interrupt();
    void update_messages();

    std::string name_;
    std::array<std::uint8_t, config_bytes> config_{};
    std::array<std::uint8_t, config_bytes> writable_{};
    std::array<Bar, bar_count + 1> bars_{};
    std::unique_ptr<Device> rom_;
    unsigned next_capability_ = 0x40;
    unsigned last_capability_ = 0x34;
    std::unique_ptr<MsixTable> msix_;
    unsigned msix_capability_ = 0;
    Bus* bus_ = nullptr;
    Interrupts* interrupts_ = nullptr;
    std::uint8_t input_ = 0; // of the interrupt controller
    bool level_ = false;     // what the device asks for
    bool driven_ = false; // what the wire carries: level_ unless the command register disables it
    std::uint64_t refused_placements_ = 0;
    bool complained_ = false;
};

// Owns the functions in slot order; slot 0 is the host bridge that it makes itself. Whoever
// builds the machine inserts it at ports 0xcf8..0xcff and keeps the bus longer than the host.
class PciHost final : public Device {
public:
    PciHost(Bus& bus, Interrupts& interrupts);
    ~PciHost() override;

    // The next free slot; fails beyond 31.
    Result<unsigned> add(std::unique_ptr<PciFunction> function);
    // The next function of a slot that add() has given out; fails beyond 8. Returns the slot.
    Result<unsigned> add_beside(unsigned slot, std::unique_ptr<PciFunction> function);
    PciFunction* at(unsigned slot, unsigned function = 0) const;

    // What firmware would do, for guests that boot without it: gives each BAR an address
    // (ports from 0x1000, memory from 0xe0000000) and turns decoding on.
    void place_bars();

    // Called under the device lock, on a vCPU thread, when the guest resets through port 0xcf9.
    void set_reset_handler(std::function<void()> reset) { reset_ = std::move(reset); }
    // The host's own registers; functions are saved one by one. After they have been loaded,
    // place_again() decodes what one of them could not before another one had moved.
    void state(StateArchive& archive);
    void place_again();
    // How often a guest put a BAR where something else is decoded.
    std::uint64_t refused_placements() const;

    std::string_view name() const override { return "pci host"; }
    void read(std::uint64_t offset, MutableBytes data) override; // ports 0xcf8..0xcff
    void write(std::uint64_t offset, Bytes data) override;

private:
    // Several functions may share a line: it is high while any of them asks.
    class SharedLines final : public Interrupts {
    public:
        explicit SharedLines(Interrupts& wires) : wires_(wires) {}
        void set_level(unsigned gsi, bool level) override;
        bool send_msi(std::uint64_t address, std::uint32_t data) override {
            return wires_.send_msi(address, data);
        }

    private:
        Interrupts& wires_;
        std::array<unsigned, 256> asking_{};
    };

    using Slot = std::vector<std::unique_ptr<PciFunction>>; // never empty
    void connect(PciFunction& function);
    template <class Visit>
    void for_each(Visit visit) const {
        for (const auto& slot : slots_)
            for (const auto& function : slot)
                visit(*function);
    }

    std::vector<Slot> slots_;
    Bus& bus_;
    SharedLines interrupts_;
    PciFunction* addressed() const;
    void read_config(unsigned byte, MutableBytes data);
    void write_config(unsigned byte, Bytes data);

    std::function<void()> reset_;
    std::uint32_t address_ = 0;      // port 0xcf8
    std::uint8_t reset_control_ = 0; // port 0xcf9
};

} // namespace vmhost::machine
