// Its standard input is a file in memory: it reads when it likes, and nobody waits for it there.
#include "deploy/publish.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "deploy/accounts.h"

namespace vmhost::deploy {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int look_interval_ms = 20;
constexpr std::size_t max_words_bytes = 4096; // of its standard error, that are kept
constexpr std::size_t max_told_letters = 200;

// RFC 1035 §2.3.4, and underscores as the DNS has them.
bool is_dns_name(std::string_view name) {
    if (name.size() > 254)
        return false;
    if (name.ends_with('.'))
        name.remove_suffix(1);
    for (bool more = true; more;) {
        auto label = name.substr(0, name.find('.'));
        more = label.size() < name.size();
        name.remove_prefix(more ? label.size() + 1 : label.size());
        if (label.empty() || label.size() > 63 || label.starts_with('-') ||
            !std::ranges::all_of(label, [](char c) {
                return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_';
            }))
            return false;
    }
    return true;
}

Result<void> check_program(const std::string& program) {
    struct stat about {};
    if (::stat(program.c_str(), &about) < 0)
        return fail_errno(errno, "{}", printable(program));
    if (!S_ISREG(about.st_mode))
        return fail(ErrorKind::invalid, "{}: is no program", printable(program));
    if ((about.st_mode & 022) != 0 || (about.st_uid != 0 && about.st_uid != ::geteuid()))
        return fail(ErrorKind::denied, "{}: others could have written it: it must be root's alone",
                    printable(program));
    return {};
}

Result<Fd> file_of(std::string_view text) {
    Fd file(::memfd_create("records", MFD_CLOEXEC));
    if (!file)
        return fail_errno(errno, "make a file in memory");
    TRY(write_all(file, text, "records"));
    if (::lseek(file.get(), 0, SEEK_SET) < 0)
        return fail_errno(errno, "rewind a file in memory");
    return file;
}

struct Started {
    pid_t pid = 0; // leads a process group of its own
    Fd words;      // its standard error
};

Result<Started> start(const std::string& program, Publish what, const std::string& name,
                      const Fd& records) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return fail_errno(errno, "make a pipe");
    Started started{0, Fd(ends[0])};
    Fd write_end(ends[1]);
    std::string path = program, verb = what == Publish::update ? "update" : "delete", of = name;
    char* arguments[] = {path.data(), verb.data(), of.data(), nullptr};
    char search[] = "PATH=/usr/sbin:/sbin:/usr/bin:/bin", language[] = "LC_ALL=C";
    char* environment[] = {search, language, nullptr};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawnattr_init(&how);
    ::posix_spawn_file_actions_adddup2(&files, records.get(), STDIN_FILENO);
    ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_adddup2(&files, write_end.get(), STDERR_FILENO);
    sigset_t all, none;
    ::sigfillset(&all);
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigdefault(&how, &all);
    ::posix_spawnattr_setsigmask(&how, &none);
    ::posix_spawnattr_setpgroup(&how, 0);
    ::posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
                                         POSIX_SPAWN_SETSIGMASK);
    const int problem =
        ::posix_spawn(&started.pid, path.c_str(), &files, &how, arguments, environment);
    ::posix_spawn_file_actions_destroy(&files);
    ::posix_spawnattr_destroy(&how);
    if (problem != 0)
        return fail_errno(problem, "{}", printable(program));
    return started;
}

void hear(const Started& started, std::string& words) {
    char buffer[4096];
    // Not for ever: it may write faster than this reads, and has its time.
    constexpr int max_reads = 16;
    ssize_t count = 0;
    for (int i = 0;
         i < max_reads && (count = ::read(started.words.get(), buffer, sizeof(buffer))) > 0; ++i)
        words.append(buffer, std::min(static_cast<std::size_t>(count),
                                      max_words_bytes - std::min(words.size(), max_words_bytes)));
}

} // namespace

Result<void> publish_records(const std::string& program, Publish what, const std::string& name,
                             std::string_view records, std::chrono::milliseconds time_limit) {
    if (!is_dns_name(name))
        return fail(ErrorKind::invalid, "\"{}\" is no name of the DNS", printable(name, 80));
    TRY(check_program(program));
    auto input = TRY(file_of(records));
    auto started = TRY(start(program, what, name, input));
    const auto end = Clock::now() + time_limit;
    std::string words;
    int status = 0;
    // Its end counts, not that of what it may have left behind with the same standard error.
    for (pid_t ended = 0; ended == 0;) {
        pollfd ready{started.words.get(), POLLIN, 0};
        ::poll(&ready, 1, look_interval_ms);
        if (ready.revents & POLLHUP) // closed, and not ended yet
            ::poll(nullptr, 0, look_interval_ms);
        hear(started, words);
        ended = ::waitpid(started.pid, &status, WNOHANG);
        if (ended < 0 && errno != EINTR)
            return fail_errno(errno, "{}", printable(program));
        if (ended < 0)
            ended = 0;
        if (ended == 0 && Clock::now() >= end) {
            ::kill(-started.pid, SIGKILL);
            ::waitpid(started.pid, &status, 0);
            return fail(ErrorKind::io, "{}: did not end within {}, and was ended",
                        printable(program), format_duration(time_limit));
        }
    }
    hear(started, words);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return {};
    auto line = printable(words.substr(0, words.find('\n')), max_told_letters);
    return fail(ErrorKind::io, "{}: ended {}{}{}", printable(program),
                WIFEXITED(status) ? fmt::format("with status {}", WEXITSTATUS(status))
                                  : fmt::format("by signal {}", WTERMSIG(status)),
                line.empty() ? "" : ": ", line);
}

} // namespace vmhost::deploy
