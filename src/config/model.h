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

struct Host {
    std::string name;                         // default: the kernel's host name
    std::string domain;                       // default: empty
    std::string state = "/var/lib/vmhost";    // relative image paths start here
    unsigned start_parallel = 0;              // 0 = number of CPUs
    std::chrono::milliseconds start_delay{0}; // between starts
    Ipv4Prefix local_ipv4{{0x64400000}, 10};  // local interfaces have their addresses from here
    bool local_ipv6 = false;
    Accel accel = Accel::automatic;
    std::string user = "_vmhost";     // of the unprivileged roles
    unsigned vm_uids = 2'113'929'216; // the VM with id N runs as this + N; of no other account
    std::chrono::milliseconds stop_timeout{60'000}; // for all VMs, when the daemon ends
    bool operator==(const Host&) const = default;
};

struct Control {
    std::string socket = "/run/vmhost.sock";
    Owner owner{"root", ""};
    bool operator==(const Control&) const = default;
};

struct Dhcp {
    bool enabled = true;
    std::vector<Ipv4> domain_name_servers;
    std::vector<Ipv4> routers; // default: the switch's own address
    std::string domain_name;   // default: [host] domain
    std::chrono::milliseconds lease_time = std::chrono::hours(12);
    std::optional<Ipv4> next_server; // default: the switch's own address
    std::string filename = "auto_install";
    bool operator==(const Dhcp&) const = default;
};

struct Switch {
    Where place;
    std::string name;
    bool enabled = true;   // else it is not made, and what is plugged in hangs loose
    std::string interface; // bridge device; default "br-NAME" cut to 15 bytes
    bool up = true;
    std::vector<std::string> ports; // existing host interfaces to attach
    std::optional<Ipv4Prefix> ipv4; // host's address on the bridge
    unsigned mtu = 1500;
    bool locked_lladdr = true; // of its interfaces that do not say
    std::string group;
    unsigned rdomain = 0;
    Dhcp dhcp;
    // Made for one local interface: it has no table in the file, and a name that none can have.
    bool local = false;
    bool operator==(const Switch&) const = default;
};

struct ListenAddress {
    Where place;
    Ipv4 address; // 0.0.0.0 = all
    std::uint16_t port = 80;
    bool operator==(const ListenAddress&) const = default;
};

// [install]: the HTTP service for installers. No listen = every switch address, port 80.
struct Install {
    std::vector<ListenAddress> listen;
    std::string release = "7.8";
    std::string mirror = "http://cdn.openbsd.org/pub/OpenBSD"; // sets come from here
    bool operator==(const Install&) const = default;
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
    std::optional<Ipv4> ipv4; // given, or derived inside the switch's subnet when it has one
    bool up = true;           // the host's side
    std::string group;
    unsigned rdomain = 0;
    std::optional<Limit> limit;
    bool operator==(const Interface&) const = default;
};

// What an installer's answer file is made from (install/).
struct VmInstall {
    std::string hostname; // default: the VM's name
    std::string user;
    std::string sshkey;
    std::string password;      // of user: bcrypt or plain; default 13 asterisks = none
    std::string root_password; // default: 13 asterisks
    std::string timezone = "UTC";
    std::string sets = "-x* -game*";
    // "question" = "answer" lines that come first, as written, in file order.
    std::vector<std::pair<std::string, std::string>> answers;
    std::string file; // a ready answer file instead of all this
    bool operator==(const VmInstall&) const = default;
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
    std::vector<Switch> switches; // in file order, then those of local interfaces
    std::vector<Vm> vms;          // in file order

    const Switch* find_switch(std::string_view name) const;
    const Vm* find_vm(std::string_view name) const;
    bool operator==(const Model&) const = default;
};

} // namespace vmhost::config
