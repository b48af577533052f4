// Site sets (install.site(5)): what the configuration adds to an installed system, as the archive
// that OpenBSD's installer unpacks last.
//
// The same configuration makes the same bytes: files in the order of their names, of one time, of
// numeric owners, in ustar's format, compressed without a name or a time.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "config/model.h"
#include "install/host_key.h"

namespace vmhost::install {

// A file of this host, of at most limits::max_site_file_bytes.
using ReadFile = std::function<Result<std::string>(const std::string& path)>;

struct ArchiveFile {
    std::string content;
    unsigned owner = 0, group = 0;
    unsigned mode = 0644;
    bool operator==(const ArchiveFile&) const = default;
};
using Archive = std::map<std::string, ArchiveFile>; // by path, without a slash in front

// The files of a site set. general: what it comes after, whose settings it keeps: unpacked over
// them, a sysctl.conf of its own would take all others back.
Result<Archive> site_files(const config::Site& site, const config::Site* general,
                           const ReadFile& read_file);

// ustar; invalid for a path that has no room in it, or that is not beneath the directory where it
// is unpacked.
Result<std::string> tar_of(const Archive& files);
// RFC 1952.
Result<std::string> gzip_of(std::string_view bytes);

// The name of the VM's own site set when it has the host key that this host made for it: that is
// given out while the VM is being installed, and not by the http process alone. Nothing: it has
// none such.
std::optional<std::string> keyed_set_name(const config::Model& model, const config::Vm& vm,
                                          bool upgrade);
// Adds the key to the files of that set.
void add_host_key(Archive& files, const HostKey& key);

// "puffy" of "puffy.example.org": as the installer names siteVV-HOST.tgz.
std::string_view short_host_name(const config::Vm& vm);

} // namespace vmhost::install
