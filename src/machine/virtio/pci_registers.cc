// Common configuration (4.1.4.3) and the life of the device (3.1, 2.1).
//
// Every register has one natural width; 64-bit ones are written as two halves. A write
// of another width goes nowhere, a read gives the bytes of the registers it touches:
// iPXE reads the lower halves of 32-bit registers. What queue_select names may not exist:
// then its registers read zero and writes go nowhere.
#include "machine/virtio/pci_transport.h"

#include <algorithm>

namespace vmhost::machine::virtio {

namespace {

namespace common_register {
enum Register : std::uint64_t {
    device_feature_select = 0,
    device_feature = 4,
    driver_feature_select = 8,
    driver_feature = 12,
    config_msix_vector = 16,
    num_queues = 18,
    device_status = 20,
    config_generation = 21,
    queue_select = 22,
    queue_size = 24,
    queue_msix_vector = 26,
    queue_enable = 28,
    queue_notify_off = 30,
    queue_desc = 32,
    queue_driver = 40,
    queue_device = 48,
    end_of_registers = 56,
};
} // namespace common_register

std::size_t common_width_of(std::uint64_t offset) {
    switch (offset) {
    case common_register::device_feature_select:
    case common_register::device_feature:
    case common_register::driver_feature_select:
    case common_register::driver_feature:
    case common_register::queue_desc:
    case common_register::queue_desc + 4:
    case common_register::queue_driver:
    case common_register::queue_driver + 4:
    case common_register::queue_device:
    case common_register::queue_device + 4:
        return 4;
    case common_register::config_msix_vector:
    case common_register::num_queues:
    case common_register::queue_select:
    case common_register::queue_size:
    case common_register::queue_msix_vector:
    case common_register::queue_enable:
    case common_register::queue_notify_off:
        return 2;
    case common_register::device_status:
    case common_register::config_generation:
        return 1;
    default:
        return 0; // the middle of a register, or none
    }
}

std::uint32_t half(std::uint64_t value, std::uint32_t select) {
    return select > 1 ? 0 : static_cast<std::uint32_t>(value >> (32 * select));
}

void set_half(std::uint64_t& value, unsigned select, std::uint32_t word) {
    auto shift = 32 * select;
    value = (value & ~(std::uint64_t{UINT32_MAX} << shift)) | std::uint64_t{word} << shift;
}

} // namespace

PciTransport::Slot* PciTransport::selected() {
    return queue_select_ < slots_.size() ? slots_[queue_select_].get() : nullptr;
}
const PciTransport::Slot* PciTransport::selected() const {
    return queue_select_ < slots_.size() ? slots_[queue_select_].get() : nullptr;
}

// A reset has not ended while requests may still touch the guest's memory.
std::uint8_t PciTransport::visible_status() const {
    return status_ == 0 && !device_->quiescent() ? status_before_reset_ : status_;
}

// What a vector register reads back: a vector that is not in the table is refused (4.1.5.1.2).
std::uint16_t PciTransport::usable_vector(std::uint64_t wanted) const {
    return wanted < msix()->vectors() ? static_cast<std::uint16_t>(wanted) : no_vector;
}

std::uint64_t PciTransport::offered_features() const {
    return device_->features() | feature_version_1 | feature_indirect_descriptors |
           feature_event_index;
}

std::uint64_t PciTransport::read_common(std::uint64_t offset, std::size_t size) const {
    if (size != common_width_of(offset)) {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < size && offset + i < common_register::end_of_registers; ++i) {
            auto start = offset + i;
            while (common_width_of(start) == 0) // register 0 has one
                --start;
            auto byte =
                read_common(start, common_width_of(start)) >> (8 * (offset + i - start)) & 0xff;
            value |= byte << (8 * i);
        }
        return value;
    }
    const Slot* slot = selected();
    auto address = [&](Gpa QueueAddresses::*ring) {
        return slot ? half(slot->addresses.*ring, offset % 8 / 4) : 0;
    };
    switch (offset) {
    case common_register::device_feature_select:
        return device_feature_select_;
    case common_register::device_feature:
        return half(offered_features(), device_feature_select_);
    case common_register::driver_feature_select:
        return driver_feature_select_;
    case common_register::driver_feature:
        return half(driver_features_, driver_feature_select_);
    case common_register::config_msix_vector:
        return config_vector_;
    case common_register::queue_msix_vector:
        return slot ? slot->vector : no_vector;
    case common_register::num_queues:
        return slots_.size();
    case common_register::device_status:
        return visible_status();
    case common_register::config_generation:
        return config_generation_;
    case common_register::queue_select:
        return queue_select_;
    case common_register::queue_size:
        return slot ? slot->queue.size() : 0;
    case common_register::queue_enable:
        return slot && slot->queue.enabled();
    case common_register::queue_notify_off:
        return slot ? queue_select_ : 0;
    case common_register::queue_desc:
    case common_register::queue_desc + 4:
        return address(&QueueAddresses::descriptors);
    case common_register::queue_driver:
    case common_register::queue_driver + 4:
        return address(&QueueAddresses::available);
    case common_register::queue_device:
    case common_register::queue_device + 4:
        return address(&QueueAddresses::used);
    default:
        return 0;
    }
}

void PciTransport::write_common(std::uint64_t offset, std::uint64_t value, std::size_t size) {
    if (size != common_width_of(offset))
        return;
    Slot* slot = selected();
    switch (offset) {
    case common_register::device_feature_select:
        device_feature_select_ = static_cast<std::uint32_t>(value);
        break;
    case common_register::driver_feature_select:
        driver_feature_select_ = static_cast<std::uint32_t>(value);
        break;
    case common_register::config_msix_vector:
        config_vector_ = usable_vector(value);
        break;
    case common_register::queue_msix_vector:
        if (slot) {
            slot->vector = usable_vector(value);
            messages_changed();
        }
        break;
    case common_register::driver_feature:
        write_driver_features(static_cast<std::uint32_t>(value));
        break;
    case common_register::device_status:
        write_status(static_cast<std::uint8_t>(value));
        break;
    case common_register::queue_select:
        queue_select_ = static_cast<std::uint16_t>(value);
        break;
    case common_register::queue_size:
        if (slot)
            slot->queue.set_size(static_cast<std::uint16_t>(value));
        break;
    case common_register::queue_enable:
        // Too late once the driver runs; a queue that cannot be enabled reads back as zero.
        if (slot && value == 1 && !(status_ & driver_ok) && !slot->queue.enabled())
            enable_queue(*slot);
        break;
    default:
        write_queue_address(offset, static_cast<std::uint32_t>(value));
        break;
    }
}

// The guest can try this in a loop: the first time is logged, all are counted.
void PciTransport::enable_queue(Slot& slot) {
    if (!slot.queue.enable(slot.addresses) && refused_queues_++ == 0)
        log::debug("virtio", "{}: queue {} has rings outside memory or misaligned", name(),
                   queue_select_);
}

void PciTransport::write_queue_address(std::uint64_t offset, std::uint32_t value) {
    Slot* slot = selected();
    if (slot == nullptr || slot->queue.enabled() || offset < common_register::queue_desc ||
        offset >= common_register::end_of_registers)
        return;
    auto& ring = offset < common_register::queue_driver   ? slot->addresses.descriptors
                 : offset < common_register::queue_device ? slot->addresses.available
                                                          : slot->addresses.used;
    set_half(ring, offset % 8 / 4, value);
}

void PciTransport::write_driver_features(std::uint32_t value) {
    if ((status_ & features_ok) || active_)
        return; // settled (3.1.1)
    if (driver_feature_select_ > 1)
        beyond_features_ = beyond_features_ || value != 0;
    else
        set_half(driver_features_, driver_feature_select_, value);
}

bool PciTransport::features_acceptable() const {
    return (driver_features_ & ~offered_features()) == 0 && !beyond_features_ &&
           (driver_features_ & feature_version_1);
}

// Bits are only ever added, each after the one before it; zero resets.
void PciTransport::write_status(std::uint8_t value) {
    if (value == 0)
        return reset();
    std::uint8_t added = value & ~status_;
    status_ |= added & (acknowledge | failed);
    if ((added & driver) && (status_ & acknowledge))
        status_ |= driver;
    if ((added & features_ok) && (status_ & driver) && features_acceptable())
        status_ |= features_ok;
    if ((added & driver_ok) && (status_ & features_ok) && !(status_ & failed)) {
        status_ |= driver_ok;
        activate();
    }
}

void PciTransport::activate() {
    driver_features_ &= offered_features(); // a legacy driver's were never examined
    hand_over_queues();
    place_doorbells();
    kick_all(); // for a driver that published before it was ready
}

void PciTransport::hand_over_queues() {
    std::vector<Queue*> queues;
    for (auto& slot : slots_) {
        slot->queue.use_event_index(driver_features_ & feature_event_index);
        slot->queue.allow_indirect(driver_features_ & feature_indirect_descriptors);
        queues.push_back(slot->queue.enabled() ? &slot->queue : nullptr);
    }
    active_ = true;
    device_->activate(driver_features_, std::move(queues));
}

void PciTransport::reset() {
    // A second reset while the first one drains keeps what the guest reads meanwhile.
    if (status_ != 0)
        status_before_reset_ = status_;
    bool was_active = std::exchange(active_, false);
    status_ = 0;
    // Queues first: a chain that the device lets go of goes nowhere then.
    for (auto& slot : slots_) {
        slot->queue.reset();
        slot->addresses = {};
        slot->kicked = false;
        slot->vector = no_vector;
    }
    if (was_active)
        device_->reset();
    device_feature_select_ = driver_feature_select_ = 0;
    driver_features_ = 0;
    beyond_features_ = false;
    queue_select_ = 0;
    config_vector_ = no_vector;
    isr_ = 0;
    raise_interrupt(false);
    place_doorbells();
}

void PciTransport::state(StateArchive& archive) {
    PciFunction::state(archive);
    if (!archive.loading() && !device_->quiescent())
        archive.refuse("requests are in flight", ErrorKind::busy);
    archive.same(static_cast<std::uint16_t>(slots_.size()), "number of queues");
    bool was_active = active_;
    archive(device_feature_select_, driver_feature_select_, driver_features_, beyond_features_,
            was_active, queue_select_, config_vector_, status_, status_before_reset_, isr_);
    for (auto& slot : slots_) {
        archive(slot->addresses, slot->vector);
        slot->queue.state(archive);
    }
    if (archive.loading() && archive.ok())
        go_on(archive, was_active);
    device_->state(archive);
    if (archive.loading() && archive.ok())
        kick_all(); // a doorbell may have rung on the other side
}

void PciTransport::go_on(StateArchive& archive, bool was_active) {
    bool settled = was_active || (status_ & features_ok);
    if (auto missing = driver_features_ & ~offered_features(); settled && missing != 0)
        return archive.refuse(fmt::format("virtio features {:#x} are not offered here", missing),
                              ErrorKind::unsupported);
    config_vector_ = usable_vector(config_vector_);
    for (auto& slot : slots_) {
        slot->vector = usable_vector(slot->vector);
        slot->queue.allow_dma(bus_master());
    }
    if (was_active)
        hand_over_queues();
    raise_interrupt(isr_ != 0);
    place_doorbells();
}

} // namespace vmhost::machine::virtio
