// Users and groups as /etc/passwd and /etc/group name them. A static binary must
// not load the C library's name-service modules, so the files are read here.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>

#include "base/base.h"
#include "config/config.h"

namespace vmhost::host {

struct User {
    std::string name;
    uid_t uid = 0;
    gid_t gid = 0;
};

class Users {
public:
    // Texts of the two files.
    Users(std::string passwd, std::string group);
    static Users of_this_host();

    // By name, or by number (which need not be listed; gid is then the number too).
    Result<User> user(std::string_view name_or_number) const;
    Result<gid_t> group(std::string_view name_or_number) const;
    std::string user_name(uid_t uid) const;  // the number when unknown
    std::string group_name(gid_t gid) const; // the number when unknown

private:
    std::string passwd_, group_;
};

// The owner of a VM or of the control socket, resolved.
struct OwnerIds {
    uid_t uid = 0;
    std::optional<gid_t> gid;
};
Result<OwnerIds> resolve(const Users& users, const config::Owner& owner);

} // namespace vmhost::host
