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

} // namespace

Result<std::unique_ptr<RoleChild>> RoleChild::start(Loop& loop, const Launch& launch,
                                                    Events events) {
    auto [ours, theirs] = TRY(socket_pair(SOCK_STREAM));
    std::unique_ptr<RoleChild> child(new RoleChild(std::move(events)));
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
    auto* raw = child.get();
    child->process_ = TRY(Child::start(loop, command, [raw](Child::Exit exit) {
        auto ended = std::move(raw->events_.ended);
        if (ended)
            ended(in_words(exit));
    }));
    child->channel_ = std::make_unique<ipc::Channel>(
        loop, std::move(ours),
        [raw](ipc::Frame&& frame) {
            if (raw->events_.frame)
                raw->events_.frame(std::move(frame));
        },
        [raw](std::optional<Error> error) {
            if (error)
                log::warning("host", "a role process broke its channel: {}", error->message());
            raw->channel_.reset();
            if (error)
                raw->process_->signal(SIGKILL); // its end is reported when it is reaped
        });
    return child;
}

RoleChild::~RoleChild() = default;

void RoleChild::close() {
    channel_.reset();
}
void RoleChild::kill() {
    process_->signal(SIGKILL);
}

} // namespace vmhost::host
