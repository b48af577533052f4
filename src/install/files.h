// Which files an installation has, and when its guest may have each: a guest gets all of them from
// this host, over HTTP, to its own address alone.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/model.h"

namespace vmhost::install {

enum class FileUse : std::uint8_t {
    once,    // it holds secrets: given out once, which seals the installation
    running, // from then on, until the installation is over
    always,  // it holds none
};

struct InstallFile {
    std::string name; // the last component of its path
    FileUse use = FileUse::once;
};

// Of a VM with an install table.
std::vector<InstallFile> install_files(const config::Vm& vm, bool upgrade);
// Nothing: it has none of that name.
std::optional<FileUse> use_of(const config::Vm& vm, bool upgrade, std::string_view name);

} // namespace vmhost::install
