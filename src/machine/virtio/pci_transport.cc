// The PCI side of the transport: identity, capabilities, the BAR and the doorbells.
// See the header for the layout; sections 4.1.2 to 4.1.4 of the specification.
#include "machine/virtio/pci_transport.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <sys/eventfd.h>

namespace vmhost::machine::virtio {

namespace {

constexpr std::uint16_t vendor = 0x1af4, first_modern_device = 0x1040;
using Interface = PciTransport::Interface;
constexpr std::uint8_t vendor_capability = 0x09;
enum CapabilityType : std::uint8_t { common = 1, notify = 2, isr = 3, device = 4, window = 5 };
constexpr std::uint32_t common_bytes = 56;
constexpr std::uint8_t isr_queue = 1, isr_config = 2; // 4.1.4.5

// Table of 4.1.2.1: not in the order of the types.
std::uint16_t transitional_device(DeviceType type) {
    switch (type) {
    case DeviceType::net:
        return 0x1000;
    case DeviceType::block:
        return 0x1001;
    case DeviceType::scsi:
        return 0x1004;
    case DeviceType::balloon:
        return 0x1002;
    case DeviceType::console:
        return 0x1003;
    case DeviceType::rng:
        break;
    }
    return 0x1005;
}

PciFunction::Identity identity_of(DeviceType type, Interface interface) {
    bool modern = interface == Interface::modern;
    PciFunction::Identity identity;
    identity.vendor = identity.subsystem_vendor = vendor;
    identity.device =
        modern ? static_cast<std::uint16_t>(first_modern_device + static_cast<unsigned>(type))
               : transitional_device(type);
    identity.subsystem = static_cast<std::uint16_t>(type);
    identity.revision = modern ? 1 : 0;
    switch (type) {
    case DeviceType::net:
        identity.base_class = 0x02; // network, Ethernet
        break;
    case DeviceType::block:
    case DeviceType::scsi:
        identity.base_class = 0x01; // mass storage, SCSI
        break;
    case DeviceType::console:
        identity.base_class = 0x07; // simple communication, other
        identity.subclass = 0x80;
        break;
    case DeviceType::balloon:
    case DeviceType::rng:
        identity.base_class = 0x08; // system peripheral, other
        identity.subclass = 0x80;
        break;
    }
    return identity;
}

// struct virtio_pci_cap without its first two bytes (4.1.4).
ByteWriter capability(std::uint8_t length, std::uint8_t type, unsigned bar, std::uint32_t offset,
                      std::uint32_t block_bytes) {
    ByteWriter body;
    body.le<std::uint8_t>(length);
    body.le<std::uint8_t>(type);
    body.le(static_cast<std::uint8_t>(bar));
    body.zeros(3); // id, padding
    body.le(offset);
    body.le(block_bytes);
    return body;
}

} // namespace

PciTransport::PciTransport(std::unique_ptr<VirtioDevice> device, GuestMemory& memory, Loop& loop,
                           Bus::Lock& lock, Backend* backend, Interface interface)
    : PciFunction(std::string(device->name()), identity_of(device->type(), interface)),
      device_(std::move(device)), lock_(lock), backend_(backend), window_(*this),
      legacy_window_(*this), memory_bar_(interface == Interface::modern ? 0 : 2),
      wakeup_(loop, [this] { deliver_kicked(); }) {
    for (auto size : device_->queue_sizes()) {
        slots_.push_back(std::make_unique<Slot>(memory, size));
        slots_.back()->queue.allow_dma(false); // until the guest enables bus mastering
        slots_.back()->queue.on_interrupt(
            [this, slot = slots_.back().get()] { interrupt_for(*slot); });
    }
    if (interface == Interface::transitional)
        add_bar(legacy_bar, Space::port, legacy_bar_bytes(device_->config().size()),
                legacy_window_);
    add_bar(memory_bar_, Space::memory, bar_bytes, window_);
    add_msix(msix_bar, static_cast<unsigned>(slots_.size()) + 1);
    add_capabilities();
    device_->on_config_change([this] { tell_config_change(); });
    if (backend_ != nullptr)
        make_doorbells(loop);
    if (device_->lends_queues())
        make_wires(loop);
    device_->connect(*this);
}

PciTransport::~PciTransport() {
    std::scoped_lock guard(lock_);
    device_->dma_ends(); // while the queues and their wires are there
    unbind_doorbells();
}

void PciTransport::add_capabilities() {
    add_block_capability(common, common_offset, common_bytes);
    auto queues = static_cast<std::uint32_t>(slots_.size());
    auto doorbells = capability(20, notify, memory_bar_, notify_offset, queues * notify_multiplier);
    doorbells.le(notify_multiplier);
    add_capability(vendor_capability, doorbells.buffer());
    add_block_capability(isr, isr_offset, 1);
    if (auto bytes = device_->config().size(); bytes != 0)
        add_block_capability(CapabilityType::device, device_offset,
                             static_cast<std::uint32_t>(bytes));
    // The window for guests that cannot reach the BAR: BAR, offset and length are the guest's
    // to write; the four data bytes are served in read_config and write_config (4.1.4.9).
    auto access = capability(20, window, 0, 0, 0);
    access.zeros(4);
    window_capability_ = add_capability(vendor_capability, access.buffer());
    constexpr std::array<std::uint8_t, 8> all = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    allow_writes(window_capability_ + 4, Bytes(all).first(1));
    allow_writes(window_capability_ + 8, all);
}

void PciTransport::add_block_capability(std::uint8_t type, std::uint32_t offset,
                                        std::uint32_t length) {
    add_capability(vendor_capability, capability(16, type, memory_bar_, offset, length).buffer());
}

bool PciTransport::in_window_data(unsigned offset, std::size_t size) const {
    return offset >= window_capability_ + 16 && offset + size <= window_capability_ + 20;
}

// Where the window points, when that is an access the BAR allows.
bool PciTransport::window_access(std::uint32_t& offset, std::uint32_t& length) {
    auto fields = Bytes(config()).subspan(window_capability_, 16);
    offset = load_le<std::uint32_t>(fields.subspan(8));
    length = load_le<std::uint32_t>(fields.subspan(12));
    return fields[4] == memory_bar_ && (length == 1 || length == 2 || length == 4) &&
           offset % length == 0 && range_fits(offset, length, bar_bytes);
}

void PciTransport::read_config(unsigned offset, MutableBytes data) {
    if (!in_window_data(offset, data.size()))
        return PciFunction::read_config(offset, data);
    std::array<std::uint8_t, 4> value{};
    std::uint32_t at = 0, length = 0;
    if (window_access(at, length))
        read_bar(at, MutableBytes(value).first(length));
    auto first = offset - (window_capability_ + 16);
    std::ranges::copy(Bytes(value).subspan(first, data.size()), data.begin());
}

void PciTransport::write_config(unsigned offset, Bytes data) {
    if (in_window_data(offset, data.size())) {
        std::uint32_t at = 0, length = 0;
        if (offset == window_capability_ + 16 && window_access(at, length) && data.size() >= length)
            write_bar(at, data.first(length));
        return;
    }
    bool was_master = bus_master();
    PciFunction::write_config(offset, data);
    if (bus_master() == was_master)
        return;
    if (!bus_master())
        device_->dma_ends();
    for (auto& slot : slots_)
        slot->queue.allow_dma(bus_master());
    if (bus_master())
        kick_all(); // what the driver published meanwhile
}

void PciTransport::read_bar(std::uint64_t offset, MutableBytes data) {
    std::ranges::fill(data, std::uint8_t{0});
    if (offset < isr_offset) {
        std::array<std::uint8_t, 8> value{};
        store_le(value, read_common(offset, data.size()));
        std::ranges::copy(Bytes(value).first(data.size()), data.begin());
    } else if (offset < device_offset) {
        if (offset == isr_offset && data.size() == 1)
            data[0] = read_isr();
    } else if (offset < notify_offset) {
        read_device_config(offset - device_offset, data);
    }
}

void PciTransport::read_device_config(std::uint64_t offset, MutableBytes data) const {
    auto config = device_->config();
    for (std::size_t i = 0; i < data.size() && offset + i < config.size(); ++i)
        data[i] = config[offset + i];
}

// Reading acknowledges (4.1.4.5).
std::uint8_t PciTransport::read_isr() {
    raise_interrupt(false);
    return std::exchange(isr_, std::uint8_t{0});
}

void PciTransport::write_bar(std::uint64_t offset, Bytes data) {
    if (offset < isr_offset) {
        std::array<std::uint8_t, 8> value{};
        std::ranges::copy(data, value.begin());
        write_common(offset, load_le<std::uint64_t>(value), data.size());
    } else if (offset >= device_offset && offset < notify_offset) {
        device_->write_config(offset - device_offset, data);
    } else if (offset >= notify_offset) {
        auto index = (offset - notify_offset) / notify_multiplier;
        if (index >= slots_.size() || offset % notify_multiplier != 0 || data.size() != 2)
            return;
        slots_[index]->kicked = true;
        wakeup_.wake();
    }
}

void PciTransport::make_doorbells(Loop& loop) {
    for (std::uint16_t index = 0; index < slots_.size(); ++index) {
        auto& slot = *slots_[index];
        slot.doorbell = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (!slot.doorbell) {
            // Not fatal: this queue's doorbell goes through the register.
            log::warning("virtio", "{}: no eventfd for queue {}: {}", name(), index,
                         Error::system(errno, "eventfd").text());
            continue;
        }
        slot.doorbell_watch =
            std::make_unique<Watch>(loop, slot.doorbell.get(), [this, index](auto) {
                std::uint64_t rung = 0;
                if (::read(slots_[index]->doorbell.get(), &rung, sizeof(rung)) != sizeof(rung))
                    return;
                std::scoped_lock guard(lock_);
                deliver(index);
            });
        slot.doorbell_watch->set(true, false);
    }
}

// Binds the doorbells where the bus decodes the BAR, while a driver uses them. Elsewhere they
// would take writes that belong to another device.
void PciTransport::place_doorbells() {
    bool in_use = backend_ != nullptr && active_;
    auto base = in_use ? decoded_base(memory_bar_).value_or(0) : 0;
    if (base == bound_base_)
        return;
    unbind_doorbells();
    if (base == 0)
        return;
    bound_base_ = base;
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
        auto& slot = *slots_[index];
        if (!slot.doorbell)
            continue;
        auto address = base + notify_offset + index * notify_multiplier;
        auto bound = backend_->bind_doorbell(Space::memory, address, 2, slot.doorbell.get());
        slot.doorbell_bound = bound.has_value();
        if (!bound && bound.error().kind() != ErrorKind::unsupported &&
            !std::exchange(doorbell_failure_logged_, true))
            log::warning("virtio", "{}: doorbell of queue {}: {}", name(), index,
                         bound.error().text());
    }
}

void PciTransport::unbind_doorbells() {
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
        auto& slot = *slots_[index];
        if (std::exchange(slot.doorbell_bound, false))
            backend_->unbind_doorbell(Space::memory,
                                      bound_base_ + notify_offset + index * notify_multiplier, 2,
                                      slot.doorbell.get());
    }
    bound_base_ = 0;
}

void PciTransport::deliver(std::uint16_t index) {
    auto& slot = *slots_[index];
    if (!active_ || !slot.queue.enabled() || !bus_master())
        return;
    if (paused_) {
        slot.kicked = true;
        return;
    }
    if (device_->notify(index)) {
        slot.kicked = true;
        wakeup_.wake();
    }
}

void PciTransport::deliver_kicked() {
    std::scoped_lock guard(lock_);
    if (std::exchange(watches_stale_, false))
        settle_watches();
    for (std::uint16_t index = 0; index < slots_.size(); ++index)
        if (std::exchange(slots_[index]->kicked, false))
            deliver(index);
}

void PciTransport::pause() {
    paused_ = true;
    device_->pause();
}

void PciTransport::resume() {
    paused_ = false;
    device_->resume();
    kick_all();
}

void PciTransport::kick_all() {
    for (auto& slot : slots_)
        slot->kicked = true;
    wakeup_.wake();
}

void PciTransport::tell_config_change() {
    ++config_generation_;
    if (status_ & driver_ok)
        interrupt(config_vector_, isr_config);
}

void PciTransport::interrupt_for(const Slot& slot) {
    interrupt(slot.vector, isr_queue);
}

void PciTransport::interrupt(std::uint16_t vector, std::uint8_t cause) {
    if (msix_enabled())
        return send_message(vector);
    isr_ |= cause;
    raise_interrupt(true);
}

std::uint64_t PciTransport::malformed_requests() const {
    auto total = device_->malformed_requests() + refused_queues_;
    for (const auto& slot : slots_)
        total += slot->queue.malformed();
    return total;
}

} // namespace vmhost::machine::virtio
