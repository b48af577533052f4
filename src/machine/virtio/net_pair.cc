// Receiving: one readv per frame, straight into the guest's buffers. How long the frame
// will be is not known before, so buffers for a usual one are laid out, or, when the last
// frame was a large one (a segment of up to 64 KiB that was never cut), for such; what is
// still longer lands in a spill area and is copied to further buffers, when the driver has
// agreed to frames in several (MRG_RXBUF). Buffers that were not needed go back at the end
// of the turn as if they had not been taken, so that between turns nothing is held.
//
// A guest that is slower than its network is always out of buffers. To be notified of each
// one that it returns would cost it an exit each, of the time that it lacks: as long as
// frames come, the queue is looked at now and then instead, at intervals in which the guest
// returns some. A look that finds none asks for a notification.
#include "machine/virtio/net_pair.h"

#include <algorithm>
#include <cerrno>
#include <mutex>

namespace vmhost::machine::virtio {

namespace {

// What a driver without offloads must provide per frame (5.1.6.3.1): header and 1514 bytes.
constexpr std::uint64_t proper_buffer_bytes = 1526;
constexpr std::uint64_t vlan_tag_bytes = 4;
// UIO_MAXIOV of Linux, less the spill area.
constexpr std::size_t max_vectors = 1023;
// Between looks. A queue of 256 lasts a guest that needs a microsecond for a frame longer than
// the shorter one, and one of 32 frames lasts a guest that needs 100 longer than the other.
constexpr std::uint64_t min_look_ns = 50'000, max_look_ns = 1'600'000;
constexpr std::uint64_t few_frames = 8, many_frames = 64; // of one look

} // namespace

NetPair::NetPair(Net& net, unsigned index, int tap, Vhost* vhost, Loop& loop)
    : net_(net), index_(index), tap_(tap), vhost_(vhost), look_delay_ns_(min_look_ns),
      watch_(loop, tap, [this](Watch::Ready now) { ready(now); }) {
    if (vhost_ != nullptr)
        watch_for_stumbles(loop);
}

NetPair::~NetPair() {
    take_back(false);
    look_later(std::nullopt);
}

void NetPair::watch(bool readable, bool writable) {
    if (readable == watch_readable_ && writable == watch_writable_)
        return;
    watch_readable_ = readable;
    watch_writable_ = writable;
    watch_.set(readable, writable);
}

void NetPair::go_on_receiving() {
    if (look_ != 0)
        return; // which finds what there is, in time
    watch(receive_ != nullptr && in_use() && !net_.receive_limit_.waiting(), watch_writable_);
}

// While the tap is full, its becoming writable goes on with the queue.
bool NetPair::transmit() {
    return transmit_ != nullptr && in_use() && !watch_writable_ && send_frames();
}

// More than one turn's share: the tap is writable again at once.
void NetPair::go_on_transmitting() {
    if (transmit())
        watch(watch_readable_, true);
}

void NetPair::ready(Watch::Ready now) {
    std::scoped_lock guard(net_.lock_);
    if (!in_use())
        return watch(false, false); // detached: such a descriptor always reports an error
    if (now.hangup) {               // the interface was deleted
        watch(false, false);
        net_.note_failure("the tap is gone", ENODEV);
        return;
    }
    if (now.readable)
        receive_frames();
    if (now.writable) {
        watch(watch_readable_, false);
        go_on_transmitting();
    }
}

void NetPair::receive_frames() {
    if (receive_ == nullptr)
        return watch(false, watch_writable_);
    receive_->want_notifications(false);
    for (unsigned frames = 0; frames < limits::max_frames_per_turn; ++frames) {
        if (!net_.receive_limit_.admit()) {
            watch(false, watch_writable_); // until time has passed
            break;
        }
        if (!receive_one())
            break;
    }
    give_back_buffers();
    receive_->signal_used();
}

// Makes sure that there is a buffer, and as much room as wanted as far as the guest has it.
bool NetPair::collect_buffers(std::uint64_t wanted_bytes) {
    const bool several = net_.driver_features_ & net_mergeable;
    // A chain has at most as many segments as its queue has entries.
    while (buffers_.empty() ||
           (several && room_bytes_ < wanted_bytes && segments_ + Net::queue_size <= max_vectors)) {
        auto chain = next_buffer();
        if (!chain)
            break;
        if (chain->writable_bytes() < net_.header_bytes_ + ethernet_header_bytes) {
            ++net_.malformed_;
            chain->complete(0);
            continue;
        }
        keep(std::move(*chain));
    }
    return !buffers_.empty();
}

// Nothing: the guest has none, and there will be a notification or a look.
std::optional<Chain> NetPair::next_buffer() {
    auto chain = receive_->pop();
    if (chain || !buffers_.empty())
        return chain;
    auto taken = std::exchange(frames_since_look_, 0);
    if (taken == 0) {
        look_delay_ns_ = min_look_ns;
        return receive_->pop_or_wait();
    }
    if (taken < few_frames)
        look_delay_ns_ = std::min(2 * look_delay_ns_, max_look_ns);
    else if (taken > many_frames)
        look_delay_ns_ = std::max(look_delay_ns_ / 2, min_look_ns);
    look_later(look_delay_ns_);
    return std::nullopt;
}

void NetPair::look_later(std::optional<std::uint64_t> delay_ns) {
    if (look_ != 0)
        net_.clock_.cancel(std::exchange(look_, 0));
    if (delay_ns)
        look_ = net_.clock_.schedule(net_.clock_.now_ns() + *delay_ns, [this] {
            look_ = 0;
            if (in_use())
                receive_frames();
        });
}

void NetPair::keep(Chain chain) {
    room_bytes_ += chain.writable_bytes();
    segments_ += chain.writable().size();
    buffers_.push_back(std::move(chain));
}

void NetPair::complete_first(std::uint64_t length) {
    auto& first = buffers_.front();
    room_bytes_ -= first.writable_bytes();
    segments_ -= first.writable().size();
    first.complete(static_cast<std::uint32_t>(length));
    buffers_.pop_front();
}

// False when the tap has nothing more, or the guest no buffers.
bool NetPair::receive_one() {
    auto usual = net_.header_bytes_ + ethernet_header_bytes + vlan_tag_bytes + net_.settings_.mtu;
    auto largest = net_.header_bytes_ + limits::max_guest_frame_bytes;
    if (!collect_buffers(large_frames_ ? largest : usual)) {
        watch(false, watch_writable_); // until the guest provides buffers, or a look
        return false;
    }
    watch(true, watch_writable_); // a look may have found them
    vectors_.clear();
    for (auto& buffer : buffers_)
        buffer.gather_writable(0, buffer.writable_bytes(), vectors_);
    vectors_.push_back({net_.spill_.data(), net_.spill_.size()});
    auto count = ::readv(tap_, vectors_.data(), static_cast<int>(vectors_.size()));
    if (count < 0) {
        if (errno == EINTR)
            return true;
        if (errno != EAGAIN) {
            net_.note_failure("read from the tap", errno);
            watch(false, watch_writable_); // no spinning: the next buffers try again
        }
        return false;
    }
    auto length = static_cast<std::uint64_t>(count);
    net_.receive_limit_.take(length);
    large_frames_ = length > usual;
    if (length < net_.header_bytes_ + ethernet_header_bytes ||
        (length > room_bytes_ && !spread_spill(length - room_bytes_)))
        drop_received(length);
    else
        hand_over(length);
    return true;
}

// The frame went beyond the buffers: the rest of it into further ones.
bool NetPair::spread_spill(std::uint64_t length) {
    if (!(net_.driver_features_ & net_mergeable) || length > net_.spill_.size())
        return false;
    auto rest = Bytes(net_.spill_).first(length);
    while (!rest.empty()) {
        auto chain = receive_->pop_or_wait();
        if (!chain || chain->writable_bytes() == 0)
            return false; // given back empty by the chain itself
        auto written = chain->write(
            0, rest.first(std::min<std::uint64_t>(rest.size(), chain->writable_bytes())));
        keep(std::move(*chain));
        rest = rest.subspan(written);
    }
    return true;
}

// All of a frame's buffers become visible at once: a driver that sees the first one takes the
// others as there (5.1.6.4).
void NetPair::hand_over(std::uint64_t length) {
    auto left = length;
    std::uint16_t used = 0;
    for (auto& buffer : buffers_) {
        if (left == 0)
            break;
        auto part = std::min(left, buffer.writable_bytes());
        buffer.report_written(0, part);
        left -= part;
        ++used;
    }
    auto& first = buffers_.front();
    std::uint8_t header[net_header_bytes] = {};
    store_le(MutableBytes(header).subspan(10), used); // num_buffers
    if (!(net_.guest_offloads_ & net_guest_csum))
        first.write(0, Bytes(header).first(net_.header_bytes_));
    else if (net_.header_bytes_ == net_header_bytes)
        first.write(10, Bytes(header).subspan(10));
    receive_->hold_used();
    left = length;
    for (; used > 0; --used) {
        auto part = std::min(left, buffers_.front().writable_bytes());
        left -= part;
        complete_first(part);
    }
    receive_->publish_used();
    ++frames_since_look_;
    ++net_.counters_.received_frames;
    net_.counters_.received_bytes += length - net_.header_bytes_;
}

// The buffers were written to, but stay for the next frame.
void NetPair::drop_received(std::uint64_t length) {
    ++net_.counters_.receive_dropped;
    for (auto& buffer : buffers_)
        buffer.report_written(0, buffer.writable_bytes());
    auto& first = buffers_.front();
    if (length <= room_bytes_ || first.writable_bytes() >= proper_buffer_bytes ||
        (net_.driver_features_ & net_mergeable))
        return;
    complete_first(0); // too small for any driver's good; it would be in the way for ever
}

void NetPair::give_back_buffers() {
    while (!buffers_.empty()) {
        receive_->unpop(std::move(buffers_.back()));
        buffers_.pop_back();
    }
    room_bytes_ = segments_ = 0;
}

// True when the turn's share is used up and there may be more.
bool NetPair::send_frames() {
    transmit_->want_notifications(false);
    bool more = true;
    for (unsigned frames = 0; more && frames < limits::max_frames_per_turn; ++frames) {
        more = net_.transmit_limit_.admit(); // else the queue is read when time has passed
        if (!more)
            break;
        auto chain = transmit_->pop_or_wait();
        more = chain && send_one(std::move(*chain));
    }
    transmit_->signal_used();
    return more;
}

// False when the tap is full: the frame stays in the queue.
bool NetPair::send_one(Chain chain) {
    auto total = chain.readable_bytes();
    auto length = total - std::min<std::uint64_t>(total, net_.header_bytes_);
    if (length < ethernet_header_bytes || length > limits::max_guest_frame_bytes) {
        ++net_.counters_.send_dropped;
        chain.complete(0);
        return true;
    }
    if (!write_frame(chain, length)) {
        transmit_->unpop(std::move(chain));
        watch(watch_readable_, true);
        return false;
    }
    net_.transmit_limit_.take(length);
    chain.complete(0);
    return true;
}

// False when the tap is full. The driver's header is read once; the kernel sees ours.
bool NetPair::write_frame(Chain& chain, std::uint64_t length) {
    std::array<std::uint8_t, net_header_bytes> theirs{};
    chain.read(0, MutableBytes(theirs).first(net_.header_bytes_));
    std::array<std::uint8_t, net_examined_bytes> start;
    std::size_t examined = 0;
    if (theirs[1] != 0 && (net_.driver_features_ & net_csum))
        examined = chain.read(net_.header_bytes_, start);
    auto header =
        header_for_kernel(theirs, net_.driver_features_, Bytes(start).first(examined), length);
    if (!header) {
        ++net_.malformed_;
        ++net_.counters_.send_dropped;
        return true;
    }
    vectors_.assign(1, {header->data(), net_.header_bytes_});
    chain.gather_readable(net_.header_bytes_, length, vectors_);
    ssize_t count = 0;
    do
        count = ::writev(tap_, vectors_.data(), static_cast<int>(vectors_.size()));
    while (count < 0 && errno == EINTR);
    if (count < 0 && errno == EAGAIN)
        return false;
    if (count < 0) {
        ++net_.counters_.send_dropped; // as a wire with nobody at the other end
        // EIO: the interface is down. EINVAL: a frame that the kernel does not take.
        if (errno != EIO && errno != ENOBUFS && errno != EINVAL)
            net_.note_failure("write to the tap", errno);
    } else {
        ++net_.counters_.sent_frames;
        net_.counters_.sent_bytes += length;
    }
    return true;
}

} // namespace vmhost::machine::virtio
