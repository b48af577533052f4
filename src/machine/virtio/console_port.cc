// Requests of both queues are plain bytes without a header (5.3.6).
#include "machine/virtio/console_port.h"

#include <algorithm>

namespace vmhost::machine::virtio {

ConsolePort::ConsolePort(std::string name, Bus::Lock& lock, Hooks hooks)
    : name_(std::move(name)), lock_(lock), hooks_(std::move(hooks)) {}

void ConsolePort::activate(std::uint64_t, std::vector<Queue*> queues) {
    std::ranges::copy(queues, queues_.begin());
}

bool ConsolePort::notify(std::uint16_t index) {
    Queue* queue = queues_[index];
    if (queue == nullptr)
        return false;
    if (index == transmit_queue)
        return transmit(*queue);
    // Until input finds no buffer again.
    queue->want_notifications(false);
    hooks_.input_space();
    return false;
}

bool ConsolePort::transmit(Queue& queue) {
    queue.want_notifications(false);
    bool more = true;
    for (unsigned taken = 0; more && taken < max_requests_per_turn; ++taken) {
        auto chain = queue.pop_or_wait();
        more = chain.has_value();
        if (chain)
            put_out(std::move(*chain));
    }
    queue.signal_used();
    return more;
}

void ConsolePort::put_out(Chain chain) {
    const auto size = chain.readable_bytes();
    if (size > max_request_bytes || chain.writable_bytes() != 0) {
        ++malformed_;
        return chain.complete(0);
    }
    std::array<std::uint8_t, 4096> piece;
    for (std::uint64_t done = 0; auto count = chain.read(done, piece); done += count)
        hooks_.output(Bytes(piece).first(count));
    chain.complete(0);
}

// A driver that keeps offering what cannot be written to is asked again in the next turn.
std::size_t ConsolePort::receive(Bytes input) {
    std::scoped_lock guard(lock_);
    Queue* queue = queues_[receive_queue];
    if (queue == nullptr || paused_)
        return 0;
    std::size_t taken = 0;
    for (unsigned turns = 0; taken < input.size(); ++turns) {
        if (turns == queue_size) {
            hooks_.input_space();
            break;
        }
        auto chain = queue->pop_or_wait();
        if (!chain)
            break;
        if (chain->writable_bytes() == 0 || chain->readable_bytes() != 0) {
            ++malformed_;
            chain->complete(0);
            continue;
        }
        auto count = chain->write(0, input.subspan(taken));
        taken += count;
        chain->complete(static_cast<std::uint32_t>(count));
    }
    queue->signal_used();
    return taken;
}

void ConsolePort::set_size(std::uint16_t columns, std::uint16_t rows) {
    std::scoped_lock guard(lock_);
    std::array<std::uint8_t, 4> size;
    store_le<std::uint16_t>(size, columns);
    store_le<std::uint16_t>(MutableBytes(size).subspan(2), rows);
    if (size == config_)
        return;
    config_ = size;
    config_changed();
}

} // namespace vmhost::machine::virtio
