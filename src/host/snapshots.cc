#include "host/snapshots.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

#include "host/files.h"

namespace vmhost::host {

using nlohmann::json;

namespace {

constexpr const char* record_name = "record.json";
constexpr unsigned record_format = 1;
constexpr std::size_t max_record_bytes = 1 << 20;

json json_of(const std::vector<Snapshots::Disk>& disks) {
    auto out = json::array();
    for (const auto& disk : disks)
        out.push_back({{"path", disk.path}, {"overlays", disk.overlays}});
    return out;
}

// Throws json's exceptions; the caller turns them into an error.
std::vector<Snapshots::Disk> disks_of(const json& array) {
    std::vector<Snapshots::Disk> disks;
    for (const auto& disk : array) {
        auto& one = disks.emplace_back();
        one.path = disk.at("path").get<std::string>();
        one.overlays = disk.at("overlays").get<std::vector<std::string>>();
    }
    return disks;
}

// Names in the folder, and nothing that leads out of it.
bool names_are_plain(const std::vector<Snapshots::Disk>& disks) {
    return std::ranges::all_of(disks, [](const auto& disk) {
        return disk.path.starts_with('/') &&
               std::ranges::all_of(disk.overlays,
                                   [](const auto& name) { return check_name(name).has_value(); });
    });
}

Result<void> write_stable(const std::string& path, const std::string& text) {
    Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file)
        return fail_errno(errno, "{}", path);
    Bytes rest = as_bytes(text);
    while (!rest.empty()) {
        auto count = ::write(file.get(), rest.data(), rest.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "{}: write", path);
        rest = rest.subspan(static_cast<std::size_t>(count));
    }
    if (::fsync(file.get()) != 0)
        return fail_errno(errno, "{}: write", path);
    return {};
}

Result<void> sync_folder(const std::string& path) {
    Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder || ::fsync(folder.get()) != 0)
        return fail_errno(errno, "folder {}", path);
    return {};
}

Result<void> make_one_folder(const std::string& path) {
    if (::mkdir(path.c_str(), 0700) == 0)
        return sync_folder(path.substr(0, path.rfind('/')));
    if (errno != EEXIST)
        return fail_errno(errno, "folder {}", path);
    return {};
}

} // namespace

Result<Snapshots> Snapshots::load(std::string folder, Changing changing) {
    Snapshots made(std::move(folder), std::move(changing));
    auto text = read_small_file(made.path_of(record_name), max_record_bytes, "snapshots");
    if (!text && text.error().kind() == ErrorKind::not_found)
        return made;
    if (!text)
        return std::unexpected(std::move(text).error());
    if (auto parsed = made.parse(*text); !parsed)
        return std::unexpected(std::move(parsed).error().in(made.path_of(record_name)));
    return made;
}

Result<void> Snapshots::parse(const std::string& text) {
    try {
        auto record = json::parse(text);
        if (record.at("format") != record_format)
            return fail(ErrorKind::unsupported, "a record of another format than {}",
                        record_format);
        next_ = record.at("next").get<std::uint64_t>();
        disks_ = disks_of(record.at("disks"));
        bool plain = names_are_plain(disks_);
        for (const auto& one : record.at("snapshots")) {
            auto& snapshot = snapshots_.emplace_back();
            snapshot.name = one.at("name").get<std::string>();
            snapshot.time_s = one.at("time").get<std::int64_t>();
            snapshot.state_bytes = one.at("state_bytes").get<std::uint64_t>();
            snapshot.disks = disks_of(one.at("disks"));
            plain = plain && check_name(snapshot.name) && names_are_plain(snapshot.disks);
        }
        if (!plain)
            return fail(ErrorKind::corrupt, "the record names files outside of its folder");
    } catch (const json::exception& error) {
        return fail(ErrorKind::corrupt, "not a record of snapshots: {}", printable(error.what()));
    }
    return {};
}

Result<void> Snapshots::store() const {
    json record{{"format", record_format}, {"next", next_}, {"disks", json_of(disks_)}};
    record["snapshots"] = json::array();
    for (const auto& one : snapshots_)
        record["snapshots"].push_back({{"name", one.name},
                                       {"time", one.time_s},
                                       {"state_bytes", one.state_bytes},
                                       {"disks", json_of(one.disks)}});
    auto path = path_of(record_name), fresh = path + ".new";
    changing("write a record of snapshots");
    TRY(write_stable(fresh, record.dump(2, ' ', false, json::error_handler_t::replace) + "\n"));
    // What the record names must be found after a power cut when the record is.
    Fd folder(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder || ::fsync(folder.get()) != 0)
        return fail_errno(errno, "folder {}", folder_);
    // Who is told that it failed goes on with the record of before, so that must be there then.
    const auto before = path + ".old";
    changing("keep the record before");
    (void)::unlink(before.c_str());
    const bool had = ::link(path.c_str(), before.c_str()) == 0;
    if (!had && errno != ENOENT)
        return fail_errno(errno, "{}: link", before);
    changing("put the record in its place");
    if (::rename(fresh.c_str(), path.c_str()) != 0)
        return fail_errno(errno, "{}: rename", fresh);
    if (::fsync(folder.get()) != 0) {
        const int why = errno;
        (void)(had ? ::rename(before.c_str(), path.c_str()) : ::unlink(path.c_str()));
        return fail_errno(why, "folder {}", folder_);
    }
    changing("remove the record before");
    (void)::unlink(before.c_str());
    return {};
}

void Snapshots::remove_others() const {
    std::set<std::string> named{record_name};
    auto add = [&named](const std::vector<Disk>& disks) {
        for (const auto& disk : disks)
            named.insert(disk.overlays.begin(), disk.overlays.end());
    };
    add(disks_);
    for (const auto& one : snapshots_) {
        add(one.disks);
        named.insert(one.name + ".state");
    }
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(folder_, none))
        if (!named.contains(entry.path().filename().string())) {
            changing("remove what no snapshot has");
            ::unlink(entry.path().c_str());
        }
}

Result<void> Snapshots::make_folder() const {
    auto slash = folder_.rfind('/');
    changing("make a folder of snapshots");
    TRY(make_one_folder(folder_.substr(0, slash)));
    return make_one_folder(folder_);
}

Result<const Snapshots::Snapshot*> Snapshots::find(const std::string& name) const {
    auto found = std::ranges::find(snapshots_, name, &Snapshot::name);
    if (found == snapshots_.end())
        return fail(ErrorKind::not_found, "it has no snapshot {}", printable(name, 70));
    return &*found;
}

std::vector<std::string> Snapshots::overlays_of(const std::string& path) const {
    std::vector<std::string> paths;
    auto found = std::ranges::find(disks_, path, &Disk::path);
    if (found != disks_.end())
        for (const auto& name : found->overlays)
            paths.push_back(path_of(name));
    return paths;
}

std::vector<Snapshots::Disk> Snapshots::current(const std::vector<std::string>& disks) const {
    std::vector<Disk> all;
    for (const auto& path : disks) {
        auto found = std::ranges::find(disks_, path, &Disk::path);
        all.push_back(found == disks_.end() ? Disk{path, {}} : *found);
    }
    return all;
}

Result<void> Snapshots::add(const std::string& name, const std::vector<std::string>& disks,
                            std::int64_t time_s) {
    TRY(check_name(name));
    if (find(name))
        return fail(ErrorKind::exists, "it has a snapshot {} already", name);
    if (snapshots_.size() >= limits::max_snapshots)
        return fail(ErrorKind::limit, "it has {} snapshots, and no more are possible",
                    snapshots_.size());
    snapshots_.push_back({name, time_s, 0, current(disks)});
    return {};
}

void Snapshots::set_state_bytes(const std::string& name, std::uint64_t bytes) {
    auto found = std::ranges::find(snapshots_, name, &Snapshot::name);
    if (found != snapshots_.end())
        found->state_bytes = bytes;
}

Result<std::string> Snapshots::put_overlay(const std::string& path, std::size_t files_below) {
    auto found = std::ranges::find(disks_, path, &Disk::path);
    if (found == disks_.end())
        found = disks_.insert(disks_.end(), {path, {}});
    // The disk's own file, what the configuration has below it, and the overlays.
    if (1 + files_below + found->overlays.size() + 1 > limits::max_image_layers)
        return fail(ErrorKind::limit,
                    "disk {}: it consists of {} files already; make one of them with \"vmctl "
                    "create -i\"",
                    printable(path), 1 + files_below + found->overlays.size());
    return path_of(found->overlays.emplace_back(fmt::format("{}.qcow2", next_++)));
}

Result<void> Snapshots::go_back(const std::string& name, const std::vector<std::string>& disks) {
    const auto* snapshot = TRY(find(name));
    for (const auto& disk : snapshot->disks)
        if (std::ranges::find(disks, disk.path) == disks.end())
            return fail(ErrorKind::invalid, "snapshot {}: it has a disk {}, the VM has not", name,
                        printable(disk.path));
    for (const auto& path : disks)
        if (std::ranges::find(snapshot->disks, path, &Disk::path) == snapshot->disks.end())
            return fail(ErrorKind::invalid, "snapshot {}: it has no disk {}, the VM has", name,
                        printable(path));
    disks_ = snapshot->disks;
    return {};
}

Result<void> Snapshots::remove(const std::string& name) {
    TRY(find(name));
    std::erase_if(snapshots_, [&](const auto& one) { return one.name == name; });
    return {};
}

void Snapshots::drop_overlays(const std::string& path) {
    std::erase_if(disks_, [&](const auto& one) { return one.path == path; });
}

} // namespace vmhost::host
