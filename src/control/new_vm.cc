// The client has opened every file with its own rights: a disk is its name for messages and
// "disk0", the files below it are "disk0-base0", "disk0-base1" … Each field has one type, each
// descriptor one name, and nothing is left over.
#include "control/new_vm.h"

#include <algorithm>

namespace vmhost::control {

using nlohmann::json;

namespace {

class Files {
public:
    Files(const std::vector<std::string>& names, std::vector<Fd>& fds) : names_(names), fds_(fds) {}

    std::optional<Fd> take(std::string_view name) {
        auto found = std::ranges::find(names_, name);
        auto index = static_cast<std::size_t>(found - names_.begin());
        if (index >= fds_.size() || !fds_[index])
            return std::nullopt;
        ++taken_;
        return std::move(fds_[index]);
    }
    Result<Fd> need(const std::string& name) {
        if (auto file = take(name))
            return *std::move(file);
        return fail(ErrorKind::invalid, "the descriptor \"{}\" is missing", name);
    }
    bool all_taken() const { return taken_ == fds_.size(); }

private:
    const std::vector<std::string>& names_;
    std::vector<Fd>& fds_;
    std::size_t taken_ = 0;
};

std::unexpected<Error> wrong(std::string_view field) {
    return fail(ErrorKind::invalid,
                "the description of the VM: \"{}\" is unknown or has a wrong type",
                printable(field, 40));
}

// It names the disk in messages and in the file system's rules, though it is not opened.
bool is_path(const std::string& text) {
    return text.starts_with('/') && text.size() <= limits::max_text_bytes &&
           std::ranges::none_of(
               text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

Result<NewVm::Disk> parse_disk(const json& object, const std::string& name, Files& files) {
    NewVm::Disk disk;
    if (!object.is_object())
        return wrong("disks");
    for (const auto& [key, value] : object.items()) {
        if (key == "path" && value.is_string())
            disk.path = value;
        else if (key == "format" && value.is_string())
            disk.format = value;
        else if (key == "bases" && value.is_array() && value.size() < limits::max_image_layers)
            for (const auto& base : value) {
                if (!base.is_string())
                    return wrong("bases");
                disk.bases.push_back({base.get<std::string>(), {}});
            }
        else
            return wrong(key);
    }
    if (!is_path(disk.path) || !std::ranges::all_of(disk.bases, is_path, &NewVm::Base::path))
        return fail(ErrorKind::invalid, "a disk's name is no absolute path");
    if ((!disk.format.empty() && disk.format != "raw" && disk.format != "qcow2" &&
         disk.format != "zst"))
        return wrong("format");
    disk.image = TRY(files.need(name));
    for (std::size_t i = 0; i < disk.bases.size(); ++i)
        disk.bases[i].file = TRY(files.need(fmt::format("{}-base{}", name, i)));
    return disk;
}

Result<NewVm::Interface> parse_interface(const json& object) {
    NewVm::Interface interface;
    if (!object.is_object())
        return wrong("interfaces");
    for (const auto& [key, value] : object.items()) {
        if (key == "switch" && value.is_string())
            interface.switch_name = value;
        else if (key == "local" && value.is_boolean())
            interface.local = value;
        else
            return wrong(key);
    }
    return interface;
}

} // namespace

Result<NewVm> parse_new_vm(const json& object, const std::vector<std::string>& names,
                           std::vector<Fd>& fds) {
    Files files(names, fds);
    NewVm out;
    for (const auto& [key, value] : object.items()) {
        if (key == "template" && value.is_string()) {
            out.parent = value;
        } else if (key == "memory_bytes" && value.is_number_unsigned()) {
            out.memory_bytes = value;
        } else if (key == "interfaces_min" && value.is_number_unsigned()) {
            out.interfaces_min = value;
        } else if (key == "disks" && value.is_array() && value.size() <= limits::max_disks) {
            for (const auto& disk : value)
                out.disks.push_back(
                    TRY(parse_disk(disk, fmt::format("disk{}", out.disks.size()), files)));
        } else if (key == "interfaces" && value.is_array() &&
                   value.size() <= limits::max_interfaces) {
            for (const auto& interface : value)
                out.interfaces.push_back(TRY(parse_interface(interface)));
        } else {
            return wrong(key);
        }
    }
    if (out.interfaces_min > limits::max_interfaces)
        return wrong("interfaces_min");
    out.kernel = files.take("kernel");
    out.cdrom = files.take("cdrom");
    if (!files.all_taken())
        return fail(ErrorKind::invalid, "a descriptor belongs to nothing, or comes twice");
    return out;
}

} // namespace vmhost::control
