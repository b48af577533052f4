// The typed model of one configuration file: what the operator said, with every
// default filled in and every derived value assigned. Values only; nothing here
// opens, resolves or changes anything on the host.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/base.h"
#include "config/life_limits.h"
#include "config/switch_limits.h"

namespace vmhost::config {

// Where something was written. Two models that say the same are equal wherever they say
// it, so places do not take part in comparisons.
struct Where : Place {
    Where() = default;
    Where(Place place) : Place(std::move(place)) {}
    bool operator==(const Where&) const { return true; }
};

enum class Accel : std::uint8_t { automatic, kvm, soft };
enum class BootDevice : std::uint8_t { automatic, disk, cdrom, net };
enum class Cpu : std::uint8_t { host, baseline, v2, v3 }; // as machine::CpuKind
enum class Restart : std::uint8_t { never, on_failure, always };
enum class ImageFormat : std::uint8_t { automatic, raw, qcow2, zst };
enum class VirtioFlavour : std::uint8_t { modern, transitional };

// "user", "user:group", ":group" or a number, as written; resolved by host/.
struct Owner {
    std::string user;
    std::string group;
    bool operator==(const Owner&) const = default;
};

// Of start_delay: the next VMs are started when the last ones have answered.
inline constexpr std::chrono::milliseconds until_answer{-1};

// Whether local interfaces have IPv6, and where their addresses are taken from.
struct LocalIpv6 {
    bool enabled = false;
    Ipv6Prefix prefix{{}, 64}; // default: an fd00::/8 network made of the host's name
    bool operator==(const LocalIpv6&) const = default;
};

struct Host {
    std::string name;                         // default: the kernel's host name
    std::string domain;                       // default: empty
    std::string state = "/var/lib/vmhost";    // relative image paths start here
    unsigned start_parallel = 0;              // 0 = number of CPUs
    std::chrono::milliseconds start_delay{0}; // between starts, or until_answer
    Ipv4Prefix local_ipv4{{0x64400000}, 10};  // local interfaces have their addresses from here
    LocalIpv6 local_ipv6;
    bool local_nat = false; // they reach beyond this host, with its address
    Accel accel = Accel::automatic;
    std::string user = "_vmhost";     // of the unprivileged roles
    unsigned vm_uids = 2'113'929'216; // the VM with id N runs as this + N; of no other account
    std::chrono::milliseconds stop_timeout{60'000};   // for all VMs, when the daemon ends
    std::chrono::milliseconds answer_timeout{30'000}; // of a process of ours; 0 = may be silent
    bool operator==(const Host&) const = default;
};

struct Control {
    std::string socket = "/run/vmhost.sock";
    Owner owner{"root", ""};
    bool operator==(const Control&) const = default;
};

// From first to last, both included.
struct DhcpRange {
    Where place;
    Ipv4 first, last;
    bool contains(Ipv4 address) const { return address >= first && address <= last; }
    bool operator==(const DhcpRange&) const = default;
};

struct DhcpOption {
    Where place;
    std::string name;  // as written: "ntp-servers", "42"
    std::string value; // as written, as JSON
    std::uint8_t code = 0;
    std::string data; // as the wire has it
    bool operator==(const DhcpOption&) const = default;
};

// Clients that say what they are; everything that is given must hold.
struct DhcpClass {
    Where place;
    std::string name;
    std::string vendor_class;           // option 60 begins with it
    std::string user_class;             // option 77
    std::vector<unsigned> architecture; // option 93
    std::optional<std::string> filename;
    std::optional<Ipv4> next_server;
    std::vector<DhcpOption> options;
    bool operator==(const DhcpClass&) const = default;
};

struct Dhcp {
    bool enabled = true;
    std::vector<Ipv4> domain_name_servers;
    std::vector<Ipv4> routers; // default: the switch's own address
    std::string domain_name;   // default: [host] domain
    std::chrono::milliseconds lease_time = std::chrono::hours(12);
    std::optional<std::chrono::milliseconds> max_lease_time; // default: lease_time
    std::optional<Ipv4> next_server;                         // default: the switch's own address
    std::string filename = "auto_install";
    std::vector<DhcpRange> ranges;  // for clients that are no VMs
    bool ping_check = true;         // before an address of a range is offered
    std::vector<Ipv4Prefix> relays; // subnets whose relay agents are served
    std::vector<DhcpOption> options;
    std::vector<DhcpClass> classes; // in file order
    bool operator==(const Dhcp&) const = default;
};

// What routers tell guests of IPv6 (RFC 4861, 8106), on a switch with ipv6.
struct Ra {
    bool enabled = true;                         // default: the switch has ipv6
    bool router = true;                          // this host is the guests' default router
    bool autonomous = false;                     // guests make up addresses of their own
    std::vector<Ipv6> domain_name_servers;       // DHCPv6 tells them, too
    std::string domain_name;                     // default: that of DHCP
    std::chrono::milliseconds interval{600'000}; // the most between two of them
    std::chrono::milliseconds lifetime{1'800'000};
    bool operator==(const Ra&) const = default;
};

struct Dhcp6 {
    bool enabled = true; // default: the switch has ipv6
    std::chrono::milliseconds lease_time = std::chrono::hours(12);
    bool operator==(const Dhcp6&) const = default;
};

// An interface of this host on a switch.
struct SwitchPort {
    Where place;
    std::string interface;
    std::string parent;           // not empty: the interface is a VLAN of this one, and made
    std::optional<unsigned> vlan; // of the parent; else as Interface has it
    std::vector<unsigned> trunk;
    bool operator==(const SwitchPort&) const = default;
};

// A segment that the switch shares with those of other hosts.
struct Vxlan {
    unsigned id = 0;
    Ipv4 local; // of this host
    std::vector<Ipv4> peers;
    unsigned port = 4789;
    std::string device() const { return fmt::format("vxlan{}", id); } // the interface
    bool operator==(const Vxlan&) const = default;
};

// Broadcasts and multicasts that one guest may send.
struct StormLimit {
    bool enabled = true;
    unsigned frames = 1000; // per second
    unsigned burst = 2000;  // frames
    bool operator==(const StormLimit&) const = default;
};

struct Switch {
    Where place;
    std::string name;
    bool enabled = true;   // else it is not made, and what is plugged in hangs loose
    std::string interface; // bridge device; default "br-NAME" cut to 15 bytes
    bool up = true;
    std::vector<SwitchPort> ports;
    std::optional<Ipv4Prefix> ipv4; // host's address on the bridge
    std::optional<Ipv6Prefix> ipv6; // the same
    unsigned mtu = 1500;
    bool locked_lladdr = true;    // of its interfaces that do not say
    bool guard = true;            // of its interfaces that do not say, and are locked
    StormLimit storm;             // of each of its interfaces
    bool isolated = false;        // of its interfaces that do not say
    std::optional<unsigned> vlan; // it knows VLANs; who does not say is in this one, as this host
    std::optional<Vxlan> vxlan;
    std::string group;
    unsigned rdomain = 0; // the table of its routes
    Dhcp dhcp;
    Ra ra;
    Dhcp6 dhcp6;
    // Made for one local interface: it has no table in the file, and a name that none can have.
    bool local = false;
    bool operator==(const Switch&) const = default;
};

struct ListenAddress {
    Where place;
    IpAddress address; // 0.0.0.0 = all of IPv4, :: = all of IPv6
    std::uint16_t port = 80;
    bool operator==(const ListenAddress&) const = default;
};

// Files that the service for installers has besides: a request belongs to the first whose patterns
// match its host and path.
struct HttpLocation {
    Where place;
    std::string path; // pattern
    std::string host = "*";
    std::string directory;
    unsigned strip = 0; // components of the path
    bool listing = false;
    bool sets = false; // made of [install] sets: no key
    bool operator==(const HttpLocation&) const = default;
};

// A file of a site set. Either a source, of this host, or its content.
struct SiteFile {
    Where place;
    std::string path; // in the guest, without a slash in front
    std::string source, content;
    unsigned owner = 0, group = 0; // numbers: names are the guest's
    unsigned mode = 0644;
    bool operator==(const SiteFile&) const = default;
};

// What guests get with their sets: siteVV.tgz of [install.site], and siteVV-HOST.tgz of a VM's own.
struct Site {
    std::string installurl; // empty: none
    std::vector<std::pair<std::string, std::string>> sysctl, rc_conf_local;
    std::string install_site; // a script, or the path of one on this host
    std::vector<SiteFile> files;
    bool operator==(const Site&) const = default;
};

// [install]: the HTTP service for installers. No listen = every switch address, port 80.
struct Install {
    std::vector<ListenAddress> listen;
    std::string release = "7.8";
    std::string mirror = "http://cdn.openbsd.org/pub/OpenBSD"; // sets come from here
    std::string sets; // directory with releases; empty: they come from the mirror
    std::string signify_keys = "/usr/share/signify-openbsd-keys"; // directory, for fetched sets
    std::vector<HttpLocation> locations;
    std::optional<Site> site;
    std::string access_log;    // empty: none
    std::string sshfp_command; // a program that publishes the records of host keys; empty: none
    bool operator==(const Install&) const = default;
};

// [tftp]: files for machines that boot from the network. No directory = no service; no listen =
// every switch address.
struct Tftp {
    Where place;
    std::string directory;
    std::vector<Ipv4> listen;
    bool operator==(const Tftp&) const = default;
};

// [metrics]: who may read them. No listen = nobody but by vmctl.
struct Metrics {
    std::vector<ListenAddress> listen;
    bool operator==(const Metrics&) const = default;
};

// What a disk, or one direction of an interface, may do each second.
struct Limit {
    std::optional<std::uint64_t> bytes;
    std::optional<unsigned> operations;
    std::chrono::milliseconds burst{100}; // so much of it is saved up while nothing is done
    bool operator==(const Limit&) const = default;
};

struct Disk {
    Where place;
    std::string path; // as written
    ImageFormat format = ImageFormat::automatic;
    std::optional<std::uint64_t> size_bytes; // created sparse with this size when missing
    bool read_only = false;
    std::string serial;            // default: VM name and index, at most 20 bytes
    std::vector<std::string> base; // the files below it, nearest first, as written
    std::optional<Limit> limit;
    bool operator==(const Disk&) const = default;
};

struct Interface {
    Where place;
    std::string switch_name; // empty = plugged into nothing; derived when local
    bool local = false;      // a wire of its own to this host, with addresses and DHCP
    std::string tap;         // name of the host's side; empty = made of the VM's name and the index
    Mac lladdr;              // given, or derived from host, VM and index: always set
    std::optional<bool> locked_lladdr; // given, or as the switch has it: always set
    std::optional<bool> isolated;      // the same: whether other isolated ones can be reached
    std::optional<unsigned> vlan;      // of what has no tag; on a switch that knows VLANs
    std::vector<unsigned> trunk;       // what has these tags passes
    std::optional<bool> guard;         // given, or as the switch has it when locked: always set
    std::optional<Ipv4> ipv4; // given, or derived inside the switch's subnet when it has one
    std::optional<Ipv6> ipv6; // the same
    bool up = true;           // the host's side
    std::string group;
    unsigned rdomain = 0;
    std::optional<Limit> limit;
    // Whether the kernel's vhost-net moves the frames; none = where it can, and there is no limit.
    std::optional<bool> vhost;
    bool operator==(const Interface&) const = default;
};

// What the installer is to do: make a system on the disk, or renew the one that is there.
enum class InstallMode : std::uint8_t { install, upgrade };

// What asks for its answers, and how: the files of an installation follow from it.
enum class InstallSystem : std::uint8_t { openbsd, cloud_init, preseed, kickstart, ipxe };

// How the VM is installed, and what its answer file is made from (install/).
struct VmInstall {
    InstallSystem system = InstallSystem::openbsd;
    InstallMode mode = InstallMode::install; // of its first installation
    std::string kernel; // of the installer, which the VM boots while it is armed; empty = none
    Where kernel_place;
    std::string initrd;       // of kernel, which is a Linux one then
    std::string command_line; // the same
    // So long nothing may go on before it is told; 0 = for ever.
    std::chrono::milliseconds stall_timeout{600'000};
    std::string hostname; // default: the VM's name
    std::string user;
    std::string sshkey;
    std::string password;      // of user: bcrypt or plain; default 13 asterisks = none
    std::string root_password; // default: 13 asterisks
    std::string timezone = "UTC";
    std::string sets = "-x* -game*";
    // "question" = "answer" lines that come first, as written, in file order.
    std::vector<std::pair<std::string, std::string>> answers;
    std::string file;          // a ready answer file instead of all this
    std::string template_file; // a text with variables in place of the built-in one; key "template"
    std::string disklabel;     // a file of this host: how the disk is parted (disklabel(8))
    bool host_keys = false;    // the guest's ssh host key is made here
    std::optional<Site> site;
    bool operator==(const VmInstall&) const = default;
};

// [allocate]: what deploy gives to the VM with the number N, see deploy/allocate.h.
struct Allocate {
    Where place;
    std::string domain;                    // of host names without a dot; empty: [host] domain
    std::string mac_prefix;                // four or five octets; empty: addresses are derived
    std::optional<Ipv4> ipv4_start;        // of N = 0
    std::optional<Ipv6Prefix> ipv6_prefix; // its fourth group is ipv6_start + N, in decimal digits
    unsigned ipv6_start = 0;
    std::string switch_name; // empty: no interface
    std::string images;      // directory; empty: [host] state
    std::string image;       // a ready system that their disks begin as; empty = an empty disk
    std::string boot;        // kernel or firmware of new VMs; empty = embedded SeaBIOS
    std::uint64_t memory_bytes = 512 * MiB;
    std::uint64_t disk_bytes = 50 * GiB;
    ImageFormat format = ImageFormat::qcow2;
    VmInstall install;             // what theirs begins with
    bool accounts = true;          // owners have one on this host
    std::string group;             // of these; empty: that of [control] owner
    std::string shell = "/bin/sh"; // of these
    unsigned grace_days = 30;      // images of VMs that are gone, and their numbers, are kept
    bool operator==(const Allocate&) const = default;
};

// What DHCP tells this VM, on all of its interfaces.
struct VmDhcp {
    std::optional<std::string> filename;
    std::optional<Ipv4> next_server;
    std::vector<DhcpOption> options;
    bool operator==(const VmDhcp&) const = default;
};

// The console in a file.
struct ConsoleLog {
    bool enabled = false;
    std::string path;                   // default: console/NAME.log in [host] state
    std::uint64_t size_bytes = 1 * MiB; // of one file
    unsigned count = 4;                 // files, with the one that is written to
    unsigned bytes_per_s = 65536;
    bool operator==(const ConsoleLog&) const = default;
};

// Who may make instances of a VM, beside root, and what they may choose for them.
struct AllowInstance {
    Owner owner{"root", ""};
    std::vector<std::string> options; // "boot", "memory", "interface", "disk", "cdrom", "instance"
    bool allows(std::string_view option) const;
    bool operator==(const AllowInstance&) const = default;
};

struct Vm {
    Where place;
    std::string name;
    bool enabled = true;     // started with the host
    bool suspended = false;  // its owner may not start it, and the host does not
    std::string instance_of; // the VM that it has from what is not said here
    std::optional<AllowInstance> allow_instance;
    Owner owner{"root", ""};
    std::uint64_t memory_bytes = 512 * MiB;
    unsigned vcpus = 1;
    Cpu cpu = Cpu::host;
    std::optional<unsigned> cpu_weight;              // 100 is the weight of any process
    std::optional<unsigned> cpu_limit_pct;           // of one processor
    std::optional<std::uint64_t> memory_limit_bytes; // of the process, guest memory included
    std::optional<Accel> accel;
    std::string boot; // kernel or firmware image; empty = embedded SeaBIOS
    Where boot_place;
    std::string initrd;                  // Linux and PVH
    std::string command_line;            // Linux and PVH
    std::vector<std::string> boot_flags; // OpenBSD: "ask_name", "single_user", "config"
    BootDevice boot_device = BootDevice::automatic;
    VirtioFlavour virtio = VirtioFlavour::modern;
    std::chrono::milliseconds start_timeout{60'000};     // to answer, with until_answer
    std::chrono::milliseconds stop_answer_timeout{3000}; // as vmd(8)
    std::chrono::milliseconds stop_timeout{120'000};
    Restart restart = Restart::never;
    ConsoleLog console_log;
    std::vector<Disk> disks;
    std::optional<std::string> cdrom; // a drive, and what lies in it; empty = nothing
    Where cdrom_place;
    bool balloon = false;
    bool sev = false, sev_es = false;
    bool virtio_console = false;
    std::vector<Interface> interfaces;
    std::optional<VmDhcp> dhcp;
    std::optional<VmInstall> install;
    bool operator==(const Vm&) const = default;
};

// Where each key was written, by its full name: "vm.a.disk[1].path". As Where, no part of
// what a model says.
struct Places : std::unordered_map<std::string, Place> {
    bool operator==(const Places&) const { return true; }
};

struct Model {
    std::string file; // where it was read from
    Places places;
    Host host;
    Control control;
    Install install;
    Tftp tftp;
    Metrics metrics;
    Allocate allocate;
    std::vector<Switch> switches; // in file order, then those of local interfaces
    std::vector<Vm> vms;          // in file order

    const Switch* find_switch(std::string_view name) const;
    const Vm* find_vm(std::string_view name) const;
    bool operator==(const Model&) const = default;
};

} // namespace vmhost::config
