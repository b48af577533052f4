// The files of a new VM are opened here, with the caller's rights: kernel, CD-ROM, disks for
// writing, and what lies below a disk for reading. The daemon is told their names, to say them
// and to compare them with those that the images have inside.
#include "cli/new_vm.h"

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/disk.h"

namespace vmhost::cli {

using nlohmann::json;

namespace {

Result<std::string> real_path(const std::string& path) {
    char whole[PATH_MAX];
    if (!::realpath(path.c_str(), whole))
        return fail_errno(errno, "{}", printable(path));
    return std::string(whole);
}

// A request that is put together: descriptors and their names.
struct Request {
    json object;
    json names = json::array();
    std::vector<Fd> fds;

    Result<void> add(std::string name, const std::string& path, int mode) {
        fds.push_back(TRY(open_for_daemon(path, mode)));
        names.push_back(std::move(name));
        return {};
    }
};

// A prefix or the name's end says what a disk is, never its content: a guest that has it as raw
// could write the names of our caller's files into it.
disk::ImageName named(const std::string& text, bool& declared) {
    declared = true;
    for (auto format : {disk::Format::raw, disk::Format::qcow2})
        if (auto prefix = fmt::format("{}:", disk::name_of(format)); text.starts_with(prefix))
            return {format, text.substr(prefix.size())};
    declared = false;
    return {disk::format_of_name(text).value_or(disk::Format::raw), text};
}

// The disk and every file below it that an image names.
Result<json> add_disk(Request& request, const std::string& text, std::size_t index) {
    bool declared = false;
    auto image = named(text, declared);
    image.path = TRY(real_path(image.path));
    auto name = fmt::format("disk{}", index);
    TRY(request.add(name, image.path, image.format == disk::Format::zst ? O_RDONLY : O_RDWR));
    json object{{"path", image.path}};
    if (declared)
        object["format"] = std::string(disk::name_of(image.format));
    auto bases = json::array();
    for (auto at = std::move(image); at.format == disk::Format::qcow2;) {
        auto info = TRY(disk::inspect(at));
        if (info.backing_file.empty())
            break;
        if (bases.size() + 1 == limits::max_image_layers)
            return fail(ErrorKind::limit, "{}: more than {} files lie below it", text,
                        limits::max_image_layers - 1);
        at.path = disk::path_beside(at.path, info.backing_file);
        at.format = info.backing_format == "raw" ? disk::Format::raw
                    : info.backing_format.empty()
                        ? disk::format_of_name(at.path).value_or(disk::Format::qcow2)
                        : disk::Format::qcow2;
        if (at.path.ends_with(".zst"))
            at.format = disk::Format::zst;
        TRY(request.add(fmt::format("{}-base{}", name, bases.size()), at.path, O_RDONLY));
        bases.push_back(at.path);
    }
    if (!bases.empty())
        object["bases"] = std::move(bases);
    return object;
}

// What vmctl(8) warns of: it may be meant.
void warn_of_what_is_missing(const Command& command) {
    auto warn = [](const std::string& text) { std::fprintf(stderr, "vmctl: %s\n", text.c_str()); };
    if (command.bytes % MiB != 0)
        warn("memory size rounded to " + format_size(command.bytes / MiB * MiB));
    if (!command.parent.empty() || !command.kernel.empty())
        return;
    if (command.disks.empty())
        warn("starting without disks");
    if (command.wires.empty() && command.interfaces_min == 0)
        warn("starting without network interfaces");
}

} // namespace

Result<Fd> open_for_daemon(const std::string& path, int mode) {
    Fd file(::open(path.c_str(), mode | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat about {};
    if (!file || ::fstat(file.get(), &about) < 0)
        return fail_errno(errno, "{}", printable(path));
    if (!S_ISREG(about.st_mode))
        return fail(ErrorKind::invalid, "{}: not a regular file", printable(path));
    return file;
}

bool describes_vm(const Command& command) {
    return !command.parent.empty() || !command.disks.empty() || !command.wires.empty() ||
           command.interfaces_min > 0 || command.bytes > 0;
}

Result<control::Client::Answer> start_new_vm(control::Client& client, const Command& command) {
    if (command.parent.empty() && command.kernel.empty() && command.disks.empty() &&
        command.iso.empty())
        return fail(ErrorKind::invalid, "no kernel, disk or ISO image specified");
    if (!command.snapshot.empty())
        return fail(ErrorKind::invalid, "a new VM has no snapshots");
    warn_of_what_is_missing(command);
    json described = json::object();
    if (!command.parent.empty())
        described["template"] = command.parent;
    if (command.bytes > 0)
        described["memory_bytes"] = command.bytes;
    if (command.interfaces_min > 0)
        described["interfaces_min"] = command.interfaces_min;
    for (const auto& name : command.wires)
        described["interfaces"].push_back(name.empty() ? json{{"local", true}}
                                                       : json{{"switch", name}});
    Request request;
    if (!command.kernel.empty())
        TRY(request.add("kernel", command.kernel, O_RDONLY));
    if (!command.iso.empty())
        TRY(request.add("cdrom", command.iso, O_RDONLY));
    for (std::size_t i = 0; i < command.disks.size(); ++i)
        described["disks"].push_back(TRY(add_disk(request, command.disks[i], i)));
    request.object = {{"verb", "start"},
                      {"vm", command.vm},
                      {"boot_device", command.boot_device},
                      {"kernel_name", command.kernel},
                      {"new", std::move(described)}};
    if (!request.fds.empty())
        request.object["descriptors"] = std::move(request.names);
    return client.request(request.object.dump(-1, ' ', false, json::error_handler_t::replace), {},
                          std::move(request.fds));
}

} // namespace vmhost::cli
