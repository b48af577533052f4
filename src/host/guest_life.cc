// How a guest comes and goes: start, pause, the ways to stop, its end, and being started
// again. What is opened for it is in guest.cc.
#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/guest.h"
#include "host/install_watch.h"

namespace vmhost::host {

using namespace std::chrono_literals;

namespace {

// After the end of the time that a guest was given, and for a process to obey.
constexpr auto kill_delay = 5s;

// The lines of a text, printable, the empty ones left out; the last `most` of them.
std::vector<std::string> last_lines_of(Bytes text, std::size_t most) {
    std::vector<std::string> lines;
    std::string line;
    auto end_line = [&] {
        if (!line.empty())
            lines.push_back(printable(std::exchange(line, {}), 200));
    };
    for (auto byte : text) {
        if (byte == '\n' || byte == '\r')
            end_line();
        else
            line += static_cast<char>(byte);
    }
    end_line();
    if (lines.size() > most)
        lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(most));
    return lines;
}

} // namespace

std::string Guest::console_log_path() const {
    const auto& wanted = vm_.console_log.path;
    return path_of(wanted.empty() ? "console/" + vm_.name + ".log" : wanted);
}

Result<void> Guest::open_consoles(ipc::VmSetup& setup) {
    auto path = console_log_path();
    if (vm_.console_log.enabled && vm_.console_log.path.empty()) {
        context_.ground->changing("make the folder of consoles");
        (void)::mkdir(path_of("console").c_str(), 0750);
    }
    setup.console = TRY(open_console(console_, path));
    if (vm_.virtio_console)
        setup.virtio_console = TRY(open_console(virtio_console_, path + ".virtio"));
    return {};
}

Result<ipc::VmConsole> Guest::open_console(ConsoleOutput& console, const std::string& log_path) {
    console.log.reset();
    console.ring = TRY(ipc::SharedRingReader::create(limits::console_ring_bytes));
    ipc::VmConsole handed;
    handed.ring = TRY(console.ring->memory().duplicate());
    if (!vm_.console_log.enabled)
        return handed;
    TRY(open_log(console, log_path, {}));
    handed.bell = TRY(console.log->bell().duplicate());
    return handed;
}

Result<void> Guest::open_log(ConsoleOutput& console, const std::string& log_path, Fd bell) {
    const auto& wanted = vm_.console_log;
    console.log = TRY(ConsoleLog::open(*context_.loop, *console.ring,
                                       {.path = log_path,
                                        .file_bytes = wanted.size_bytes,
                                        .files = wanted.count,
                                        .bytes_per_s = wanted.bytes_per_s,
                                        .bell = std::move(bell)}));
    return {};
}

Result<Guest::ConsoleFiles> Guest::console_log(bool virtio) const {
    const auto& wanted = vm_.console_log;
    const auto& console = virtio ? virtio_console_ : console_;
    ConsoleFiles found{.kept = wanted.enabled};
    if (!wanted.enabled) {
        if (!console.ring)
            return fail(ErrorKind::not_found, "vm {}: no console log is kept of it{}", vm_.name,
                        process_ ? "" : ", and it is not running");
        auto text = console.ring->tail(limits::console_ring_bytes);
        Fd copy(::memfd_create("console", MFD_CLOEXEC));
        if (!copy ||
            ::pwrite(copy.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
            return fail_errno(errno, "vm {}: copy its console", vm_.name);
        found.files.push_back(std::move(copy));
        return found;
    }
    auto path = console_log_path();
    if (virtio)
        path += ".virtio";
    for (unsigned number = wanted.count; number-- > 0;) {
        auto numbered = number == 0 ? path : fmt::format("{}.{}", path, number);
        Fd file(::open(numbered.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
        struct stat about {};
        if (file && ::fstat(file.get(), &about) == 0 && S_ISREG(about.st_mode))
            found.files.push_back(std::move(file));
    }
    return found;
}

void Guest::read_console(std::uint64_t& position, std::size_t most,
                         std::vector<std::uint8_t>& into) const {
    if (console_.ring)
        (void)console_.ring->read(position, most, into);
}

std::vector<std::string> Guest::console_lines() const {
    if (!console_.ring)
        return {};
    return last_lines_of(console_.ring->tail(limits::console_last_bytes),
                         limits::console_last_lines);
}

Result<void> Guest::make_cgroup() {
    CgroupLimits limits{vm_.cpu_weight, vm_.cpu_limit_pct, vm_.memory_limit_bytes};
    if (!limits.any())
        return {};
    std::vector<std::string> missing;
    cgroup_ =
        TRY(Cgroup::make(context_.cgroups, context_.cgroup_folder, vm_.name, limits, missing));
    static bool told = false; // once for all VMs of this host
    if (!missing.empty() && !std::exchange(told, true))
        log::warning("host",
                     "this host has no control groups for {}: such limits of VMs are ignored",
                     fmt::join(missing, " and "));
    return {};
}

void Guest::start(Done done, StartOnce once) {
    if (process_ || starting_) {
        done(fail(ErrorKind::busy, "vm {} is already {}", vm_.name, name_of(state_)));
        return;
    }
    restart_timer_.stop();
    restarts_.begin_anew();
    automatic_ = false;
    launch(std::move(done), std::move(once));
}

void Guest::launch(Done done, StartOnce once) {
    state_ = GuestState::starting;
    starting_ = std::move(done);
    stop_requested_ = failed_ = told_end_ = false;
    start_error_.reset();
    if (!automatic_) { // else why it ended before is still worth knowing
        note_.clear();
        last_lines_.clear();
    }
    reboots_ = 0;
    counted_ = {};
    lease.reset();
    in_installer_ = false;
    auto setup = open_everything(std::move(once));
    if (!setup) {
        finish_start(std::unexpected(std::move(setup).error()));
        return;
    }
    keep_stopped_ = false;
    if (context_.running != nullptr) {
        if (auto listener = context_.running->listen(vm_.name))
            setup->listener = std::move(*listener);
        else
            log::warning("host", "vm {} will end with this vmhost: {}", vm_.name,
                         listener.error().message());
    }
    auto process = context_.ground->start_role(
        *context_.loop, {.role = "vm", .title = fmt::format("vm/{}", vm_.name), .user = user_},
        {.frame = [this](ipc::Frame&& frame) { took_frame(std::move(frame)); },
         .ended = [this](std::string how) { process_ended(std::move(how)); }});
    if (!process) {
        finish_start(std::unexpected(blame(std::move(process).error(), vm_.place)));
        return;
    }
    process_ = std::move(*process);
    // Before it has any memory of the guest's.
    if (auto limited = cgroup_.add(process_->pid()); !limited) {
        start_error_ = blame(std::move(limited).error(), vm_.place);
        process_->kill();
        return;
    }
    if (setup->listener)
        keep_record();
    process_->send(std::move(*setup));
}

void Guest::finish_start(Result<void> result) {
    const bool started = result.has_value();
    if (!started) {
        state_ = GuestState::stopped;
        note_ = result.error().text();
        tell(stop_requested_ ? "stopped" : "failed", note_);
        if (snapshots_)
            forget_snapshot();
        remove_taps();
        console_.close();
        virtio_console_.close();
        cgroup_ = {};
        if (context_.running != nullptr)
            context_.running->remove(vm_.name);
    } else {
        state_ = GuestState::running;
        started_ms_ = context_.loop->now_ms();
        heartbeat_.start(model_.host.answer_timeout);
        log::notice("host", "vm {} started, id {}, pid {}", vm_.name, id_, process_->pid());
        tell("started", fmt::format("id {}, pid {}", id_, process_->pid()));
        // Whoever installed it may have stopped it instead of letting it reboot.
        if (context_.installs != nullptr && !in_installer_)
            context_.installs->reached(*this, install::Phase::rebooted);
    }
    if (auto done = std::exchange(starting_, nullptr))
        done(std::move(result));
    if (!started && automatic_)
        restart_if_wanted(true);
    tell_stopped();
}

void Guest::pause(Done done) {
    if (pausing_ || state_ == GuestState::paused)
        return done(fail(ErrorKind::busy, "vm {} is already paused", vm_.name));
    if (state_ != GuestState::running)
        return done(fail(ErrorKind::invalid, "vm {} is not running", vm_.name));
    pausing_ = std::move(done);
    process_->send(ipc::VmPause{});
}

Result<void> Guest::unpause() {
    if (saving_)
        return fail(ErrorKind::busy, "vm {} is being saved", vm_.name);
    if (state_ != GuestState::paused)
        return fail(ErrorKind::invalid, "vm {} is not paused", vm_.name);
    process_->send(ipc::VmUnpause{});
    state_ = GuestState::running;
    log::notice("host", "vm {} unpaused", vm_.name);
    tell("unpaused");
    return {};
}

Result<void> Guest::stop(Stop how, std::function<void()> ended) {
    if (state_ == GuestState::waiting) {
        restart_timer_.stop();
        stop_requested_ = true;
        state_ = GuestState::stopped;
        if (keep_stopped_ && !temporary())
            keep_record();
        if (ended)
            ended();
        tell_stopped();
        return {};
    }
    if (!process_)
        return fail(ErrorKind::invalid, "vm {} is not running", vm_.name);
    if (state_ == GuestState::stopping && how == Stop::orderly)
        return fail_errno(EALREADY, "vm {} is being stopped", vm_.name);
    if (ended)
        TRY(add_waiter(std::move(ended)));
    stop_requested_ = true;
    auto before = std::exchange(state_, GuestState::stopping);
    tell("stopping", how == Stop::force ? "by force" : "");
    if (auto done = std::exchange(pausing_, nullptr))
        done(fail(ErrorKind::busy, "vm {} is being stopped", vm_.name));
    if (before == GuestState::starting) {
        process_->kill(); // busy with the image, and nothing of a guest runs yet
    } else if (how == Stop::force && !answers()) {
        process_->kill(); // it would not hear of it
    } else if (how == Stop::force) {
        process_->send(ipc::VmTerminate{});
        kill_timer_.start(kill_delay);
    } else {
        process_->send(ipc::VmShutdown{static_cast<std::uint64_t>(vm_.stop_answer_timeout.count()),
                                       static_cast<std::uint64_t>(vm_.stop_timeout.count())});
        kill_timer_.start(stop_limit());
    }
    return {};
}

// vmmci may be followed by the button: two times for an answer.
std::chrono::milliseconds Guest::stop_limit() const {
    return 2 * vm_.stop_answer_timeout + vm_.stop_timeout + kill_delay;
}

void Guest::process_ended(std::string how) {
    kill_timer_.stop();
    heartbeat_.stop();
    if (cgroup_.ran_out_of_memory())
        how += ", as it needed more than its memory_limit";
    auto process = std::move(process_); // lives until this call returns
    auto before = state_;
    state_ = GuestState::stopped;
    if (context_.running != nullptr)
        context_.running->remove(vm_.name);
    if (keep_stopped_ && !temporary())
        keep_record();
    remove_taps();
    for (auto* console : {&console_, &virtio_console_})
        if (console->log)
            console->log->finish();
    if (before == GuestState::starting) {
        auto error = start_error_ ? std::move(*start_error_)
                                  : blame(Error(ErrorKind::internal, "its process ended: " + how),
                                          vm_.place);
        finish_start(std::unexpected(std::move(error)));
    } else if (auto done = std::exchange(starting_, nullptr)) {
        done(fail(ErrorKind::busy, "vm {} was stopped while it started", vm_.name));
    } else if (before != GuestState::stopping && !told_end_) {
        failed_ = true;
        note_ = "its process ended: " + how;
        log::error("host", "vm {}: {}", vm_.name, note_);
    }
    if (before != GuestState::starting)
        tell(failed_ ? "crashed" : "stopped", note_);
    if (failed_)
        keep_last_lines();
    console_.close();
    virtio_console_.close();
    cgroup_ = {};
    if (snapshots_)
        forget_snapshot();
    if (auto done = std::exchange(pausing_, nullptr))
        done(fail(ErrorKind::busy, "vm {} ended before it was paused", vm_.name));
    if (auto done = std::exchange(saving_, nullptr))
        done(std::exchange(saved_, false)
                 ? Result<void>()
                 : fail(ErrorKind::busy, "vm {} ended before it was saved", vm_.name));
    if (before != GuestState::starting && !stop_requested_)
        restart_if_wanted(failed_);
    for (auto& done : std::exchange(asked_, {}))
        done(fail(ErrorKind::busy, "vm {} ended meanwhile", vm_.name));
    end_counting();
    end_adopting(fail(ErrorKind::not_found, "vm {} ended without a parent", vm_.name));
    for (auto& ended : std::exchange(waiting_, {}))
        ended();
    tell_stopped();
}

void Guest::keep_last_lines() {
    if (!console_.ring)
        return;
    last_lines_.clear();
    for (auto* console : {&console_, &virtio_console_})
        if (console->ring && last_lines_.empty()) // the serial one's, if it has any
            last_lines_ = last_lines_of(console->ring->tail(limits::console_last_bytes),
                                        limits::console_last_lines);
    for (const auto& line : last_lines_)
        log::notice("host", "vm {}: its console: {}", vm_.name, line);
}

void Guest::restart_if_wanted(bool failed) {
    auto ran_ms = context_.loop->now_ms() - started_ms_;
    auto delay =
        restarts_.after_end(vm_.suspended ? config::Restart::never : vm_.restart, failed, ran_ms);
    if (!delay && restarts_.given_up()) {
        note_ += fmt::format("; it was started again {} times in a row, and no more",
                             limits::max_restarts_in_a_row);
        log::error("host", "vm {}: {}", vm_.name, note_);
        tell("given up", note_);
    }
    if (!delay)
        return;
    state_ = GuestState::waiting;
    log::notice("host", "vm {} is started again in {}", vm_.name, format_duration(*delay));
    tell("restarting", "in " + format_duration(*delay));
    restart_timer_.start(*delay);
}

// Told, and left to whoever knows the guest: it may be slow and not lost.
void Guest::answering(bool answers) {
    if (answers) {
        log::notice("host", "vm {}: its process answers again", vm_.name);
        return tell("answers");
    }
    auto time = format_duration(model_.host.answer_timeout);
    log::error("host", "vm {}: its process has not answered for {}; vmctl stop -f {} ends it",
               vm_.name, time, vm_.name);
    tell("silent", "its process has not answered for " + time);
}

void Guest::count(std::function<void()> done) {
    if (!process_ || state_ == GuestState::starting || !answers())
        return done();
    counting_.push_back(std::move(done));
    if (counting_.size() > 1)
        return;
    process_->send(ipc::VmCount{});
    count_timer_.start(std::chrono::milliseconds(limits::count_timeout_ms));
}

void Guest::end_counting() {
    count_timer_.stop();
    for (auto& done : std::exchange(counting_, {}))
        done();
}

Result<void> Guest::wait(std::function<void()> ended) {
    if (!process_)
        return fail(ErrorKind::invalid, "vm {} is not running", vm_.name);
    return add_waiter(std::move(ended));
}

Result<void> Guest::add_waiter(std::function<void()> ended) {
    if (waiting_.size() >= limits::max_waiters)
        return fail(ErrorKind::limit, "{} others wait for vm {} already", waiting_.size(),
                    vm_.name);
    waiting_.push_back(std::move(ended));
    return {};
}

void Guest::when_gone(std::function<void()> ended) {
    if (process_)
        waiting_.push_back(std::move(ended));
    else
        ended();
}

} // namespace vmhost::host
