#include "disk/new_file.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vmhost::disk {

Result<NewFile> NewFile::create(const std::string& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) == 0)
        return fail_errno(EEXIST, "image {}: create", path);
    auto slash = path.rfind('/');
    auto folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    Fd file(::open(folder.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
    if (file)
        return NewFile(path, false, std::move(file));
    // EISDIR: a kernel or filesystem that knows no such files takes the flag for O_DIRECTORY.
    if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)
        file = Fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file)
        return fail_errno(errno, "image {}: create", path);
    return NewFile(path, true, std::move(file));
}

NewFile::~NewFile() {
    if (named_)
        ::unlink(path_.c_str());
}

Result<void> NewFile::keep() {
    if (std::exchange(named_, false))
        return {};
    auto open_file = fmt::format("/proc/self/fd/{}", file_.get());
    if (::linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) == 0)
        return {};
    // Without /proc; wants CAP_DAC_READ_SEARCH.
    if (errno == ENOENT && ::linkat(file_.get(), "", AT_FDCWD, path_.c_str(), AT_EMPTY_PATH) == 0)
        return {};
    return fail_errno(errno, "image {}: create", path_);
}

} // namespace vmhost::disk
