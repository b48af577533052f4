// What a machine starts with: the boot image in memory, the tables beside it, and the first
// state of its processors.
#include "machine/real_machine.h"

#include <cerrno>
#include <sys/stat.h>
#include <unistd.h>

#include "machine/acpi/acpi.h"
#include "machine/boot/boot.h"
#include "machine/boot/disklabel.h"
#include "machine/boot/firmware.h"
#include "machine/smbios/smbios.h"

namespace vmhost::machine {

namespace {

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

} // namespace

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
    const smbios::Description description{.serial = spec_.serial,
                                          .uuid_high = spec_.uuid_high,
                                          .uuid_low = spec_.uuid_low,
                                          .vcpus = spec_.vcpus,
                                          .memory_bytes = spec_.memory_bytes};
    // Firmware places BARs and tables itself; a kernel that is entered directly finds them placed.
    if (loaded.kind == boot::ImageKind::firmware) {
        acpi::add_firmware_files(*fw_cfg_, spec_.vcpus);
        TRY(smbios::add_firmware_files(*fw_cfg_, description));
        if (boots_from_net(boot.from, bootable_))
            TRY(add_network_boot());
    } else {
        auto free_from = TRY(acpi::install(memory_, spec_.vcpus));
        TRY(smbios::install(memory_, free_from, description));
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

} // namespace vmhost::machine
