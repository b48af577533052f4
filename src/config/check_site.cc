// The part of check.cc that is about site sets.
#include <algorithm>

#include "config/assign.h"
#include "config/reader.h"
#include "config/rules.h"

namespace vmhost::config {

namespace {

void check_site(const Site& site, const std::string& name, const Place& place, Findings& findings) {
    std::vector<std::string> paths;
    auto add = [&](const std::string& path, const Place& at) {
        if (std::ranges::find(paths, path) != paths.end())
            findings.complain(at, ErrorKind::exists,
                              fmt::format("{}: {} comes twice", name, printable(path)));
        paths.push_back(path);
    };
    if (!site.installurl.empty())
        add("etc/installurl", place);
    if (!site.sysctl.empty())
        add("etc/sysctl.conf", place);
    if (!site.rc_conf_local.empty())
        add("etc/rc.conf.local", place);
    if (!site.install_site.empty())
        add("install.site", place);
    for (const auto& file : site.files) {
        add(file.path, file.place);
        if (file.source.empty() == file.content.empty())
            findings.complain(file.place, ErrorKind::invalid,
                              fmt::format("{}: {}: give either \"source\" or \"content\"", name,
                                          printable(file.path)));
    }
    if (paths.empty())
        findings.complain(place, ErrorKind::invalid, name + ": there is nothing in it");
}

// OpenBSD has its key in a site set, whose name has the digits of the release.
void check_host_keys(const Model& model, const Vm& vm, Findings& findings) {
    if (vm.install->system != InstallSystem::openbsd)
        return;
    auto place = findings.place_of(&vm.install->host_keys, vm.place);
    const auto name = fmt::format("vm.{}.install.host_keys: ", vm.name);
    if (model.install.sets.empty())
        findings.complain(place, ErrorKind::invalid,
                          name + "the key comes with the sets of this host: give [install] "
                                 "\"sets\"");
    else if (model.install.release.find('.') == std::string::npos)
        findings.complain(place, ErrorKind::invalid,
                          fmt::format("{}the key is in a set named by its release, and "
                                      "{} has no number",
                                      name, printable(model.install.release)));
}

} // namespace

// They are served beside the sets, so there have to be some.
void check_sites(const Model& model, Findings& findings) {
    auto check_one = [&](const Site& site, const std::string& name, const Place& otherwise) {
        auto place = findings.place_of(&site.installurl, otherwise);
        if (model.install.sets.empty())
            findings.complain(place, ErrorKind::invalid,
                              name + ": it is served beside the sets of this host: give "
                                     "[install] \"sets\"");
        check_site(site, name, place, findings);
    };
    if (model.install.site)
        check_one(*model.install.site, "install.site", findings.place_of(&model.install.sets, {}));
    for (const auto& vm : model.vms) {
        if (vm.install && vm.install->site)
            check_one(*vm.install->site, fmt::format("vm.{}.install.site", printable(vm.name, 70)),
                      vm.place);
        if (vm.install && vm.install->host_keys)
            check_host_keys(model, vm, findings);
    }
}

} // namespace vmhost::config
