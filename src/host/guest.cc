#include "host/guest.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sys/socket.h>
#include <unistd.h>

#include "disk/disk.h"
#include "host/files.h"
#include "ipc/messages.h"

namespace vmhost::host {

namespace {

// OpenBSD's RB_* flags (sys/reboot.h).
std::uint32_t howto_of(const std::vector<std::string>& flags) {
    std::uint32_t howto = 0;
    for (const auto& flag : flags)
        howto |= flag == "ask_name"      ? 0x1u
                 : flag == "single_user" ? 0x2u
                 : flag == "config"      ? 0x400u
                                         : 0u;
    return howto;
}

Result<Fd> open_kvm() {
    Fd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (kvm)
        return kvm;
    switch (errno) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return fail(ErrorKind::unsupported, "/dev/kvm is missing: this host has no hardware "
                                            "virtualization, or its kvm module is not loaded");
    default:
        return fail_errno(errno, "open /dev/kvm");
    }
}

// A raw disk by mistake would let the guest write over the image's tables.
Result<void> refuse_qcow2(const Fd& image, const config::Disk& disk) {
    std::uint8_t magic[4] = {};
    bool is_qcow2 =
        ::pread(image.get(), magic, sizeof(magic), 0) == 4 && std::memcmp(magic, "QFI\xfb", 4) == 0;
    if (disk.format == config::ImageFormat::qcow2 ||
        (is_qcow2 && disk.format == config::ImageFormat::automatic))
        return fail(ErrorKind::unsupported,
                    "disk {} is a qcow2 image: only raw images can be attached yet",
                    printable(disk.path));
    return {};
}

} // namespace

std::string_view name_of(GuestState state) {
    switch (state) {
    case GuestState::stopped:
        return "stopped";
    case GuestState::waiting:
    case GuestState::starting:
        return "waiting";
    case GuestState::running:
        return "running";
    case GuestState::paused:
        return "paused";
    case GuestState::stopping:
        return "stopping";
    }
    return "unknown";
}

Guest::Guest(const GuestContext& context, const config::Vm& vm, const config::Model& model,
             std::uint32_t id, OwnerIds owner)
    : context_(context), vm_(vm), model_(model), id_(id), owner_(owner),
      kill_timer_(*context.loop,
                  [this] {
                      log::warning("host", "vm {} did not end when told to: killing its process",
                                   vm_.name);
                      if (process_)
                          process_->kill();
                  }),
      restart_timer_(*context.loop,
                     [this] {
                         automatic_ = true;
                         launch([](Result<void> started) {
                             if (!started)
                                 log::error("host", "{}", started.error().message());
                         });
                     }),
      count_timer_(*context.loop, [this] { end_counting(); }) {}

Guest::~Guest() = default;

Error Guest::blame(Error error, const Place& place) const {
    return std::move(error).in(fmt::format("vm {}", vm_.name)).at(place);
}

std::string Guest::path_of(const std::string& path) const {
    return path.starts_with('/') ? path : context_.state_directory + "/" + path;
}

Result<Fd> Guest::open_boot_file(const std::string& path, const char* what) {
    return open_file_of(owner_.uid, path_of(path), O_RDONLY, what);
}

Result<Fd> Guest::open_disk(const config::Disk& disk) {
    auto path = path_of(disk.path);
    const int mode = disk.read_only ? O_RDONLY : O_RDWR;
    auto image = open_file_of(owner_.uid, path, mode, "disk");
    if (!image && image.error().kind() == ErrorKind::not_found && disk.size_bytes &&
        disk.format != config::ImageFormat::qcow2 && !path.ends_with(".qcow2")) {
        TRY(disk::create_raw(path, *disk.size_bytes));
        log::notice("host", "vm {}: created disk {} of {}", vm_.name, printable(path),
                    format_size(*disk.size_bytes));
        image = open_file_of(owner_.uid, path, mode, "disk");
    }
    if (!image)
        return image;
    TRY(refuse_qcow2(*image, disk));
    TRY(disk::lock_image(*image, disk.read_only, path));
    return image;
}

Result<ipc::VmSetup> Guest::open_everything() {
    auto blamed = [this](auto result, const Place& place) {
        if (!result)
            return decltype(result)(std::unexpected(blame(std::move(result).error(), place)));
        return result;
    };
    ipc::VmSetup setup;
    setup.name = vm_.name;
    setup.memory_bytes = vm_.memory_bytes;
    setup.vcpus = vm_.vcpus;
    setup.debug_exit = context_.debug_exit;
    setup.command_line = vm_.command_line;
    setup.howto = howto_of(vm_.boot_flags);
    setup.cpu = static_cast<std::uint8_t>(vm_.cpu);
    TRY(blamed(open_console(setup), vm_.place));
    TRY(blamed(make_cgroup(), vm_.place));

    if (vm_.accel.value_or(context_.accel) == config::Accel::soft)
        return std::unexpected(
            blame(Error(ErrorKind::unsupported, "accel = \"soft\": this build has no software CPU"),
                  vm_.place));
    setup.kvm = TRY(blamed(open_kvm(), vm_.place));
    if (!vm_.boot.empty()) {
        setup.image_name = vm_.boot;
        setup.image = TRY(blamed(open_boot_file(vm_.boot, "boot"), vm_.boot_place));
    }
    if (!vm_.initrd.empty())
        setup.initrd = TRY(blamed(open_boot_file(vm_.initrd, "initrd"), vm_.boot_place));

    for (const auto& disk : vm_.disks)
        setup.disks.push_back(
            {TRY(blamed(open_disk(disk), disk.place)), disk.read_only, disk.serial});
    if (vm_.boot_device == config::BootDevice::cdrom)
        return std::unexpected(blame(
            Error(ErrorKind::unsupported, "boot_device = \"cdrom\": there is no CD-ROM drive yet"),
            vm_.place));
    // SeaBIOS's path of the first disk; slots are as machine.cc hands them out.
    if (vm_.boot_device == config::BootDevice::disk && !vm_.disks.empty())
        setup.boot_order = fmt::format("/pci@i0cf8/*@{:x}\nHALT", 2 + vm_.interfaces.size()) + '\0';
    for (std::size_t i = 0; i < vm_.interfaces.size(); ++i) {
        const auto& interface = vm_.interfaces[i];
        const auto* wanted = model_.find_switch(interface.switch_name);
        net::TapSpec tap;
        tap.name = net::tap_name(vm_.name, static_cast<unsigned>(i));
        tap.description = fmt::format("vm{}-if{}-{}", id_, i, vm_.name);
        tap.bridge = wanted->interface;
        tap.mtu = wanted->mtu;
        auto fd = TRY(blamed(context_.network->make_tap(tap), interface.place));
        taps_.push_back(tap.name);
        setup.nics.push_back({std::move(fd), interface.lladdr});
        if (vm_.boot_device == config::BootDevice::net && i == 0)
            setup.boot_mac = interface.lladdr;
    }
    return setup;
}

void Guest::remove_taps() {
    for (const auto& tap : std::exchange(taps_, {}))
        if (auto removed = context_.network->remove_tap(tap); !removed)
            log::debug("host", "tap {}: {}", tap, removed.error().message());
}

void Guest::took_frame(ipc::Frame&& frame) {
    switch (frame.type) {
    case ipc::Ready::type:
        if (state_ == GuestState::starting)
            finish_start({});
        return;
    case ipc::Failed::type:
        if (auto failed = ipc::decode<ipc::Failed>(std::move(frame))) {
            // The process says what is wrong with the image; the file says where it was named.
            // The process may be in the hands of a guest: its words are made printable.
            auto kind = static_cast<ErrorKind>(
                std::min(failed->kind, static_cast<std::uint8_t>(ErrorKind::internal)));
            note_ = printable(failed->text, 400);
            start_error_ = blame(Error(kind, note_), vm_.boot.empty() ? vm_.place : vm_.boot_place);
        }
        return;
    case ipc::VmPaused::type:
        if (auto done = std::exchange(pausing_, nullptr)) { // and not asked to stop meanwhile
            state_ = GuestState::paused;
            log::notice("host", "vm {} paused", vm_.name);
            done({});
        }
        return;
    case ipc::VmReset::type:
        ++reboots_;
        log::info("host", "vm {} rebooted", vm_.name);
        return;
    case ipc::VmCounted::type:
        if (auto counted = ipc::decode<ipc::VmCounted>(std::move(frame)))
            counted_ = *counted;
        end_counting();
        return;
    case ipc::VmEnded::type:
        if (auto ended = ipc::decode<ipc::VmEnded>(std::move(frame))) {
            note_ = printable(ended->text, 400);
            failed_ = ended->failed;
            told_end_ = true;
            log::notice("host", "vm {} ended: {}", vm_.name, note_);
        }
        return;
    default:
        log::warning("host", "vm {}: its process sent an unknown message {}", vm_.name, frame.type);
    }
}

Result<Fd> Guest::attach_console(bool want_writer) {
    if (!process_ || state_ == GuestState::starting)
        return fail(ErrorKind::not_found, "console not found: vm {} is not running", vm_.name);
    auto [ours, theirs] = TRY(socket_pair(SOCK_STREAM));
    process_->send(ipc::VmAttachConsole{std::move(theirs), want_writer});
    return std::move(ours);
}

std::optional<pid_t> Guest::pid() const {
    return process_ ? std::optional(process_->pid()) : std::nullopt;
}

std::uint64_t Guest::resident_bytes() const {
    if (!process_)
        return 0;
    std::ifstream statm(fmt::format("/proc/{}/statm", process_->pid()));
    std::uint64_t total_pages = 0, resident_pages = 0;
    statm >> total_pages >> resident_pages;
    return resident_pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

} // namespace vmhost::host
