// This host: files, images, and (accounts.cc) accounts.
#include "deploy/world.h"

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "deploy/accounts.h"
#include "disk/disk.h"

namespace vmhost::deploy {

namespace {

disk::Format format_of(config::ImageFormat format) {
    return format == config::ImageFormat::raw ? disk::Format::raw : disk::Format::qcow2;
}

// As the host takes it when it opens a disk on it.
disk::Format format_of_template(const std::string& path) {
    return disk::format_of_name(path).value_or(disk::Format::qcow2);
}

// A link stays one, and what it names is replaced.
std::string real_path(const std::string& path) {
    char whole[PATH_MAX];
    return ::realpath(path.c_str(), whole) ? std::string(whole) : path;
}

std::string folder_of(const std::string& path) {
    auto slash = path.rfind('/');
    return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

Result<void> sync_folder(const std::string& path) {
    Fd folder(::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder || ::fsync(folder.get()) < 0)
        return fail_errno(errno, "sync the folder of {}", printable(path));
    return {};
}

class ThisHost final : public World {
public:
    Result<std::string> read(const std::string& path) override {
        struct stat about {};
        if (::stat(path.c_str(), &about) < 0)
            return fail_errno(errno, "{}", printable(path));
        return config::read_config_file(path);
    }

    Result<void> replace(const std::string& named, std::string_view text) override {
        auto path = real_path(named);
        // The name is always the same: what a run left behind that was killed goes here.
        auto beside = path + ".new";
        ::unlink(beside.c_str());
        Fd file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
        if (!file)
            return fail_errno(errno, "create {}", printable(beside));
        auto done = fill(file, path, text);
        if (done && ::rename(beside.c_str(), path.c_str()) < 0)
            done = fail_errno(errno, "replace {}", printable(path));
        if (!done) {
            ::unlink(beside.c_str());
            return done;
        }
        return sync_folder(path);
    }
    bool exists(const std::string& path) override {
        struct stat about {};
        return ::lstat(path.c_str(), &about) == 0;
    }
    Result<void> rename(const std::string& from, const std::string& to) override {
        if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) < 0)
            return fail_errno(errno, "rename {} to {}", printable(from), printable(to));
        return sync_folder(to);
    }
    Result<void> remove(const std::string& path) override {
        if (::unlink(path.c_str()) < 0)
            return fail_errno(errno, "remove {}", printable(path));
        return {};
    }

    Result<std::uint64_t> image_size(const std::string& path, config::ImageFormat format) override {
        struct stat about {};
        if (::lstat(path.c_str(), &about) < 0)
            return fail_errno(errno, "{}", printable(path));
        return TRY(disk::inspect({format_of(format), path})).size_bytes;
    }
    Result<Template> look_at_template(const std::string& path) override {
        struct stat about {};
        if (::lstat(path.c_str(), &about) < 0)
            return fail_errno(errno, "{}", printable(path));
        // As a VM's owner may have it below a disk.
        if (!S_ISREG(about.st_mode) || about.st_uid != 0 || about.st_nlink != 1)
            return fail(ErrorKind::denied, "{} is no file of root's with one name",
                        printable(path));
        auto info = TRY(disk::inspect({format_of_template(path), path}));
        return Template{info.size_bytes, info.backing_file, (about.st_mode & S_IROTH) != 0};
    }
    Result<void> create_image(const std::string& path, config::ImageFormat format,
                              std::uint64_t bytes, const std::string& base) override {
        if (base.empty())
            return disk::create_image(path, format_of(format), bytes);
        return disk::create_image(
            path, format_of(format), bytes,
            disk::BaseName{disk::name_from(path, base), format_of_template(base)});
    }

    Result<std::optional<Account>> account(const std::string& name) override {
        return find_account(name);
    }
    Result<bool> has_group(const std::string& group) override { return find_group(group); }
    Result<bool> is_member(const Account& account, const std::string& group) override {
        return find_member(account, group);
    }
    Result<void> add_group(const std::string& group) override {
        return run({"groupadd", "-r", "--", group});
    }
    Result<void> add_account(const NewAccount& account) override {
        std::vector<std::string> words{
            "useradd", "-m", "-s", account.shell, "-c", comment_of(account.person), "-p", "*"};
        if (!account.group.empty())
            words.insert(words.end(), {"-G", account.group});
        words.insert(words.end(), {"--", account.name});
        return run(words);
    }
    Result<void> add_member(const std::string& account, const std::string& group) override {
        return run({"usermod", "-a", "-G", group, "--", account});
    }
    Result<void> remove_account(const std::string& name) override {
        return run({"userdel", "--", name});
    }
    Result<bool> has_key(const Account& account, const SshKey& key) override {
        return has_authorized_key(account, key);
    }
    Result<void> add_key(const Account& account, const SshKey& key) override {
        return add_authorized_key(account, key);
    }

private:
    static Result<void> fill(const Fd& file, const std::string& path, std::string_view text) {
        TRY(write_all(file, text, path));
        struct stat about {};
        mode_t mode = 0600;
        if (::stat(path.c_str(), &about) == 0) {
            mode = about.st_mode & 0770;
            if ((about.st_uid != ::geteuid() || about.st_gid != ::getegid()) &&
                ::fchown(file.get(), about.st_uid, about.st_gid) < 0)
                return fail_errno(errno, "keep the owner of {}", printable(path));
        }
        if (::fchmod(file.get(), mode) < 0 || ::fsync(file.get()) < 0)
            return fail_errno(errno, "write {}", printable(path));
        return {};
    }
};

} // namespace

std::unique_ptr<World> this_host() {
    return std::make_unique<ThisHost>();
}

Result<Lock> Lock::take(const std::string& path, bool wait) {
    std::error_code problem;
    std::filesystem::create_directories(folder_of(path), problem);
    Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file)
        return fail_errno(errno, "lock {}", printable(path));
    while (::flock(file.get(), LOCK_EX | (wait ? 0 : LOCK_NB)) < 0) {
        if (errno == EWOULDBLOCK)
            return fail(ErrorKind::busy, "{}: another vmhost deploy is at work", printable(path));
        if (errno != EINTR)
            return fail_errno(errno, "lock {}", printable(path));
    }
    return Lock(std::move(file));
}

} // namespace vmhost::deploy
