// Opening and reaping tap devices.
//
// A tap is never made persistent: it lives as long as somebody holds its
// descriptor, so a crash of every process leaves none behind. Frames carry a
// virtio-net header (12 bytes, the form with num_buffers), so that a guest's
// checksum and segmentation offloads pass through unchanged.
#include "net/tap.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

namespace vmhost::net {

namespace {

constexpr const char* tun_device = "/dev/net/tun";
constexpr int tap_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
constexpr int vnet_header_bytes = 12; // struct virtio_net_hdr_v1, virtio 1.2 §5.1.6

std::unexpected<Error> tap_error(int error_number, const std::string& name, const char* step) {
    auto error = Error::system(error_number, fmt::format("tap {}: {}", name, step));
    std::string hint;
    if (error_number == EPERM || error_number == EACCES)
        hint = needs_rights;
    else if (error_number == ENOENT || error_number == ENODEV || error_number == ENXIO)
        hint = "; this kernel has no tun driver, or its module is not loaded (modprobe tun)";
    return std::unexpected(Error(error.kind(), error.text() + hint));
}

Result<Fd> open_tun(const std::string& name) {
    Fd fd(::open(tun_device, O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!fd)
        return tap_error(errno, name, "open /dev/net/tun");
    return fd;
}

int set_interface(const Fd& fd, const std::string& name, int flags) {
    ifreq request{};
    std::memcpy(request.ifr_name, name.data(), std::min<std::size_t>(name.size(), IFNAMSIZ - 1));
    request.ifr_flags = static_cast<short>(flags);
    return ::ioctl(fd.get(), TUNSETIFF, &request) < 0 ? errno : 0;
}

} // namespace

Result<Fd> open_tap_device(const std::string& name, uid_t owner, bool several_queues) {
    auto fd = TRY(open_tun(name));
    // TUN_EXCL: never attach to a tap that is there already.
    const int flags = tap_flags | IFF_TUN_EXCL | (several_queues ? IFF_MULTI_QUEUE : 0);
    if (int error = set_interface(fd, name, flags))
        return tap_error(error, name, "create");
    int header_bytes = vnet_header_bytes;
    if (::ioctl(fd.get(), TUNSETVNETHDRSZ, &header_bytes) < 0)
        return tap_error(errno, name, "set the size of the virtio-net header");
    if (::ioctl(fd.get(), TUNSETOWNER, static_cast<unsigned long>(owner)) < 0)
        return tap_error(errno, name, "set the owner");
    return fd;
}

Result<Fd> open_tap_device_queue(const std::string& name) {
    auto fd = TRY(open_tun(name));
    if (int error = set_interface(fd, name, tap_flags | IFF_MULTI_QUEUE))
        return tap_error(error, name, "open another queue");
    return fd;
}

Result<bool> reap_tap_device(const std::string& name) {
    auto fd = TRY(open_tun(name));
    int error = set_interface(fd, name, tap_flags);
    // Held with one queue, or one of several queues: such a one exists only while it is held.
    if (error == EBUSY || error == EINVAL)
        return false;
    if (error)
        return tap_error(error, name, "attach to a leftover");
    // It is ours alone now, and goes with the descriptor.
    if (::ioctl(fd.get(), TUNSETPERSIST, 0UL) < 0)
        return tap_error(errno, name, "delete a leftover");
    return true;
}

Result<void> disable_ipv6_on(const std::string& name) {
    // An interface name is one path component: check_link_name saw to it.
    auto path = fmt::format("/proc/sys/net/ipv6/conf/{}/disable_ipv6", name);
    Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd && errno == ENOENT)
        return {}; // a kernel without IPv6, or with ipv6.disable=1
    if (!fd || ::write(fd.get(), "1", 1) != 1)
        return fail_errno(errno, "tap {}: disable IPv6: {}", name, path);
    return {};
}

Result<void> enable_ipv6_on(const std::string& name) {
    // What is not wanted is off before IPv6 is on. The link-local address is the kernel's to make
    // anew when the bridge was down: it keeps only the others.
    struct Setting {
        const char* key;
        const char* value;
    };
    constexpr Setting settings[] = {
        {"accept_ra", "0"},         {"accept_redirects", "0"}, {"autoconf", "0"},
        {"addr_gen_mode", "0"},     {"accept_dad", "0"},       {"use_tempaddr", "0"},
        {"keep_addr_on_down", "1"}, {"disable_ipv6", "0"},
    };
    for (const auto& setting : settings) {
        auto path = fmt::format("/proc/sys/net/ipv6/conf/{}/{}", name, setting.key);
        Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
        if (!fd && errno == ENOENT)
            return fail(ErrorKind::unsupported,
                        "{}: this kernel has no IPv6, or not all of it ({} is missing): give the "
                        "switch no ipv6",
                        name, path);
        if (!fd || ::write(fd.get(), setting.value, 1) != 1)
            return fail_errno(errno, "{}: write {} to {}", name, setting.value, path);
    }
    return {};
}

} // namespace vmhost::net
