// The messages between the parent and its role processes, by the side that
// sends them. Encoded by ipc/codec.h, carried by ipc::Channel. A VM process
// starts with VmSetup, a service with what it serves and Begin; each answers with Ready or Failed.
#pragma once

#include "ipc/codec.h"

namespace vmhost::ipc {

// ---- every child → parent -------------------------------------------------

struct Ready {
    static constexpr std::uint16_t type = 1;
    template <class A>
    void fields(A&) {}
};

// The child cannot do its work and ends.
struct Failed {
    static constexpr std::uint16_t type = 2;
    std::uint8_t kind = 0; // ErrorKind
    std::string text;
    template <class A>
    void fields(A& a) {
        a(kind, text);
    }
};

// ---- parent → every service ------------------------------------------------

// All of the set-up has been sent: begin, and say Ready.
struct Begin {
    static constexpr std::uint16_t type = 3;
    template <class A>
    void fields(A&) {}
};

// ---- parent → vm ----------------------------------------------------------

// Of a disk, or of each direction of an interface; zero = no limit.
struct VmLimit {
    std::uint64_t bytes_per_s = 0;
    std::uint64_t operations_per_s = 0;
    std::uint64_t burst_ms = 0;
    template <class A>
    void fields(A& a) {
        a(bytes_per_s, operations_per_s, burst_ms);
    }
};

// A file below a disk's image: opened, locked for reading.
struct VmDiskBase {
    Fd file;
    std::string path;
    std::optional<std::uint8_t> format; // disk::Format; none = as the file above says
    template <class A>
    void fields(A& a) {
        a(file, path, format);
    }
};

struct VmDisk {
    Fd image; // opened, locked
    bool read_only = false;
    std::string serial;
    std::uint8_t format = 0; // disk::Format
    std::string path;
    std::vector<VmDiskBase> bases; // as configured, nearest first
    VmLimit limit;
    bool fresh = false; // an empty file: to be made an overlay of the bases
    template <class A>
    void fields(A& a) {
        a(image, read_only, serial, format, path, bases, limit, fresh);
    }
};

struct VmNic {
    std::vector<Fd> taps; // the queues of one tap
    Mac mac;
    std::uint16_t mtu = 1500;
    VmLimit limit;
    template <class A>
    void fields(A& a) {
        a(taps, mac, mtu, limit);
    }
};

struct VmCdrom {
    std::optional<Fd> medium; // opened, locked for reading; none = the drive is empty
    template <class A>
    void fields(A& a) {
        a(medium);
    }
};

// What differs until the guest's first reset.
struct VmBootOnce {
    std::optional<Fd> image; // instead of image, initrd and command line
    std::string image_name;
    std::optional<Mac> boot_mac;
    std::uint8_t boot_from = 0;
    template <class A>
    void fields(A& a) {
        a(image, image_name, boot_mac, boot_from);
    }
};

// Where a console's output goes that the parent reads too.
struct VmConsole {
    Fd ring;                // memory, see ipc/shared_ring.h
    std::optional<Fd> bell; // eventfd to ring when there is output
    template <class A>
    void fields(A& a) {
        a(ring, bell);
    }
};

struct VmSetup {
    static constexpr std::uint16_t type = 16;
    std::string name;
    std::uint64_t memory_bytes = 0;
    std::uint32_t vcpus = 1;
    std::uint8_t cpu = 0; // machine::CpuKind
    Fd kvm;
    std::optional<Fd> image; // none = embedded firmware
    std::string image_name;  // for messages
    std::optional<Fd> initrd;
    std::string command_line;
    std::optional<Mac> boot_mac;
    std::uint8_t boot_from = 0; // for firmware: machine::BootFrom
    std::uint32_t howto = 0;
    std::vector<VmDisk> disks;
    std::vector<VmNic> nics;
    VmConsole console;                       // the serial one
    std::optional<VmConsole> virtio_console; // none = has none
    std::optional<VmCdrom> cdrom;
    std::optional<VmBootOnce> once;
    bool balloon = false;
    bool debug_exit = false;
    std::optional<Fd> state;   // a saved guest to go on with instead of booting
    bool transitional = false; // virtio devices that drivers of version 0.9 understand too
    template <class A>
    void fields(A& a) {
        a(name, memory_bytes, vcpus, cpu, console, virtio_console, kvm, image, image_name, initrd,
          command_line, boot_mac, boot_from, howto, disks, nics, cdrom, once, balloon, debug_exit,
          transitional, state);
    }
};

// End the guest now; the process answers with VmEnded and exits.
struct VmTerminate {
    static constexpr std::uint16_t type = 17;
    template <class A>
    void fields(A&) {}
};

// Ask the guest to end by itself, and end it when it does not in time; a paused one goes on
// first. The process answers with VmEnded and exits.
struct VmShutdown {
    static constexpr std::uint16_t type = 21;
    std::uint64_t answer_ms = 0; // for taking note of the request
    std::uint64_t finish_ms = 0; // for ending after that
    template <class A>
    void fields(A& a) {
        a(answer_ms, finish_ms);
    }
};

// Say what you have counted: VmCounted.
struct VmCount {
    static constexpr std::uint16_t type = 22;
    template <class A>
    void fields(A&) {}
};

// Hold the guest where it is; VmPaused answers once nothing of it moves any more.
struct VmPause {
    static constexpr std::uint16_t type = 19;
    template <class A>
    void fields(A&) {}
};

// Let it go on; no answer.
struct VmUnpause {
    static constexpr std::uint16_t type = 20;
    template <class A>
    void fields(A&) {}
};

// Hold the guest and write its state, as vmhost-state(5) has it; VmSaved answers. When that
// worked the guest stays held until VmTerminate, else it goes on.
struct VmSave {
    static constexpr std::uint16_t type = 28;
    Fd out; // a file or a pipe of a client
    template <class A>
    void fields(A& a) {
        a(out);
    }
};

// An empty file, opened and locked, for an overlay of a disk.
struct VmOverlay {
    std::uint32_t disk = 0; // index
    Fd file;
    std::string path;
    template <class A>
    void fields(A& a) {
        a(disk, file, path);
    }
};

// Hold the guest, write its state, and put its disks on overlays; VmSaved answers. When that
// worked the guest stays held until VmSnapshotEnd, else it goes on as it was.
struct VmSnapshot {
    static constexpr std::uint16_t type = 29;
    Fd out;
    std::vector<VmOverlay> overlays;
    template <class A>
    void fields(A& a) {
        a(out, overlays);
    }
};

// The guest goes on: on the overlays, or as before them.
struct VmSnapshotEnd {
    static constexpr std::uint16_t type = 30;
    bool keep = true;
    template <class A>
    void fields(A& a) {
        a(keep);
    }
};

// A console client; the other end of the socket is with vmctl.
struct VmAttachConsole {
    static constexpr std::uint16_t type = 18;
    Fd client;
    bool want_writer = true;
    bool virtio = false; // the virtio console, not the serial one
    template <class A>
    void fields(A& a) {
        a(client, want_writer, virtio);
    }
};

// Another medium into the CD-ROM drive, or none; VmAnswer answers.
struct VmChangeMedium {
    static constexpr std::uint16_t type = 24;
    std::optional<Fd> medium;
    bool force = false; // although the guest has locked the tray
    template <class A>
    void fields(A& a) {
        a(medium, force);
    }
};

// What the guest is to keep of its memory; VmAnswer answers.
struct VmMemoryTarget {
    static constexpr std::uint16_t type = 25;
    std::uint64_t bytes = 0;
    template <class A>
    void fields(A& a) {
        a(bytes);
    }
};

// ---- vm → parent ----------------------------------------------------------

// The guest rebooted in place.
struct VmReset {
    static constexpr std::uint16_t type = 32;
    std::string by; // "a triple fault"
    template <class A>
    void fields(A& a) {
        a(by);
    }
};

struct VmEnded {
    static constexpr std::uint16_t type = 33;
    std::uint8_t how = 0;  // machine::MachineEnd::How
    std::uint8_t code = 0; // of the debug-exit device
    bool failed = false;   // it did not end as a guest ends by itself
    std::string text;
    template <class A>
    void fields(A& a) {
        a(how, code, failed, text);
    }
};

// Since the guest's last reset.
struct VmCounted {
    static constexpr std::uint16_t type = 35;
    std::uint64_t port_exits = 0, memory_exits = 0, other_exits = 0;
    std::uint64_t unknown_msrs = 0, unclaimed_accesses = 0, malformed_requests = 0;
    template <class A>
    void fields(A& a) {
        a(port_exits, memory_exits, other_exits, unknown_msrs, unclaimed_accesses,
          malformed_requests);
    }
};

// To the requests that ask for one, in their order.
struct VmAnswer {
    static constexpr std::uint16_t type = 40;
    bool done = true;
    std::uint8_t kind = 0; // ErrorKind, and why it was not done
    std::string text;
    template <class A>
    void fields(A& a) {
        a(done, kind, text);
    }
};

struct VmSaved {
    static constexpr std::uint16_t type = 44;
    bool done = true;
    std::uint64_t bytes = 0; // of the state
    std::uint8_t kind = 0;   // ErrorKind, and why it was not done
    std::string text;
    template <class A>
    void fields(A& a) {
        a(done, bytes, kind, text);
    }
};

struct VmPaused {
    static constexpr std::uint16_t type = 34;
    template <class A>
    void fields(A&) {}
};

// ---- control --------------------------------------------------------------

// parent → control
struct ControlSetup {
    static constexpr std::uint16_t type = 48;
    Fd listener;
    template <class A>
    void fields(A& a) {
        a(listener);
    }
};

// control → parent: a client's request with the credentials the kernel vouches for.
struct ControlRequest {
    static constexpr std::uint16_t type = 49;
    std::uint64_t client = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::vector<std::uint32_t> groups;
    std::string json;
    std::vector<Fd> fds; // the client's, in the order in which the request names them
    template <class A>
    void fields(A& a) {
        a(client, uid, gid, groups, json, fds);
    }
};

// parent → control: to be handed to that client; last = the request is answered.
struct ControlReply {
    static constexpr std::uint16_t type = 50;
    std::uint64_t client = 0;
    std::string json;
    bool last = true;
    std::optional<Fd> fd;
    template <class A>
    void fields(A& a) {
        a(client, json, last, fd);
    }
};

// control → parent: that client is gone, its pending requests need no answer.
struct ControlClientGone {
    static constexpr std::uint16_t type = 51;
    std::uint64_t client = 0;
    template <class A>
    void fields(A& a) {
        a(client);
    }
};

// ---- dhcp -----------------------------------------------------------------

struct DhcpGuest {
    std::string vm;
    Mac mac;
    Ipv4 address;
    std::string host_name;
    bool installing = false; // is told the boot file
    template <class A>
    void fields(A& a) {
        a(vm, mac, address, host_name, installing);
    }
};

struct DhcpNetwork {
    static constexpr std::uint16_t type = 64;
    std::string name;   // of the switch
    Ipv4Prefix address; // ours on it
    Mac mac;            // of the bridge
    Fd packet_socket;
    Fd udp_socket;
    std::vector<Ipv4> routers;
    std::vector<Ipv4> domain_name_servers;
    std::string domain_name;
    std::uint32_t lease_seconds = 0;
    Ipv4 next_server;
    std::string filename;
    std::uint32_t mtu = 1500;
    std::vector<DhcpGuest> guests;
    template <class A>
    void fields(A& a) {
        a(name, address, mac, packet_socket, udp_socket, routers, domain_name_servers, domain_name,
          lease_seconds, next_server, filename, mtu, guests);
    }
};

// dhcp → parent: an address was acknowledged.
struct DhcpLease {
    static constexpr std::uint16_t type = 65;
    std::string vm;
    Ipv4 address;
    template <class A>
    void fields(A& a) {
        a(vm, address);
    }
};

// ---- http -----------------------------------------------------------------

struct HttpAnswer {
    static constexpr std::uint16_t type = 81;
    std::string vm;
    Ipv4 address;
    Mac mac;
    std::string host_name;
    std::string content;
    template <class A>
    void fields(A& a) {
        a(vm, address, mac, host_name, content);
    }
};

struct HttpListener {
    static constexpr std::uint16_t type = 80;
    Fd socket;
    template <class A>
    void fields(A& a) {
        a(socket);
    }
};

// http → parent: a VM fetched its answer file.
struct HttpAnswerServed {
    static constexpr std::uint16_t type = 82;
    std::string vm;
    std::string path;
    template <class A>
    void fields(A& a) {
        a(vm, path);
    }
};

} // namespace vmhost::ipc
