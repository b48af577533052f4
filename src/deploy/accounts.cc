// Accounts of this host: read from passwd(5) and group(5), as a static program has no other way,
// and changed by the system's own programs.
//
// A home belongs to somebody who may be hostile, and who may change it while we write there as
// root. So it is opened once, without following a link, and everything below goes by descriptors:
// .ssh must be a directory of theirs, authorized_keys a regular file, and what is written is a new
// file that nobody else could have made, put in the old one's place.
#include "deploy/accounts.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <grp.h>
#include <memory>
#include <pwd.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vmhost::deploy {

namespace {

struct Closer {
    void operator()(FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<FILE, Closer>;

Result<File> open_table(const char* path) {
    File file(std::fopen(path, "re"));
    if (!file)
        return fail_errno(errno, "{}", path);
    return file;
}

constexpr std::size_t max_keys_bytes = 1 << 20;

// What is there of authorized_keys(5); empty when there is nothing.
struct Keys {
    Fd folder; // .ssh; none: it is not there
    std::string text;
    mode_t mode = 0600;
};

Result<Fd> open_home(const Account& account) {
    Fd home(::open(account.home.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat about {};
    if (!home || ::fstat(home.get(), &about) < 0)
        return fail_errno(errno, "home {} of {}", printable(account.home), account.name);
    if (about.st_uid != account.uid)
        return fail(ErrorKind::denied, "home {} is not {}'s", printable(account.home),
                    account.name);
    return home;
}

Result<Keys> open_keys(const Fd& home, const Account& account) {
    Keys keys;
    keys.folder = Fd(::openat(home.get(), ".ssh", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat about {};
    if (!keys.folder) {
        if (errno == ENOENT)
            return keys;
        return fail_errno(errno, "{}/.ssh", printable(account.home));
    }
    if (::fstat(keys.folder.get(), &about) < 0 || about.st_uid != account.uid)
        return fail(ErrorKind::invalid, "{}/.ssh is not {}'s", printable(account.home),
                    account.name);
    Fd file(::openat(keys.folder.get(), "authorized_keys",
                     O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file) {
        if (errno == ENOENT)
            return keys;
        return fail_errno(errno, "{}/.ssh/authorized_keys", printable(account.home));
    }
    if (::fstat(file.get(), &about) < 0 || !S_ISREG(about.st_mode) || about.st_size < 0 ||
        static_cast<std::size_t>(about.st_size) > max_keys_bytes)
        return fail(ErrorKind::invalid, "{}/.ssh/authorized_keys is no file of keys",
                    printable(account.home));
    keys.mode = about.st_mode & 0700;
    char buffer[65536];
    while (keys.text.size() <= max_keys_bytes) {
        auto count = ::read(file.get(), buffer, sizeof(buffer));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "{}/.ssh/authorized_keys", printable(account.home));
        if (count == 0)
            break;
        keys.text.append(buffer, static_cast<std::size_t>(count));
    }
    return keys;
}

bool has(std::string_view text, const SshKey& key) {
    while (!text.empty()) {
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        if (!line.starts_with('#') && line.find(key.base64) != std::string_view::npos)
            return true;
    }
    return false;
}

} // namespace

Result<void> write_all(const Fd& file, std::string_view text, const std::string& path) {
    while (!text.empty()) {
        auto count = ::write(file.get(), text.data(), text.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "write {}", printable(path));
        text.remove_prefix(static_cast<std::size_t>(count));
    }
    return {};
}

Result<std::optional<Account>> find_account(const std::string& name) {
    auto table = TRY(open_table("/etc/passwd"));
    while (const auto* entry = ::fgetpwent(table.get()))
        if (name == entry->pw_name)
            return Account{name, entry->pw_uid, entry->pw_gid, entry->pw_dir};
    return std::nullopt;
}

Result<bool> find_group(const std::string& group) {
    auto table = TRY(open_table("/etc/group"));
    while (const auto* entry = ::fgetgrent(table.get()))
        if (group == entry->gr_name)
            return true;
    return false;
}

Result<bool> find_member(const Account& account, const std::string& group) {
    auto table = TRY(open_table("/etc/group"));
    while (const auto* entry = ::fgetgrent(table.get())) {
        if (group != entry->gr_name)
            continue;
        if (entry->gr_gid == account.gid)
            return true;
        for (char** member = entry->gr_mem; *member; ++member)
            if (account.name == *member)
                return true;
    }
    return false;
}

Result<void> run(const std::vector<std::string>& words) {
    std::vector<char*> arguments;
    for (const auto& word : words)
        arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    char path[] = "PATH=/usr/sbin:/sbin:/usr/bin:/bin", language[] = "LC_ALL=C";
    char* environment[] = {path, language, nullptr};
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    pid_t pid = 0;
    int problem = ENOENT;
    for (const char* folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}) {
        auto program = folder + words[0];
        problem =
            ::posix_spawn(&pid, program.c_str(), &files, nullptr, arguments.data(), environment);
        if (problem != ENOENT)
            break;
    }
    ::posix_spawn_file_actions_destroy(&files);
    if (problem != 0)
        return fail_errno(problem, "{}", words[0]);
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return fail_errno(errno, "{}", words[0]);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return fail(ErrorKind::io, "{} {}: failed{}", words[0], words.back(),
                    WIFEXITED(status) ? fmt::format(" with status {}", WEXITSTATUS(status)) : "");
    return {};
}

std::string comment_of(std::string_view person) {
    constexpr std::size_t max_bytes = 100;
    std::string out;
    for (char c : person.substr(0, max_bytes))
        if (static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f &&
            std::string_view(":,&=\"\\").find(c) == std::string_view::npos)
            out += c;
    return out;
}

Result<bool> has_authorized_key(const Account& account, const SshKey& key) {
    auto home = TRY(open_home(account));
    return has(TRY(open_keys(home, account)).text, key);
}

Result<void> add_authorized_key(const Account& account, const SshKey& key) {
    auto home = TRY(open_home(account));
    auto keys = TRY(open_keys(home, account));
    if (has(keys.text, key))
        return {};
    auto give = [&](const Fd& file, mode_t mode) -> Result<void> {
        if (::fchown(file.get(), account.uid, account.gid) < 0 || ::fchmod(file.get(), mode) < 0)
            return fail_errno(errno, "give {}/.ssh to its owner", printable(account.home));
        return {};
    };
    if (!keys.folder) {
        if (::mkdirat(home.get(), ".ssh", 0700) < 0)
            return fail_errno(errno, "make {}/.ssh", printable(account.home));
        keys.folder =
            Fd(::openat(home.get(), ".ssh", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        struct stat about {};
        // One that they put there meanwhile is not given away.
        if (!keys.folder || ::fstat(keys.folder.get(), &about) < 0 || about.st_uid != ::geteuid())
            return fail(ErrorKind::denied, "{}/.ssh is not the one that was made",
                        printable(account.home));
        TRY(give(keys.folder, 0700));
    }
    constexpr const char* beside = ".authorized_keys.vmhost";
    ::unlinkat(keys.folder.get(), beside, 0);
    Fd file(::openat(keys.folder.get(), beside,
                     O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file)
        return fail_errno(errno, "{}/.ssh/{}", printable(account.home), beside);
    if (!keys.text.empty() && !keys.text.ends_with('\n'))
        keys.text += '\n';
    keys.text += key.text() + "\n";
    TRY(write_all(file, keys.text, account.home + "/.ssh/authorized_keys"));
    TRY(give(file, keys.mode));
    if (::fsync(file.get()) < 0 ||
        ::renameat(keys.folder.get(), beside, keys.folder.get(), "authorized_keys") < 0)
        return fail_errno(errno, "replace {}/.ssh/authorized_keys", printable(account.home));
    return {};
}

} // namespace vmhost::deploy
