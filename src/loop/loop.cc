#include "loop/loop.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "loop/virtual_time.h"

namespace vmhost {

struct Loop::Impl {
    uv_loop_t loop{};     // not used with a virtual clock
    unsigned working = 0; // jobs whose done has not run
    std::optional<VirtualClock> clock;
    bool stopped = false; // the virtual one
};

namespace {

// libuv's calls on valid handles fail only for want of memory or descriptors
// while the handle is made; a role cannot go on without its loop.
void must(int result, const char* what) {
    if (result < 0) {
        log::error("loop", "{}: {}", what, uv_strerror(result));
        std::abort();
    }
}

// The box outlives its owner until libuv has let go of the handle.
template <class Box>
void close_box(Box* box) {
    box->callback = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&box->handle),
             [](uv_handle_t* handle) { delete static_cast<Box*>(handle->data); });
}

// A callback may destroy its owner and with it the function object: call a copy.
template <class Function, class... Args>
void call(const Function& function, Args&&... args) {
    if (function) {
        auto copy = function;
        copy(std::forward<Args>(args)...);
    }
}

// What only the kernel can wake.
uv_loop_t* real_loop(Loop& loop, const char* what) {
    if (loop.impl().clock) {
        log::error("loop", "{} on a loop with a virtual clock", what);
        std::abort();
    }
    return &loop.impl().loop;
}

} // namespace

Loop::Loop() : impl_(std::make_unique<Impl>()) {
    must(uv_loop_init(&impl_->loop), "uv_loop_init");
}

Loop::Loop(VirtualTime) : impl_(std::make_unique<Impl>()) {
    impl_->clock.emplace();
}

Loop::~Loop() {
    if (impl_->clock)
        return;
    // Jobs cannot be called back: their done functions own memory and run here at the latest.
    while (impl_->working > 0)
        uv_run(&impl_->loop, UV_RUN_ONCE);
    uv_run(&impl_->loop, UV_RUN_NOWAIT); // close callbacks
    for (int turn = 0; uv_loop_close(&impl_->loop) == UV_EBUSY && turn < 100; ++turn)
        uv_run(&impl_->loop, UV_RUN_NOWAIT);
}

void Loop::run() {
    if (impl_->clock)
        for (impl_->stopped = false; !impl_->stopped && !impl_->clock->empty();)
            impl_->clock->turn(true);
    else
        uv_run(&impl_->loop, UV_RUN_DEFAULT);
}
void Loop::stop() {
    if (impl_->clock)
        impl_->stopped = true;
    else
        uv_stop(&impl_->loop);
}
void Loop::run_once(bool wait) {
    if (impl_->clock)
        impl_->clock->turn(wait);
    else
        uv_run(&impl_->loop, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}
bool Loop::alive() const {
    return impl_->clock ? !impl_->clock->empty() : uv_loop_alive(&impl_->loop) != 0;
}
std::uint64_t Loop::now_ms() const {
    return impl_->clock ? impl_->clock->now_ms() : uv_now(&impl_->loop);
}

void Loop::work(std::function<void()> job, std::function<void()> done) {
    if (impl_->clock) {
        impl_->clock->add(0, [job = std::move(job), done = std::move(done)] {
            job();
            if (done)
                done();
        });
        return;
    }
    struct Request {
        uv_work_t work{};
        Impl& loop;
        std::function<void()> job, done;
    };
    auto* request = new Request{{}, *impl_, std::move(job), std::move(done)};
    ++impl_->working;
    request->work.data = request;
    must(uv_queue_work(
             &impl_->loop, &request->work,
             [](uv_work_t* work) { static_cast<Request*>(work->data)->job(); },
             [](uv_work_t* work, int) {
                 std::unique_ptr<Request> owned(static_cast<Request*>(work->data));
                 --owned->loop.working;
                 if (owned->done)
                     owned->done();
             }),
         "uv_queue_work");
}

struct Timer::Box {
    uv_timer_t handle{};
    std::function<void()> callback;
    VirtualClock* clock = nullptr; // then the handle is not used
    std::optional<VirtualClock::Key> due{};
    std::uint64_t repeat_ms = 0;

    void start_virtual(std::uint64_t delay_ms) {
        stop_virtual();
        due = clock->add(delay_ms, [this] {
            due.reset();
            if (repeat_ms != 0)
                start_virtual(repeat_ms);
            call(callback); // may be the end of this box
        });
    }
    void stop_virtual() {
        if (due)
            clock->remove(*due);
        due.reset();
    }
};

Timer::Timer(Loop& loop, std::function<void()> fire) : box_(new Box{{}, std::move(fire)}) {
    if (auto& clock = loop.impl().clock) {
        box_->clock = &*clock;
        return;
    }
    must(uv_timer_init(&loop.impl().loop, &box_->handle), "uv_timer_init");
    box_->handle.data = box_;
}
Timer::~Timer() {
    if (box_->clock) {
        box_->stop_virtual();
        delete box_;
        return;
    }
    close_box(box_);
}

void Timer::start(std::chrono::milliseconds delay, std::chrono::milliseconds repeat) {
    const auto delay_ms = static_cast<std::uint64_t>(delay.count() < 0 ? 0 : delay.count());
    const auto repeat_ms = static_cast<std::uint64_t>(repeat.count());
    if (box_->clock) {
        box_->repeat_ms = repeat_ms;
        box_->start_virtual(delay_ms);
        return;
    }
    uv_update_time(box_->handle.loop);
    must(uv_timer_start(
             &box_->handle,
             [](uv_timer_t* timer) { call(static_cast<Box*>(timer->data)->callback); }, delay_ms,
             repeat_ms),
         "uv_timer_start");
}
void Timer::stop() {
    if (box_->clock)
        box_->stop_virtual();
    else
        uv_timer_stop(&box_->handle);
}
bool Timer::active() const {
    return box_->clock ? box_->due.has_value()
                       : uv_is_active(reinterpret_cast<const uv_handle_t*>(&box_->handle)) != 0;
}

struct Watch::Box {
    uv_poll_t handle{};
    std::function<void(Ready)> callback;
    int events = 0; // that libuv waits for; to tell it again would cost it two system calls
};

Watch::Watch(Loop& loop, int fd, std::function<void(Ready)> ready)
    : box_(new Box{{}, std::move(ready), 0}) {
    must(uv_poll_init(real_loop(loop, "a watch"), &box_->handle, fd), "uv_poll_init");
    box_->handle.data = box_;
}
Watch::~Watch() {
    uv_poll_stop(&box_->handle);
    close_box(box_);
}

void Watch::set(bool readable, bool writable) {
    int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
    events |= events == 0 ? 0 : UV_DISCONNECT;
    if (events == std::exchange(box_->events, events))
        return;
    if (events == 0) {
        uv_poll_stop(&box_->handle);
        return;
    }
    must(uv_poll_start(&box_->handle, events,
                       [](uv_poll_t* poll, int status, int happened) {
                           Ready ready{(happened & UV_READABLE) != 0, (happened & UV_WRITABLE) != 0,
                                       status < 0 || (happened & UV_DISCONNECT) != 0};
                           auto* box = static_cast<Box*>(poll->data);
                           if (status < 0)
                               box->events = 0; // libuv has stopped it
                           call(box->callback, ready);
                       }),
         "uv_poll_start");
}

struct Wakeup::Box {
    uv_async_t handle{};
    std::function<void()> callback;
};

Wakeup::Wakeup(Loop& loop, std::function<void()> woken) : box_(new Box{{}, std::move(woken)}) {
    must(uv_async_init(real_loop(loop, "a wakeup"), &box_->handle,
                       [](uv_async_t* async) { call(static_cast<Box*>(async->data)->callback); }),
         "uv_async_init");
    box_->handle.data = box_;
}
Wakeup::~Wakeup() {
    close_box(box_);
}
void Wakeup::wake() {
    uv_async_send(&box_->handle);
}

// The check runs after the poll of a turn; the idle handle keeps the poll from waiting.
struct TurnEnd::Box {
    uv_check_t check{};
    uv_idle_t idle{};
    unsigned open = 2;
    std::function<void()> callback;
    VirtualClock* clock = nullptr; // then the handles are not used
    std::optional<std::uint64_t> armed{};

    static void closed(uv_handle_t* handle) {
        auto* box = static_cast<Box*>(handle->data);
        if (--box->open == 0)
            delete box;
    }
};

TurnEnd::TurnEnd(Loop& loop, std::function<void()> over) : box_(new Box) {
    box_->callback = std::move(over);
    if (auto& clock = loop.impl().clock) {
        box_->clock = &*clock;
        return;
    }
    must(uv_check_init(&loop.impl().loop, &box_->check), "uv_check_init");
    must(uv_idle_init(&loop.impl().loop, &box_->idle), "uv_idle_init");
    box_->check.data = box_->idle.data = box_;
}
TurnEnd::~TurnEnd() {
    if (box_->clock) {
        if (box_->armed)
            box_->clock->remove_turn_end(*box_->armed);
        delete box_;
        return;
    }
    box_->callback = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&box_->check), Box::closed);
    uv_close(reinterpret_cast<uv_handle_t*>(&box_->idle), Box::closed);
}
void TurnEnd::arm() {
    if (box_->clock) {
        if (!box_->armed)
            box_->armed = box_->clock->add_turn_end([box = box_] {
                box->armed.reset();
                call(box->callback);
            });
        return;
    }
    uv_idle_start(&box_->idle, [](uv_idle_t*) {});
    uv_check_start(&box_->check, [](uv_check_t* check) {
        auto* box = static_cast<Box*>(check->data);
        uv_check_stop(&box->check);
        uv_idle_stop(&box->idle);
        call(box->callback);
    });
}

struct SignalWatch::Box {
    uv_signal_t handle{};
    std::function<void()> callback;
};

SignalWatch::SignalWatch(Loop& loop, int signal_number, std::function<void()> caught)
    : box_(new Box{{}, std::move(caught)}) {
    must(uv_signal_init(real_loop(loop, "a signal watch"), &box_->handle), "uv_signal_init");
    box_->handle.data = box_;
    must(uv_signal_start(
             &box_->handle,
             [](uv_signal_t* signal, int) { call(static_cast<Box*>(signal->data)->callback); },
             signal_number),
         "uv_signal_start");
    uv_unref(reinterpret_cast<uv_handle_t*>(&box_->handle));
}
SignalWatch::~SignalWatch() {
    close_box(box_);
}

struct Child::Box {
    uv_process_t handle{};
    std::function<void(Exit)> callback;
};

Result<std::unique_ptr<Child>> Child::start(Loop& loop, const Command& command,
                                            std::function<void(Exit)> ended) {
    if (loop.impl().clock)
        return fail(ErrorKind::unsupported, "start {}: the loop has a virtual clock", command.path);
    auto pointers = [](const std::vector<std::string>& texts) {
        std::vector<char*> list;
        for (const auto& text : texts)
            list.push_back(const_cast<char*>(text.c_str()));
        list.push_back(nullptr);
        return list;
    };
    auto arguments = pointers(command.arguments);
    auto environment = pointers(command.environment);
    std::vector<uv_stdio_container_t> stdio(command.fds.size());
    for (std::size_t i = 0; i < stdio.size(); ++i) {
        stdio[i].flags = command.fds[i] < 0 ? UV_IGNORE : UV_INHERIT_FD;
        stdio[i].data.fd = command.fds[i];
    }
    auto* box = new Box{{}, std::move(ended)};
    box->handle.data = box;
    uv_process_options_t options{};
    options.file = command.path.c_str();
    options.args = arguments.data();
    options.env = environment.data();
    options.stdio = stdio.data();
    options.stdio_count = static_cast<int>(stdio.size());
    options.flags = command.new_session ? UV_PROCESS_DETACHED : 0;
    options.exit_cb = [](uv_process_t* process, std::int64_t status, int signal) {
        call(static_cast<Box*>(process->data)->callback, Exit{static_cast<int>(status), signal});
    };
    int result = uv_spawn(&loop.impl().loop, &box->handle, &options);
    if (result < 0) {
        close_box(box);
        return fail_errno(-result, "start {}", command.path);
    }
    return std::unique_ptr<Child>(new Child(box));
}

// A pidfd is readable once its process has ended.
struct Child::Adopted {
    pid_t pid;
    Fd process;
    std::function<void(Exit)> ended;
    Watch watch;

    Adopted(Loop& loop, pid_t its_pid, Fd its_process, std::function<void(Exit)> its_end)
        : pid(its_pid), process(std::move(its_process)), ended(std::move(its_end)),
          watch(loop, process.get(), [this](Watch::Ready) { over(); }) {
        watch.set(true, false);
    }
    void over() {
        watch.set(false, false);
        siginfo_t info{};
        Exit exit;
        if (::waitid(P_PIDFD, static_cast<id_t>(process.get()), &info, WEXITED | WNOHANG) == 0 &&
            info.si_pid == pid) {
            bool exited = info.si_code == CLD_EXITED;
            (exited ? exit.status : exit.signal) = info.si_status;
        }
        call(ended, exit);
    }
};

std::unique_ptr<Child> Child::adopt(Loop& loop, pid_t pid, Fd process,
                                    std::function<void(Exit)> ended) {
    auto child = std::unique_ptr<Child>(new Child(nullptr));
    child->adopted_ = std::make_unique<Adopted>(loop, pid, std::move(process), std::move(ended));
    return child;
}

Child::Child(Box* box) : box_(box) {}
Child::~Child() {
    if (box_ != nullptr)
        close_box(box_);
}
pid_t Child::pid() const {
    return adopted_ ? adopted_->pid : box_->handle.pid;
}
void Child::signal(int signal_number) {
    if (adopted_)
        (void)::syscall(SYS_pidfd_send_signal, adopted_->process.get(), signal_number, nullptr, 0);
    else
        uv_process_kill(&box_->handle, signal_number);
}

} // namespace vmhost
