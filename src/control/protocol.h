// The control protocol: what vmctl and vmhost say to each other.
//
// On the Unix stream socket of [control] socket, in the frames of ipc/ipc.h:
// type 1, client → daemon: one request, a JSON object {"verb": …, "vm": …}.
// type 2, daemon → client: a reply that is followed by more.
// type 3, daemon → client: the last reply to a request; may carry a descriptor.
// A request may carry descriptors; "descriptors" is an array that names them in their order:
// "state", where send writes and receive reads a VM's state.
// Every reply is an object with "ok"; a refusal has "kind" (base/error.h) and
// "error", a text for people. One request at a time per connection.
//
// A request may carry descriptors of files that the client opened with its own rights;
// "descriptors" names them in their order, each once: "kernel", "cdrom".
//
// | verb    | fields                    | replies                                   |
// |---------|---------------------------|-------------------------------------------|
// | status  | vm, counters (optional)   | vms: [ … ]                                |
// | start   | vm; once: boot_device, a "kernel" with its name in kernel_name, a "cdrom", a
//             snapshot to go back to in snapshot | id                                   |
// | start   | vm, new: what it is made of, see below; boot_device, descriptors        | id |
// | stop    | vm, force, wait           | event requested, id; with wait: terminated |
// | stop    | all, force, wait          | for each VM: event requested, terminated or failed (with
// an
//             error), id, name; at the end event done, failed: how many |
// | events  | vm (optional), follow     | events: [ {number, time_us, vm, id, kind, text} … ], with
//             follow first those that are kept, then each that comes |
// | console_log | vm, port              | event file, with a descriptor, of each file; id, files,
//             kept: whether these are a log's, not a copy of what the console keeps |
// | log     | what: brief or verbose    | nothing                                   |
// | reset   | what: all, switches, vms  | nothing, when it is done                  |
// | pause   | vm                        | id                                        |
// | unpause | vm                        | id                                        |
// | send    | vm, descriptors           | id, when the VM is saved and has ended    |
// | receive | vm, descriptors           | id                                        |
// | snapshot | vm                       | id, snapshots: [ {name, time, state_bytes} … ] |
// | snapshot | vm, snapshot, remove (optional) | id, when it is made or removed    |
// | wait    | vm                        | event terminated, id                      |
// | cdrom   | vm, force; a "cdrom", or none to eject | id                           |
// | plan    | file (a path; optional)   | changes, digest, refused                  |
// | apply   | file, digest, restart     | event step, text, …; event applied        |
// | explain | vm                        | id, facts: [ {what, value, source, file, line, since_s,
//             text} … ]                                                                      |
// | forget  | vm                        | nothing, when what was remembered of it is gone |
// | trace   | vm, interface: its number | id, tap, and a packet socket on the host's side of it; for root |
// | refusals | nothing                  | refusals: {total, unlogged, by_verb, by_uid} |
// | leases  | nothing                   | event leases, leases: [ {switch, address, lladdr, vm,
// state,
//             since_s, seen_s, until_s, host_name, client_id, messages, dropped} … ], as often as
//             it takes; event end                                                              |
// | release | what: an address          | nothing, when nobody has it by DHCP any more |
// | memory  | vm, bytes                 | id                                        |
// | metrics | vm (optional)             | event metrics, metrics: [ {name, type, help, samples:
//             [ {labels: {…}, value} … ]} … ], as often as it takes; event end |
// | console | vm, read_only (optional), port: serial (default) or virtio | id, and a socket
// (machine/console/frames.h) |
//
// A start with "new" makes a VM that is not in the file: {"template": …, "memory_bytes": …,
// "disks": [{"path", "format", "bases": […]}], "interfaces": [{"switch"} or {"local": true}],
// "interfaces_min": …}, all optional. Descriptors are "disk0" …, "disk0-base0" … for the files
// below it, "kernel" and "cdrom".
#pragma once

#include <cstdint>

namespace vmhost::control {

inline constexpr std::uint16_t request_type = 1;
inline constexpr std::uint16_t partial_reply_type = 2;
inline constexpr std::uint16_t last_reply_type = 3;

} // namespace vmhost::control
