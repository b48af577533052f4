#include "host/guest.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fstream>
#include <sys/socket.h>
#include <unistd.h>

#include "disk/disk.h"
#include "host/disks.h"
#include "host/files.h"
#include "host/identity.h"
#include "host/install_watch.h"
#include "host/links.h"
#include "host/usage.h"
#include "ipc/messages.h"
#include "machine/machine.h"

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

ipc::VmLimit limit_of(const std::optional<config::Limit>& limit) {
    if (!limit)
        return {};
    return {limit->bytes.value_or(0), limit->operations.value_or(0),
            static_cast<std::uint64_t>(limit->burst.count())};
}

// Of each interface: one for each processor, as far as they go round.
unsigned queue_pairs(const config::Vm& vm) {
    auto share = limits::max_tap_queues / std::max<std::size_t>(vm.interfaces.size(), 1);
    return std::min({vm.vcpus, limits::max_queue_pairs, static_cast<unsigned>(share)});
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

Guest::Guest(const GuestContext& context, config::Vm vm, const config::Model& model,
             std::uint32_t id, OwnerIds owner, std::optional<User> user)
    : context_(context), vm_(std::move(vm)), model_(model), id_(id), owner_(owner),
      user_(std::move(user)),
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
                         launch(
                             [](Result<void> started) {
                                 if (!started)
                                     log::error("host", "{}", started.error().message());
                             },
                             {});
                     }),
      count_timer_(*context.loop, [this] { end_counting(); }),
      adopt_timer_(*context.loop,
                   [this] {
                       if (note_.empty())
                           note_ = "its process does not answer";
                       log::error("host", "vm {}: {}", vm_.name, note_);
                       end_adopting({});
                   }),
      heartbeat_(
          *context.loop,
          [this] {
              if (process_)
                  process_->send(ipc::Ping{});
          },
          [this](bool answers) { answering(answers); }) {}

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

void Guest::make_temporary(GivenFiles files, std::function<void()> stopped) {
    given_ = std::move(files);
    stopped_ = std::move(stopped);
}

constexpr std::uint8_t from(config::BootDevice device) {
    return static_cast<std::uint8_t>(device == config::BootDevice::disk ? machine::BootFrom::disk
                                     : device == config::BootDevice::cdrom
                                         ? machine::BootFrom::cdrom
                                     : device == config::BootDevice::net ? machine::BootFrom::net
                                                                         : machine::BootFrom::any);
}

// A drive when the file says so, or when there is a medium for this run.
Result<void> Guest::open_cdrom(ipc::VmSetup& setup, std::optional<Fd> given) {
    if (!given && given_.cdrom)
        given = TRY(open_again(*given_.cdrom, O_RDONLY, "cdrom"));
    if (!given && !vm_.cdrom)
        return {};
    auto& drive = setup.cdrom.emplace();
    std::string path = "cdrom";
    if (given) {
        TRY(check_file_of_caller(*given, "cdrom"));
        drive.medium = std::move(given);
    } else if (!vm_.cdrom->empty()) {
        path = path_of(*vm_.cdrom);
        drive.medium = TRY(open_boot_file(*vm_.cdrom, "cdrom"));
    }
    if (drive.medium)
        TRY(disk::lock_image(*drive.medium, true, path));
    return {};
}

Result<void> Guest::boot_once(ipc::VmSetup& setup, StartOnce once) {
    if (once.boot_device == config::BootDevice::cdrom && !setup.cdrom)
        return fail(ErrorKind::invalid, "boot device cdrom: it has no CD-ROM drive");
    auto device = once.boot_device;
    if (device == config::BootDevice::automatic)
        device = vm_.boot_device;
    auto& boot = setup.once.emplace();
    boot.boot_from = from(device);
    if (once.kernel) {
        TRY(check_file_of_caller(*once.kernel, "kernel"));
        boot.image = std::move(once.kernel);
        boot.image_name = once.kernel_name;
    }
    if (device == config::BootDevice::net && !vm_.interfaces.empty())
        boot.boot_mac = vm_.interfaces[0].lladdr;
    return {};
}

const store::Installation* Guest::installation() const {
    return vm_.install && context_.memory != nullptr ? context_.memory->installation(id_) : nullptr;
}

bool Guest::armed() const {
    return vm_.install && context_.memory != nullptr && context_.memory->armed(id_);
}

// Unless it goes on from a state, or its caller wants it to start from something else.
bool Guest::starts_installer(const ipc::VmSetup& setup, const StartOnce& once) const {
    return armed() && !vm_.install->kernel.empty() && !once.anything() && !setup.state;
}

// With the Ethernet address of the interface whose address has the answer file, so that the
// installer asks nobody which one to use, nor whether to begin.
Result<void> Guest::boot_installer(ipc::VmSetup& setup) {
    auto& boot = setup.once.emplace();
    boot.boot_from = from(vm_.boot_device);
    boot.image = TRY(open_boot_file(vm_.install->kernel, "install kernel"));
    boot.image_name = vm_.install->kernel;
    if (!vm_.install->initrd.empty())
        boot.initrd = TRY(open_boot_file(vm_.install->initrd, "install initrd"));
    boot.command_line = vm_.install->command_line;
    boot.stays = true;
    auto answers =
        std::ranges::find_if(vm_.interfaces, [](const auto& one) { return one.ipv4.has_value(); });
    if (answers == vm_.interfaces.end())
        answers = vm_.interfaces.begin();
    if (answers != vm_.interfaces.end())
        boot.boot_mac = answers->lladdr;
    in_installer_ = true;
    return {};
}

void Guest::leave_installer() {
    if (!process_ || !std::exchange(in_installer_, false))
        return;
    process_->send(ipc::VmBootConfigured{});
    keep_record();
}

Result<void> Guest::open_boot_files(ipc::VmSetup& setup) {
    setup.image_name = vm_.boot;
    if (given_.kernel)
        setup.image = TRY(open_again(*given_.kernel, O_RDONLY, "kernel"));
    else if (!vm_.boot.empty())
        setup.image = TRY(open_boot_file(vm_.boot, "boot"));
    if (!vm_.initrd.empty())
        setup.initrd = TRY(open_boot_file(vm_.initrd, "initrd"));
    return {};
}

Result<ipc::VmSetup> Guest::open_everything(StartOnce once) {
    auto blamed = [this](auto result, const Place& place) {
        if (!result)
            return decltype(result)(std::unexpected(blame(std::move(result).error(), place)));
        return result;
    };
    ipc::VmSetup setup;
    setup.name = vm_.name;
    identify(setup, model_, vm_, installation());
    setup.memory_bytes = vm_.memory_bytes;
    setup.vcpus = vm_.vcpus;
    setup.debug_exit = context_.debug_exit;
    setup.balloon = vm_.balloon;
    setup.transitional = vm_.virtio == config::VirtioFlavour::transitional;
    setup.command_line = vm_.command_line;
    setup.howto = howto_of(vm_.boot_flags);
    setup.cpu = static_cast<std::uint8_t>(vm_.cpu);
    TRY(blamed(open_consoles(setup), vm_.place));
    TRY(blamed(make_cgroup(), vm_.place));

    if (vm_.accel.value_or(context_.accel) == config::Accel::soft)
        return std::unexpected(
            blame(Error(ErrorKind::unsupported, "accel = \"soft\": this build has no software CPU"),
                  vm_.place));
    setup.kvm = TRY(blamed(context_.ground->open_kvm(), vm_.place));
    TRY(blamed(open_boot_files(setup), vm_.boot_place));

    if (!once.snapshot.empty())
        TRY(blamed(begin_going_back(once.snapshot), vm_.place));
    setup.state = std::exchange(restore_from_, std::nullopt);
    disks_ = vm_.disks;
    for (std::size_t i = 0; i < vm_.disks.size(); ++i) {
        setup.disks.push_back(TRY(blamed(open_disk(i), vm_.disks[i].place)));
        setup.disks.back().limit = limit_of(vm_.disks[i].limit);
    }
    TRY(blamed(open_cdrom(setup, std::move(once.cdrom)), vm_.cdrom_place));
    setup.boot_from = from(vm_.boot_device);
    if (armed() && !setup.state && context_.installs != nullptr)
        context_.installs->started(*this);
    if (starts_installer(setup, once))
        TRY(blamed(boot_installer(setup), vm_.install->kernel_place));
    if (once.anything())
        TRY(blamed(boot_once(setup, std::move(once)), vm_.place));
    lladdrs_.clear();
    for (std::size_t i = 0; i < vm_.interfaces.size(); ++i) {
        const auto& interface = vm_.interfaces[i];
        auto tap = tap_of(model_, vm_, id_, i);
        lladdrs_.push_back(interface.lladdr);
        tap.guard = guard_of(i);
        tap.several_queues = queue_pairs(vm_) > 1;
        auto& nic = setup.nics.emplace_back();
        nic.taps.push_back(TRY(blamed(context_.network->make_tap(tap), interface.place)));
        taps_.push_back(tap.name);
        while (nic.taps.size() < queue_pairs(vm_))
            nic.taps.push_back(
                TRY(blamed(context_.network->add_tap_queue(tap.name), interface.place)));
        nic.mac = interface.lladdr;
        nic.mtu = static_cast<std::uint16_t>(tap.mtu);
        nic.limit = limit_of(interface.limit);
        if (vm_.boot_device == config::BootDevice::net && i == 0)
            setup.boot_mac = interface.lladdr;
    }
    std::size_t files = 12; // KVM, two boot images and initrds, CD-ROM, consoles, state, listener
    for (const auto& nic : setup.nics)
        files += nic.taps.size();
    for (const auto& disk : setup.disks)
        files += 1 + disk.bases.size();
    if (files > limits::max_frame_fds)
        return std::unexpected(
            blame(Error(ErrorKind::limit,
                        fmt::format("{} files and interfaces: at most {} can be handed to a VM",
                                    files, limits::max_frame_fds)),
                  vm_.place));
    TRY(open_vhosts(setup, files));
    return setup;
}

void Guest::remove_taps() {
    lladdrs_.clear();
    for (const auto& tap : std::exchange(taps_, {}))
        if (auto removed = context_.network->remove_tap(tap); !removed)
            log::debug("host", "tap {}: {}", tap, removed.error().message());
}

void Guest::took_frame(ipc::Frame&& frame) {
    switch (frame.type) {
    case ipc::VmHello::type:
        if (auto hello = ipc::decode<ipc::VmHello>(std::move(frame)))
            took_hello(std::move(*hello));
        return;
    case ipc::Ready::type:
        if (state_ != GuestState::starting)
            return;
        if (auto kept = end_going_back(); !kept) {
            start_error_ = blame(std::move(kept).error(), vm_.place);
            process_->kill();
            return;
        }
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
    case ipc::Pong::type:
        heartbeat_.answered();
        return;
    case ipc::VmAnswer::type:
        if (auto answer = ipc::decode<ipc::VmAnswer>(std::move(frame)); answer && !asked_.empty()) {
            auto done = std::move(asked_.front());
            asked_.pop_front();
            auto kind = std::min(answer->kind, static_cast<std::uint8_t>(ErrorKind::internal));
            done(answer->done ? Result<void>()
                              : fail(static_cast<ErrorKind>(kind), "vm {}: {}", vm_.name,
                                     printable(answer->text, 400)));
        }
        return;
    case ipc::VmSaved::type:
        if (auto saved = ipc::decode<ipc::VmSaved>(std::move(frame)))
            took_saved(*saved);
        return;
    case ipc::VmPaused::type:
        if (auto done = std::exchange(pausing_, nullptr)) { // and not asked to stop meanwhile
            state_ = GuestState::paused;
            log::notice("host", "vm {} paused", vm_.name);
            tell("paused");
            done({});
        }
        return;
    case ipc::VmReset::type:
        if (auto reset = ipc::decode<ipc::VmReset>(std::move(frame))) {
            ++reboots_;
            log::info("host", "vm {} rebooted, by {}", vm_.name, printable(reset->by, 40));
            tell("rebooted", "by " + printable(reset->by, 40));
            if (context_.installs != nullptr)
                context_.installs->reached(*this, install::Phase::rebooted);
        }
        return;
    case ipc::VmCounted::type:
        if (auto counted = ipc::decode<ipc::VmCounted>(std::move(frame))) {
            counted_ = *std::move(counted);
            // The process may say what it likes, but not how much we keep of it.
            counted_.disks.resize(std::min(counted_.disks.size(), limits::max_disks));
            counted_.nics.resize(std::min(counted_.nics.size(), limits::max_interfaces));
        }
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

// Answered by VmAnswer, or when the process ends.
void Guest::ask_process(ipc::Frame request, Done done) {
    if (!process_ || state_ == GuestState::starting || state_ == GuestState::stopping)
        return done(fail(ErrorKind::invalid, "vm {} is not running", vm_.name));
    asked_.push_back(std::move(done));
    process_->send_frame(std::move(request));
}

void Guest::set_memory_target(std::uint64_t bytes, Done done) {
    ask_process(ipc::encode(ipc::VmMemoryTarget{bytes}), std::move(done));
}

void Guest::change_medium(std::optional<Fd> medium, bool force, Done done) {
    if (medium) {
        auto good = check_file_of_caller(*medium, "cdrom");
        if (good)
            good = disk::lock_image(*medium, true, "cdrom");
        if (!good)
            return done(
                std::unexpected(std::move(good).error().in(fmt::format("vm {}", vm_.name))));
    }
    ask_process(ipc::encode(ipc::VmChangeMedium{std::move(medium), force}), std::move(done));
}

Result<Fd> Guest::attach_console(bool want_writer, bool virtio) {
    if (!process_ || state_ == GuestState::starting)
        return fail(ErrorKind::not_found, "console not found: vm {} is not running", vm_.name);
    if (virtio && !virtio_console_.ring)
        return fail(ErrorKind::not_found, "console not found: vm {} has no virtio console",
                    vm_.name);
    auto [ours, theirs] = TRY(socket_pair(SOCK_STREAM));
    process_->send(ipc::VmAttachConsole{std::move(theirs), want_writer, virtio});
    return std::move(ours);
}

std::optional<pid_t> Guest::pid() const {
    return process_ ? std::optional(process_->pid()) : std::nullopt;
}

std::uint64_t Guest::resident_bytes() const {
    if (!process_)
        return 0;
    return resident_bytes_of(process_->pid());
}

std::uint64_t Guest::cpu_time_us() const {
    if (!process_)
        return 0;
    // proc(5): the second field is the name in parentheses, the 14th and 15th are clock ticks.
    std::ifstream stat(fmt::format("/proc/{}/stat", process_->pid()));
    stat.ignore(64, ')'); // a name has at most 15 bytes
    std::string skipped;
    for (int field = 3; field < 14; ++field)
        stat >> skipped;
    std::uint64_t user_ticks = 0, system_ticks = 0;
    stat >> user_ticks >> system_ticks;
    constexpr std::uint64_t us_per_s = 1'000'000;
    return (user_ticks + system_ticks) * us_per_s /
           static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
}

} // namespace vmhost::host
