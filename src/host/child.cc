#include "host/child.h"

#include <csignal>
#include <cstdlib>
#include <sys/socket.h>
#include <unistd.h>

namespace vmhost::host {

namespace {

std::string in_words(Child::Exit exit) {
    return exit.signal != 0 ? fmt::format("signal {}", exit.signal)
                            : fmt::format("exit status {}", exit.status);
}

class RoleProcess final : public RoleChild {
public:
    static Result<std::unique_ptr<RoleChild>> start(Loop& loop, const Launch& launch,
                                                    Events events);
    static std::unique_ptr<RoleChild> adopt(Loop& loop, pid_t pid, Fd process, Fd connection,
                                            Events events);

    void send_frame(ipc::Frame frame) override {
        if (channel_)
            channel_->send(std::move(frame));
    }
    pid_t pid() const override { return process_->pid(); }
    void close() override { channel_.reset(); }
    void kill() override { process_->signal(SIGKILL); }

private:
    explicit RoleProcess(Events events) : events_(std::move(events)) {}
    void connect(Loop& loop, Fd socket);
    void ended(Child::Exit exit);
    Events events_;
    std::unique_ptr<ipc::Channel> channel_;
    std::unique_ptr<Child> process_;
};

Result<std::unique_ptr<RoleChild>> RoleProcess::start(Loop& loop, const Launch& launch,
                                                      Events events) {
    auto [ours, theirs] = TRY(socket_pair(SOCK_STREAM));
    std::unique_ptr<RoleProcess> child(new RoleProcess(std::move(events)));
    Child::Command command;
    // /proc/self/exe is this very binary, even when its file was replaced meanwhile.
    command.path = "/proc/self/exe";
    command.arguments = {"vmhost",
                         "role",
                         launch.role,
                         launch.title,
                         launch.user ? std::to_string(launch.user->uid) : "-",
                         launch.user ? std::to_string(launch.user->gid) : "-",
                         log::levels()};
    for (const char* name : {"JOURNAL_STREAM", "TZ"})
        if (const char* value = std::getenv(name))
            command.environment.push_back(fmt::format("{}={}", name, value));
    command.fds = {-1, STDERR_FILENO, STDERR_FILENO, theirs.get()};
    command.new_session = true; // a terminal's ^C is for the parent, which ends its children
    child->process_ = TRY(
        Child::start(loop, command, [raw = child.get()](Child::Exit exit) { raw->ended(exit); }));
    child->connect(loop, std::move(ours));
    return child;
}

std::unique_ptr<RoleChild> RoleProcess::adopt(Loop& loop, pid_t pid, Fd process, Fd connection,
                                              Events events) {
    std::unique_ptr<RoleProcess> child(new RoleProcess(std::move(events)));
    child->process_ = Child::adopt(loop, pid, std::move(process),
                                   [raw = child.get()](Child::Exit exit) { raw->ended(exit); });
    if (connection)
        child->connect(loop, std::move(connection));
    return child;
}

void RoleProcess::connect(Loop& loop, Fd socket) {
    channel_ = std::make_unique<ipc::Channel>(
        loop, std::move(socket),
        [this](ipc::Frame&& frame) {
            if (events_.frame)
                events_.frame(std::move(frame));
        },
        [this](std::optional<Error> error) {
            if (error)
                log::warning("host", "a role process broke its channel: {}", error->message());
            channel_.reset();
            if (error)
                process_->signal(SIGKILL); // its end is reported when it is reaped
        });
}

void RoleProcess::ended(Child::Exit exit) {
    if (auto ended = std::move(events_.ended))
        ended(in_words(exit));
}

} // namespace

Result<std::unique_ptr<RoleChild>> start_role_process(Loop& loop, const Launch& launch,
                                                      RoleChild::Events events) {
    return RoleProcess::start(loop, launch, std::move(events));
}

std::unique_ptr<RoleChild> adopt_role_process(Loop& loop, pid_t pid, Fd process, Fd connection,
                                              RoleChild::Events events) {
    return RoleProcess::adopt(loop, pid, std::move(process), std::move(connection),
                              std::move(events));
}

} // namespace vmhost::host
