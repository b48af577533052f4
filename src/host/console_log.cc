#include "host/console_log.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vmhost::host {

namespace {
constexpr std::uint64_t window_ms = 1000;
constexpr std::size_t piece_bytes = 64 << 10;
} // namespace

Result<std::unique_ptr<ConsoleLog>> ConsoleLog::open(Loop& loop, const ipc::SharedRingReader& ring,
                                                     Plan plan) {
    auto what = fmt::format("console log {}", printable(plan.path));
    auto slash = plan.path.rfind('/');
    auto folder_path =
        slash == std::string::npos ? std::string(".") : plan.path.substr(0, slash + 1);
    Fd folder(::open(folder_path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder)
        return fail_errno(errno, "{}: folder {}", what, printable(folder_path));
    auto bell = plan.bell ? std::move(plan.bell) : Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!bell)
        return fail_errno(errno, "{}: eventfd", what);
    auto name = slash == std::string::npos ? plan.path : plan.path.substr(slash + 1);
    std::unique_ptr<ConsoleLog> made(new ConsoleLog(loop, ring, std::move(plan), std::move(bell),
                                                    std::move(folder), std::move(name)));
    if (auto opened = made->open_file(); !opened)
        return std::unexpected(std::move(opened).error().in(what));
    made->position_ = ring.kept_position();
    return made;
}

ConsoleLog::ConsoleLog(Loop& loop, const ipc::SharedRingReader& ring, Plan plan, Fd bell, Fd folder,
                       std::string name)
    : loop_(loop), ring_(ring), plan_(std::move(plan)), bell_(std::move(bell)),
      folder_(std::move(folder)), name_(std::move(name)), next_window_(loop, [this] { copy(); }),
      watch_(loop, bell_.get(), [this](Watch::Ready) { rang(); }) {
    watch_.set(true, false);
}

// O_NONBLOCK: a pipe that somebody left there must not make the parent wait.
Result<void> ConsoleLog::open_file() {
    file_ = Fd(::openat(folder_.get(), name_.c_str(),
                        O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0640));
    struct stat about {};
    if (!file_ || ::fstat(file_.get(), &about) < 0)
        return fail_errno(errno, "open");
    if (!S_ISREG(about.st_mode)) {
        file_.reset();
        return fail(ErrorKind::invalid, "not a regular file");
    }
    size_bytes_ = static_cast<std::uint64_t>(about.st_size);
    return {};
}

void ConsoleLog::rang() {
    std::uint64_t count = 0;
    if (::read(bell_.get(), &count, sizeof count) == sizeof count && !next_window_.active())
        copy();
}

void ConsoleLog::copy() {
    auto now_ms = loop_.now_ms();
    if (now_ms - window_start_ms_ >= window_ms) {
        window_start_ms_ = now_ms;
        window_bytes_ = 0;
    }
    for (;;) {
        auto left = plan_.bytes_per_s - std::min(window_bytes_, plan_.bytes_per_s);
        if (left == 0) {
            next_window_.start(std::chrono::milliseconds(window_ms - (now_ms - window_start_ms_)));
            return;
        }
        lost_bytes_ += ring_.read(position_, std::min<std::uint64_t>(left, piece_bytes), buffer_);
        if (buffer_.empty())
            return;
        ring_.keep_position(position_);
        if (lost_bytes_ != 0) {
            auto text = fmt::format("\r\n[vmhost: {} bytes of output were dropped]\r\n",
                                    std::exchange(lost_bytes_, 0));
            write(as_bytes(text));
        }
        window_bytes_ += buffer_.size();
        write(buffer_);
    }
}

void ConsoleLog::finish() {
    watch_.set(false, false);
    next_window_.stop();
    window_bytes_ = 0;
    copy();
    next_window_.stop();
}

// What cannot be written is lost, as on a full paper tray.
void ConsoleLog::write(Bytes bytes) {
    if (size_bytes_ != 0 && size_bytes_ + bytes.size() > plan_.file_bytes)
        rotate();
    while (file_ && !bytes.empty()) {
        auto count = ::write(file_.get(), bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            lost_bytes_ += bytes.size();
            if (!std::exchange(failure_logged_, true))
                log::error("host", "console log {}: {}; further failures are not told",
                           printable(plan_.path), Error::system(errno, "write").text());
            return;
        }
        size_bytes_ += static_cast<std::uint64_t>(count);
        bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
}

void ConsoleLog::rotate() {
    auto numbered = [this](unsigned number) {
        return number == 0 ? name_ : fmt::format("{}.{}", name_, number);
    };
    for (unsigned number = plan_.files - 1; number > 0; --number)
        (void)::renameat(folder_.get(), numbered(number - 1).c_str(), folder_.get(),
                         numbered(number).c_str());
    if (plan_.files == 1)
        (void)::unlinkat(folder_.get(), name_.c_str(), 0);
    file_.reset();
    size_bytes_ = 0;
    if (auto opened = open_file(); !opened && !std::exchange(failure_logged_, true))
        log::error("host", "console log {}: {}", printable(plan_.path), opened.error().text());
}

} // namespace vmhost::host
