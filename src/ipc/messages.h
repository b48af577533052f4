// The messages between the parent and its role processes, by the side that
// sends them. Encoded by ipc/codec.h, carried by ipc::Channel. A VM process
// starts with VmSetup, a service with what it serves and Begin; each answers with Ready or Failed.
#pragma once

#include "ipc/codec.h"
#include "ipc/dhcp_messages.h"
#include "ipc/http_messages.h"

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

// ---- parent → every child --------------------------------------------------

// How much it is to log from now on, as --log has it.
struct LogLevels {
    static constexpr std::uint16_t type = 110;
    std::string levels;
    template <class A>
    void fields(A& a) {
        a(levels);
    }
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
    std::vector<Fd> vhosts; // /dev/vhost-net for each of taps, or none
    template <class A>
    void fields(A& a) {
        a(taps, mac, mtu, limit, vhosts);
    }
};

struct VmCdrom {
    std::optional<Fd> medium; // opened, locked for reading; none = the drive is empty
    template <class A>
    void fields(A& a) {
        a(medium);
    }
};

// What differs until the guest's first reset, or for longer.
struct VmBootOnce {
    std::optional<Fd> image; // with the next two instead of image, initrd and command line
    std::string image_name;
    std::optional<Fd> initrd;
    std::string command_line;
    std::optional<Mac> boot_mac;
    std::uint8_t boot_from = 0;
    bool stays = false; // also after resets, until VmBootConfigured
    template <class A>
    void fields(A& a) {
        a(image, image_name, initrd, command_line, boot_mac, boot_from, stays);
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
    std::string serial; // of the machine, as SMBIOS tells it
    std::uint64_t uuid_high = 0, uuid_low = 0;
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
    // Where the next parent connects when this one is gone, and is told VmHello; none = the guest
    // ends with its parent.
    std::optional<Fd> listener;
    template <class A>
    void fields(A& a) {
        a(name, serial, uuid_high, uuid_low, memory_bytes, vcpus, cpu, console, virtio_console, kvm,
          image, image_name, initrd, command_line, boot_mac, boot_from, howto, disks, nics, cdrom,
          once, balloon, debug_exit, transitional, state, listener);
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

// From its next reset on the guest boots as it is configured.
struct VmBootConfigured {
    static constexpr std::uint16_t type = 31;
    template <class A>
    void fields(A&) {}
};

// ---- vm → parent ----------------------------------------------------------

// To a parent that takes it over: how it is. A parent and a guest of different protocol
// numbers do not understand each other's other messages: the parent can only end it. Its number
// and the place of protocol therefore never change.
struct VmHello {
    static constexpr std::uint16_t type = 130;
    static constexpr std::uint32_t current_protocol = 2; // of the messages of vm and parent
    std::uint32_t protocol = current_protocol;
    bool paused = false;
    bool stopping = false; // was asked to end
    bool overlaid = false; // waits for VmSnapshotEnd
    std::uint32_t reboots = 0;
    VmConsole console;
    std::optional<VmConsole> virtio_console;
    template <class A>
    void fields(A& a) {
        a(protocol, paused, stopping, overlaid, reboots, console, virtio_console);
    }
};

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

struct VmDiskCounted {
    std::uint64_t reads = 0, read_bytes = 0, writes = 0, written_bytes = 0, flushes = 0,
                  discarded_bytes = 0, zeroed_bytes = 0;
    std::uint64_t failed = 0, malformed = 0;
    template <class A>
    void fields(A& a) {
        a(reads, read_bytes, writes, written_bytes, flushes, discarded_bytes, zeroed_bytes, failed,
          malformed);
    }
};

// As the guest sees the directions.
struct VmNicCounted {
    std::uint64_t received_frames = 0, received_bytes = 0, receive_dropped = 0;
    std::uint64_t sent_frames = 0, sent_bytes = 0, send_dropped = 0;
    std::uint64_t malformed = 0;
    bool lent = false; // the others are not all: vhost-net moves frames, and the tap counts them
    template <class A>
    void fields(A& a) {
        a(received_frames, received_bytes, receive_dropped, sent_frames, sent_bytes, send_dropped,
          malformed, lent);
    }
};

// Since the process began: reboots of the guest do not start it anew.
struct VmCounted {
    static constexpr std::uint16_t type = 35;
    std::uint64_t port_exits = 0, memory_exits = 0, other_exits = 0;
    std::uint64_t unknown_msrs = 0, unclaimed_accesses = 0, malformed_requests = 0;
    std::vector<VmDiskCounted> disks; // in the order of VmSetup, as are
    std::vector<VmNicCounted> nics;
    bool listens = false; // now: a driver in the guest would take note of a request to end
    template <class A>
    void fields(A& a) {
        a(port_exits, memory_exits, other_exits, unknown_msrs, unclaimed_accesses,
          malformed_requests, disks, nics, listens);
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

// ---- ipv6 -----------------------------------------------------------------

struct Ipv6Guest {
    std::string vm;
    Mac mac;
    std::optional<Ipv6> ipv6;
    template <class A>
    void fields(A& a) {
        a(vm, mac, ipv6);
    }
};

// parent → ipv6: what guests of one switch are told of IPv6.
struct Ipv6Network {
    static constexpr std::uint16_t type = 170;
    std::string name; // of the switch
    Ipv6Prefix own;   // ours on it
    Mac mac;          // of the bridge
    std::uint32_t mtu = 1500;
    Fd packet_socket;
    Fd udp_socket;
    bool advertise = false, router = false, autonomous = false, dhcp = false;
    std::vector<Ipv6> domain_name_servers;
    std::string domain_name;
    std::uint32_t interval_s = 0, lifetime_s = 0, lease_s = 0;
    std::vector<Ipv6Guest> guests;
    template <class A>
    void fields(A& a) {
        a(name, own, mac, mtu, packet_socket, udp_socket, advertise, router, autonomous, dhcp,
          domain_name_servers, domain_name, interval_s, lifetime_s, lease_s, guests);
    }
};

// parent → ipv6: on these nothing holds any more of what guests were told.
struct Ipv6Farewell {
    static constexpr std::uint16_t type = 171;
    std::vector<std::string> networks;
    template <class A>
    void fields(A& a) {
        a(networks);
    }
};

// ---- tftp -----------------------------------------------------------------

// parent → tftp: the only directory that it can open files of, from then on.
struct TftpDirectory {
    static constexpr std::uint16_t type = 172;
    Fd directory;
    template <class A>
    void fields(A& a) {
        a(directory);
    }
};
struct TftpListener {
    static constexpr std::uint16_t type = 173;
    Fd socket;
    std::uint32_t max_block_bytes = 0; // that fit into a packet there
    template <class A>
    void fields(A& a) {
        a(socket, max_block_bytes);
    }
};

// ---- watching and counting ---------------------------------------------------

// parent → every child: its loop turns when it answers with Pong.
struct Ping {
    static constexpr std::uint16_t type = 120;
    template <class A>
    void fields(A&) {}
};
struct Pong {
    static constexpr std::uint16_t type = 121;
    template <class A>
    void fields(A&) {}
};

// parent → service: say what you have counted: ServiceCounted.
struct ServiceCount {
    static constexpr std::uint16_t type = 122;
    template <class A>
    void fields(A&) {}
};

// What a service counts, and what `of` says more closely.
enum class Counted : std::uint8_t {
    control_clients,   // connected now
    dhcp_messages,     // of a dhcp::EventKind
    dhcp_drops,        // of a dhcp::Drop
    http_responses,    // of a status
    http_bytes,        // of the bodies
    http_connections,  // open now
    metrics_responses, // the same of the listeners for metrics
    metrics_bytes,
    metrics_connections,
    dhcp_written,  // leases on the disk
    dhcp_commits,  // waits for the disk
    ipv6_messages, // of an ipv6::EventKind
    ipv6_drops,    // of an ipv6::Drop
    tftp_requests, // of a tftp::Outcome
    tftp_bytes,
    tftp_transfers, // going on now
    http_answers,   // requests for answer files, of an http::AnswerOutcome
};
constexpr Counted enum_last(Counted) {
    return Counted::http_answers;
}
struct ServiceCounter {
    Counted what = Counted::control_clients;
    std::uint16_t of = 0;
    std::uint64_t value = 0;
    template <class A>
    void fields(A& a) {
        a(what, of, value);
    }
};
// Since its process began.
struct ServiceCounted {
    static constexpr std::uint16_t type = 123;
    std::vector<ServiceCounter> counters;
    template <class A>
    void fields(A& a) {
        a(counters);
    }
};

// http → parent: somebody asks for the metrics; MetricsText answers, in as many parts as it takes.
struct MetricsWanted {
    static constexpr std::uint16_t type = 124;
    template <class A>
    void fields(A&) {}
};
struct MetricsText {
    static constexpr std::uint16_t type = 125;
    std::string part;
    bool last = true;
    template <class A>
    void fields(A& a) {
        a(part, last);
    }
};

} // namespace vmhost::ipc
