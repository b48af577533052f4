#include "tftp/files.h"

#include <cerrno>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vmhost::tftp {

namespace {

bool is_name(std::string_view name) {
    if (name.empty() || name.size() > limits::max_tftp_name_bytes)
        return false;
    bool fresh = true; // at the beginning of a component
    for (char c : name) {
        if (c < ' ' || c > '~' || c == '\\' || (fresh && (c == '.' || c == '/')))
            return false;
        fresh = c == '/';
    }
    return !fresh;
}

} // namespace

Result<File> open_file(const Fd& directory, std::string_view name) {
    while (name.starts_with('/'))
        name.remove_prefix(1);
    if (!is_name(name))
        return fail(ErrorKind::not_found, "no such file name is served");
    open_how how{};
    // A FIFO does not make us wait, and is refused below.
    how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    File file;
    // Again when a rename went on meanwhile, as openat2(2) has it.
    for (int attempt = 0; attempt < 3 && !file.fd; ++attempt) {
        file.fd = Fd(static_cast<int>(
            ::syscall(SYS_openat2, directory.get(), std::string(name).c_str(), &how, sizeof(how))));
        if (!file.fd && errno != EAGAIN)
            break;
    }
    if (!file.fd)
        return fail_errno(errno == EXDEV || errno == ELOOP ? ENOENT : errno, "open");
    struct stat status {};
    if (::fstat(file.fd.get(), &status) < 0)
        return fail_errno(errno, "look at it");
    if (!S_ISREG(status.st_mode))
        return fail(ErrorKind::not_found, "not a regular file");
    file.size_bytes = static_cast<std::uint64_t>(status.st_size);
    return file;
}

Result<std::size_t> read_at(const Fd& file, std::uint64_t offset, MutableBytes into) {
    std::size_t got = 0;
    while (got < into.size()) {
        auto count = ::pread(file.get(), into.data() + got, into.size() - got,
                             static_cast<off_t>(offset + got));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "read");
        if (count == 0)
            break;
        got += static_cast<std::size_t>(count);
    }
    return got;
}

} // namespace vmhost::tftp
