// What deploying touches of this host, behind one interface, so that a test can end it at any step.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <sys/types.h>

#include "config/config.h"
#include "deploy/ssh_key.h"

namespace vmhost::deploy {

struct Account {
    std::string name;
    uid_t uid = 0;
    gid_t gid = 0;
    std::string home;
};

struct NewAccount {
    std::string name, group, shell;
    std::string person; // for the comment field
};

class World {
public:
    virtual ~World() = default;

    // Of at most config's limit; not_found when it is not there.
    virtual Result<std::string> read(const std::string& path) = 0;
    // All or nothing, and on the disk when it returns. A file that is there keeps its owner and
    // group; nobody but these can read it from then on.
    virtual Result<void> replace(const std::string& path, std::string_view text) = 0;
    virtual bool exists(const std::string& path) = 0;
    virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
    virtual Result<void> remove(const std::string& path) = 0;

    // The size of the disk in it; not_found when there is no file.
    virtual Result<std::uint64_t> image_size(const std::string& path,
                                             config::ImageFormat format) = 0;
    // What new disks begin as, of the format that its name says, else qcow2.
    struct Template {
        std::uint64_t bytes = 0;
        std::string below;    // the file that it needs itself; empty: none
        bool for_all = false; // everybody on this host may read it
    };
    virtual Result<Template> look_at_template(const std::string& path) = 0;
    // Never in place of a file. What is read from it until it is written is that of the base, which
    // may be smaller; empty: zeros.
    virtual Result<void> create_image(const std::string& path, config::ImageFormat format,
                                      std::uint64_t bytes, const std::string& base) = 0;

    virtual Result<std::optional<Account>> account(const std::string& name) = 0;
    virtual Result<bool> has_group(const std::string& group) = 0;
    virtual Result<bool> is_member(const Account& account, const std::string& group) = 0;
    virtual Result<void> add_group(const std::string& group) = 0;
    virtual Result<void> add_account(const NewAccount& account) = 0;
    virtual Result<void> add_member(const std::string& account, const std::string& group) = 0;
    virtual Result<void> remove_account(const std::string& name) = 0;
    // In authorized_keys of the account. denied: we may not look.
    virtual Result<bool> has_key(const Account& account, const SshKey& key) = 0;
    virtual Result<void> add_key(const Account& account, const SshKey& key) = 0;
};

// This host. Accounts are as /etc/passwd and /etc/group say, changed by useradd(8) and its kin.
std::unique_ptr<World> this_host();

// Holds a file locked as long as it lives.
class Lock {
public:
    // Makes the file. busy: somebody else holds it, and wait is false.
    static Result<Lock> take(const std::string& path, bool wait);

private:
    explicit Lock(Fd file) : file_(std::move(file)) {}
    Fd file_;
};

// authorized_keys of an account, written below its home with no symbolic link followed
// (accounts.cc). For the accounts' own processes that change it meanwhile see there.
Result<bool> has_authorized_key(const Account& account, const SshKey& key);
Result<void> add_authorized_key(const Account& account, const SshKey& key);

} // namespace vmhost::deploy
