// A pair that vhost-net serves. Between two turns of the loop nothing of a queue is in our hands
// (net_pair.cc), so the pair goes over as it is, and comes back at the place that vhost-net had
// come to. What it has not taken stays in the tap or in the guest's queue.
#include <cerrno>
#include <mutex>

#include <sys/eventfd.h>
#include <unistd.h>

#include "machine/virtio/net_pair.h"

namespace vmhost::machine::virtio {

namespace {

constexpr std::uint64_t one = 1;

} // namespace

void NetPair::watch_for_stumbles(Loop& loop) {
    stumble_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!stumble_) {
        net_.note_failure("watch for errors of vhost-net", errno);
        vhost_ = nullptr;
        return;
    }
    stumble_watch_ = std::make_unique<Watch>(loop, stumble_.get(), [this](Watch::Ready) {
        std::uint64_t count = 0;
        std::scoped_lock guard(net_.lock_);
        // What it reported before the pair was taken back says nothing of the rings of now.
        if (::read(stumble_.get(), &count, sizeof(count)) == sizeof(count) && lent_)
            stumbled();
    });
    stumble_watch_->set(true, false);
}

// The driver may do it again after each reset: told once a boot. What it is, is counted where we
// come across it.
void NetPair::stumbled() {
    if (!std::exchange(net_.stumble_logged_, true))
        log::info("virtio",
                  "{}: vhost-net makes no sense of its driver's rings: until a reset its frames go "
                  "through this process",
                  net_.name());
    take_back(true);
    stumbled_ = true;
    go_on_receiving();
    go_on_transmitting();
}

bool NetPair::may_lend() const {
    return vhost_ != nullptr && !stumbled_ && net_.transport_ != nullptr && net_.active_ &&
           in_use() && receive_ != nullptr && transmit_ != nullptr;
}

bool NetPair::lend() {
    if (lent_)
        return true;
    if (!may_lend() || !receive_->rings() || !transmit_->rings())
        return false;
    stop();
    auto started = start_vhost();
    if (!started) {
        log::warning("virtio", "{}: its frames go through this process: {}", net_.name(),
                     started.error().text());
        vhost_ = nullptr;
        net_.transport_->take_back(queue_number(false));
        net_.transport_->take_back(queue_number(true));
        return false;
    }
    lent_ = true;
    ring(false); // for what was published before
    ring(true);
    return true;
}

Result<void> NetPair::start_vhost() {
    wires_[0] = TRY(net_.transport_->lend(queue_number(false)));
    wires_[1] = TRY(net_.transport_->lend(queue_number(true)));
    std::uint64_t stale = 0;
    (void)!::read(stumble_.get(), &stale, sizeof(stale));
    Vhost::Order order;
    order.tap = tap_;
    order.features = net_.driver_features_;
    order.memory = &receive_->memory();
    order.rings = {Vhost::Ring{*receive_->rings(), wires_[0]},
                   Vhost::Ring{*transmit_->rings(), wires_[1]}};
    order.error = stumble_.get();
    return vhost_->start(order);
}

void NetPair::ring(bool transmit) const {
    // Fails only when it has rung 2^64 times without being heard.
    (void)!::write(wires_[transmit ? 1 : 0].doorbell, &one, sizeof(one));
}

void NetPair::take_back(bool queues_live) {
    if (!std::exchange(lent_, false))
        return;
    vhost_->stop();
    if (queues_live) {
        receive_->served_by_others();
        transmit_->served_by_others();
    }
    net_.transport_->take_back(queue_number(false));
    net_.transport_->take_back(queue_number(true));
}

} // namespace vmhost::machine::virtio
