// The part of check.cc that is about installations: which settings are of which system.
#include "config/assign.h"
#include "config/reader.h"
#include "config/rules.h"

namespace vmhost::config {

namespace {

void check_install(const VmInstall& install, const std::string& name, const Place& otherwise,
                   Findings& findings) {
    auto complain = [&](const void* field, std::string_view key, std::string_view text) {
        findings.complain(findings.place_of(field, otherwise), ErrorKind::invalid,
                          fmt::format("{}.{}: {}", name, key, text));
    };
    auto only_openbsd = [&](bool wrong, const void* field, std::string_view key) {
        if (wrong && install.system != InstallSystem::openbsd)
            complain(field, key, "only with system = \"openbsd\"");
    };
    only_openbsd(!install.disklabel.empty(), &install.disklabel, "disklabel");
    only_openbsd(!install.answers.empty(), &install.answers, "answers");
    only_openbsd(install.site.has_value(), &install.site, "site");
    only_openbsd(install.mode == InstallMode::upgrade, &install.mode, "mode");
    if (install.host_keys && install.system != InstallSystem::openbsd &&
        install.system != InstallSystem::cloud_init)
        complain(&install.host_keys, "host_keys",
                 "only with system = \"openbsd\" or \"cloud-init\"");
    if (!install.file.empty() && !install.template_file.empty())
        complain(&install.template_file, "template",
                 "\"file\" is served as it is: give one of the two");
    if (install.system == InstallSystem::ipxe && install.file.empty() &&
        install.template_file.empty())
        complain(&install.system, "system",
                 "what iPXE is to do is said nowhere: give a \"template\"");
}

} // namespace

void check_installs(const Model& model, Findings& findings) {
    for (const auto& vm : model.vms)
        if (vm.install)
            check_install(*vm.install, fmt::format("vm.{}.install", printable(vm.name, 70)),
                          vm.place, findings);
    check_install(model.allocate.install, "allocate.install", model.allocate.place, findings);
}

} // namespace vmhost::config
