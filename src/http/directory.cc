#include "http/directory.h"

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <memory>
#include <sys/syscall.h>

namespace vmhost::http {

namespace {

Result<Fd> open_file(const Fd& directory, const std::string& name, int flags) {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    // Again when a rename went on meanwhile, as openat2(2) has it.
    for (int attempt = 0; attempt < 3; ++attempt) {
        Fd file(static_cast<int>(
            ::syscall(SYS_openat2, directory.get(), name.c_str(), &how, sizeof(how))));
        if (file)
            return file;
        if (errno != EAGAIN)
            break;
    }
    switch (errno) {
    case EXDEV: // it leads out of the directory
    case ELOOP:
    case ENOTDIR:
    case ENAMETOOLONG:
        return fail_errno(ENOENT, "open");
    case ENXIO: // a socket
        return fail_errno(EACCES, "open");
    default:
        return fail_errno(errno, "open");
    }
}

bool is_listed(std::string_view name) {
    return !name.starts_with('.') && std::ranges::all_of(name, [](char c) {
        return static_cast<unsigned char>(c) > ' ' && c != 0x7f;
    });
}

std::string mode_text(mode_t mode) {
    std::string text = S_ISDIR(mode) ? "d" : "-";
    constexpr std::string_view letters = "rwxrwxrwx";
    for (std::size_t bit = 0; bit < letters.size(); ++bit)
        text += (mode >> (letters.size() - 1 - bit)) & 1 ? letters[bit] : '-';
    return text;
}

} // namespace

std::string list_line(std::string_view name, const struct stat& status) {
    static constexpr const char* month_names[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                  "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    tm time{};
    ::gmtime_r(&status.st_mtime, &time);
    return fmt::format("{} {:2} root  wheel  {:>10} {} {:2} {:02}:{:02}:{:02} {} {}\n",
                       mode_text(status.st_mode), status.st_nlink, status.st_size,
                       month_names[static_cast<std::size_t>(time.tm_mon)], time.tm_mday,
                       time.tm_hour, time.tm_min, time.tm_sec, time.tm_year + 1900, name);
}

Result<Opened> open_beneath(const Fd& directory, std::string_view name) {
    Opened opened;
    // A FIFO does not make us wait, and is refused below.
    const auto path = name.empty() ? "." : std::string(name);
    auto file = open_file(directory, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (!file && file.error().kind() == ErrorKind::denied)
        if (auto searched = open_file(directory, path, O_PATH | O_DIRECTORY))
            file = std::move(searched);
    opened.fd = TRY(std::move(file));
    if (::fstat(opened.fd.get(), &opened.status) < 0)
        return fail_errno(errno, "look at it");
    if (!S_ISREG(opened.status.st_mode) && !S_ISDIR(opened.status.st_mode))
        return fail(ErrorKind::denied, "neither a file nor a directory");
    return opened;
}

Result<std::string> list_directory(const Fd& readable_directory) {
    if ((::fcntl(readable_directory.get(), F_GETFL) & O_PATH) != 0)
        return fail(ErrorKind::denied, "list");
    auto copy = TRY(readable_directory.duplicate());
    std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(copy.get()), ::closedir);
    if (!stream)
        return fail_errno(errno, "list");
    (void)copy.release(); // closedir closes it
    ::rewinddir(stream.get());
    std::vector<std::pair<std::string, std::string>> lines; // by name
    std::size_t count = 0;
    while (const auto* entry = ::readdir(stream.get())) {
        if (++count > limits::max_http_listed_files)
            return fail(ErrorKind::limit, "more than {} names", limits::max_http_listed_files);
        std::string name = entry->d_name;
        if (!is_listed(name))
            continue;
        auto file = open_file(readable_directory, name, O_PATH);
        struct stat status {};
        if (!file || ::fstat(file->get(), &status) < 0 ||
            (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)))
            continue;
        auto line = list_line(name, status);
        lines.emplace_back(std::move(name), std::move(line));
    }
    std::ranges::sort(lines);
    std::string text;
    for (const auto& [name, line] : lines)
        text += line;
    return text;
}

} // namespace vmhost::http
