#include "host/running.h"

#include <cerrno>
#include <cstddef>
#include <dirent.h>
#include <fcntl.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/files.h"

namespace vmhost::host {

using nlohmann::json;

namespace {

constexpr int record_format = 1;
constexpr const char* model_name = "model.toml";
constexpr const char* links_name = "links";
constexpr std::string_view temporary_line = "# not in the file:";
constexpr std::string_view record_suffix = ".json", socket_suffix = ".sock";

json json_of(const RunningGuest& guest) {
    json out{{"id", guest.id},
             {"pid", guest.pid},
             {"start_ticks", guest.start_ticks},
             {"taps", guest.taps},
             {"snapshot", guest.snapshot},
             {"restarts", guest.restarts},
             {"in_installer", guest.in_installer},
             {"temporary", guest.temporary},
             {"to_stop", guest.to_stop}};
    for (const auto& lladdr : guest.lladdrs)
        out["lladdrs"].push_back(lladdr.text());
    if (guest.lease)
        out["lease"] = guest.lease->value;
    out["disks"] = json::array();
    for (const auto& disk : guest.disks)
        out["disks"].push_back({{"path", disk.path},
                                {"format", static_cast<int>(disk.format)},
                                {"read_only", disk.read_only},
                                {"base", disk.base}});
    return out;
}

// Throws json's exceptions; the caller turns them into an error.
RunningGuest guest_of(const json& record) {
    RunningGuest guest;
    guest.id = record.at("id").get<std::uint32_t>();
    guest.pid = record.at("pid").get<pid_t>();
    guest.start_ticks = record.at("start_ticks").get<std::uint64_t>();
    guest.taps = record.at("taps").get<std::vector<std::string>>();
    if (record.contains("lladdrs"))
        for (const auto& lladdr : record["lladdrs"])
            guest.lladdrs.push_back(parse_mac(lladdr.get<std::string>()).value_or(Mac()));
    guest.snapshot = record.at("snapshot").get<std::string>();
    guest.restarts = record.at("restarts").get<unsigned>();
    guest.temporary = record.at("temporary").get<bool>();
    guest.to_stop = record.value("to_stop", false);           // earlier versions did not say it
    guest.in_installer = record.value("in_installer", false); // nor this
    if (record.contains("lease"))
        guest.lease = Ipv4{record["lease"].get<std::uint32_t>()};
    for (const auto& one : record.at("disks")) {
        auto& disk = guest.disks.emplace_back();
        disk.path = one.at("path").get<std::string>();
        auto format = one.at("format").get<int>();
        if (format >= 0 && format <= static_cast<int>(config::ImageFormat::zst))
            disk.format = static_cast<config::ImageFormat>(format);
        disk.read_only = one.at("read_only").get<bool>();
        disk.base = one.at("base").get<std::vector<std::string>>();
    }
    return guest;
}

std::string boot_id() {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string text;
    file >> text;
    return text;
}

std::string boot_line(const std::string& boot) {
    return fmt::format("# of the boot {}\n", boot);
}

} // namespace

Result<RunningGuests> RunningGuests::open(const std::string& state_directory, Changing changing) {
    auto path = state_directory + "/run";
    changing("make the folder of running guests");
    if (::mkdir(path.c_str(), 0700) < 0 && errno != EEXIST)
        return fail_errno(errno, "make the folder {}", path);
    Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat about {};
    if (!folder || ::fstat(folder.get(), &about) < 0)
        return fail_errno(errno, "folder {}", path);
    if (about.st_uid != ::geteuid() || (about.st_mode & 077) != 0)
        return fail(ErrorKind::denied, "folder {}: must be for its owner alone, and ours", path);
    return RunningGuests(std::move(folder), boot_id(), std::move(changing));
}

std::string RunningGuests::socket_path(const std::string& name) const {
    // A short path, however long the folder's is.
    return fmt::format("/proc/self/fd/{}/{}{}", folder_.get(), name, socket_suffix);
}

std::vector<RunningGuest> RunningGuests::read() const {
    std::vector<RunningGuest> guests;
    int again = ::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    std::unique_ptr<DIR, int (*)(DIR*)> folder(again < 0 ? nullptr : ::fdopendir(again),
                                               ::closedir);
    std::vector<std::string> files;
    while (folder) {
        const auto* entry = ::readdir(folder.get());
        if (entry == nullptr)
            break;
        std::string name = entry->d_name;
        if (name.ends_with(record_suffix))
            files.push_back(std::move(name));
    }
    for (const auto& file : files) {
        auto name = file.substr(0, file.size() - record_suffix.size());
        if (auto guest = read_record(file)) {
            guest->name = name;
            guests.push_back(std::move(*guest));
        } else {
            remove(name);
        }
    }
    return guests;
}

Result<std::string> RunningGuests::read_text(const std::string& file) const {
    auto path = fmt::format("/proc/self/fd/{}/{}", folder_.get(), file);
    return read_small_file(path, limits::max_config_bytes, "record");
}

std::optional<RunningGuest> RunningGuests::read_record(const std::string& file) const {
    auto text = read_text(file);
    if (!text)
        return std::nullopt;
    try {
        auto record = json::parse(*text);
        if (record.at("format") != record_format || record.at("boot") != boot_)
            return std::nullopt;
        return guest_of(record);
    } catch (const json::exception& error) {
        log::warning("host", "run/{}: not a record of a guest: {}", printable(file),
                     printable(error.what()));
        return std::nullopt;
    }
}

Result<void> RunningGuests::write(const RunningGuest& guest) const {
    auto record = json_of(guest);
    record["format"] = record_format;
    record["boot"] = boot_;
    return write_text(guest.name + std::string(record_suffix),
                      record.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
}

// Two lines of comment, and the model: in one file, so that they never disagree.
std::optional<RunningGuests::Model> RunningGuests::read_model() const {
    auto text = read_text(model_name);
    if (!text || !text->starts_with(boot_line(boot_)))
        return std::nullopt;
    Model model{std::move(*text), {}};
    std::string_view rest = std::string_view(model.toml).substr(boot_line(boot_).size());
    if (!rest.starts_with(temporary_line))
        return model;
    std::istringstream names(
        std::string(rest.substr(temporary_line.size(), rest.find('\n') - temporary_line.size())));
    for (std::string name; names >> name;)
        model.temporary.push_back(name);
    return model;
}

Result<void> RunningGuests::write_model(const Model& model) const {
    return write_text(model_name, fmt::format("{}{} {}\n{}", boot_line(boot_), temporary_line,
                                              fmt::join(model.temporary, " "), model.toml));
}

void RunningGuests::remove_model() const {
    changing_("remove the model");
    (void)::unlinkat(folder_.get(), model_name, 0);
}

bool RunningGuests::links_noted() const {
    auto text = read_text(links_name);
    return text && *text == boot_line(boot_);
}

Result<void> RunningGuests::note_links() const {
    return links_noted() ? Result<void>() : write_text(links_name, boot_line(boot_));
}

void RunningGuests::forget_links() const {
    changing_("forget the links");
    (void)::unlinkat(folder_.get(), links_name, 0);
}

// No fsync: nothing here is of use after the next boot.
Result<void> RunningGuests::write_text(const std::string& name, const std::string& text) const {
    auto fresh = name + ".new";
    changing_("write " + name);
    Fd file(::openat(folder_.get(), fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file)
        return fail_errno(errno, "record run/{}", fresh);
    auto written = ::write(file.get(), text.data(), text.size());
    if (written != static_cast<ssize_t>(text.size()))
        return fail_errno(written < 0 ? errno : ENOSPC, "record run/{}", fresh);
    changing_("rename " + name);
    if (::renameat(folder_.get(), fresh.c_str(), folder_.get(), name.c_str()) < 0)
        return fail_errno(errno, "record run/{}", name);
    return {};
}

void RunningGuests::remove(const std::string& name) const {
    changing_("remove the record of a guest");
    for (auto suffix : {record_suffix, socket_suffix})
        (void)::unlinkat(folder_.get(), (name + std::string(suffix)).c_str(), 0);
}

namespace {

Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return fail(ErrorKind::limit, "socket {}: the name is too long", path);
    path.copy(address.sun_path, path.size());
    return address;
}

} // namespace

Result<Fd> RunningGuests::listen(const std::string& name) const {
    auto address = TRY(address_of(socket_path(name)));
    changing_("listen for the next parent");
    (void)::unlink(address.sun_path);
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket ||
        ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 ||
        ::listen(socket.get(), 1) < 0)
        return fail_errno(errno, "listen on run/{}{}", name, socket_suffix);
    return socket;
}

Result<Fd> RunningGuests::connect(const std::string& name) const {
    auto address = TRY(address_of(socket_path(name)));
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket ||
        ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
        return fail_errno(errno, "connect to run/{}{}", name, socket_suffix);
    return socket;
}

} // namespace vmhost::host
