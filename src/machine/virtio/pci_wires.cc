// Queues that somebody else in the kernel serves: their doorbell and their interrupt are eventfds
// that this process does not look at.
//
// The doorbell's is the one that the loop watches otherwise. The interrupt's is bound to the MSI-X
// message of the queue's vector, so that the backend sends it; whenever there is no message (INTA,
// a masked vector, a backend that cannot) the loop watches it and raises the interrupt as the
// device would. The guest may change its mind at any time: the binding follows.
//
// Watches belong to the loop's thread, while queues come back on any: settle_watches() is called
// there soon after. In between nothing is lost, an eventfd keeps its signal.
#include "machine/virtio/pci_transport.h"

#include <cerrno>

#include <sys/eventfd.h>
#include <unistd.h>

namespace vmhost::machine::virtio {

namespace {

bool take_signal(const Fd& eventfd) {
    std::uint64_t signals = 0;
    return ::read(eventfd.get(), &signals, sizeof(signals)) == sizeof(signals);
}

} // namespace

// Without them no queue can be lent, and the device serves them itself.
void PciTransport::make_wires(Loop& loop) {
    for (auto& slot : slots_) {
        slot->interrupt = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (!slot->interrupt) {
            log::warning("virtio", "{}: {}", name(), Error::system(errno, "eventfd").text());
            return;
        }
        slot->interrupt_watch =
            std::make_unique<Watch>(loop, slot->interrupt.get(), [this, one = slot.get()](auto) {
                std::scoped_lock guard(lock_);
                raise_signalled(*one);
            });
    }
}

Result<QueueWires> PciTransport::lend(std::uint16_t queue) {
    auto& slot = *slots_.at(queue);
    if (!slot.doorbell || !slot.interrupt)
        return fail(ErrorKind::unsupported, "{}: queue {} has no wires", name(), queue);
    slot.lent = true;
    place_message(slot);
    watches_stale_ = false;
    settle_watches();
    return QueueWires{slot.doorbell.get(), slot.interrupt.get()};
}

void PciTransport::take_back(std::uint16_t queue) {
    auto& slot = *slots_.at(queue);
    if (!std::exchange(slot.lent, false))
        return;
    unbind_message(slot);
    raise_signalled(slot);
    watches_stale_ = true;
    wakeup_.wake();
}

void PciTransport::raise_signalled(Slot& slot) {
    if (take_signal(slot.interrupt))
        interrupt_for(slot);
}

void PciTransport::messages_changed() {
    for (auto& slot : slots_)
        if (slot->lent)
            place_message(*slot);
    if (watches_stale_)
        wakeup_.wake();
}

void PciTransport::place_message(Slot& slot) {
    auto wanted = msix()->message(slot.vector);
    if (slot.message == wanted)
        return;
    watches_stale_ = true;
    unbind_message(slot);
    if (!wanted || backend_ == nullptr)
        return;
    // An address that is no interrupt's is refused: raising it in our way says so, and counts.
    if (auto bound = backend_->bind_message(slot.interrupt.get(), wanted->address, wanted->data)) {
        slot.message = wanted;
        slot.binding = *bound;
    }
}

void PciTransport::unbind_message(Slot& slot) {
    if (std::exchange(slot.message, std::nullopt))
        backend_->unbind_message(slot.binding, slot.interrupt.get());
}

void PciTransport::settle_watches() {
    for (auto& slot : slots_) {
        if (slot->doorbell_watch)
            slot->doorbell_watch->set(!slot->lent, false);
        if (slot->interrupt_watch)
            slot->interrupt_watch->set(slot->lent && !slot->message, false);
    }
}

} // namespace vmhost::machine::virtio
