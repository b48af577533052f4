#include "host/files.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vmhost::host {

namespace {

Fd open_without_links(const std::string& path, int flags, mode_t mode) {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags);
    how.mode = mode;
    how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    return Fd(static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof(how))));
}

// Only an owner who is root may lead through links. doing ends the text of an error.
Result<Fd> open_for(uid_t owner, const std::string& path, int flags, mode_t mode, const char* what,
                    const char* doing) {
    Fd file =
        owner == 0 ? Fd(::open(path.c_str(), flags, mode)) : open_without_links(path, flags, mode);
    if (!file && errno == ELOOP && owner != 0)
        return fail(ErrorKind::denied,
                    "{} {}: a symbolic link is on the way, and the VM's owner is not root", what,
                    printable(path));
    if (!file)
        return fail_errno(errno, "{} {}{}", what, printable(path), doing);
    return file;
}

} // namespace

Result<Fd> open_file_of(uid_t owner, const std::string& path, int flags, const char* what) {
    // O_NONBLOCK: a pipe that somebody left there must not make the parent wait.
    flags |= O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    auto file = TRY(open_for(owner, path, flags, 0, what, ""));
    struct stat about {};
    if (::fstat(file.get(), &about) < 0)
        return fail_errno(errno, "{} {}", what, printable(path));
    if (!S_ISREG(about.st_mode))
        return fail(ErrorKind::invalid, "{} {} is not a regular file", what, printable(path));
    if (owner != 0 && ((about.st_uid != 0 && about.st_uid != owner) || about.st_nlink != 1))
        return fail(ErrorKind::denied,
                    "{} {} must belong to the VM's owner or root and have no second name", what,
                    printable(path));
    return file;
}

Result<void> check_file_of_caller(const Fd& file, const char* what) {
    struct stat about {};
    const int flags = ::fcntl(file.get(), F_GETFL);
    if (flags < 0 || ::fstat(file.get(), &about) < 0)
        return fail_errno(errno, "{}: the descriptor passed", what);
    if (!S_ISREG(about.st_mode))
        return fail(ErrorKind::invalid, "{}: not a regular file", what);
    if ((flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_WRONLY)
        return fail(ErrorKind::denied, "{}: not opened for reading", what);
    return {};
}

Result<Fd> open_again(const Fd& file, int mode, const char* what) {
    TRY(check_file_of_caller(file, what));
    if (mode == O_RDWR && (::fcntl(file.get(), F_GETFL) & O_ACCMODE) != O_RDWR)
        return fail(ErrorKind::denied, "{}: not opened for reading and writing", what);
    auto path = fmt::format("/proc/self/fd/{}", file.get());
    // Without waiting: the client may hold a lease on it (F_SETLEASE in fcntl(2)).
    Fd again(::open(path.c_str(), mode | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (!again)
        return fail_errno(errno, "{}: open the file of a descriptor", what);
    return again;
}

Result<Fd> create_file_of(uid_t owner, const std::string& path, const char* what) {
    return open_for(owner, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, what, ": create");
}

namespace {

constexpr std::string_view beside = ".new";

struct NamedIn {
    Fd folder; // O_PATH
    std::string name;
};
Result<NamedIn> open_folder_of(uid_t owner, const std::string& path, const char* what) {
    const auto slash = path.rfind('/');
    const auto way = slash == std::string::npos ? std::string(".") : path.substr(0, slash + 1);
    auto name = slash == std::string::npos ? path : path.substr(slash + 1);
    return NamedIn{TRY(open_for(owner, way, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, what, ": create")),
                   std::move(name)};
}

} // namespace

Result<NewFileOf> NewFileOf::create_beside(uid_t owner, const std::string& path, const char* what) {
    auto at = TRY(open_folder_of(owner, path, what));
    auto name = at.name + std::string(beside);
    if (::unlinkat(at.folder.get(), name.c_str(), 0) < 0 && errno != ENOENT)
        return fail_errno(errno, "{} {}{}: remove", what, printable(path), beside);
    return create(owner, path + std::string(beside), what);
}

Result<NewFileOf> NewFileOf::create(uid_t owner, const std::string& path, const char* what) {
    auto [folder, name] = TRY(open_folder_of(owner, path, what));
    struct stat about {};
    if (::fstatat(folder.get(), name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0)
        return fail_errno(EEXIST, "{} {}: create", what, printable(path));
    Fd file(::openat(folder.get(), ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
    const bool named = !file;
    // EISDIR: a kernel or filesystem that knows no such files takes the flag for O_DIRECTORY.
    if (named && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
        file =
            Fd(::openat(folder.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file)
        return fail_errno(errno, "{} {}: create", what, printable(path));
    return NewFileOf(std::move(folder), std::move(name), named, std::move(file));
}

NewFileOf::~NewFileOf() {
    if (named_)
        ::unlinkat(folder_.get(), name_.c_str(), 0);
}

Result<void> NewFileOf::keep() {
    if (std::exchange(named_, false))
        return {};
    const auto open_file = fmt::format("/proc/self/fd/{}", file_.get());
    if (::linkat(AT_FDCWD, open_file.c_str(), folder_.get(), name_.c_str(), AT_SYMLINK_FOLLOW) == 0)
        return {};
    // Without /proc; wants CAP_DAC_READ_SEARCH.
    if (errno == ENOENT &&
        ::linkat(file_.get(), "", folder_.get(), name_.c_str(), AT_EMPTY_PATH) == 0)
        return {};
    return fail_errno(errno, "{}: create", printable(name_));
}

Result<void> NewFileOf::prepare() {
    if (::fsync(file_.get()) < 0)
        return fail_errno(errno, "{}: sync", printable(name_));
    TRY(keep());
    named_ = true; // until it is in its place
    return {};
}

Result<void> NewFileOf::replace() {
    const auto other = name_.substr(0, name_.size() - beside.size());
    if (::renameat(folder_.get(), name_.c_str(), folder_.get(), other.c_str()) < 0)
        return fail_errno(errno, "{}: replace", printable(other));
    named_ = false;
    Fd folder(::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder || ::fsync(folder.get()) < 0)
        return fail_errno(errno, "{}: sync its folder", printable(other));
    return {};
}

Result<std::string> read_small_file(const std::string& path, std::size_t max_bytes,
                                    const char* what) {
    auto file = TRY(open_file_of(0, path, O_RDONLY, what));
    // Small as a rule, however much is allowed.
    constexpr std::size_t piece_bytes = 16 << 10;
    std::string text;
    std::size_t have = 0;
    while (have <= max_bytes) {
        text.resize(std::min(have + piece_bytes, max_bytes + 1));
        auto count = ::read(file.get(), text.data() + have, text.size() - have);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "{} {}", what, printable(path));
        if (count == 0)
            break;
        have += static_cast<std::size_t>(count);
    }
    if (have > max_bytes)
        return fail(ErrorKind::limit, "{} {} has more than {}", what, printable(path),
                    format_size(max_bytes));
    text.resize(have);
    return text;
}

} // namespace vmhost::host
