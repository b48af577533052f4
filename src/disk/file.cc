// Opening and locking image files; the parent's part of a disk.
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>

#include "disk/disk.h"

namespace vmhost::disk {

Result<Fd> open_image(const std::string& path, bool read_only) {
    // O_NONBLOCK: opening a pipe that somebody left there must not wait; it means nothing to
    // the regular file that we accept.
    int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    Fd fd(::open(path.c_str(), flags));
    if (!fd)
        return fail_errno(errno, "image {}: open", path);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0)
        return fail_errno(errno, "image {}: stat", path);
    if (!S_ISREG(status.st_mode))
        return fail(ErrorKind::invalid, "image {}: not a regular file", path);
    return fd;
}

Result<void> lock_image(const Fd& fd, bool read_only, const std::string& name) {
    struct flock lock {};
    lock.l_type = static_cast<short>(read_only ? F_RDLCK : F_WRLCK);
    lock.l_whence = SEEK_SET; // l_start = l_len = 0: the whole file, however it grows
    while (::fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == EACCES)
            return fail(ErrorKind::busy, "image {} is in use by another process", name);
        return fail_errno(errno, "image {}: lock", name);
    }
    return {};
}

} // namespace vmhost::disk
