#include "host/site_sets.h"

#include "host/files.h"
#include "install/install.h"

namespace vmhost::host {

namespace {

// site may be null: there is the key alone. key may be null too.
Result<std::string> site_set(const config::Site* site, const config::Site* general,
                             const install::HostKey* key) {
    auto read = [](const std::string& path) {
        return read_small_file(path, limits::max_site_file_bytes, "file of a site set");
    };
    install::Archive files;
    if (site != nullptr)
        files = TRY(install::site_files(*site, general, read));
    if (key != nullptr)
        install::add_host_key(files, *key);
    auto tar = TRY(install::tar_of(files));
    auto content = TRY(install::gzip_of(tar));
    if (content.size() > limits::max_site_bytes)
        return fail(ErrorKind::limit, "a site set has at most {}, this one has {}",
                    format_size(limits::max_site_bytes), format_size(content.size()));
    return content;
}

const config::Site* general_site(const config::Model& model) {
    return model.install.site ? &*model.install.site : nullptr;
}

const config::Site* own_site(const config::Vm& vm) {
    return vm.install && vm.install->site ? &*vm.install->site : nullptr;
}

auto of_vm(const config::Vm& vm) {
    return [&vm](Error error) {
        return std::unexpected(std::move(error).in(fmt::format("vm {}", vm.name)).at(vm.place));
    };
}

} // namespace

Result<std::string> keyed_site_set(const config::Model& model, const config::Vm& vm,
                                   const InstallState& state) {
    if (state.host_key.private_text.empty())
        return of_vm(vm)(Error(ErrorKind::not_found, "there is no host key of its installation"));
    auto made = site_set(own_site(vm), general_site(model), &state.host_key);
    if (!made)
        return of_vm(vm)(std::move(made).error());
    return made;
}

Result<void> describe_site_sets(const config::Model& model, const InstallStates& installs,
                                std::vector<ipc::Frame>& frames) {
    const auto* general = general_site(model);
    if (general != nullptr)
        frames.push_back(ipc::encode(
            ipc::HttpSiteSet{{}, std::nullopt, false, TRY(site_set(general, nullptr, nullptr))}));
    for (const auto& vm : model.vms) {
        const auto state = installs(vm);
        const bool keyed = install::keyed_set_name(model, vm, state.upgrade).has_value();
        if (own_site(vm) == nullptr && !keyed)
            continue;
        // Rather now than when the guest asks for it. That there is no key was told.
        if (keyed && state.armed && !state.host_key.private_text.empty())
            if (auto made = keyed_site_set(model, vm, state); !made)
                log::error("host", "{}", made.error().message());
        std::string content;
        if (!keyed) {
            auto made = site_set(own_site(vm), general, nullptr);
            if (!made)
                return of_vm(vm)(std::move(made).error());
            content = *std::move(made);
        }
        for (const auto& interface : vm.interfaces)
            if (interface.ipv4)
                frames.push_back(ipc::encode(ipc::HttpSiteSet{
                    std::string(install::short_host_name(vm)), *interface.ipv4, keyed, content}));
    }
    return {};
}

} // namespace vmhost::host
