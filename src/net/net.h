// The door of net/: the bridges and taps of a host, made when the host starts
// and gone when it ends.
//
// Runs in the privileged parent on one thread; every call is synchronous. What
// is ours carries the alias "vmhost:TAG:…" (TAG names the host, so that two
// vmhosts on one kernel do not take each other's links); a link without it is
// never changed or removed, except that ports named in the file are attached
// and released again. Every call that fails leaves things as they were before it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "base/base.h"
#include "net/links.h"

namespace vmhost::net {

struct BridgeSpec {
    std::string name;
    std::optional<Ipv4Prefix> ipv4; // the host's address on the bridge
    unsigned mtu = 1500;
    std::vector<std::string> ports; // existing interfaces of the host
    bool up = true;
};

struct TapSpec {
    std::string name;        // see tap_name()
    std::string bridge;      // made by make_bridge; empty = plugged into nothing
    std::string description; // into the alias; empty = the name
    uid_t owner = 0;         // may attach to it again without rights
    unsigned mtu = 1500;
    bool several_queues = false; // see add_tap_queue()
    bool up = true;
    std::optional<Mac> locked_to; // the only address that may send, and be sent to; on a bridge
};

// "vm13-if0"; a name that does not fit the kernel's 15 bytes is cut and told
// apart by a hash: "a-very-0a1b-if0".
std::string tap_name(std::string_view vm, unsigned interface_index);

// The bridge's own address: the same on each start, whatever ports come and go.
Mac bridge_mac(std::string_view host_tag, std::string_view bridge);

class Network {
public:
    // Deletes taps that an earlier run of this host left and nobody holds.
    static Result<std::unique_ptr<Network>> open(std::string host_tag);
    static Result<std::unique_ptr<Network>> open(std::string host_tag,
                                                 std::unique_ptr<Links> links);
    // Undoes everything that it made, last first. A bridge of ours that still
    // carries the tap of another process (a guest that outlived an earlier
    // parent) is left.
    ~Network();
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;

    // The bridge's interface index. A bridge that an earlier run left is adopted:
    // its ports, address and settings become those of the specification.
    Result<unsigned> make_bridge(const BridgeSpec& spec);
    // Ports, address and settings of a bridge that this object made become those of the
    // specification; its taps stay. When that fails it may have some of either.
    Result<void> change_bridge(const BridgeSpec& spec);
    // The descriptor is non-blocking and close-on-exec; frames have a virtio-net
    // header of 12 bytes in front. The tap is gone when its last descriptor is closed.
    Result<Fd> make_tap(const TapSpec& spec);
    // One more queue of a tap that was made for several, with the same properties. The kernel
    // spreads frames over them.
    Result<Fd> add_tap_queue(const std::string& name);
    Result<void> attach_port(const std::string& bridge, const std::string& port);

    // Only what this object made; not_found for anything else.
    Result<void> remove_bridge(const std::string& name);
    Result<void> remove_tap(const std::string& name);
    Result<void> release_port(const std::string& port);

    // Removes bridges that an earlier run left and this one has not asked for:
    // call it when all bridges are made.
    Result<void> remove_stale_bridges();

    // From now on the destructor undoes nothing: the next run adopts it all.
    void leave() { made_.clear(); }

private:
    enum class Kind : std::uint8_t { bridge, tap, port };
    struct Made {
        Kind kind;
        unsigned index;
        std::string name;
        unsigned bridge = 0; // of a port
        bool was_up = false; // of a port
    };

    Network(std::string host_tag, std::unique_ptr<Links> links);
    bool ours(const Link& link) const;
    std::string alias(std::string_view text) const { return prefix_ + std::string(text); }
    Result<void> check_conflict(const BridgeSpec& spec);
    Result<unsigned> create_bridge(const BridgeSpec& spec);
    Result<void> set_up_bridge(unsigned index, const BridgeSpec& spec);
    Result<void> release_other_ports(unsigned index, const BridgeSpec& spec);
    Result<void> set_address(unsigned index, const BridgeSpec& spec);
    Result<void> attach(unsigned bridge, const std::string& bridge_name, const std::string& port);
    Result<void> configure_tap(const TapSpec& spec, std::optional<unsigned> bridge);
    Result<void> remove_made(Kind kind, std::string_view what, const std::string& name);
    Result<void> undo(const Made& made);
    Result<bool> carries_foreign_taps(unsigned bridge);
    void undo_from(std::size_t count);

    std::string tag_;
    std::string prefix_; // of our aliases
    std::unique_ptr<Links> links_;
    std::vector<Made> made_; // in the order of making
};

} // namespace vmhost::net
