// A PC made of the parts of this room.
//
// The members of RealMachine stand in the order in which they depend on each
// other, so that destruction takes them down in the right one: threads first, then
// devices, processors, the backend, and memory last.
//
// Paused, nothing of the guest moves: the vCPUs are parked, the guest clock and the
// backend's timers stand still, no device begins anything. What goes on is outside of
// the guest's reach: requests that are with the disks run to their end, frames wait
// in the taps, what is typed waits with the console. The TSC and kvmclock go on, so a guest that
// keeps time by them is right at once; the others are told by vmmci.
//
// Threads: built, started and destroyed on the loop thread. Whoever finds out that it ends (a vCPU
// thread, or a device under the device lock on one) calls end(): the first call decides how, every
// vCPU is kicked, and the loop thread joins them and reports.
#include "machine/machine.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <mutex>
#include <sys/mman.h>
#include <sys/stat.h>

#include "disk/disk.h"
#include "machine/acpi/acpi.h"
#include "machine/boot/boot.h"
#include "machine/boot/disklabel.h"
#include "machine/boot/firmware.h"
#include "machine/boot_order.h"
#include "machine/cpu/cpu.h"
#include "machine/cpu/saved.h"
#include "machine/device/acpi_pm.h"
#include "machine/device/cmos.h"
#include "machine/device/debug_console.h"
#include "machine/device/debug_exit.h"
#include "machine/device/fw_cfg.h"
#include "machine/device/port_stub.h"
#include "machine/device/reset.h"
#include "machine/device/serial.h"
#include "machine/layout.h"
#include "machine/loop_clock.h"
#include "machine/orderly_stop.h"
#include "machine/pci.h"
#include "machine/places.h"
#include "machine/snapshot/saver.h"
#include "machine/vcpu_threads.h"
#include "machine/virtio/balloon.h"
#include "machine/virtio/block.h"
#include "machine/virtio/net.h"
#include "machine/virtio/pci_transport.h"
#include "machine/virtio/rng.h"
#include "machine/virtio/scsi.h"
#include "machine/virtio/vmmci.h"

namespace vmhost::machine {

namespace {

constexpr std::uint64_t com0_port = 0x3f8, keyboard_data_port = 0x60, keyboard_command_port = 0x64,
                        cmos_port = 0x70, pci_port = 0xcf8;
constexpr unsigned com0_gsi = 4;
constexpr unsigned pci_places = 8 * pci_slots; // eight functions each

Result<Fd> duplicate(int number, std::string_view what) {
    int copy = ::fcntl(number, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return fail_errno(errno, "{}: descriptor {}", what, number);
    return Fd(copy);
}

// A boot image is read and not mapped: a file that shrinks under us must be an error, not SIGBUS.
struct WholeFile {
    std::unique_ptr<std::uint8_t[]> bytes;
    std::size_t size = 0;
    Bytes view() const { return {bytes.get(), size}; }
};

Result<WholeFile> read_whole(int fd, std::uint64_t most_bytes, std::string_view what) {
    struct stat status {};
    if (::fstat(fd, &status) < 0)
        return fail_errno(errno, "{}", what);
    if (!S_ISREG(status.st_mode))
        return fail(ErrorKind::invalid, "{}: not a regular file", what);
    auto size = static_cast<std::uint64_t>(status.st_size);
    if (size > most_bytes)
        return fail(ErrorKind::limit, "{}: {} are more than the {} that can be loaded", what,
                    format_size(size), format_size(most_bytes));
    WholeFile file{std::make_unique_for_overwrite<std::uint8_t[]>(size), size};
    for (std::size_t done = 0; done < size;) {
        auto count = ::pread(fd, file.bytes.get() + done, size - done, static_cast<off_t>(done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "{}: read", what);
        if (count == 0)
            return fail(ErrorKind::corrupt, "{}: the file became shorter while it was read", what);
        done += static_cast<std::size_t>(count);
    }
    return file;
}

// Counts what the host really holds of a range: pages that were touched.
std::uint64_t resident_bytes(const GuestMemory::Range& range) {
    constexpr std::uint64_t page_bytes = 4 * KiB, chunk_bytes = 64 * MiB;
    std::vector<unsigned char> pages(chunk_bytes / page_bytes);
    std::uint64_t resident = 0;
    for (std::uint64_t at = 0; at < range.size_bytes; at += chunk_bytes) {
        auto length = std::min(chunk_bytes, range.size_bytes - at);
        if (::mincore(range.host + at, length, pages.data()) < 0)
            return resident;
        for (std::uint64_t page = 0; page < length / page_bytes; ++page)
            resident += (pages[page] & 1U) * page_bytes;
    }
    return resident;
}

class RealMachine final : public Machine {
public:
    RealMachine(Loop& loop, const MachineSpec& spec, Console& console,
                std::function<void(MachineEnd)> ended)
        : loop_(loop), spec_(spec), console_(console), ended_(std::move(ended)),
          keyboard_([this] { end({.how = MachineEnd::How::reset}); }),
          port_a_([this] { end({.how = MachineEnd::How::reset}); }),
          debug_exit_([this](std::uint8_t code) {
              end({.how = MachineEnd::How::debug_exit, .code = code});
          }),
          firmware_log_([this](Bytes text) { log_firmware(text); }),
          still_timer_(loop, [this] { look_whether_still(); }), wakeup_(loop, [this] { woken(); }) {
    }
    ~RealMachine() override;

    Result<void> assemble();
    Result<void> start() override;
    void pause(std::function<void()> still) override;
    void unpause() override;
    bool paused() const override { return paused_; }
    bool press_power_button() override;
    bool power_button_pending() const override;
    MachineCounters counters() const override;
    void save(Fd out, std::function<void(Result<std::uint64_t>)> done) override;
    StopRequest ask_to_stop(StopTimeouts timeouts) override;
    bool ask_to_sync_clock() override;
    Result<void> change_medium(int fd, bool force) override;
    bool tray_open() const override;
    Result<void> set_memory_target(std::uint64_t bytes) override;

private:
    Result<void> make_isa_devices();
    Result<void> make_pci_devices();
    Result<unsigned> add_function(std::unique_ptr<virtio::VirtioDevice> device,
                                  PciPlace place = {});
    Result<void> add_cdrom();
    Result<void> add_vmmci();
    Result<void> add_network_boot();
    Result<CpuState> load();
    Result<void> make_vcpus();
    CpuModel model_of(unsigned index) const {
        return make_cpu_model(backend_->capabilities(), index, spec_.vcpus, spec_.cpu);
    }
    Result<void> boot();
    Result<void> restore();
    Result<void> restore_vcpus(StreamReader& reader, std::uint64_t away_us);
    Result<void> restore_backend(StreamReader& reader, std::uint64_t away_us);
    MachineIdentity identity();
    std::vector<Part> parts();
    Result<std::vector<Section>> take_state();
    void connect_console();
    void log_firmware(Bytes text);

    void vcpu_over(unsigned index, Exit exit);
    void end(MachineEnd how);
    void woken();
    void look_whether_still();
    std::uint64_t malformed_requests() const;
    void log_nonsense() const;

    Loop& loop_;
    const MachineSpec spec_;
    Console& console_;
    std::function<void(MachineEnd)> ended_;

    GuestMemory memory_;
    Bus bus_;
    std::unique_ptr<LoopClock> clock_;
    std::unique_ptr<Backend> backend_;

    std::unique_ptr<Serial> serial_;
    std::unique_ptr<Cmos> cmos_;
    std::unique_ptr<FwCfg> fw_cfg_;
    std::unique_ptr<AcpiPm> acpi_pm_;
    KeyboardController keyboard_;
    PortA port_a_;
    PostPort post_;
    DebugExit debug_exit_;
    DebugConsole firmware_log_;
    std::string firmware_line_;
    std::uint64_t firmware_second_ = 0; // of the guest clock, and the lines in it
    unsigned firmware_lines_ = 0;

    std::vector<std::unique_ptr<disk::Image>> images_;
    std::unique_ptr<PciHost> pci_;
    std::vector<virtio::PciTransport*> transports_; // owned by pci_
    virtio::Scsi* scsi_ = nullptr;                  // owned by pci_; null without a CD-ROM drive
    virtio::Balloon* balloon_ = nullptr;            // owned by pci_; null without
    virtio::Vmmci* vmmci_ = nullptr;                // owned by pci_
    std::unique_ptr<OrderlyStop> orderly_stop_;
    std::vector<BootCandidate> bootable_;
    std::atomic<bool> shutting_down_{false}; // was asked to: a reset is its end

    std::vector<CpuModel> models_; // of vcpus_
    std::unique_ptr<Saver> saver_;
    bool restored_ = false;
    VcpuThreads vcpus_{[this](unsigned index, Exit exit) { vcpu_over(index, std::move(exit)); }};
    std::atomic<bool> paused_{false};
    std::function<void()> still_; // of pause(), until it has been called
    Timer still_timer_;
    std::mutex end_mutex_;
    std::optional<MachineEnd> end_; // under end_mutex_
    Wakeup wakeup_;
};

Result<void> RealMachine::assemble() {
    if (spec_.vcpus == 0 || spec_.vcpus > limits::max_vcpus)
        return fail(ErrorKind::limit, "{} vcpus: at least 1 and at most {} are possible",
                    spec_.vcpus, limits::max_vcpus);
    TRY(lay_out_memory(memory_, spec_.memory_bytes));
    clock_ = TRY(LoopClock::create(loop_, bus_.lock()));
    auto kvm = TRY(duplicate(spec_.kvm_fd, "/dev/kvm"));
    backend_ = TRY(create_kvm_backend(std::move(kvm)));
    memory_.on_written(
        [this](Gpa start, std::uint64_t length) { backend_->ram_written(start, length); });
    TRY(make_isa_devices());
    TRY(make_pci_devices());
    TRY(check_cpu_kind(backend_->capabilities(), spec_.cpu));
    TRY(spec_.state_fd < 0 ? boot() : restore());
    connect_console();
    return {};
}

Result<void> RealMachine::boot() {
    for (unsigned i = 0; i < spec_.vcpus; ++i)
        models_.push_back(model_of(i));
    // Loading may add memory (firmware), so it is mapped afterwards.
    auto first = TRY(load());
    TRY(make_vcpus());
    return vcpus_.vcpu(0).set_state(first);
}

Result<void> RealMachine::make_isa_devices() {
    auto& interrupts = *backend_->interrupts();
    serial_ = std::make_unique<Serial>(interrupts, com0_gsi, *clock_,
                                       [this](Bytes output) { console_.write_from_guest(output); });
    cmos_ = std::make_unique<Cmos>(*clock_, interrupts, memory_, spec_.vcpus);
    fw_cfg_ = std::make_unique<FwCfg>(memory_);
    acpi_pm_ = std::make_unique<AcpiPm>(*clock_, interrupts, [this] {
        end({.how = MachineEnd::How::power_off, .text = "the guest powered itself off"});
    });
    auto insert = [this](std::uint64_t port, std::uint64_t count, Device& device) {
        return bus_.insert(Space::port, port, count, device);
    };
    TRY(insert(com0_port, Serial::port_count, *serial_));
    TRY(insert(cmos_port, Cmos::port_count, *cmos_));
    TRY(insert(FwCfg::first_port, FwCfg::port_count, *fw_cfg_));
    TRY(insert(AcpiPm::first_port, AcpiPm::port_count, *acpi_pm_));
    TRY(insert(keyboard_data_port, 1, keyboard_.data_port()));
    TRY(insert(keyboard_command_port, 1, keyboard_.command_port()));
    TRY(insert(PortA::port, PortA::port_count, port_a_));
    TRY(insert(PostPort::port, PostPort::port_count, post_));
    if (spec_.debug_exit)
        TRY(insert(DebugExit::port, DebugExit::port_count, debug_exit_));
    // SeaBIOS asks for this port and leaves out its log, an exit per letter, without it.
    if (log::enabled("firmware", log::Level::debug))
        TRY(insert(DebugConsole::port, DebugConsole::port_count, firmware_log_));
    return {};
}

// What the guest wrote is taken apart here, in the guest's own process.
Result<std::unique_ptr<disk::Image>> open_image(const DiskSpec& disk, const std::string& name) {
    std::vector<disk::ConfiguredLayer> layers;
    layers.push_back(
        {TRY(duplicate(disk.fd, name)), disk.format, disk.path.empty() ? name : disk.path});
    for (const auto& base : disk.bases)
        layers.push_back({TRY(duplicate(base.fd, name)), base.format, base.path});
    return disk::Image::open_configured(std::move(layers), disk.read_only);
}

// Slots in vmd's order: host bridge, entropy, networks, disks, CD-ROM, balloon, vmmci. OpenBSD
// numbers its devices by it.
Result<void> RealMachine::make_pci_devices() {
    pci_ = std::make_unique<PciHost>(bus_, *backend_->interrupts());
    pci_->set_reset_handler([this] { end({.how = MachineEnd::How::reset}); });
    TRY(bus_.insert(Space::port, pci_port, 8, *pci_));
    TRY(add_function(std::make_unique<virtio::Rng>(spec_.name + "-rng")));
    for (std::size_t i = 0; i < spec_.nics.size(); ++i) {
        const auto& nic = spec_.nics[i];
        auto device = TRY(virtio::Net::create({.name = fmt::format("{}-nic{}", spec_.name, i),
                                               .taps = nic.tap_fds,
                                               .mac = nic.mac,
                                               .mtu = nic.mtu,
                                               .limit = nic.limit},
                                              loop_, bus_.lock(), *clock_));
        auto place = place_of_nic(i, spec_.nics.size(), spec_.disks.size());
        TRY(add_function(std::move(device), place));
        bootable_.push_back({BootFrom::net, place.slot, place.function});
    }
    for (std::size_t i = 0; i < spec_.disks.size(); ++i) {
        const auto& disk = spec_.disks[i];
        auto name = fmt::format("{}-disk{}", spec_.name, i);
        images_.push_back(TRY(open_image(disk, name)));
        auto device = std::make_unique<virtio::Block>(
            virtio::Block::Settings{
                .name = name, .serial = disk.serial, .queues = spec_.vcpus, .limit = disk.limit},
            *images_.back(), loop_, bus_.lock(), *clock_);
        auto place = place_of_disk(i, spec_.nics.size(), spec_.disks.size());
        TRY(add_function(std::move(device), place));
        bootable_.push_back({BootFrom::disk, place.slot, place.function});
    }
    if (spec_.cdrom)
        TRY(add_cdrom());
    if (spec_.balloon) {
        auto made =
            std::make_unique<virtio::Balloon>(spec_.name + "-balloon", memory_, bus_.lock());
        balloon_ = made.get();
        TRY(add_function(std::move(made)));
    }
    return add_vmmci();
}

Result<void> RealMachine::add_cdrom() {
    auto made = std::make_unique<virtio::Scsi>(spec_.name + "-scsi", spec_.name + "-cd", loop_,
                                               bus_.lock());
    scsi_ = made.get();
    auto slot = TRY(add_function(std::move(made)));
    bootable_.push_back({.kind = BootFrom::cdrom, .slot = slot});
    if (spec_.cdrom->fd >= 0)
        TRY(change_medium(spec_.cdrom->fd, true));
    std::scoped_lock guard(bus_.lock());
    if (spec_.cdrom->tray_open)
        scsi_->drive().open_tray();
    return {};
}

Result<void> RealMachine::change_medium(int fd, bool force) {
    if (scsi_ == nullptr)
        return fail(ErrorKind::unsupported, "it has no CD-ROM drive");
    std::unique_ptr<disk::Image> medium;
    auto name = spec_.name + "-cdrom";
    if (fd >= 0) {
        auto file = TRY(duplicate(fd, name));
        medium = TRY(disk::Image::open_raw(std::move(file), true, name));
    }
    return scsi_->change_medium(std::move(medium), force);
}

Result<void> RealMachine::set_memory_target(std::uint64_t bytes) {
    if (balloon_ == nullptr)
        return fail(ErrorKind::unsupported, "it has no balloon");
    if (paused())
        return fail(ErrorKind::busy, "it is paused");
    if (bytes > spec_.memory_bytes)
        return fail(ErrorKind::limit, "{} are more than the {} that it has", format_size(bytes),
                    format_size(spec_.memory_bytes));
    if (!balloon_->set_target_bytes(spec_.memory_bytes - bytes))
        return fail(ErrorKind::busy, "no driver of the guest listens to its balloon");
    return {};
}

bool RealMachine::tray_open() const {
    std::scoped_lock guard(bus_.lock());
    return scsi_ != nullptr && scsi_->drive().tray_open();
}

// iPXE in the ROM of the interfaces that firmware may start from.
Result<void> RealMachine::add_network_boot() {
    for (const auto& candidate : bootable_) {
        if (candidate.kind != BootFrom::net)
            continue;
        auto* function = pci_->at(candidate.slot, candidate.function);
        std::uint8_t ids[4] = {};
        function->read_config(0, ids);
        function->add_rom(TRY(boot::virtio_net_rom(load_le<std::uint16_t>(ids),
                                                   load_le<std::uint16_t>(Bytes(ids).subspan(2)))));
    }
    return {};
}

Result<void> RealMachine::add_vmmci() {
    virtio::Vmmci::Hooks hooks;
    hooks.powers_off = [this] { end({.how = MachineEnd::How::power_off}); };
    hooks.gave_up = [this](bool acked) { orderly_stop_->vmmci_gave_up(acked); };
    auto made = std::make_unique<virtio::Vmmci>(spec_.name + "-vmmci", *clock_, std::move(hooks));
    vmmci_ = made.get();
    OrderlyStop::Guest guest;
    // REBOOT and not SHUTDOWN, as vmd does: a guest that halts without ACPI waits for a key.
    guest.ask_vmmci = [this] { return vmmci_->send(virtio::Vmmci::Command::reboot); };
    guest.press_button = [this] { return acpi_pm_->press_power_button(); };
    guest.button_pending = [this] { return acpi_pm_->power_button_pending(); };
    guest.give_up = [this](std::string why) {
        end({.how = MachineEnd::How::power_off, .text = std::move(why)});
    };
    orderly_stop_ = std::make_unique<OrderlyStop>(*clock_, std::move(guest));
    auto slot = TRY(pci_->add(std::move(made)));
    vmmci_->set_interrupt(static_cast<std::uint8_t>(pci_line_of_slot(slot)));
    return {};
}

// In the next slot, or as a further function of one. The slot.
Result<unsigned> RealMachine::add_function(std::unique_ptr<virtio::VirtioDevice> device,
                                           PciPlace place) {
    using Interface = virtio::PciTransport::Interface;
    auto transport = std::make_unique<virtio::PciTransport>(
        std::move(device), memory_, loop_, bus_.lock(), backend_.get(),
        spec_.transitional ? Interface::transitional : Interface::modern);
    auto* added = transport.get();
    auto slot = place.function == 0 ? TRY(pci_->add(std::move(transport)))
                                    : TRY(pci_->add_beside(place.slot, std::move(transport)));
    added->set_interrupt(static_cast<std::uint8_t>(pci_line_of_slot(slot)));
    transports_.push_back(added);
    return slot;
}

std::optional<boot::Duid> duid_of(disk::Image& image) {
    return boot::find_duid(
        [&](std::uint64_t sector) -> std::optional<std::array<std::uint8_t, boot::sector_bytes>> {
            std::array<std::uint8_t, boot::sector_bytes> bytes{};
            const iovec into{bytes.data(), bytes.size()};
            if (!range_fits(sector, 1, image.size_bytes() / boot::sector_bytes) ||
                !image.readv({&into, 1}, sector * boot::sector_bytes))
                return std::nullopt;
            return bytes;
        });
}

// The boot image into memory; what the first processor starts with.
Result<CpuState> RealMachine::load() {
    const auto& boot = spec_.boot;
    WholeFile image, initrd;
    boot::Request request;
    request.name = boot.image_name.empty() ? spec_.name : boot.image_name;
    request.command_line = boot.command_line;
    request.boot_mac = boot.boot_mac;
    request.howto = boot.howto;
    // An installer's root is its ramdisk; an installed kernel's is the first disk.
    if (!boot.boot_mac && !images_.empty())
        request.boot_duid = duid_of(*images_.front());
    request.acpi_rsdp = acpi::rsdp_address;
    if (boot.image_fd < 0) {
        request.image = boot::seabios();
    } else {
        image = TRY(read_whole(boot.image_fd, limits::max_kernel_bytes,
                               fmt::format("boot image {}", printable(request.name))));
        request.image = image.view();
    }
    if (boot.initrd_fd >= 0) {
        initrd = TRY(read_whole(boot.initrd_fd, limits::max_initrd_bytes,
                                fmt::format("initrd of {}", printable(request.name))));
        request.initrd = initrd.view();
    }
    auto loaded = TRY(boot::load(memory_, request));

    std::vector<MemoryMapRow> rows;
    for (const auto& entry : boot::memory_map(memory_))
        rows.push_back({entry.start, entry.size, entry.type});
    add_platform_files(*fw_cfg_, rows, spec_.vcpus, boot_order(boot.from, bootable_));
    // Firmware places BARs and tables itself; a kernel that is entered directly finds them placed.
    if (loaded.kind == boot::ImageKind::firmware) {
        acpi::add_firmware_files(*fw_cfg_, spec_.vcpus);
        if (boots_from_net(boot.from, bootable_))
            TRY(add_network_boot());
    } else {
        TRY(acpi::install(memory_, spec_.vcpus));
        std::scoped_lock guard(bus_.lock());
        pci_->place_bars();
    }
    return loaded.cpu;
}

// With the memory as it is now.
Result<void> RealMachine::make_vcpus() {
    for (const auto& range : memory_.ranges())
        TRY(backend_->map(range, false));
    for (unsigned i = 0; i < spec_.vcpus; ++i)
        vcpus_.add(TRY(backend_->create_vcpu(i, models_[i], bus_)));
    return {};
}

void RealMachine::connect_console() {
    {
        std::scoped_lock guard(bus_.lock());
        serial_->on_receive_space([this] { console_.input_space(); });
    }
    console_.on_input(
        [this](Bytes input) {
            std::scoped_lock guard(bus_.lock());
            return serial_->receive(input);
        },
        [this] {
            std::scoped_lock guard(bus_.lock());
            serial_->receive_break();
        });
}

void RealMachine::log_firmware(Bytes text) {
    // SeaBIOS says some 300 lines in all; the port is there for any guest to write to.
    constexpr std::size_t longest_line = 256;
    constexpr unsigned most_lines_per_s = 500;
    for (std::uint8_t byte : text) {
        if (byte != '\n')
            firmware_line_ += static_cast<char>(byte);
        if (byte == '\n' || firmware_line_.size() == longest_line) {
            if (auto second = clock_->now_ns() / 1'000'000'000; second != firmware_second_) {
                firmware_second_ = second;
                firmware_lines_ = 0;
            }
            if (++firmware_lines_ < most_lines_per_s)
                log::debug("firmware", "{}: {}", spec_.name, printable(firmware_line_));
            else if (firmware_lines_ == most_lines_per_s)
                log::debug("firmware", "{}: more lines than {} in a second: they are dropped",
                           spec_.name, most_lines_per_s);
            firmware_line_.clear();
        }
    }
}

Result<void> RealMachine::start() {
    if (auto started = vcpus_.start(); !started)
        return std::unexpected(
            std::move(started).error().in(fmt::format("machine {}", spec_.name)));
    if (restored_)
        ask_to_sync_clock();
    return {};
}

// A vCPU's last word.
void RealMachine::vcpu_over(unsigned index, Exit exit) {
    if (exit.reason == Exit::Reason::shutdown)
        return end({.how = MachineEnd::How::reset});
    if (exit.reason == Exit::Reason::halted)
        exit.text = "halted, and nothing could wake it";
    end({.how = MachineEnd::How::failed, .text = fmt::format("vcpu {}: {}", index, exit.text)});
}

void RealMachine::end(MachineEnd how) {
    {
        std::scoped_lock guard(end_mutex_);
        if (end_)
            return;
        if (shutting_down_ && how.how == MachineEnd::How::reset)
            how.how = MachineEnd::How::power_off;
        end_ = std::move(how);
    }
    vcpus_.end_soon();
    wakeup_.wake();
}

// ended_ may destroy this machine: nothing follows it.
void RealMachine::woken() {
    if (!ended_)
        return;
    vcpus_.stop();
    MachineEnd how;
    {
        std::scoped_lock guard(end_mutex_);
        if (!end_)
            return;
        how = *end_;
    }
    std::exchange(ended_, nullptr)(std::move(how));
}

// Once per boot, whatever the guest did.
void RealMachine::log_nonsense() const {
    auto accesses = bus_.counters();
    auto malformed = malformed_requests();
    if (malformed != 0 || accesses.unclaimed_reads != 0 || accesses.unclaimed_writes != 0)
        log::info("machine",
                  "{}: its guest made {} malformed requests, {} reads and {} writes where "
                  "nothing is",
                  spec_.name, malformed, accesses.unclaimed_reads, accesses.unclaimed_writes);
}

RealMachine::~RealMachine() {
    vcpus_.stop();
    log_nonsense();
    console_.on_input({}, {});
}

void RealMachine::pause(std::function<void()> still) {
    if (!vcpus_.park())
        return; // the machine ends: ended_ comes
    still_ = std::move(still);
    if (!paused_.exchange(true)) {
        console_.hold_input(true);
        std::scoped_lock guard(bus_.lock());
        clock_->pause();
        for (auto* transport : transports_)
            transport->pause();
        backend_->hold_timers();
    }
    still_timer_.start(std::chrono::milliseconds(0), std::chrono::milliseconds(1));
}

void RealMachine::look_whether_still() {
    {
        std::scoped_lock guard(bus_.lock());
        if (!std::ranges::all_of(transports_, [](auto* one) { return one->device().still(); }))
            return;
    }
    still_timer_.stop();
    if (auto still = std::exchange(still_, nullptr))
        still();
}

void RealMachine::unpause() {
    if (!paused_.exchange(false))
        return;
    still_timer_.stop();
    still_ = nullptr;
    {
        std::scoped_lock guard(bus_.lock());
        backend_->release_timers();
        for (auto* transport : transports_)
            transport->resume();
        clock_->resume();
    }
    vcpus_.unpark();
    console_.hold_input(false);
    ask_to_sync_clock();
}

StopRequest RealMachine::ask_to_stop(StopTimeouts timeouts) {
    std::scoped_lock guard(bus_.lock());
    vmmci_->set_timeouts(timeouts.answer_ns, timeouts.finish_ns);
    shutting_down_ = true;
    return orderly_stop_->begin(timeouts);
}

bool RealMachine::ask_to_sync_clock() {
    std::scoped_lock guard(bus_.lock());
    return vmmci_->send(virtio::Vmmci::Command::sync_clock);
}

bool RealMachine::press_power_button() {
    std::scoped_lock guard(bus_.lock());
    return acpi_pm_->press_power_button();
}

bool RealMachine::power_button_pending() const {
    std::scoped_lock guard(bus_.lock());
    return acpi_pm_->power_button_pending();
}

std::uint64_t RealMachine::malformed_requests() const {
    std::scoped_lock guard(bus_.lock());
    std::uint64_t sum = 0;
    for (const auto* transport : transports_)
        sum += transport->malformed_requests();
    return sum;
}

MachineCounters RealMachine::counters() const {
    MachineCounters sum;
    for (std::size_t i = 0; i < vcpus_.count(); ++i) {
        auto exits = vcpus_.vcpu(i).exits();
        sum.port_exits += exits.ports;
        sum.memory_exits += exits.memory;
        sum.other_exits += exits.kicks + exits.others;
        sum.unknown_msrs += exits.unknown_msrs;
    }
    auto accesses = bus_.counters();
    sum.unclaimed_accesses = accesses.unclaimed_reads + accesses.unclaimed_writes;
    sum.malformed_requests = malformed_requests();
    for (const auto& range : memory_.ranges())
        sum.resident_bytes += resident_bytes(range);
    return sum;
}

// ---- saved machines -----------------------------------------------------------

// What there is beside vCPUs, backend and memory, in the order of the stream.
std::vector<Part> RealMachine::parts() {
    std::vector<Part> all;
    auto add = [&all](std::string name, auto& part, std::uint16_t instance = 0) {
        all.push_back(
            {{std::move(name), instance}, [&part](StateArchive& archive) { part.state(archive); }});
    };
    add("serial", *serial_);
    add("cmos", *cmos_);
    add("acpi-pm", *acpi_pm_);
    add("keyboard", keyboard_);
    add("fw-cfg", *fw_cfg_);
    add("pci-host", *pci_);
    for (std::uint16_t place = 0; place < pci_places; ++place)
        if (auto* function = pci_->at(place / 8, place % 8))
            add("pci", *function, place);
    return all;
}

MachineIdentity RealMachine::identity() {
    MachineIdentity identity;
    identity.build = VMHOST_VERSION;
    identity.name = spec_.name;
    identity.memory_bytes = spec_.memory_bytes;
    identity.tsc_khz = backend_->capabilities().tsc_khz;
    identity.debug_exit = spec_.debug_exit;
    for (unsigned i = 0; i < spec_.vcpus; ++i)
        identity.cpus.push_back({i < models_.size() ? models_[i] : model_of(i)});
    for (const auto& range : memory_.ranges())
        identity.ranges.push_back({range.start, range.size_bytes, range.ram});
    for (std::size_t i = 0; i < spec_.disks.size(); ++i)
        identity.disks.push_back(
            {images_[i]->size_bytes(), spec_.disks[i].read_only, spec_.disks[i].serial});
    for (const auto& nic : spec_.nics)
        identity.nics.push_back({nic.mac, nic.mtu});
    for (std::uint16_t place = 0; place < pci_places; ++place)
        if (auto* function = pci_->at(place / 8, place % 8)) {
            std::string_view name = function->name();
            if (name.starts_with(spec_.name + "-"))
                name.remove_prefix(spec_.name.size() + 1);
            identity.functions.push_back({place, function->vendor_and_device(), std::string(name)});
        }
    identity.clock_ns = clock_->now_ns();
    identity.wall_us = clock_->wall_us();
    return identity;
}

Result<std::vector<Section>> RealMachine::take_state() {
    std::scoped_lock guard(bus_.lock());
    std::vector<Section> sections;
    auto add = [&sections](std::string name, auto& part, unsigned instance = 0) -> Result<void> {
        sections.push_back(TRY(save_part({{std::move(name), static_cast<std::uint16_t>(instance)},
                                          [&](StateArchive& archive) { part.state(archive); }})));
        return {};
    };
    auto header = identity();
    TRY(add("machine", header));
    for (const auto& part : parts())
        sections.push_back(TRY(save_part(part)));
    for (unsigned i = 0; i < spec_.vcpus; ++i) {
        auto vcpu = TRY(vcpus_.vcpu(i).save());
        TRY(add("vcpu", vcpu, i));
    }
    auto backend = TRY(backend_->save());
    TRY(add("backend", backend));
    return sections;
}

void RealMachine::save(Fd out, std::function<void(Result<std::uint64_t>)> done) {
    if (saver_)
        return done(fail(ErrorKind::busy, "machine {}: it is being saved already", spec_.name));
    auto sections = take_state();
    if (!sections)
        return done(std::unexpected(std::move(sections).error()));
    auto settle = [this]() -> Result<void> {
        for (auto& image : images_)
            if (!image->read_only())
                TRY(image->flush());
        return {};
    };
    auto finish = [this, done = std::move(done)](Result<std::uint64_t> result) {
        auto tell = std::move(done);
        saver_.reset(); // closes the descriptor; this function is gone with it
        tell(std::move(result));
    };
    saver_ = std::make_unique<Saver>(loop_, std::move(out), *std::move(sections), memory_.ranges(),
                                     std::move(settle), std::move(finish));
}

// The clocks that a guest reads without our help go on as if it had not been away.
Result<void> RealMachine::restore() {
    StreamReader reader(source_from(spec_.state_fd));
    TRY(reader.begin());
    MachineIdentity saved;
    TRY(load_part({{"machine"}, [&](StateArchive& archive) { saved.state(archive); }}, reader));
    TRY(check_compatible(saved, identity()));
    TRY(add_saved_ranges(memory_, saved.ranges));
    for (auto& cpu : saved.cpus)
        models_.push_back(std::move(cpu.model));
    TRY(make_vcpus());
    {
        std::scoped_lock guard(bus_.lock());
        clock_->go_on_from(saved.clock_ns);
        for (const auto& part : parts())
            TRY(load_part(part, reader));
        pci_->place_again();
    }
    constexpr std::int64_t longest_us = limits::max_duration_ms * 1000;
    auto away_us = static_cast<std::uint64_t>(
        std::clamp<std::int64_t>(clock_->wall_us() - saved.wall_us, 0, longest_us));
    TRY(restore_vcpus(reader, away_us));
    TRY(restore_backend(reader, away_us));
    TRY(read_memory(reader, memory_));
    for (unsigned i = 0; i < spec_.vcpus; ++i)
        vcpus_.vcpu(i).stood_still();
    restored_ = true;
    return {};
}

Result<void> RealMachine::restore_vcpus(StreamReader& reader, std::uint64_t away_us) {
    const auto tsc_khz = backend_->capabilities().tsc_khz;
    const auto away_ticks = away_us / 1000 * tsc_khz + away_us % 1000 * tsc_khz / 1000;
    for (unsigned i = 0; i < spec_.vcpus; ++i) {
        SavedVcpu vcpu;
        TRY(load_part({{"vcpu", static_cast<std::uint16_t>(i)},
                       [&](StateArchive& archive) { vcpu.state(archive); }},
                      reader));
        vcpu.tsc += away_ticks;
        if (auto loaded = vcpus_.vcpu(i).load(vcpu); !loaded)
            return std::unexpected(
                std::move(loaded).error().in(fmt::format("state section vcpu {}", i)));
    }
    return {};
}

Result<void> RealMachine::restore_backend(StreamReader& reader, std::uint64_t away_us) {
    SavedBackend backend;
    TRY(load_part({{"backend"}, [&](StateArchive& archive) { backend.state(archive); }}, reader));
    backend.pvclock_ns += away_us * 1000;
    return backend_->load(backend);
}

} // namespace

Result<std::unique_ptr<Machine>> Machine::build(Loop& loop, const MachineSpec& spec,
                                                Console& console,
                                                std::function<void(MachineEnd)> ended) {
    auto made = std::make_unique<RealMachine>(loop, spec, console, std::move(ended));
    TRY(made->assemble());
    return std::unique_ptr<Machine>(std::move(made));
}

} // namespace vmhost::machine
