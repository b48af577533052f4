#include "install/files.h"

namespace vmhost::install {

std::vector<InstallFile> install_files(const config::Vm&, bool upgrade) {
    return {{upgrade ? "upgrade.conf" : "install.conf", FileUse::once}};
}

std::optional<FileUse> use_of(const config::Vm& vm, bool upgrade, std::string_view name) {
    for (const auto& file : install_files(vm, upgrade))
        if (file.name == name)
            return file.use;
    return std::nullopt;
}

} // namespace vmhost::install
