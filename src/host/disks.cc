#include "host/disks.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "disk/disk.h"
#include "host/files.h"

namespace vmhost::host {

namespace {

std::string absolute(const std::string& path, const std::string& directory) {
    return path.starts_with('/') ? path : directory + "/" + path;
}

// What the configuration says, or what only one format can be.
std::optional<disk::Format> declared_format(const config::Disk& disk) {
    switch (disk.format) {
    case config::ImageFormat::raw:
        return disk::Format::raw;
    case config::ImageFormat::qcow2:
        return disk::Format::qcow2;
    case config::ImageFormat::zst:
        return disk::Format::zst;
    case config::ImageFormat::automatic:
        break;
    }
    return disk.base.empty() ? std::nullopt : std::optional(disk::Format::qcow2);
}

// Of an empty file.
Result<void> fill_disk(Ground& ground, const config::Disk& disk, uid_t owner,
                       const std::string& path, const std::string& directory, const Fd& file) {
    auto format = declared_format(disk);
    if (!format)
        format = disk::format_of_name(path).value_or(disk::Format::raw);
    std::optional<disk::BaseName> base;
    if (!disk.base.empty()) {
        // A base that is missing shall not leave a disk without one.
        auto below = absolute(disk.base.front(), directory);
        TRY(open_file_of(owner, below, O_RDONLY, "base"));
        base = {disk::name_from(path, below),
                disk::format_of_name(below).value_or(disk::Format::qcow2)};
    }
    ground.changing("fill a disk");
    return disk::fill_image(file, printable(path), *format, *disk.size_bytes, base);
}

Result<void> create_disk(Ground& ground, const config::Disk& disk, uid_t owner,
                         const std::string& path, const std::string& directory) {
    ground.changing("create a disk");
    auto file = TRY(NewFileOf::create(owner, path, "disk"));
    TRY(fill_disk(ground, disk, owner, path, directory, file.file()));
    ground.changing("give a disk its name");
    return file.keep();
}

} // namespace

Result<ipc::VmDisk> open_disk(Ground& ground, const config::Disk& disk, uid_t owner,
                              const std::string& directory, bool& created) {
    auto path = absolute(disk.path, directory);
    const int mode = disk.read_only ? O_RDONLY : O_RDWR;
    auto image = open_file_of(owner, path, mode, "disk");
    created = !image && image.error().kind() == ErrorKind::not_found && disk.size_bytes;
    if (created) {
        TRY(create_disk(ground, disk, owner, path, directory));
        image = open_file_of(owner, path, mode, "disk");
    }
    ipc::VmDisk out;
    out.image = TRY(std::move(image));
    out.read_only = disk.read_only;
    out.serial = disk.serial;
    out.path = path;
    auto format = declared_format(disk);
    if (!format)
        format = TRY(disk::format_of_guest_disk(out.image, path));
    out.format = static_cast<std::uint8_t>(*format);
    TRY(disk::lock_image(out.image, disk.read_only, printable(path)));
    for (const auto& name : disk.base) {
        auto& base = out.bases.emplace_back();
        base.path = absolute(name, directory);
        base.file = TRY(open_file_of(owner, base.path, O_RDONLY, "base"));
        TRY(disk::lock_image(base.file, true, printable(base.path)));
        if (auto of_name = disk::format_of_name(base.path))
            base.format = static_cast<std::uint8_t>(*of_name);
    }
    return out;
}

Result<std::optional<NewFileOf>> renew_disk(Ground& ground, const config::Disk& disk, uid_t owner,
                                            const std::string& directory) {
    const auto path = absolute(disk.path, directory);
    if (!disk.size_bytes)
        return fail(ErrorKind::invalid, "disk {} cannot be made anew: its size is not configured",
                    printable(path));
    // A link would be replaced, and what it names would stay.
    struct stat about {};
    if (::lstat(path.c_str(), &about) == 0 && S_ISLNK(about.st_mode))
        return fail(ErrorKind::invalid,
                    "disk {} cannot be made anew: it is a symbolic link. Give the path of the file",
                    printable(path));
    auto old = open_file_of(owner, path, O_RDWR, "disk");
    if (!old && old.error().kind() == ErrorKind::not_found)
        return std::optional<NewFileOf>();
    if (!old)
        return std::unexpected(std::move(old).error());
    TRY(disk::lock_image(*old, false, printable(path)));
    ground.changing("create a disk");
    auto file = TRY(NewFileOf::create_beside(owner, path, "disk"));
    TRY(fill_disk(ground, disk, owner, path, directory, file.file()));
    TRY(file.prepare());
    return std::optional(std::move(file));
}

Result<ipc::VmDisk> open_given_disk(const config::Disk& disk, const Fd& image,
                                    const std::vector<Fd>& bases) {
    if (bases.size() != disk.base.size())
        return fail(ErrorKind::invalid, "disk {}: {} files below it, and {} names",
                    printable(disk.path), bases.size(), disk.base.size());
    ipc::VmDisk out;
    out.image = TRY(open_again(image, disk.read_only ? O_RDONLY : O_RDWR, "disk"));
    out.read_only = disk.read_only;
    out.serial = disk.serial;
    out.path = disk.path;
    auto format = declared_format(disk);
    if (!format)
        format = TRY(disk::format_of_guest_disk(out.image, disk.path));
    out.format = static_cast<std::uint8_t>(*format);
    TRY(disk::lock_image(out.image, disk.read_only, printable(disk.path)));
    for (std::size_t i = 0; i < bases.size(); ++i) {
        auto& base = out.bases.emplace_back();
        base.path = disk.base[i];
        base.file = TRY(open_again(bases[i], O_RDONLY, "base"));
        TRY(disk::lock_image(base.file, true, printable(base.path)));
        if (auto of_name = disk::format_of_name(base.path))
            base.format = static_cast<std::uint8_t>(*of_name);
    }
    return out;
}

} // namespace vmhost::host
