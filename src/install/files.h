// Which files an installation has, what stands in each and when its guest may have it: a guest
// gets all of them from this host, over HTTP, to its own address alone.
//
//   openbsd      install.conf or upgrade.conf (once), disklabel
//   cloud-init   user-data (once), meta-data, vendor-data, network-config
//   preseed      preseed.cfg (once)
//   kickstart    ks.cfg (once)
//   ipxe         boot.ipxe (once; from then on one that lets the machine start from its disk)
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/model.h"
#include "install/site_set.h"
#include "install/template.h"

namespace vmhost::install {

enum class FileUse : std::uint8_t {
    once,    // it holds secrets: given out once, which seals the installation
    running, // from then on, until the installation is over
    always,  // it holds none
};

struct InstallFile {
    std::string name; // the last component of its path
    FileUse use = FileUse::once;
    std::string_view afterwards = {}; // what it is when it has been given out; empty: not there
};

inline constexpr std::string_view disklabel_name = "disklabel";

// Whether a value of any printable characters can stand in its answers (template.h).
bool holds_any_text(config::InstallSystem system);

// Of a VM with an install table.
std::vector<InstallFile> install_files(const config::Vm& vm, bool upgrade);
std::optional<InstallFile> find_file(const config::Vm& vm, bool upgrade, std::string_view name);

// What stands in it: a name that install_files() has. number: of the installation; more: what
// variables have that the configuration does not know, such as "host_key".
Result<std::string> file_text(const config::Model& model, const config::Vm& vm, bool upgrade,
                              std::uint32_t number, std::string_view name,
                              const ReadFile& read_file, const Values& more = {});

// The VM with other words in the place of its secrets, to be looked at.
config::Vm without_secrets(const config::Vm& vm);

} // namespace vmhost::install
