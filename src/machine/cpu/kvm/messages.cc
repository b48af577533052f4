// Eventfds that send an interrupt message by themselves: KVM's irqfd signals an input of its
// interrupt controllers, and a table of routes says what becomes of each input. Inputs 0 to 23 are
// the wires and go where the kernel's own table has them; those behind are messages, one for each
// that is bound. The table is always set as a whole.
#include "machine/cpu/kvm/kvm.h"

#include <cerrno>
#include <cstring>
#include <vector>

namespace vmhost::machine::kvm {

namespace {

constexpr unsigned pins_of_8259 = 8, io_apic_pins = 24, first_message = io_apic_pins;

kvm_irq_routing_entry wire(unsigned input, unsigned chip, unsigned pin) {
    kvm_irq_routing_entry entry{};
    entry.gsi = input;
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip.irqchip = chip;
    entry.u.irqchip.pin = pin;
    return entry;
}

void add_wires(std::vector<kvm_irq_routing_entry>& table) {
    for (unsigned input = 0; input < io_apic_pins; ++input) {
        table.push_back(wire(input, KVM_IRQCHIP_IOAPIC, input));
        if (input < isa_lines)
            table.push_back(
                wire(input, input < pins_of_8259 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
                     input % pins_of_8259));
    }
}

} // namespace

Result<void> KvmVm::set_routes() {
    std::vector<kvm_irq_routing_entry> entries;
    add_wires(entries);
    for (const auto& [input, message] : messages_) {
        auto& entry = entries.emplace_back();
        entry.gsi = input;
        entry.type = KVM_IRQ_ROUTING_MSI;
        entry.u.msi.address_lo = static_cast<std::uint32_t>(message.address);
        entry.u.msi.address_hi = static_cast<std::uint32_t>(message.address >> 32);
        entry.u.msi.data = message.data;
    }
    // struct kvm_irq_routing: the number of entries and flags, then the entries.
    constexpr std::size_t head_bytes = 8;
    std::vector<std::uint8_t> table(head_bytes + entries.size() * sizeof(entries[0]));
    store_le(MutableBytes(table), static_cast<std::uint32_t>(entries.size()));
    std::memcpy(table.data() + head_bytes, entries.data(), entries.size() * sizeof(entries[0]));
    if (::ioctl(vm_.get(), set_gsi_routing, table.data()) < 0)
        return fail_errno(errno, "kvm: KVM_SET_GSI_ROUTING of {} messages", messages_.size());
    return {};
}

Result<void> KvmVm::set_message_source(unsigned input, int eventfd, bool on) {
    kvm_irqfd source{};
    source.fd = static_cast<std::uint32_t>(eventfd);
    source.gsi = input;
    source.flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN;
    if (::ioctl(vm_.get(), KVM_IRQFD, &source) < 0)
        return fail_errno(errno, "kvm: KVM_IRQFD");
    return {};
}

Result<unsigned> KvmVm::bind_message(int eventfd, std::uint64_t address, std::uint32_t data) {
    if (!features_.bound_messages)
        return fail(ErrorKind::unsupported, "kvm: no irqfd on this host");
    if (!is_message_address(address))
        return fail(ErrorKind::invalid, "kvm: no interrupt is at {:#x}", address);
    unsigned input = first_message;
    while (messages_.contains(input))
        ++input;
    messages_[input] = {address, data};
    auto bound = set_routes();
    if (bound)
        bound = set_message_source(input, eventfd, true);
    if (!bound) {
        messages_.erase(input);
        return std::unexpected(std::move(bound).error());
    }
    return input;
}

// The route goes when the next table is set: nothing signals its input any more.
void KvmVm::unbind_message(unsigned binding, int eventfd) {
    if (auto done = set_message_source(binding, eventfd, false); !done)
        log::warning("machine", "{}", done.error().text());
    messages_.erase(binding);
}

} // namespace vmhost::machine::kvm
