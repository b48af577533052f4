// PCI: configuration space of devices and the host bridge's two windows into it.
//
// Follows the PCI Local Bus Specification 3.0: section 3.2.2.3.2 (configuration
// mechanism #1), 6.1 and 6.2 (header, command and status), 6.2.5 (base address
// registers), 6.7 (capabilities), 6.8.2 (MSI-X). Port 0xcf9 is the reset control register of
// Intel's PIIX3 and later.
//
// A configuration byte is storage behind a write mask; that alone gives BARs their
// sizing answer (all-ones reads back as ~(size - 1)) and makes partial writes right.
// A BAR is decoded, that is: inserted into the bus, while its command bit is set
// and its address makes sense. Not decoded are address 0 (never programmed), a range
// that reaches the last byte of the 32-bit space (what sizing writes), and ports
// beyond 64 KiB. A guest may put one BAR on top of another device; the bus refuses,
// the BAR waits undecoded and is tried again whenever any BAR moves, so the order in
// which a guest rearranges its BARs does not matter.
//
// The host bridge answers as QEMU's i440FX does, because SeaBIOS decides by vendor,
// device and subsystem ids of 00:00.0 whether fw_cfg and CMOS can be trusted. Its PAM
// registers (0x59..0x5f) and SMRAM control (0x72) are storage only: the area below
// 1 MiB is plain RAM here.
//
// Threads: everything under the device lock of the Bus.
#include "machine/pci.h"

#include <algorithm>
#include <bit>

namespace vmhost::machine {

namespace {

constexpr unsigned command_offset = 0x04;
constexpr unsigned status_offset = 0x06;
constexpr unsigned end_of_bars = 0x34; // with the expansion ROM
constexpr std::uint16_t command_io = 1 << 0;
constexpr std::uint16_t command_memory = 1 << 1;
constexpr std::uint16_t command_master = 1 << 2;
constexpr std::uint16_t command_parity = 1 << 6;
constexpr std::uint16_t command_serr = 1 << 8;
constexpr std::uint16_t command_no_interrupt = 1 << 10;
constexpr std::uint8_t status_interrupt = 1 << 3;
constexpr std::uint8_t status_capabilities = 1 << 4;
constexpr std::uint32_t rom_enable = 1;
constexpr std::uint8_t capability_msix = 0x11;
constexpr std::uint16_t msix_enable = 1 << 15, msix_function_mask = 1 << 14;
constexpr std::uint8_t reset_cpu = 1 << 2;
constexpr std::size_t slot_count = 32, function_count = 8;
constexpr unsigned header_type_offset = 0x0e;
constexpr std::uint8_t header_several_functions = 1 << 7;
constexpr std::uint32_t enable_bit = 1U << 31;
constexpr std::uint32_t reserved_address_bits = 0x7f000000;

// Where place_bars() puts things; the I/O APIC ends the memory window.
constexpr std::uint64_t first_port = 0x1000, end_of_ports = 0x10000;
constexpr std::uint64_t first_memory = 0xe0000000, end_of_memory = 0xfec00000;

void fill_ones(MutableBytes data) {
    std::ranges::fill(data, std::uint8_t{0xff});
}

const char* name_of(Space space) {
    return space == Space::port ? "port" : "memory";
}

class HostBridge final : public PciFunction {
public:
    HostBridge()
        : PciFunction("host bridge", {.vendor = 0x8086,
                                      .device = 0x1237,
                                      .subsystem_vendor = 0x1af4,
                                      .subsystem = 0x1100,
                                      .revision = 2,
                                      .base_class = 0x06,
                                      .subclass = 0x00}) {
        constexpr std::array<std::uint8_t, 7> pam = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
        constexpr std::array<std::uint8_t, 1> smram = {0xff};
        allow_writes(0x59, pam);
        allow_writes(0x72, smram);
        config()[0x72] = 0x02; // the compatible SMRAM segment, closed
    }
};

// Reads only, as ROM does it.
class ExpansionRom final : public Device {
public:
    ExpansionRom(std::string name, std::vector<std::uint8_t> content)
        : name_(std::move(name)), content_(std::move(content)) {}
    std::string_view name() const override { return name_; }
    void read(std::uint64_t offset, MutableBytes data) override {
        for (std::size_t i = 0; i < data.size(); i++)
            data[i] = offset + i < content_.size() ? content_[offset + i] : 0xff;
    }
    void write(std::uint64_t, Bytes) override {}

private:
    std::string name_;
    std::vector<std::uint8_t> content_;
};

} // namespace

PciFunction::PciFunction(std::string name, const Identity& identity) : name_(std::move(name)) {
    auto put = [&](unsigned offset, std::uint16_t value) {
        store_le(MutableBytes(config_).subspan(offset), value);
    };
    put(0x00, identity.vendor);
    put(0x02, identity.device);
    config_[0x08] = identity.revision;
    config_[0x09] = identity.interface;
    config_[0x0a] = identity.subclass;
    config_[0x0b] = identity.base_class;
    put(0x2c, identity.subsystem_vendor);
    put(0x2e, identity.subsystem);

    store_le<std::uint16_t>(MutableBytes(writable_).subspan(command_offset),
                            command_io | command_memory | command_master | command_parity |
                                command_serr | command_no_interrupt);
    writable_[0x0c] = 0xff; // cache line size
    writable_[0x0d] = 0xff; // latency timer
}

void PciFunction::read_config(unsigned offset, MutableBytes data) {
    if (!range_fits(offset, data.size(), config_bytes)) {
        fill_ones(data);
        return;
    }
    std::ranges::copy(Bytes(config_).subspan(offset, data.size()), data.begin());
}

void PciFunction::write_config(unsigned offset, Bytes data) {
    if (!range_fits(offset, data.size(), config_bytes))
        return;
    for (std::size_t i = 0; i < data.size(); i++) {
        auto mask = writable_[offset + i];
        auto& byte = config_[offset + i];
        byte = static_cast<std::uint8_t>((byte & ~mask) | (data[i] & mask));
    }
    if (offset < end_of_bars) {
        update_decoding();
        update_messages();
        update_interrupt();
    } else if (msix_ && offset < msix_capability_ + 4 && offset + data.size() > msix_capability_) {
        update_messages();
        update_interrupt();
    }
}

void PciFunction::add_bar(unsigned index, Space space, std::uint32_t size, Device& handler) {
    if (index >= bar_count || bars_[index].size != 0) {
        log::error("pci", "{}: bar {} cannot be added", name_, index);
        return;
    }
    // The smallest BARs that the register's type bits leave room for.
    size = std::bit_ceil(std::clamp(size, space == Space::port ? 4U : 16U, 1U << 31));
    bars_[index] = {.space = space, .size = size, .handler = &handler};
    config_[bar_offset(index)] = space == Space::port ? 1 : 0;
    store_le(MutableBytes(writable_).subspan(bar_offset(index)), ~(size - 1));
}

void PciFunction::add_rom(std::vector<std::uint8_t> content) {
    constexpr std::size_t smallest = 2 * KiB, largest = 16 * MiB; // PCI 3.0, 6.2.5.2
    if (content.empty() || content.size() > largest || rom_) {
        log::error("pci", "{}: a ROM of {} bytes cannot be added", name_, content.size());
        return;
    }
    auto size = static_cast<std::uint32_t>(std::bit_ceil(std::max(content.size(), smallest)));
    rom_ = std::make_unique<ExpansionRom>(name_ + " rom", std::move(content));
    bars_[rom_bar] = {.space = Space::memory, .size = size, .handler = rom_.get()};
    store_le(MutableBytes(writable_).subspan(bar_offset(rom_bar)), ~(size - 1) | rom_enable);
}

unsigned PciFunction::add_capability(std::uint8_t id, Bytes body) {
    auto offset = next_capability_;
    if (!range_fits(offset, body.size() + 2, config_bytes)) {
        log::error("pci", "{}: no room for capability {:#04x} of {} bytes", name_, id,
                   body.size() + 2);
        return 0;
    }
    config_[offset] = id;
    config_[offset + 1] = 0;
    std::ranges::copy(body, config_.begin() + offset + 2);
    // The head of the list is the pointer at 0x34, a link is the second byte of a capability.
    config_[last_capability_] = static_cast<std::uint8_t>(offset);
    config_[status_offset] |= status_capabilities;
    last_capability_ = offset + 1;
    next_capability_ = static_cast<unsigned>(offset + body.size() + 2 + 3) & ~3U;
    return offset;
}

void PciFunction::allow_writes(unsigned offset, Bytes mask) {
    if (!range_fits(offset, mask.size(), config_bytes))
        return;
    for (std::size_t i = 0; i < mask.size(); i++)
        writable_[offset + i] |= mask[i];
}

void PciFunction::set_interrupt(std::uint8_t line) {
    config_[0x3c] = line;
    config_[0x3d] = 1; // INTA
    input_ = line;
}

void PciFunction::raise_interrupt(bool level) {
    level_ = level;
    auto& status = config_[status_offset];
    status =
        static_cast<std::uint8_t>(level ? status | status_interrupt : status & ~status_interrupt);
    update_interrupt();
}

void PciFunction::add_msix(unsigned bar, unsigned vectors) {
    msix_ = std::make_unique<MsixTable>(name_ + " msix", vectors);
    msix_->on_change([this] { messages_changed(); });
    add_bar(bar, Space::memory, msix_->bar_bytes(), *msix_);
    ByteWriter body;
    body.le(static_cast<std::uint16_t>(msix_->vectors() - 1));
    body.le<std::uint32_t>(bar); // table at offset 0
    body.le<std::uint32_t>(msix_->pending_offset() | bar);
    msix_capability_ = add_capability(capability_msix, body.buffer());
    constexpr std::uint8_t control[2] = {0, (msix_enable | msix_function_mask) >> 8};
    allow_writes(msix_capability_ + 2, control);
}

bool PciFunction::msix_enabled() const {
    return msix_ &&
           load_le<std::uint16_t>(Bytes(config_).subspan(msix_capability_ + 2)) & msix_enable;
}

void PciFunction::send_message(unsigned vector) {
    if (msix_enabled())
        msix_->raise(vector);
}

void PciFunction::update_messages() {
    if (!msix_)
        return;
    auto control = load_le<std::uint16_t>(Bytes(config_).subspan(msix_capability_ + 2));
    msix_->control(control & msix_enable, !(control & msix_function_mask) && bus_master());
    messages_changed();
}

void PciFunction::update_interrupt() {
    auto command = load_le<std::uint16_t>(Bytes(config_).subspan(command_offset));
    bool drive = level_ && !(command & command_no_interrupt) && !msix_enabled();
    if (drive == driven_ || interrupts_ == nullptr || config_[0x3d] == 0)
        return;
    driven_ = drive;
    interrupts_->set_level(input_, drive);
}

std::optional<std::uint32_t> PciFunction::wanted_base(unsigned index) const {
    const auto& bar = bars_[index];
    bool port = bar.space == Space::port;
    if (bar.size == 0 || !(config_[command_offset] & (port ? command_io : command_memory)))
        return std::nullopt;
    auto base = load_le<std::uint32_t>(Bytes(config_).subspan(bar_offset(index))) & ~(bar.size - 1);
    std::uint64_t limit = port ? 0x10000 : 0xffffffff;
    if (base == 0 || !range_fits(base, bar.size, limit) ||
        (index == rom_bar && !(config_[bar_offset(rom_bar)] & rom_enable)))
        return std::nullopt;
    return base;
}

std::optional<std::uint32_t> PciFunction::decoded_base(unsigned bar) const {
    return bars_[bar].decoded ? std::optional(bars_[bar].base) : std::nullopt;
}

void PciFunction::update_decoding() {
    bool released = release_bars();
    bool claimed = claim_bars();
    if (released || claimed)
        decoding_changed();
}

// All that moved goes before anything comes: two BARs of one device may change places.
bool PciFunction::release_bars() {
    bool changed = false;
    for (unsigned i = 0; i < bars_.size(); i++) {
        auto& bar = bars_[i];
        if ((bar.decoded || bar.refused) && wanted_base(i) != bar.base) {
            if (bar.decoded)
                bus_->remove(bar.space, bar.base);
            changed = changed || bar.decoded;
            bar.decoded = bar.refused = false;
        }
    }
    return changed;
}

bool PciFunction::claim_bars() {
    bool changed = false;
    if (bus_ == nullptr)
        return changed;
    for (unsigned i = 0; i < bars_.size(); i++) {
        auto& bar = bars_[i];
        auto base = wanted_base(i);
        if (!base || bar.decoded)
            continue;
        bar.base = *base;
        auto inserted = bus_->insert(bar.space, *base, bar.size, *bar.handler);
        bar.decoded = inserted.has_value();
        changed = changed || bar.decoded;
        if (bar.decoded || bar.refused)
            continue;
        bar.refused = true;
        refused_placements_++;
        if (!complained_)
            log::notice("pci", "{}: guest put bar {} at {} {:#x}, where it cannot be decoded: {}",
                        name_, i, name_of(bar.space), *base, inserted.error().text());
        complained_ = true;
    }
    return changed;
}

// Only what a guest may write is taken over; a function that is another one is refused.
void PciFunction::state(StateArchive& archive) {
    archive.same(vendor_and_device(), "PCI vendor and device");
    auto config = config_;
    archive(config);
    if (archive.loading() && archive.ok()) {
        for (std::size_t at = 0; at < config_bytes; ++at)
            config_[at] = static_cast<std::uint8_t>((config_[at] & ~writable_[at]) |
                                                    (config[at] & writable_[at]));
        update_decoding();
        update_messages();
        update_interrupt();
    }
    if (msix_)
        msix_->state(archive);
}

// Each function reports changes only, so counting is enough.
void PciHost::SharedLines::set_level(unsigned gsi, bool level) {
    auto& count = asking_[gsi % asking_.size()];
    count = level ? count + 1 : count - 1;
    if (count == (level ? 1U : 0U))
        wires_.set_level(gsi, level);
}

PciHost::PciHost(Bus& bus, Interrupts& interrupts) : bus_(bus), interrupts_(interrupts) {
    (void)add(std::make_unique<HostBridge>());
}

PciHost::~PciHost() {
    {
        std::scoped_lock guard(bus_.lock());
        for_each([this](PciFunction& function) {
            for (auto& bar : function.bars_)
                if (bar.decoded)
                    bus_.remove(bar.space, bar.base);
        });
    }
    slots_.clear(); // while they can still raise interrupts
}

PciFunction* PciHost::at(unsigned slot, unsigned function) const {
    return slot < slots_.size() && function < slots_[slot].size() ? slots_[slot][function].get()
                                                                  : nullptr;
}

void PciHost::connect(PciFunction& function) {
    function.bus_ = &bus_;
    function.interrupts_ = &interrupts_;
    if (function.msix_)
        function.msix_->connect(interrupts_);
}

Result<unsigned> PciHost::add(std::unique_ptr<PciFunction> function) {
    if (slots_.size() == slot_count)
        return fail(ErrorKind::limit, "pci device \"{}\": all {} slots of the bus are taken",
                    function->name(), slot_count);
    connect(*function);
    slots_.emplace_back().push_back(std::move(function));
    return static_cast<unsigned>(slots_.size() - 1);
}

// Whoever looks for functions looks at the first one's header whether there are more.
Result<unsigned> PciHost::add_beside(unsigned slot, std::unique_ptr<PciFunction> function) {
    if (slot == 0 || slot >= slots_.size() || slots_[slot].size() == function_count)
        return fail(ErrorKind::limit, "pci device \"{}\": slot {} has no room for it",
                    function->name(), slot);
    connect(*function);
    slots_[slot].push_back(std::move(function));
    slots_[slot].front()->config_[header_type_offset] |= header_several_functions;
    return slot;
}

void PciHost::place_bars() {
    auto port = first_port, memory = first_memory;
    for_each([&](PciFunction& function) {
        std::uint16_t command = command_master;
        for (unsigned i = 0; i < PciFunction::bar_count; i++) {
            const auto& bar = function.bars_[i];
            if (bar.size == 0)
                continue;
            bool is_port = bar.space == Space::port;
            auto& next = is_port ? port : memory;
            auto base = (next + bar.size - 1) & ~(std::uint64_t{bar.size} - 1);
            if (!range_fits(base, bar.size, is_port ? end_of_ports : end_of_memory)) {
                log::warning("pci", "{}: no {} range of {} bytes is left for bar {}",
                             function.name(), name_of(bar.space), bar.size, i);
                continue;
            }
            next = base + bar.size;
            command |= is_port ? command_io : command_memory;
            std::uint8_t raw[4];
            store_le(MutableBytes(raw), static_cast<std::uint32_t>(base));
            function.write_config(function.bar_offset(i), raw);
        }
        std::uint8_t raw[2];
        store_le(MutableBytes(raw), command);
        function.write_config(command_offset, raw);
    });
}

void PciHost::state(StateArchive& archive) {
    archive(address_, reset_control_);
}

void PciHost::place_again() {
    for_each([](PciFunction& function) {
        if (function.claim_bars())
            function.decoding_changed();
    });
}

std::uint64_t PciHost::refused_placements() const {
    std::uint64_t sum = 0;
    for_each([&](const PciFunction& function) { sum += function.refused_placements_; });
    return sum;
}

// The function that the address register selects; null when nobody answers.
PciFunction* PciHost::addressed() const {
    unsigned bus = address_ >> 16 & 0xff, slot = address_ >> 11 & 31, function = address_ >> 8 & 7;
    if (!(address_ & enable_bit) || (address_ & reserved_address_bits) || bus != 0)
        return nullptr;
    return at(slot, function);
}

void PciHost::read_config(unsigned byte, MutableBytes data) {
    if (auto* function = addressed())
        function->read_config((address_ & 0xfc) + byte, data);
    else
        fill_ones(data);
}

void PciHost::write_config(unsigned byte, Bytes data) {
    auto* function = addressed();
    if (function == nullptr)
        return;
    unsigned offset = (address_ & 0xfc) + byte;
    function->write_config(offset, data);
    // What moved away may have made room for others.
    if (offset < end_of_bars)
        place_again();
}

// Only whole dwords reach the address register, so that a byte written to 0xcf9 resets and a
// probe of 0xcfb changes nothing. Accesses that are not aligned to their size go byte by byte.
void PciHost::read(std::uint64_t offset, MutableBytes data) {
    if (offset == 0 && data.size() == 4) {
        store_le(data, address_);
    } else if (data.size() == 8) {
        read(offset, data.first(4));
        read(offset + 4, data.subspan(4));
    } else if (offset >= 4 && offset % data.size() == 0) {
        read_config(static_cast<unsigned>(offset - 4), data);
    } else if (data.size() > 1) {
        for (std::size_t i = 0; i < data.size(); i++)
            read(offset + i, data.subspan(i, 1));
    } else {
        data[0] = offset == 1 ? reset_control_ : 0xff;
    }
}

void PciHost::write(std::uint64_t offset, Bytes data) {
    if (offset == 0 && data.size() == 4) {
        address_ = load_le<std::uint32_t>(data);
    } else if (data.size() == 8) {
        write(offset, data.first(4));
        write(offset + 4, data.subspan(4));
    } else if (offset >= 4 && offset % data.size() == 0) {
        write_config(static_cast<unsigned>(offset - 4), data);
    } else if (data.size() > 1) {
        for (std::size_t i = 0; i < data.size(); i++)
            write(offset + i, data.subspan(i, 1));
    } else if (offset == 1) {
        reset_control_ = data[0];
        if (reset_control_ & reset_cpu && reset_)
            reset_();
    }
}

} // namespace vmhost::machine
