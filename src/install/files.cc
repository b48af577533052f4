#include "install/files.h"

#include "install/install.h"
#include "install/password.h"
#include "install/texts.h"
#include "install/values.h"
#include "install/way.h"

namespace vmhost::install {

namespace {

using config::InstallSystem;

struct Row {
    InstallSystem system;
    std::string_view name;
    FileUse use;
    std::string_view afterwards = {};
};
constexpr Row rows[] = {
    {InstallSystem::cloud_init, "user-data", FileUse::once},
    {InstallSystem::cloud_init, "meta-data", FileUse::always},
    {InstallSystem::cloud_init, "vendor-data", FileUse::always},
    {InstallSystem::cloud_init, "network-config", FileUse::always},
    {InstallSystem::preseed, "preseed.cfg", FileUse::once},
    {InstallSystem::kickstart, "ks.cfg", FileUse::once},
    {InstallSystem::ipxe, "boot.ipxe", FileUse::once, "#!ipxe\nexit\n"},
};

Syntax syntax_of(InstallSystem system) {
    switch (system) {
    case InstallSystem::openbsd:
        return Syntax::lines;
    case InstallSystem::cloud_init:
        return Syntax::yaml;
    case InstallSystem::preseed:
    case InstallSystem::kickstart:
    case InstallSystem::ipxe:
        break;
    }
    return Syntax::words;
}

std::string_view built_in_text(InstallSystem system) {
    switch (system) {
    case InstallSystem::cloud_init:
        return user_data_text;
    case InstallSystem::preseed:
        return preseed_text;
    case InstallSystem::kickstart:
        return kickstart_text;
    case InstallSystem::openbsd:
    case InstallSystem::ipxe:
        break;
    }
    return {};
}

// Version 2, of the same words as netplan's. Written from values that have a form, so that none
// can break it.
std::string network_config(const config::Model& model, const config::Vm& vm) {
    std::string out = "version: 2\nethernets:\n";
    for (std::size_t i = 0; i < vm.interfaces.size(); ++i) {
        const auto& interface = vm.interfaces[i];
        const auto* on = model.find_switch(interface.switch_name);
        out += fmt::format("  nic{}:\n    match: {{macaddress: \"{}\"}}\n", i,
                           interface.lladdr.text());
        std::vector<std::string> addresses, routes, servers;
        const bool dhcp = on == nullptr || !on->ipv4 || !interface.ipv4 || on->dhcp.enabled;
        if (!dhcp) {
            addresses.push_back(fmt::format("{}/{}", interface.ipv4->text(), on->ipv4->length));
            routes.push_back(
                fmt::format("{{to: \"0.0.0.0/0\", via: \"{}\"}}", router_of(*on).text()));
            for (const auto& server : on->dhcp.domain_name_servers)
                servers.push_back(server.text());
        }
        if (on != nullptr && on->ipv6 && interface.ipv6) {
            addresses.push_back(fmt::format("{}/{}", interface.ipv6->text(), on->ipv6->length));
            if (on->ra.router)
                routes.push_back(
                    fmt::format("{{to: \"::/0\", via: \"{}\"}}", on->ipv6->address.text()));
        }
        out += fmt::format("    dhcp4: {}\n", dhcp);
        if (!addresses.empty())
            out += fmt::format("    addresses: [\"{}\"]\n", fmt::join(addresses, "\", \""));
        if (!servers.empty())
            out += fmt::format("    nameservers: {{addresses: [\"{}\"]}}\n",
                               fmt::join(servers, "\", \""));
        if (!routes.empty())
            out += fmt::format("    routes: [{}]\n", fmt::join(routes, ", "));
    }
    return out;
}

class Maker {
public:
    Maker(const config::Model& model, const config::Vm& vm, bool upgrade, std::uint32_t number,
          const ReadFile& read_file, const Values& more)
        : model_(model), vm_(vm), upgrade_(upgrade), number_(number), read_file_(read_file),
          more_(more) {}

    Result<std::string> make(const InstallFile& file) const {
        if (file.name == "vendor-data")
            return std::string();
        if (file.name == "network-config")
            return network_config(model_, vm_);
        if (file.name == "meta-data")
            return fill(meta_data_text, "meta-data", plain_values(model_, vm_, number_),
                        Syntax::yaml);
        if (file.name == disklabel_name)
            return read("disklabel", install().disklabel);
        return answers();
    }

private:
    const config::VmInstall& install() const { return *vm_.install; }
    Result<std::string> read(std::string_view key, const std::string& path) const {
        auto content = read_file_(path);
        if (!content)
            return std::unexpected(std::move(content).error().in(key));
        return content;
    }
    Result<Values> values() const { return all_values(model_, vm_, number_, more_); }

    Result<std::string> answers() const {
        const auto system = install().system;
        if (!install().file.empty())
            return read_file_(install().file);
        if (!install().template_file.empty())
            return fill(TRY(read("template", install().template_file)), install().template_file,
                        TRY(values()), syntax_of(system));
        if (system == InstallSystem::openbsd)
            return render_answers(model_, vm_,
                                  upgrade_ ? config::InstallMode::upgrade
                                           : config::InstallMode::install);
        if (built_in_text(system).empty())
            return fail(ErrorKind::invalid, "there is no text of our own for boot.ipxe: give a "
                                            "\"template\"");
        const auto name = install_files(vm_, upgrade_).front().name;
        return fill(built_in_text(system), "the built-in " + name, TRY(values()),
                    syntax_of(system));
    }

    const config::Model& model_;
    const config::Vm& vm_;
    bool upgrade_;
    std::uint32_t number_;
    const ReadFile& read_file_;
    const Values& more_;
};

} // namespace

bool holds_any_text(InstallSystem system) {
    return syntax_of(system) != Syntax::words;
}

std::vector<InstallFile> install_files(const config::Vm& vm, bool upgrade) {
    const auto& install = *vm.install;
    std::vector<InstallFile> out;
    if (install.system == InstallSystem::openbsd) {
        out.push_back({upgrade ? "upgrade.conf" : "install.conf", FileUse::once});
        if (!install.disklabel.empty())
            out.push_back({std::string(disklabel_name), FileUse::always});
    }
    for (const auto& row : rows)
        if (row.system == install.system)
            out.push_back({std::string(row.name), row.use, row.afterwards});
    return out;
}

std::optional<InstallFile> find_file(const config::Vm& vm, bool upgrade, std::string_view name) {
    for (auto& file : install_files(vm, upgrade))
        if (file.name == name)
            return std::move(file);
    return std::nullopt;
}

Result<std::string> file_text(const config::Model& model, const config::Vm& vm, bool upgrade,
                              std::uint32_t number, std::string_view name,
                              const ReadFile& read_file, const Values& more) {
    const auto context = fmt::format("vm \"{}\"", vm.name);
    auto file = find_file(vm, upgrade, name);
    if (!file)
        return fail(ErrorKind::not_found, "{}: its installation has no {}", context,
                    printable(name, 80));
    auto text = Maker(model, vm, upgrade, number, read_file, more).make(*file);
    if (text)
        return text;
    // The line of a template is what is to be mended, where there is one.
    auto place = text.error().place().line != 0 ? text.error().place() : Place(vm.place);
    auto error = std::move(text).error();
    if (!error.text().starts_with(context))
        error = std::move(error).in(context);
    return std::unexpected(std::move(error).at(std::move(place)));
}

config::Vm without_secrets(const config::Vm& vm) {
    auto out = vm;
    auto& install = *out.install;
    for (auto* password : {&install.password, &install.root_password}) {
        if (password->empty() || *password == no_password)
            continue;
        // vmhost deploy puts it there, for its owner to find.
        if (install.sshkey.ends_with(" " + *password))
            install.sshkey.replace(install.sshkey.size() - password->size(), password->size(),
                                   "masked");
        *password = masked_password;
    }
    for (auto& [question, answer] : install.answers)
        if (question.find("assword") != std::string::npos ||
            question.find("assphrase") != std::string::npos)
            answer = masked_password;
    return out;
}

} // namespace vmhost::install
