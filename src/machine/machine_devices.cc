// What a machine is built of: ISA devices at their ports, PCI functions in their slots, and
// what can be changed in them while the guest runs.
#include "machine/real_machine.h"

#include <algorithm>

#include "machine/boot/firmware.h"
#include "machine/virtio/net.h"
#include "machine/virtio/rng.h"

namespace vmhost::machine {

namespace {

constexpr std::uint64_t com0_port = 0x3f8, keyboard_data_port = 0x60, keyboard_command_port = 0x64,
                        cmos_port = 0x70, pci_port = 0xcf8;
constexpr unsigned com0_gsi = 4;

} // namespace

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
static Result<std::unique_ptr<disk::Image>> open_image(const DiskSpec& disk,
                                                       const std::string& name) {
    std::vector<disk::ConfiguredLayer> layers;
    layers.push_back(
        {TRY(duplicate(disk.fd, name)), disk.format, disk.path.empty() ? name : disk.path});
    for (const auto& base : disk.bases)
        layers.push_back({TRY(duplicate(base.fd, name)), base.format, base.path});
    return disk::Image::open_configured(std::move(layers), disk.read_only);
}

// Without it frames go through this process, which every guest can do with.
static std::vector<std::unique_ptr<virtio::Vhost>> open_vhosts(const NicSpec& nic,
                                                               const std::string& name) {
    std::vector<std::unique_ptr<virtio::Vhost>> all;
    for (int fd : nic.vhost_fds) {
        auto made = virtio::open_vhost(fd);
        if (!made) {
            log::warning("machine", "{}: its frames go through this process: {}", name,
                         made.error().text());
            return {};
        }
        all.push_back(*std::move(made));
    }
    return all;
}

// Slots in vmd's order: host bridge, entropy, networks, disks, CD-ROM, balloon,
// console, vmmci. OpenBSD numbers its devices by it.
Result<void> RealMachine::make_pci_devices() {
    pci_ = std::make_unique<PciHost>(bus_, *backend_->interrupts());
    // ACPI's reset register is the same port.
    pci_->set_reset_handler([this] { end({MachineEnd::How::reset, 0, "port cf9h"}); });
    TRY(bus_.insert(Space::port, pci_port, 8, *pci_));
    TRY(add_function(std::make_unique<virtio::Rng>(spec_.name + "-rng"), loop_));
    for (std::size_t i = 0; i < spec_.nics.size(); ++i) {
        const auto& nic = spec_.nics[i];
        auto name = fmt::format("{}-nic{}", spec_.name, i);
        auto device = TRY(virtio::Net::create({.name = name,
                                               .taps = nic.tap_fds,
                                               .mac = nic.mac,
                                               .mtu = nic.mtu,
                                               .limit = nic.limit,
                                               .vhosts = open_vhosts(nic, name)},
                                              loop_, bus_.lock(), *clock_));
        nics_.push_back(device.get());
        auto place = place_of_nic(i, spec_.nics.size(), spec_.disks.size());
        TRY(add_function(std::move(device), loop_, place));
        bootable_.push_back({BootFrom::net, place.slot, place.function});
    }
    for (std::size_t i = 0; i < spec_.disks.size(); ++i) {
        const auto& disk = spec_.disks[i];
        auto name = fmt::format("{}-disk{}", spec_.name, i);
        images_.push_back(TRY(open_image(disk, name)));
        auto device = std::make_unique<virtio::Block>(
            virtio::Block::Settings{
                .name = name, .serial = disk.serial, .queues = spec_.vcpus, .limit = disk.limit},
            *images_.back(), io_thread_.loop(), bus_.lock(), *clock_);
        blocks_.push_back(device.get());
        auto place = place_of_disk(i, spec_.nics.size(), spec_.disks.size());
        TRY(add_function(std::move(device), io_thread_.loop(), place));
        bootable_.push_back({BootFrom::disk, place.slot, place.function});
    }
    if (spec_.cdrom)
        TRY(add_cdrom());
    if (spec_.balloon) {
        auto made =
            std::make_unique<virtio::Balloon>(spec_.name + "-balloon", memory_, bus_.lock());
        balloon_ = made.get();
        TRY(add_function(std::move(made), loop_));
    }
    if (spec_.virtio_console != nullptr)
        TRY(add_virtio_console());
    return add_vmmci();
}

Result<void> RealMachine::add_cdrom() {
    auto made = std::make_unique<virtio::Scsi>(spec_.name + "-scsi", spec_.name + "-cd", loop_,
                                               bus_.lock());
    scsi_ = made.get();
    auto slot = TRY(add_function(std::move(made), loop_));
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

// What can fail comes first. The images that go are closed at the end.
Result<void> RealMachine::replace_disks(const std::vector<DiskChange>& changes) {
    std::vector<std::unique_ptr<disk::Image>> opened;
    for (const auto& [index, disk] : changes) {
        if (index >= images_.size())
            return fail(ErrorKind::internal, "machine {}: it has no disk {}", spec_.name, index);
        auto name = fmt::format("{}-disk{}", spec_.name, index);
        auto image = TRY(open_image(disk, name));
        if (image->size_bytes() != images_[index]->size_bytes())
            return fail(ErrorKind::invalid, "{}: {} bytes instead of {}", name, image->size_bytes(),
                        images_[index]->size_bytes());
        opened.push_back(std::move(image));
    }
    const bool served = io_thread_.runs();
    io_thread_.stop();
    for (std::size_t i = 0; i < changes.size(); ++i) {
        auto index = changes[i].first;
        std::scoped_lock guard(bus_.lock());
        blocks_[index]->use(*opened[i]);
        std::swap(images_[index], opened[i]);
    }
    if (auto started = served ? io_thread_.start() : Result<void>(); !started)
        end({MachineEnd::How::failed, 0, started.error().text()});
    return {};
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

// In the next slot, or as a further function of one; served by that loop's thread. The slot.
Result<unsigned> RealMachine::add_function(std::unique_ptr<virtio::VirtioDevice> device, Loop& loop,
                                           PciPlace place) {
    using Interface = virtio::PciTransport::Interface;
    auto transport = std::make_unique<virtio::PciTransport>(
        std::move(device), memory_, loop, bus_.lock(), backend_.get(),
        spec_.transitional ? Interface::transitional : Interface::modern);
    auto* added = transport.get();
    auto slot = place.function == 0 ? TRY(pci_->add(std::move(transport)))
                                    : TRY(pci_->add_beside(place.slot, std::move(transport)));
    added->set_interrupt(static_cast<std::uint8_t>(pci_line_of_slot(slot)));
    transports_.push_back(added);
    return slot;
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

Result<void> RealMachine::add_virtio_console() {
    virtio::ConsolePort::Hooks hooks;
    hooks.output = [this](Bytes output) { spec_.virtio_console->write_from_guest(output); };
    hooks.input_space = [this] { spec_.virtio_console->input_space(); };
    auto made = std::make_unique<virtio::ConsolePort>(spec_.name + "-console", bus_.lock(),
                                                      std::move(hooks));
    console_port_ = made.get();
    TRY(add_function(std::move(made), loop_));
    return {};
}

// A BREAK has no meaning there.
void RealMachine::connect_virtio_console() {
    if (console_port_ == nullptr)
        return;
    spec_.virtio_console->on_input([this](Bytes input) { return console_port_->receive(input); },
                                   {});
    spec_.virtio_console->on_size([this](std::uint16_t columns, std::uint16_t rows) {
        console_port_->set_size(columns, rows);
    });
}

void RealMachine::hold_input(bool hold) {
    console_.hold_input(hold);
    if (spec_.virtio_console != nullptr)
        spec_.virtio_console->hold_input(hold);
}

void RealMachine::log_firmware(Bytes text) {
    // SeaBIOS says some 300 lines in all; the port is there for any guest to write to.
    constexpr std::size_t longest_line = 256;
    constexpr unsigned most_lines_per_s = 500;
    for (std::uint8_t byte : text) {
        if (byte != '\n')
            firmware_line_ += static_cast<char>(byte);
        if (byte == '\n' || firmware_line_.size() == longest_line) {
            if (auto second = clock_->now_ns() / second_ns; second != firmware_second_) {
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

} // namespace vmhost::machine
