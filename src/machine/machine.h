// The door of machine/: builds a guest from its description and runs it.
//
// A Machine lives inside one process and belongs to its loop thread; one thread
// per vCPU runs the guest. Descriptors come from outside: nothing here opens a
// path. Reset in place: destroy the Machine and build another one from the same
// spec; Console and descriptors stay.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/base.h"
#include "disk/disk.h"
#include "loop/loop.h"
#include "machine/counters.h"
#include "machine/throttle.h"

namespace vmhost::machine {

class Console;
enum class CpuKind : std::uint8_t; // cpu/cpu.h

// All files are opened and locked by the parent; descriptors stay the caller's.
struct DiskSpec {
    struct Base {
        int fd = -1;
        std::optional<disk::Format> format; // none = as the file above says
        std::string path;
    };
    int fd = -1;
    bool read_only = false;
    std::string serial; // at most 20 bytes
    disk::Format format = disk::Format::raw;
    std::string path;        // bases are named relative to it; also for errors
    std::vector<Base> bases; // the files below that the configuration names, nearest first
    IoLimit limit;
};

struct NicSpec {
    // The queues of one tap, 1 to limits::max_queue_pairs, opened with IFF_NO_PI | IFF_VNET_HDR,
    // non-blocking; they stay the caller's.
    std::vector<int> tap_fds;
    // /dev/vhost-net, opened once for each of tap_fds and used by nobody else; or none.
    std::vector<int> vhost_fds;
    Mac mac;
    std::uint16_t mtu = 1500;
    IoLimit limit; // of each direction
};

// A CD-ROM drive.
struct CdromSpec {
    int fd = -1;            // the medium, opened by the parent, stays the caller's; -1 = none
    bool tray_open = false; // the guest left it so
};

// What firmware starts from.
enum class BootFrom : std::uint8_t { any, disk, cdrom, net };

// How the guest starts. The image's format decides: ELF with a PVH note, Linux bzImage,
// OpenBSD ELF (plain or gzip'd), else a firmware image.
struct BootSpec {
    int image_fd = -1;      // -1 = embedded SeaBIOS; stays the caller's, as do all descriptors here
    std::string image_name; // for errors; empty = the VM's name
    int initrd_fd = -1;     // -1 = none
    std::string command_line;
    std::optional<Mac> boot_mac;   // BOOTMAC: the installer starts by itself
    std::uint32_t howto = 0;       // OpenBSD RB_* flags, without the good-seed bit
    BootFrom from = BootFrom::any; // for firmware
};

struct MachineSpec {
    std::string name;
    std::string serial; // of the machine, as the guest is told (SMBIOS); printable ASCII
    std::uint64_t uuid_high = 0, uuid_low = 0; // the same, as it is read from left to right
    std::uint64_t memory_bytes = 0;
    unsigned vcpus = 1;
    CpuKind cpu{};   // the host's
    int kvm_fd = -1; // an open /dev/kvm; stays the caller's
    BootSpec boot;
    std::vector<DiskSpec> disks;
    std::vector<NicSpec> nics;
    std::optional<CdromSpec> cdrom;
    int state_fd = -1; // a saved machine to go on with instead of booting; -1 = boots
    bool balloon = false;
    Console* virtio_console = nullptr; // of a virtio console beside the serial one; null = none
    bool debug_exit = false;   // test device: a write of n to port 0xf4 ends the machine with n
    bool transitional = false; // virtio devices also speak version 0.9
};

// How a guest's run ended.
struct MachineEnd {
    enum class How : std::uint8_t {
        reset,      // the guest asked for a reboot (or tripled its fault)
        power_off,  // the guest powered itself off
        debug_exit, // the debug-exit device was written; code tells
        failed,     // the backend or a device could not go on; text says why
    };
    How how = How::power_off;
    std::uint8_t code = 0;
    std::string text; // of a reset: what it was made by
};

// How long a guest that was asked to end is waited for. vmd(8)'s.
struct StopTimeouts {
    std::uint64_t answer_ns = 3'000'000'000;   // until it takes note of the request
    std::uint64_t finish_ns = 120'000'000'000; // from then on, until it has ended
};
// By what it was asked.
enum class StopRequest : std::uint8_t { vmmci, button, nobody };

class Machine {
public:
    // Loads the boot image and builds every device; the guest does not run yet. ended is called
    // at most once, on the loop thread, after the last vCPU has stopped; it may destroy the
    // Machine. The loop and the console outlive the Machine.
    static Result<std::unique_ptr<Machine>> build(Loop& loop, const MachineSpec& spec,
                                                  Console& console,
                                                  std::function<void(MachineEnd)> ended);
    virtual ~Machine() = default; // stops the vCPUs, drains I/O
    virtual Result<void> start() = 0;
    // Forces every vCPU out of the guest and stops devices and guest clock where they are. still
    // is called once, on the loop thread, when requests that were with the disks are through:
    // nothing changes the guest any more until unpause(). Not called when the machine ends
    // instead, or after unpause(). May be called for a machine that is not started.
    virtual void pause(std::function<void()> still) = 0;
    // Lets the guest go on, and asks it to look at the host's clock.
    virtual void unpause() = 0;
    virtual bool paused() const = 0;
    // ACPI's button, pressed once. False: the guest has not enabled it, and nothing happens.
    virtual bool press_power_button() = 0;
    // The guest has not taken note of the button yet.
    virtual bool power_button_pending() const = 0;
    // A driver in the guest would take note of a request to end: vmmci(4)'s, or one that has
    // enabled ACPI's button. So its kernel runs.
    virtual bool guest_listens() const = 0;
    // Since it was built. Loop thread.
    virtual MachineCounters counters() const = 0;
    // Guest memory in use on the host; looks at every page, so counters() leaves it out.
    virtual std::uint64_t resident_bytes() const = 0;
    // Writes all of the machine's state, as vmhost-state(5) has it, while it is paused; it stays
    // so. `out` is a file or a pipe and is closed before done is called, on the loop thread, with
    // the number of bytes. One save at a time.
    virtual void save(Fd out, std::function<void(Result<std::uint64_t>)> done) = 0;

    // Puts disks on other images of the same size and content, while the machine is paused and
    // still: all of them or none. By their index in the spec. Loop thread.
    using DiskChange = std::pair<std::size_t, DiskSpec>;
    virtual Result<void> replace_disks(const std::vector<DiskChange>& changes) = 0;
    // Puts another medium into the CD-ROM drive, or takes it out (-1); fd stays the caller's.
    // unsupported when the machine has no drive, busy when the guest has locked the tray over a
    // medium and force is not given: it is asked to let go then. Loop thread.
    virtual Result<void> change_medium(int fd, bool force) = 0;
    // How much of its memory the guest is to keep; the rest is asked for through the balloon.
    // unsupported when the machine has none, busy when no driver in the guest listens (the wish
    // stands for one that comes). Loop thread.
    virtual Result<void> set_memory_target(std::uint64_t bytes) = 0;
    // How the guest left the tray of the drive.
    virtual bool tray_open() const = 0;

    // Asks the guest to end by itself: through vmmci(4) when its driver listens, else by ACPI's
    // button; see orderly_stop.h. From then on a reset counts as power_off, and so does running
    // out of time; with nobody to ask the machine ends at once. Loop thread.
    virtual StopRequest ask_to_stop(StopTimeouts timeouts) = 0;
};

// A console of one guest, serial or virtio: a ring of the last output, many readers, one writer.
// Loop thread only, but for write_from_guest and input_space, which any thread may call.
class Console {
public:
    virtual ~Console() = default;
    static std::unique_ptr<Console> create(Loop& loop);
    // With the ring in memory that the parent reads too (ipc/shared_ring.h, of
    // limits::console_ring_bytes). bell is an eventfd that is rung when there is new output, now
    // and then; none: nobody waits for it.
    static Result<std::unique_ptr<Console>> create(Loop& loop, const Fd& memory, Fd bell);

    // A connected SOCK_STREAM socket of a client that speaks the frames of console/frames.h.
    // The client gets the ring first, then output as it comes; input is taken from the one
    // client that holds the writer's token (the first that asked for it).
    virtual Result<void> attach(Fd client, bool want_writer) = 0;

    // From the device: never blocks; the ring keeps the newest bytes.
    virtual void write_from_guest(Bytes output) = 0;
    // Where input goes; the device returns how many bytes it took, and calls
    // input_space() when it can take more. Both are called on the loop thread. Two empty
    // functions take the device away; input that nobody took yet is dropped then.
    virtual void on_input(std::function<std::size_t(Bytes)> take,
                          std::function<void()> line_break) = 0;
    virtual void input_space() = 0;
    // The size of the typing client's terminal, as far as it is known: now, when it changes, and
    // when somebody else types. A serial line has no use for it, and gives no function.
    virtual void on_size(std::function<void(std::uint16_t columns, std::uint16_t rows)> take) = 0;
    // While held, input waits as it does when the device has no room.
    virtual void hold_input(bool hold) = 0;

    virtual std::uint64_t output_bytes() const = 0;
    // The guest has ended: clients get what they have not taken yet. closed is called when they
    // have, or after two seconds; the console is destroyed then, which tells them of the end.
    virtual void close(std::function<void()> closed) = 0;
};

} // namespace vmhost::machine
