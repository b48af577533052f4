// The door of net/: the bridges and taps of a host, and the VLAN, VXLAN and VRF links beneath
// them, made when the host starts and gone when it ends.
//
// Runs in the privileged parent on one thread; every call is synchronous. What
// is ours carries the alias "vmhost:TAG:…" (TAG names the host, so that two
// vmhosts on one kernel do not take each other's links); a link without it is
// never changed or removed, except that ports named in the file are attached
// and released again, and the parents of our VLANs are raised. Every call that fails leaves things
// as they were before it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "base/base.h"
#include "net/links.h"
#include "net/trace.h"

namespace vmhost::net {

struct PortSpec {
    std::string name; // an interface of the host, or a VLAN of one
    std::string parent = {};
    unsigned vlan_of_parent =
        0;            // the interface is this VLAN of the parent, made by us; 0 = it exists
    Vlans vlans = {}; // on a bridge that knows VLANs
    PortSpec(const char* existing) : name(existing) {}
    PortSpec(std::string existing) : name(std::move(existing)) {}
};

struct VxlanSpec {
    std::string name; // of the interface
    VxlanOptions options;
    std::vector<Ipv4> peers; // each gets what nobody is known for
};

struct BridgeSpec {
    std::string name;
    std::optional<Ipv4Prefix> ipv4; // the host's address on the bridge
    std::optional<Ipv6Prefix> ipv6; // the same; there is the link-local one of its MAC, too
    unsigned mtu = 1500;
    std::vector<PortSpec> ports;
    bool up = true;
    std::string description = {};        // into the alias; empty = the name
    std::optional<Vlans> vlans = {};     // of this host; none = the bridge knows no VLANs
    std::optional<VxlanSpec> vxlan = {}; // one more port
    unsigned rdomain = 0;                // routing domain: the table of its routes; 0 = main
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
    PortGuard guard = {};
    std::optional<Mac> known_as = {}; // on a bridge: what is for this address is sent here, always
    bool isolated = false; // on a bridge: nothing goes to, or comes from, another isolated tap
    Vlans vlans = {};      // on a bridge that knows VLANs
    unsigned rdomain = 0;  // plugged into nothing: as BridgeSpec's
};

// What is not as this object made it, since somebody else has changed it.
struct Foreign {
    std::string link; // the bridge or tap that was made
    std::string what; // "ipv4", "mtu", "up", "ports", …: as the key of vmhost.toml(5)
    std::string have, wanted;
};

// "vm13-if0"; a name that does not fit the kernel's 15 bytes is cut and told
// apart by a hash: "a-very-0a1b-if0".
std::string tap_name(std::string_view vm, unsigned interface_index);

// The bridge's own address: the same on each start, whatever ports come and go. The other links
// that we make have theirs by the same rule.
Mac bridge_mac(std::string_view host_tag, std::string_view bridge);

// "rdomain3": the link that is a routing domain.
std::string rdomain_name(unsigned rdomain);

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
    // its ports, address and settings become those of the specification. Ports and the address
    // are taken from other bridges that it left.
    Result<unsigned> make_bridge(const BridgeSpec& spec);
    // Ports, address and settings of a bridge that this object made become those of the
    // specification; its taps stay. One that somebody has removed is made again, without taps. When
    // it fails the bridge may have some of either. The index of the bridge.
    Result<unsigned> change_bridge(const BridgeSpec& spec);
    // The descriptor is non-blocking and close-on-exec; frames have a virtio-net
    // header of 12 bytes in front. The tap is gone when its last descriptor is closed.
    Result<Fd> make_tap(const TapSpec& spec);
    // One more queue of a tap that was made for several, with the same properties. The kernel
    // spreads frames over them.
    Result<Fd> add_tap_queue(const std::string& name);
    // A tap that an earlier run of this host made and a process still holds; its bridge, if it
    // was on one, is made already. It stays as it is, and is taken for what it was to be.
    Result<void> adopt_tap(const std::string& name);
    Result<void> attach_port(const std::string& bridge, const std::string& port);

    // What a tap of ours, made or adopted, may say from now on.
    Result<void> guard_tap(const std::string& name, const PortGuard& guard);
    // Somebody may empty all tables of the kernel (nft flush ruleset): puts back what is missing.
    // How many taps were without their guard.
    Result<std::size_t> mend_guards();
    // Readable when it is time for that, to be read until it is empty; none: never.
    Result<std::optional<Fd>> watch_guards() { return links_->watch_guards(); }
    // What the guards dropped, of every tap of ours and reason.
    Result<std::vector<GuardCount>> guard_counts();

    // Guests with an address of the prefix reach beyond this host from now on, with its address;
    // none = they do not.
    Result<void> translate(const std::optional<Ipv4Prefix>& locals);

    // Only what this object made; not_found for anything else.
    Result<void> remove_bridge(const std::string& name);
    Result<void> remove_tap(const std::string& name);
    Result<void> release_port(const std::string& port);

    // Removes bridges, and what is beneath them, that an earlier run left and this one has not
    // asked for: call it when all bridges are made.
    Result<void> remove_stale_bridges();

    // What others have changed of these bridges and of all taps that this object has made.
    Result<std::vector<Foreign>> foreign_changes(const std::vector<BridgeSpec>& bridges);
    // A tap becomes again what it was made as.
    Result<void> restore_tap(const std::string& name);

    // What is there, for who wants to see it.
    Links& links() { return *links_; }
    // From now on the destructor undoes nothing: the next run adopts it all.
    void leave() {
        made_.clear();
        translated_.reset();
    }

private:
    enum class Kind : std::uint8_t {
        bridge,
        tap,
        port,    // an interface of the host
        beneath, // a VLAN or VXLAN link that is a port
        rdomain,
        raised, // an interface of the host: the parent of a VLAN
    };
    struct Made {
        Kind kind;
        unsigned index;
        std::string name;
        unsigned bridge = 0; // of a port
        bool was_up = false; // of a port, or of what was raised
        unsigned needs = 0;  // of a bridge or tap: its rdomain; of a VLAN: the parent's index
    };
    using Mades = std::vector<Made>;

    Network(std::string host_tag, std::unique_ptr<Links> links);
    bool ours(const Link& link) const;
    std::string table() const { return "vmhost-" + tag_; } // of the guards
    Result<void> remove_stale_guards();
    void forget_guard(const std::string& tap);
    bool left_over(const Link& link) const;
    std::string alias(std::string_view text) const;
    Mades::iterator find_made(Kind kind, std::string_view name);
    Result<void> check_conflict(const BridgeSpec& spec);
    Result<unsigned> create_bridge(const BridgeSpec& spec);
    Result<void> set_up_bridge(unsigned index, const BridgeSpec& spec);
    Result<void> release_other_ports(unsigned index, const BridgeSpec& spec);
    Result<void> set_address(unsigned index, const BridgeSpec& spec);
    Result<void> set_address6(unsigned index, const BridgeSpec& spec);
    Result<void> set_rdomain(unsigned index, const BridgeSpec& spec);
    Result<void> attach(unsigned bridge, const std::string& bridge_name, const PortSpec& port,
                        bool vlans);
    Result<unsigned> attach_existing(unsigned bridge, const std::string& port);
    Result<void> remove_made(Kind kind, std::string_view what, const std::string& name);
    Result<void> undo(const Made& made);
    Result<bool> carries_foreign_taps(unsigned bridge);
    void undo_from(std::size_t count);
    // taps.cc
    Result<void> configure_tap(const TapSpec& spec);
    Result<void> plug(const Link& tap, const TapSpec& spec, unsigned master);
    Result<unsigned> master_of(const TapSpec& spec);
    // beneath.cc: VLANs, VXLAN segments and routing domains
    Result<unsigned> make_beneath(const std::string& name, unsigned bridge,
                                  const LinkOptions& wanted);
    Result<unsigned> make_vlan(unsigned bridge, const PortSpec& port);
    Result<void> make_vxlan(unsigned bridge, const BridgeSpec& spec);
    Result<void> set_peers(unsigned vxlan, const std::vector<Ipv4>& peers);
    Result<void> check_underlay(const BridgeSpec& spec);
    Result<unsigned> make_rdomain(unsigned rdomain);
    Result<void> drop_unneeded();

    std::string tag_;
    std::string prefix_; // of our aliases
    std::unique_ptr<Links> links_;
    Mades made_;                          // in the order of making
    std::map<std::string, TapSpec> taps_; // those of them, by name
    std::optional<Ipv4Prefix> translated_;
    std::map<std::string, PortGuard> guards_; // by tap, those that are to be there
};

} // namespace vmhost::net
