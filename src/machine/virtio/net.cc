#include "machine/virtio/net.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

namespace vmhost::machine::virtio {

namespace {

constexpr std::uint64_t feature_mac = 1 << 5, feature_status = 1 << 16;
constexpr std::uint16_t status_link_up = 1;
constexpr std::uint16_t receive_queue = 0;
constexpr std::size_t ethernet_header_bytes = 14;
// What a driver without offloads must provide per frame (5.1.6.3.1): header and 1514 bytes.
constexpr std::uint64_t proper_buffer_bytes = 1526;

Result<void> prepare_tap(int tap, std::string_view name) {
    int header = Net::header_bytes;
    if (::ioctl(tap, TUNSETVNETHDRSZ, &header) != 0)
        return fail_errno(errno, "{}: set the tap's header size to {}", name, header);
    if (::ioctl(tap, TUNSETOFFLOAD, 0UL) != 0)
        return fail_errno(errno, "{}: turn the tap's offloads off", name);
    int flags = ::fcntl(tap, F_GETFL);
    if (flags < 0 || ::fcntl(tap, F_SETFL, flags | O_NONBLOCK) != 0)
        return fail_errno(errno, "{}: make the tap non-blocking", name);
    return {};
}

} // namespace

Result<std::unique_ptr<Net>> Net::create(std::string name, int tap_fd, Mac mac, Loop& loop,
                                         Bus::Lock& lock) {
    TRY(prepare_tap(tap_fd, name));
    return std::unique_ptr<Net>(new Net(std::move(name), tap_fd, mac, loop, lock));
}

Net::Net(std::string name, int tap_fd, Mac mac, Loop& loop, Bus::Lock& lock)
    : name_(std::move(name)), tap_(tap_fd), lock_(lock),
      watch_(loop, tap_fd, [this](Watch::Ready now) { ready(now); }) {
    // struct virtio_net_config (5.1.4): mac, status.
    std::ranges::copy(mac.octets, config_.begin());
    store_le<std::uint16_t>(MutableBytes(config_).subspan(6), status_link_up);
}

std::uint64_t Net::features() const {
    return feature_mac | feature_status;
}

void Net::activate(std::uint64_t, std::vector<Queue*> queues) {
    receive_ = queues.at(0);
    transmit_ = queues.at(1);
}

bool Net::notify(std::uint16_t queue) {
    if (queue == receive_queue) {
        watch(receive_ != nullptr, watch_writable_); // buffers have come: read the tap again
        return false;
    }
    // While the tap is full, its becoming writable goes on with the queue.
    return transmit_ != nullptr && !watch_writable_ && send_frames();
}

void Net::watch(bool readable, bool writable) {
    if (readable == watch_readable_ && writable == watch_writable_)
        return;
    watch_readable_ = readable;
    watch_writable_ = writable;
    watch_.set(readable, writable);
}

void Net::pause() {
    paused_ = true;
    watch(false, false);
}

void Net::ready(Watch::Ready now) {
    std::scoped_lock guard(lock_);
    if (paused_)
        return;
    if (now.hangup) { // the interface was deleted
        watch(false, false);
        note_failure("the tap is gone", ENODEV);
        return;
    }
    if (now.readable)
        receive_frames();
    if (now.writable) {
        watch(watch_readable_, false);
        // More than one turn's share: the tap is writable again at once.
        if (transmit_ != nullptr && send_frames())
            watch(watch_readable_, true);
    }
}

void Net::receive_frames() {
    if (receive_ == nullptr)
        return watch(false, watch_writable_);
    receive_->want_notifications(false);
    for (unsigned frames = 0; frames < limits::max_frames_per_turn; ++frames) {
        auto chain = receive_->pop_or_wait();
        if (!chain) {
            watch(false, watch_writable_); // until the guest provides buffers
            break;
        }
        if (!receive_one(std::move(*chain)))
            break;
    }
    receive_->signal_used();
}

// False when the tap has nothing more.
bool Net::receive_one(Chain chain) {
    auto room = chain.writable_bytes();
    if (room < header_bytes + ethernet_header_bytes) {
        ++malformed_;
        chain.complete(0);
        return true;
    }
    // One byte more than the guest has room for tells a frame that fits from one that was cut.
    std::uint8_t tap_header[header_bytes], beyond = 0;
    vectors_.assign(1, {tap_header, sizeof(tap_header)});
    chain.gather_writable(header_bytes, room - header_bytes, vectors_);
    vectors_.push_back({&beyond, 1});
    auto count = ::readv(tap_, vectors_.data(), static_cast<int>(vectors_.size()));
    if (count < 0) {
        int error = errno;
        receive_->unpop(std::move(chain));
        if (error == EINTR)
            return true;
        if (error != EAGAIN) {
            note_failure("read from the tap", error);
            watch(false, watch_writable_); // no spinning: the next buffers try again
        }
        return false;
    }
    auto length = static_cast<std::uint64_t>(count);
    chain.report_written(header_bytes, std::min(length, room) - std::min(length, header_bytes));
    if (length < header_bytes + ethernet_header_bytes || length > room) {
        ++counters_.receive_dropped;
        if (length > room && room < proper_buffer_bytes)
            chain.complete(0); // too small for any driver's good; it would be in the way for ever
        else
            receive_->unpop(std::move(chain));
        return true;
    }
    std::uint8_t header[header_bytes] = {};
    store_le<std::uint16_t>(MutableBytes(header).subspan(10), 1); // num_buffers
    chain.write(0, header);
    chain.complete(static_cast<std::uint32_t>(length));
    ++counters_.received_frames;
    counters_.received_bytes += length - header_bytes;
    return true;
}

// True when the turn's share is used up and there may be more.
bool Net::send_frames() {
    transmit_->want_notifications(false);
    bool more = true;
    for (unsigned frames = 0; more && frames < limits::max_frames_per_turn; ++frames) {
        auto chain = transmit_->pop_or_wait();
        more = chain && send_one(std::move(*chain));
    }
    transmit_->signal_used();
    return more;
}

// False when the tap is full: the frame stays in the queue.
bool Net::send_one(Chain chain) {
    auto total = chain.readable_bytes();
    auto length = total - std::min<std::uint64_t>(total, header_bytes);
    if (length < ethernet_header_bytes || length > limits::max_guest_frame_bytes) {
        ++counters_.send_dropped;
        chain.complete(0);
        return true;
    }
    std::uint8_t header[header_bytes] = {};
    vectors_.assign(1, {header, sizeof(header)});
    chain.gather_readable(header_bytes, length, vectors_);
    ssize_t count = 0;
    do
        count = ::writev(tap_, vectors_.data(), static_cast<int>(vectors_.size()));
    while (count < 0 && errno == EINTR);
    if (count < 0 && errno == EAGAIN) {
        transmit_->unpop(std::move(chain));
        watch(watch_readable_, true);
        return false;
    }
    if (count < 0) {
        ++counters_.send_dropped;             // as a wire with nobody at the other end
        if (errno != EIO && errno != ENOBUFS) // EIO: the interface is down
            note_failure("write to the tap", errno);
    } else {
        ++counters_.sent_frames;
        counters_.sent_bytes += length;
    }
    chain.complete(0);
    return true;
}

void Net::note_failure(const char* what, int error_number) {
    if (!std::exchange(failure_logged_, true))
        log::error("virtio", "{}; further failures are only counted",
                   Error::system(error_number, fmt::format("{}: {}", name_, what)).text());
}

} // namespace vmhost::machine::virtio
