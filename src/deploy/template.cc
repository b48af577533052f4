#include "deploy/template.h"

#include <algorithm>
#include <filesystem>

namespace vmhost::deploy {

namespace {

std::string normal(const std::string& path) {
    return std::filesystem::path(path).lexically_normal().string();
}

// Whether somebody's disk is, or was, in that file.
Result<void> is_nobodys(const config::Model& model, const Ledger& ledger, const std::string& path) {
    for (const auto& vm : model.vms)
        for (const auto& disk : vm.disks)
            if (!disk.read_only &&
                normal((std::filesystem::path(model.host.state) / disk.path).string()) == path)
                return fail(ErrorKind::denied, "{} is the disk of {} at {}:{}", path, vm.name,
                            printable(vm.place.file), vm.place.line);
    for (const auto& entry : ledger.entries())
        if (std::ranges::find(entry.images, path, normal) != entry.images.end())
            return fail(ErrorKind::denied, "{} is the disk of {}", path, entry.vm);
    return {};
}

} // namespace

std::string_view name_of(config::InstallSystem system) {
    using enum config::InstallSystem;
    switch (system) {
    case cloud_init:
        return "cloud-init";
    case preseed:
        return "preseed";
    case kickstart:
        return "kickstart";
    case ipxe:
        return "ipxe";
    case openbsd:
        break;
    }
    return "openbsd";
}

std::string image_path(const config::Model& model, const std::string& name) {
    if (name.starts_with('/'))
        return name;
    const auto& folder = model.allocate.images.empty() ? model.host.state : model.allocate.images;
    return folder + "/" + name;
}

Result<std::optional<DiskTemplate>> template_of(World& world, const config::Model& model,
                                                const Ledger& ledger, const Order& order) {
    const auto& rules = model.allocate;
    const auto& name = order.image.empty() ? rules.image : order.image;
    if (name.empty() || name == "none")
        return std::optional<DiskTemplate>();
    DiskTemplate out{.path = normal(image_path(model, name)), .named = name};
    if (!rules.images.empty()) // else as the state, where relative names begin
        out.named = out.path;
    TRY(is_nobodys(model, ledger, out.path));
    auto found = TRY(world.look_at_template(out.path));
    if (!found.for_all &&
        (rules.image.empty() || normal(image_path(model, rules.image)) != out.path))
        return fail(ErrorKind::denied,
                    "{} may not be named by orders: not everybody on this host may read it",
                    out.path);
    if (!found.below.empty())
        return fail(ErrorKind::unsupported,
                    "{} needs {} below it: vmctl create -i makes an image that stands alone",
                    out.path, printable(found.below));
    out.bytes = found.bytes;
    return std::optional(std::move(out));
}

config::VmInstall install_of(const config::Allocate& rules, const Order& order, bool has_template) {
    using enum config::InstallSystem;
    auto install = rules.install;
    auto system = order.system.value_or(has_template && install.system == openbsd ? cloud_init
                                                                                  : install.system);
    if (system != install.system) {
        // What is for one installer says nothing to another.
        install = {};
        install.system = system;
        install.timezone = rules.install.timezone;
        install.stall_timeout = rules.install.stall_timeout;
        install.host_keys = rules.install.host_keys && (system == openbsd || system == cloud_init);
    }
    if (has_template) // which is there: nothing is started in its place
        install.kernel = install.initrd = install.command_line = "";
    return install;
}

} // namespace vmhost::deploy
