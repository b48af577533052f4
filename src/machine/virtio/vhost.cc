// linux/vhost.h. The order of the calls is the kernel's: size, position and addresses of a ring
// before its eventfds, and the tap (its "backend") last, which starts the work. Taking the tap away
// stops it; when that call is back, no frame is under way.
//
// The kernel serves by a thread of its own that borrows the memory of the process that called
// VHOST_SET_OWNER; it counts among this process's (or as one of root's in its cgroup, before
// Linux 6.4).
#include "machine/virtio/vhost.h"

#include <cerrno>
#include <cstring>
#include <vector>

#define VIRTIO_RING_NO_LEGACY // otherwise inline functions that are no C++ come along
#include <linux/vhost.h>
#include <sys/ioctl.h>

#include "machine/virtio/net_header.h"

namespace vmhost::machine::virtio {

namespace {

// What it must know, as the guest may negotiate it: there since Linux 4.0.
constexpr std::uint64_t ring_features =
    net_mergeable | feature_indirect_descriptors | feature_event_index | feature_version_1;
constexpr unsigned rings_of_pair = 2;

class KernelVhost final : public Vhost {
public:
    explicit KernelVhost(int fd) : fd_(fd) {}
    ~KernelVhost() override { stop(); }

    Result<void> prepare();
    Result<void> start(const Order& order) override;
    void stop() override;

private:
    Result<void> call(unsigned long request, const void* argument, const char* name) const {
        if (::ioctl(fd_, request, argument) < 0)
            return fail_errno(errno, "vhost-net: {}", name);
        return {};
    }
    Result<void> set_memory(const GuestMemory& memory) const;
    Result<void> set_ring(unsigned index, const Ring& ring, int error) const;
    Result<void> set_tap(unsigned index, int tap) const;

    const int fd_;
};

Result<void> KernelVhost::prepare() {
    // EBUSY: by a machine of before in this process. Another process's is refused by what follows.
    if (::ioctl(fd_, VHOST_SET_OWNER, nullptr) < 0 && errno != EBUSY)
        return fail_errno(errno, "vhost-net: VHOST_SET_OWNER");
    std::uint64_t offered = 0;
    TRY(call(VHOST_GET_FEATURES, &offered, "VHOST_GET_FEATURES"));
    if (auto missing = ring_features & ~offered)
        return fail(ErrorKind::unsupported, "vhost-net: this kernel's lacks features {:#x}",
                    missing);
    return {};
}

Result<void> KernelVhost::start(const Order& order) {
    auto started = [&]() -> Result<void> {
        const std::uint64_t features = order.features & ring_features;
        TRY(call(VHOST_SET_FEATURES, &features, "VHOST_SET_FEATURES"));
        TRY(set_memory(*order.memory));
        for (unsigned i = 0; i < rings_of_pair; ++i)
            TRY(set_ring(i, order.rings[i], order.error));
        for (unsigned i = 0; i < rings_of_pair; ++i)
            TRY(set_tap(i, order.tap));
        return {};
    }();
    if (!started)
        stop();
    return started;
}

void KernelVhost::stop() {
    for (unsigned i = 0; i < rings_of_pair; ++i)
        (void)set_tap(i, -1); // fails only before the first start
}

// The guest's RAM; what is reserved, such as firmware, is none to be written to by a device.
Result<void> KernelVhost::set_memory(const GuestMemory& memory) const {
    std::vector<vhost_memory_region> regions;
    for (const auto& range : memory.ranges())
        if (range.ram)
            regions.push_back({.guest_phys_addr = range.start,
                               .memory_size = range.size_bytes,
                               .userspace_addr = reinterpret_cast<std::uintptr_t>(range.host),
                               .flags_padding = 0});
    // struct vhost_memory: the number of regions and padding, then the regions.
    constexpr std::size_t head_bytes = 8;
    std::vector<std::uint8_t> table(head_bytes + regions.size() * sizeof(vhost_memory_region));
    store_le(MutableBytes(table), static_cast<std::uint32_t>(regions.size()));
    std::memcpy(table.data() + head_bytes, regions.data(),
                regions.size() * sizeof(vhost_memory_region));
    return call(VHOST_SET_MEM_TABLE, table.data(), "VHOST_SET_MEM_TABLE");
}

Result<void> KernelVhost::set_ring(unsigned index, const Ring& ring, int error) const {
    auto state = [index](std::uint16_t value) { return vhost_vring_state{index, value}; };
    auto file = [index](int fd) { return vhost_vring_file{index, fd}; };
    auto address = [](const std::uint8_t* place) {
        return reinterpret_cast<std::uintptr_t>(place);
    };
    const auto size = state(ring.place.size), position = state(ring.place.next_available);
    vhost_vring_addr addresses{};
    addresses.index = index;
    addresses.desc_user_addr = address(ring.place.descriptors);
    addresses.avail_user_addr = address(ring.place.available);
    addresses.used_user_addr = address(ring.place.used);
    const auto kick = file(ring.wires.doorbell), interrupt = file(ring.wires.interrupt),
               complaint = file(error);
    TRY(call(VHOST_SET_VRING_NUM, &size, "VHOST_SET_VRING_NUM"));
    TRY(call(VHOST_SET_VRING_BASE, &position, "VHOST_SET_VRING_BASE"));
    TRY(call(VHOST_SET_VRING_ADDR, &addresses, "VHOST_SET_VRING_ADDR"));
    TRY(call(VHOST_SET_VRING_ERR, &complaint, "VHOST_SET_VRING_ERR"));
    TRY(call(VHOST_SET_VRING_CALL, &interrupt, "VHOST_SET_VRING_CALL"));
    return call(VHOST_SET_VRING_KICK, &kick, "VHOST_SET_VRING_KICK");
}

Result<void> KernelVhost::set_tap(unsigned index, int tap) const {
    vhost_vring_file backend{index, tap};
    return call(VHOST_NET_SET_BACKEND, &backend, "VHOST_NET_SET_BACKEND");
}

} // namespace

Result<std::unique_ptr<Vhost>> open_vhost(int fd) {
    auto made = std::make_unique<KernelVhost>(fd);
    TRY(made->prepare());
    return std::unique_ptr<Vhost>(std::move(made));
}

} // namespace vmhost::machine::virtio
