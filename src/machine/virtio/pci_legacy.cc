// The register file of virtio 0.9 in an I/O BAR, for drivers that know no other (section
// 4.1.4.10 of the specification, "Legacy Interfaces"): OpenBSD before 6.6, Linux before 4.0.
//
//   0  u32 device features        14  u16 queue select     20  u16 configuration vector  } with
//   4  u32 driver features        16  u16 queue notify     22  u16 queue vector          } MSI-X
//   8  u32 queue's page number    18  u8  device status    20 or 24  device configuration
//   12 u16 queue size             19  u8  ISR
//
// A queue is one piece: descriptors and available ring, then the used ring at the next
// multiple of 4096. Its size is ours to say. Writing its page number enables it, zero
// disables it. Features are what the driver wrote when it starts; there is nobody to
// refuse them. Drivers of that time may use a queue before they say DRIVER_OK: the first
// notification starts the device then, and a queue that comes later starts it again.
//
// A driver may use both interfaces, one after the other or, when it is hostile, at once:
// queues, status and features are the same objects.
#include "machine/virtio/pci_transport.h"

#include <algorithm>
#include <bit>

namespace vmhost::machine::virtio {

namespace {

namespace legacy_register {
enum Register : std::uint64_t {
    device_features = 0,
    driver_features = 4,
    queue_page = 8,
    queue_size = 12,
    queue_select = 14,
    queue_notify = 16,
    device_status = 18,
    isr_status = 19,
    config_vector = 20,
    queue_vector = 22,
};
} // namespace legacy_register
constexpr std::uint64_t header_bytes = 20, header_bytes_msix = 24;
constexpr std::uint64_t ring_alignment = 4096;

// Of the header, with and without the two vectors.
std::size_t legacy_width_of(std::uint64_t offset) {
    if (offset < legacy_register::queue_size)
        return offset % 4 == 0 ? 4 : 0;
    if (offset == legacy_register::device_status || offset == legacy_register::isr_status)
        return 1;
    return offset % 2 == 0 ? 2 : 0;
}

} // namespace

std::uint32_t PciTransport::legacy_bar_bytes(std::size_t config_bytes) {
    return std::bit_ceil(static_cast<std::uint32_t>(header_bytes_msix + config_bytes));
}

// Any layout of a request was always served.
std::uint32_t PciTransport::legacy_features() const {
    return static_cast<std::uint32_t>(offered_features() | feature_any_layout);
}

void PciTransport::read_legacy(std::uint64_t offset, MutableBytes data) {
    std::ranges::fill(data, std::uint8_t{0});
    auto header = msix_enabled() ? header_bytes_msix : header_bytes;
    if (offset >= header)
        return read_device_config(offset - header, data);
    if (data.size() != legacy_width_of(offset))
        return;
    std::uint8_t raw[4];
    store_le<std::uint32_t>(raw, read_legacy_register(offset));
    std::ranges::copy(Bytes(raw).first(data.size()), data.begin());
}

std::uint32_t PciTransport::read_legacy_register(std::uint64_t offset) {
    const Slot* slot = selected();
    switch (offset) {
    case legacy_register::device_features:
        return legacy_features();
    case legacy_register::driver_features:
        return static_cast<std::uint32_t>(driver_features_);
    case legacy_register::queue_page:
        return slot && slot->queue.enabled()
                   ? static_cast<std::uint32_t>(slot->addresses.descriptors / ring_alignment)
                   : 0;
    case legacy_register::queue_size:
        return slot ? slot->queue.size() : 0;
    case legacy_register::queue_select:
        return queue_select_;
    case legacy_register::device_status:
        return visible_status();
    case legacy_register::isr_status:
        return read_isr();
    case legacy_register::config_vector:
        return config_vector_;
    case legacy_register::queue_vector:
        return slot ? slot->vector : no_vector;
    default:
        return 0;
    }
}

void PciTransport::write_legacy(std::uint64_t offset, Bytes data) {
    auto header = msix_enabled() ? header_bytes_msix : header_bytes;
    if (offset >= header)
        return device_->write_config(offset - header, data);
    if (data.size() != legacy_width_of(offset))
        return;
    std::uint8_t raw[4] = {};
    std::ranges::copy(data, raw);
    auto value = load_le<std::uint32_t>(Bytes(raw));
    Slot* slot = selected();
    switch (offset) {
    case legacy_register::driver_features:
        if (!active_)
            driver_features_ = value & legacy_features() & ~feature_any_layout;
        break;
    case legacy_register::queue_page:
        write_queue_page(value);
        break;
    case legacy_register::queue_select:
        queue_select_ = static_cast<std::uint16_t>(value);
        break;
    case legacy_register::queue_notify:
        notify_legacy(value);
        break;
    case legacy_register::device_status:
        write_legacy_status(static_cast<std::uint8_t>(value));
        break;
    case legacy_register::config_vector:
        config_vector_ = usable_vector(value);
        break;
    case legacy_register::queue_vector:
        if (slot) {
            slot->vector = usable_vector(value);
            messages_changed();
        }
        break;
    default:
        break;
    }
}

void PciTransport::write_queue_page(std::uint32_t page) {
    Slot* slot = selected();
    if (slot == nullptr)
        return;
    if (page == 0) {
        device_->dma_ends(); // it may be lent; the others go on when they are notified
        slot->queue.reset();
        slot->addresses = {};
        kick_all();
        return;
    }
    if (slot->queue.enabled())
        return;
    const std::uint64_t size = slot->queue.size();
    slot->addresses.descriptors = page * ring_alignment;
    slot->addresses.available = slot->addresses.descriptors + 16 * size;
    auto end = slot->addresses.available + 6 + 2 * size;
    slot->addresses.used = (end + ring_alignment - 1) & ~(ring_alignment - 1);
    enable_queue(*slot);
    if (slot->queue.enabled() && active_)
        activate();
}

void PciTransport::notify_legacy(std::uint32_t index) {
    if (index >= slots_.size())
        return;
    if (!active_ && (status_ & acknowledge) && !(status_ & failed) &&
        slots_[index]->queue.enabled())
        activate();
    slots_[index]->kicked = true;
    wakeup_.wake();
}

void PciTransport::write_legacy_status(std::uint8_t value) {
    if (value == 0)
        return reset();
    bool starts = (value & driver_ok) && !(status_ & driver_ok) && !(value & failed);
    status_ = value & (acknowledge | driver | driver_ok | failed);
    if (starts)
        activate();
}

} // namespace vmhost::machine::virtio
