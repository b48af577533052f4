#include "machine/virtio/net.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include "machine/virtio/net_pair.h"

namespace vmhost::machine::virtio {

namespace {

constexpr std::uint16_t status_link_up = 1;
constexpr std::uint16_t queues_per_pair = 2;

// Drops features whose requirements (5.1.3.1) the driver has not taken.
std::uint64_t consistent(std::uint64_t features) {
    if (!(features & net_csum))
        features &= ~std::uint64_t{net_host_tso4 | net_host_tso6 | net_host_ecn};
    if (!(features & net_guest_csum))
        features &= ~std::uint64_t{net_guest_tso4 | net_guest_tso6 | net_guest_ecn};
    if (!(features & net_control_queue))
        features &= ~std::uint64_t{net_control_receive | net_guest_offloads | net_multi_queue};
    return features;
}

unsigned long tap_offloads(std::uint64_t features) {
    unsigned long flags = 0;
    if (features & net_guest_csum)
        flags |= TUN_F_CSUM;
    if (features & net_guest_tso4)
        flags |= TUN_F_TSO4;
    if (features & net_guest_tso6)
        flags |= TUN_F_TSO6;
    if ((features & net_guest_ecn) && (features & (net_guest_tso4 | net_guest_tso6)))
        flags |= TUN_F_TSO_ECN;
    // The kernel refuses segmentation without checksums.
    return flags & TUN_F_CSUM ? flags : 0;
}

} // namespace

Result<std::unique_ptr<Net>> Net::create(Settings settings, Loop& loop, Bus::Lock& lock,
                                         Clock& clock) {
    if (settings.taps.empty() || settings.taps.size() > limits::max_queue_pairs)
        return fail(ErrorKind::limit, "{}: {} queues of a tap: 1 to {} are possible", settings.name,
                    settings.taps.size(), limits::max_queue_pairs);
    if (!settings.vhosts.empty() && settings.vhosts.size() != settings.taps.size())
        return fail(ErrorKind::internal, "{}: {} times vhost-net for {} queues of a tap",
                    settings.name, settings.vhosts.size(), settings.taps.size());
    TRY(prepare_taps(settings)); // before anything of ours watches them
    auto made = std::unique_ptr<Net>(new Net(std::move(settings), loop, lock, clock));
    // All queues are attached, but for those that a machine of before in this process detached.
    made->pairs_in_use_ = static_cast<unsigned>(made->pairs_.size());
    made->use_pairs(1);
    return made;
}

Net::Net(Settings settings, Loop& loop, Bus::Lock& lock, Clock& clock)
    : settings_(std::move(settings)), lock_(lock), clock_(clock),
      spill_(1), // enough to tell a frame that fits from one that was cut
      receive_limit_(clock, settings_.limit,
                     [this] {
                         for (auto& pair : pairs_)
                             pair->go_on_receiving();
                     }),
      transmit_limit_(clock, settings_.limit, [this] {
          for (auto& pair : pairs_)
              pair->go_on_transmitting();
      }) {
    for (unsigned i = 0; i < settings_.taps.size(); ++i)
        pairs_.push_back(std::make_unique<NetPair>(
            *this, i, settings_.taps[i],
            settings_.vhosts.empty() ? nullptr : settings_.vhosts[i].get(), loop));
    // struct virtio_net_config (5.1.4): mac, status, max_virtqueue_pairs, mtu.
    std::ranges::copy(settings_.mac.octets, config_.begin());
    auto put = [this](std::size_t offset, std::uint16_t value) {
        store_le(MutableBytes(config_).subspan(offset), value);
    };
    put(6, status_link_up);
    put(8, static_cast<std::uint16_t>(pairs_.size()));
    put(10, settings_.mtu);
}

Net::~Net() = default;

Result<void> Net::prepare_taps(const Settings& settings) {
    int header = net_header_bytes;
    if (::ioctl(settings.taps[0], TUNSETVNETHDRSZ, &header) != 0)
        return fail_errno(errno, "{}: set the tap's header size to {}", settings.name, header);
    if (::ioctl(settings.taps[0], TUNSETOFFLOAD, 0UL) != 0)
        return fail_errno(errno, "{}: turn the tap's offloads off", settings.name);
    for (int tap : settings.taps) {
        int flags = ::fcntl(tap, F_GETFL);
        if (flags < 0 || ::fcntl(tap, F_SETFL, flags | O_NONBLOCK) != 0)
            return fail_errno(errno, "{}: make the tap non-blocking", settings.name);
    }
    return {};
}

std::uint64_t Net::features() const {
    return net_mac | net_status | net_mtu | net_csum | net_guest_csum | net_host_tso4 |
           net_host_tso6 | net_host_ecn | net_guest_tso4 | net_guest_tso6 | net_guest_ecn |
           net_mergeable | net_control_queue | net_control_receive | net_guest_offloads |
           (pairs_.size() > 1 ? std::uint64_t{net_multi_queue} : 0);
}

std::vector<std::uint16_t> Net::queue_sizes() const {
    return std::vector<std::uint16_t>(queues_per_pair * pairs_.size() + 1, queue_size);
}

// The control queue comes behind all pairs, or behind the first for a driver that knows only
// that one (5.1.2).
void Net::activate(std::uint64_t driver_features, std::vector<Queue*> queues) {
    driver_features_ = consistent(driver_features);
    const bool multi = driver_features_ & net_multi_queue;
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
        bool known = i == 0 || multi;
        pairs_[i]->set_queues(known ? queues.at(queues_per_pair * i) : nullptr,
                              known ? queues.at(queues_per_pair * i + 1) : nullptr);
    }
    control_index_ = static_cast<std::uint16_t>(queues_per_pair * (multi ? pairs_.size() : 1));
    control_ = driver_features_ & net_control_queue ? queues.at(control_index_) : nullptr;

    bool full_header = driver_features_ & (feature_version_1 | net_mergeable);
    header_bytes_ = full_header ? net_header_bytes : net_legacy_header_bytes;
    int header = static_cast<int>(header_bytes_);
    if (::ioctl(settings_.taps[0], TUNSETVNETHDRSZ, &header) != 0)
        note_failure("set the tap's header size", errno);
    if (auto set = set_offloads(driver_features_); !set)
        log::warning("virtio", "{}", set.error().text());
    if (driver_features_ & net_mergeable)
        spill_.resize(net_header_bytes + limits::max_guest_frame_bytes);
    active_ = true;
}

void Net::reset() {
    active_ = false;
    for (auto& pair : pairs_) {
        pair->take_back(false);
        pair->set_queues(nullptr, nullptr);
    }
    control_ = nullptr;
    driver_features_ = 0;
    use_pairs(1);
    (void)set_offloads(0);
}

// What the driver asked for on the control queue comes again.
void Net::state(StateArchive& archive) {
    auto pairs = pairs_in_use_;
    auto offloads = guest_offloads_;
    archive.at_most(pairs, static_cast<unsigned>(pairs_.size()), "queue pairs in use");
    archive(offloads);
    if (!archive.loading() || !archive.ok() || !active_)
        return;
    if ((offloads & ~driver_features_) != 0 || !use_pairs(pairs))
        return archive.refuse("its queue pairs or offloads are not those of its driver");
    if (auto set = set_offloads(offloads); !set)
        archive.refuse(set.error().text(), ErrorKind::unsupported);
}

void Net::pause() {
    paused_ = true;
    stop_vhosts();
    for (auto& pair : pairs_)
        pair->stop();
}

bool Net::lends_frames() const {
    return std::ranges::any_of(pairs_, [](const auto& pair) { return pair->has_vhost(); });
}

void Net::stop_vhosts() {
    for (auto& pair : pairs_)
        pair->take_back(true);
}

Result<void> Net::set_offloads(std::uint64_t features) {
    if (::ioctl(settings_.taps[0], TUNSETOFFLOAD, tap_offloads(features)) != 0)
        return fail_errno(errno, "{}: set the tap's offloads", name());
    guest_offloads_ = features;
    return {};
}

// Attaches the tap's queues of the first pairs, detaches the others.
bool Net::use_pairs(unsigned count) {
    if (count == 0 || count > pairs_.size())
        return false;
    if (pairs_.size() == 1)
        return true;
    bool done = true;
    for (unsigned i = 0; i < pairs_.size(); ++i) {
        bool was = i < pairs_in_use_, wanted = i < count;
        if (was == wanted)
            continue;
        ifreq request{};
        request.ifr_flags = wanted ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
        pairs_[i]->take_back(true);
        // EINVAL: it is like that already.
        if (::ioctl(pairs_[i]->tap(), TUNSETQUEUE, &request) != 0 && errno != EINVAL) {
            note_failure("attach or detach a queue of the tap", errno);
            done = false;
        }
    }
    pairs_in_use_ = count;
    return done;
}

bool Net::notify(std::uint16_t queue) {
    if (!active_)
        return false;
    if (control_ != nullptr && queue == control_index_) {
        auto before = pairs_in_use_;
        bool more = serve_control();
        // Frames and buffers that were there before the pair was in use.
        for (auto i = before; i < pairs_in_use_; ++i) {
            if (pairs_[i]->lend())
                continue;
            pairs_[i]->go_on_receiving();
            pairs_[i]->go_on_transmitting();
        }
        return more;
    }
    return serve_pair(queue);
}

bool Net::serve_pair(std::uint16_t queue) {
    auto index = queue / queues_per_pair;
    if (static_cast<std::size_t>(index) >= pairs_.size())
        return false;
    auto& pair = *pairs_[index];
    const bool transmit = queue % queues_per_pair == 1;
    if (pair.lend()) {
        pair.ring(transmit);
        return false;
    }
    if (transmit)
        return pair.transmit();
    pair.go_on_receiving(); // buffers have come
    return false;
}

void Net::note_failure(std::string_view what, int error_number) {
    if (!std::exchange(failure_logged_, true))
        log::error("virtio", "{}; further failures are only counted",
                   Error::system(error_number, fmt::format("{}: {}", name(), what)).text());
}

} // namespace vmhost::machine::virtio
